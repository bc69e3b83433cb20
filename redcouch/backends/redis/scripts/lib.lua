-- Stands before every script. KEYS[1] is the item, KEYS[2] the CAS counter.
--
-- Fields of an item: v (value in hex) or r (value as it is), f (flags), c (CAS
-- token); s (marked stale), w (somebody has won), h (has been read). v counts
-- where a native client has left both.

local item, counter = KEYS[1], KEYS[2]

-- A token never given before. A counter that is not there (never was, evicted,
-- deleted) begins at the clock, in microseconds: past every token given so far,
-- since no Redis gives a million tokens a second. Out of memory, it gives the
-- error in place of the token, as a second value.
local function next_cas()
  local cas = redis.pcall('INCR', counter)
  if type(cas) == 'table' then
    return nil, cas
  end
  if cas == 1 then
    local now = redis.call('TIME')
    cas = now[1] * 1000000 + now[2]
    redis.call('SET', counter, string.format('%.0f', cas))
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

-- A token as a reply that is exact: Lua's numbers are not, past 2^53.
local function exact(cas)
  if type(cas) == 'number' then
    return string.format('%.0f', cas)
  end
  return cas
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

-- Make the item what it is to be. Bookkeeping of the value before goes.
local function put(field, other, value, flags, cas)
  redis.call('HSET', item, field, value, 'f', flags, 'c', cas)
  redis.call('HDEL', item, other, 's', 'w', 'h')
end

local function from_hex(hex)
  hex = string.gsub(hex, '%s+', '')
  if #hex % 2 == 1 or string.find(hex, '%X') then
    return nil
  end
  return (string.gsub(hex, '..', function(pair) return string.char(tonumber(pair, 16)) end))
end

local function to_hex(raw)
  return (string.gsub(raw, '.', function(byte) return string.format('%02x', string.byte(byte)) end))
end
