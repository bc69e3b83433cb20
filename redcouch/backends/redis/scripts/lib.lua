-- Stands before every script. KEYS[1] is the item, KEYS[2] the CAS counter; on a cluster there is
-- the item alone.
--
-- Fields of an item: v (value in hex) or r (value as it is), f (flags), c (CAS
-- token); s (marked stale), w (somebody has won), h (has been read). v counts
-- where a native client has left both. On a cluster a hash with l alone is no item, but a lease on
-- one that is being filled in: see item_lease.lua.

local item, counter = KEYS[1], KEYS[2]

-- What goes with the bookkeeping: on one Redis, l is any other field.
local LEASE = counter and 'w' or 'l'

-- The field of a large set that is under way, by a name that no native client has for its own.
local BEGUN = 'redcouch:begun'

-- Tokens.
--
-- The counter holds the last token given. It is a key like the others: Redis may evict it, an
-- operator delete it. One that is not there begins at 1 where there are no items, as memcached
-- does, and at the clock (in microseconds) where there are: past every token given so far, since
-- no Redis gives a million tokens a second.

-- Keys that one script looks at. Where there are more, fresh.lua looks, page by page, and puts
-- UNUSED in the counter's place once it has seen no items at all.
local PAGE, UNUSED = 1000, -9007199254740991

-- Whether a key may have been given a token: an item, or what stands beside one.
local function bears_token(key)
  if string.sub(key, 1, 13) == 'redcouch:sys:' then
    return string.find(key, '^item:', 14) or string.find(key, '^warm_claim:', 14)
  end
  local fields = redis.pcall('HMGET', key, 'v', 'r', 'c')
  return fields.err or fields[1] or fields[2] or fields[3]
end

-- The cursor of the next page of keys, '0' after the last; nil where one of this page may have
-- been given a token, or nobody can look.
local function page_without_tokens(cursor)
  -- In this order: to look for types makes Redis go on with resizing its table, after which the
  -- same cursor would lead to another one.
  local own = redis.pcall('SCAN', cursor, 'COUNT', PAGE, 'MATCH', 'redcouch:sys:*')
  local hashes = redis.pcall('SCAN', cursor, 'COUNT', PAGE, 'TYPE', 'hash')
  if hashes.err or own.err or hashes[1] ~= own[1] then
    return nil
  end
  for _, keys in ipairs({hashes[2], own[2]}) do
    for _, key in ipairs(keys) do
      if bears_token(key) then
        return nil
      end
    end
  end
  return own[1]
end

local function holds_no_tokens()
  local size = redis.pcall('DBSIZE')
  if type(size) ~= 'number' or size > PAGE then
    return false
  end
  local cursor = '0'
  repeat
    cursor = page_without_tokens(cursor)
  until not cursor or cursor == '0'
  return cursor == '0'
end

-- The token where the counter has never counted, or counts below 1.
local function first_cas(counted)
  local cas = 1
  if counted ~= UNUSED + 1 and not (counted == 1 and holds_no_tokens()) then
    local now = redis.call('TIME')
    cas = now[1] * 1000000 + now[2]
  end
  redis.call('SET', counter, string.format('%.0f', cas))
  return cas
end

-- Errors of Redis that are none of the counter's own.
local PASSING = {
  'OOM', 'READONLY', 'NOREPLICAS', 'MISCONF', 'LOADING', 'BUSY', 'MASTERDOWN', 'CLUSTERDOWN',
}

local function is_error(refused, code)
  return string.find(refused.err, code, 1, true)
end

-- What stands at the key of a lease: '' for nothing, and for what is of another type, which is no lease.
local function lease_at(key)
  local there = redis.pcall('GET', key) or ''
  if type(there) == 'string' then
    return there
  end
  return is_error(there, 'WRONGTYPE') and '' or redis.call('GET', key) -- the error, raised
end

-- Why there is no token, as an error that names the counter and what to do.
local function counter_error(refused)
  for _, code in ipairs(PASSING) do
    if is_error(refused, code) then
      return refused
    end
  end
  local why = 'cannot be counted up: allow INCR on it'
  if is_error(refused, 'WRONGTYPE') then
    why = 'is of another type: delete it'
  elseif is_error(refused, 'overflow') then
    why = 'is at its end: delete it'
  elseif is_error(refused, 'not an integer') then
    why = 'holds no number: delete it'
  end
  return redis.error_reply('COUNTER ' .. counter .. ' ' .. why)
end

-- A token without the zeros that a native client may have put before it.
local function bare(token)
  return token and string.match(token, '^0*(%d+)$') or token
end

-- Whether an item's token is another one than is wanted: '' for any.
local function is_other(token, wanted)
  return wanted ~= '' and bare(token) ~= bare(wanted)
end

-- Whether one decimal token is lower than another.
local function lower(one, other)
  return #one < #other or (#one == #other and one < other)
end

-- The next higher number, of one in decimal.
local function successor(number)
  local head, nines = string.match(number, '^(%d-)(9*)$')
  local last = head == '' and '1' or string.char(string.byte(head, -1) + 1)
  return string.sub(head, 1, -2) .. last .. string.rep('0', #nines)
end

-- A token that this item has never had, from the item alone: the clock in microseconds, or one more
-- than its own token. A write that changes nothing goes before: what Redis refuses is known then.
-- (SETRANGE finds a hash of another type, but only where it may write.)
local function cas_by_clock()
  local own = redis.call('HGET', item, 'c')
  local tried
  if own then
    tried = redis.pcall('HSETNX', item, 'c', own)
  else
    tried = redis.pcall('SETRANGE', item, 0, '')
  end
  if type(tried) == 'table' and not is_error(tried, 'WRONGTYPE') then
    return nil, tried
  end
  local now = redis.call('TIME')
  local cas = string.format('%.0f', now[1] * 1000000 + now[2])
  own = own and string.match(own, '^0*(%d+)$')
  if own and not lower(own, cas) and lower(own, '18446744073709551615') then
    return successor(own)
  end
  return cas
end

-- A token never given before. Where there is none it gives an error, as a second value, and
-- has changed nothing. Numbers are exact up to 2^53; beyond, a token is text. KEYS.counted: what
-- the counter has given already.
local function next_cas()
  if not counter then
    return cas_by_clock()
  end
  local cas = KEYS.counted or redis.pcall('INCR', counter)
  if type(cas) == 'table' then
    return nil, counter_error(cas)
  end
  if cas <= 1 then
    return first_cas(cas)
  elseif cas >= 9007199254740992 then
    return redis.call('GET', counter)
  end
  return cas
end

-- The token that a client has chosen, or else a new one.
local function cas_or(chosen)
  if chosen ~= '' then
    return chosen
  end
  return next_cas()
end

-- A token as a reply that clients of any kind read exactly.
local function exact(cas)
  if type(cas) == 'number' then
    return string.format('%.0f', cas)
  end
  return cas
end

-- An error where a native client has left flags or a token that nobody can read; or nothing.
local function unreadable(flags, cas)
  for _, pair in ipairs({{flags ~= '' and flags, '4294967295'}, {cas, '18446744073709551615'}}) do
    local field, most = pair[1], pair[2]
    local digits = field and string.match(field, '^0*(%d+)$')
    if field and not (digits and (#digits < #most or (#digits == #most and digits <= most))) then
      return redis.error_reply('UNREADABLE flags or token')
    end
  end
end

-- An error where a native client has left hex that nobody can read, as far as its length and its
-- beginning tell: to look at all of a long value would take too long.
local function garbled(hex)
  local odd = string.find(string.sub(hex, 1, 16), '[^%x%s]')
  if odd or (#hex % 2 == 1 and not string.find(hex, '%s')) then
    return redis.error_reply('UNREADABLE value')
  end
end

local function exists()
  return redis.call('HEXISTS', item, 'v') == 1 or redis.call('HEXISTS', item, 'r') == 1
end

-- Give the item its expiry: a command (PERSIST, PEXPIRE, PEXPIREAT, or UNLINK
-- for what is over at once) and its argument, '' where it has none.
local function expire(command, argument)
  if argument == '' then
    redis.call(command, item)
  else
    redis.call(command, item, argument)
  end
end

-- Seconds to live, rounded up; -1 for ever, 0 where there is no item any more.
local function ttl()
  local left = redis.call('PTTL', item)
  if left < 0 then
    return left == -1 and -1 or 0
  end
  return math.ceil(left / 1000)
end

-- When the item will be over, in milliseconds of UNIX time; -1 for never. It may differ by NEARLY, as
-- it is reckoned from two looks at the clock.
local NEARLY = 100
local function over_at()
  local left, now = redis.call('PTTL', item), redis.call('TIME')
  return left < 0 and left or now[1] * 1000 + math.floor(now[2] / 1000) + left
end

-- Make the item what it is to be. The value's other field goes, and bookkeeping of the value before.
local function put(field, value, flags, cas)
  redis.call('HSET', item, field, value, 'f', flags, 'c', cas)
  redis.call('HDEL', item, field == 'v' and 'r' or 'v', 's', 'w', 'h', LEASE)
end

-- Where there is much of it, a table for the pairs is three times as fast as a call for each.
local function from_hex(hex)
  hex = string.gsub(hex, '%s+', '')
  if #hex % 2 == 1 or string.find(hex, '%X') then
    return nil
  elseif #hex < 8192 then
    return (string.gsub(hex, '..', function(pair) return string.char(tonumber(pair, 16)) end))
  end
  local bytes = {}
  for code = 0, 255 do
    bytes[string.format('%02x', code)] = string.char(code)
  end
  return (string.gsub(string.lower(hex), '..', bytes))
end

local function to_hex(raw)
  return (string.gsub(raw, '.', function(byte) return string.format('%02x', string.byte(byte)) end))
end
