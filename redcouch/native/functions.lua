-- What native clients call. FCALL name 1 KEY ...: KEY with its prefix. A second key may be the CAS
-- counter (COUNTER), and nothing else. On a cluster there is none.

-- While a library is loaded Lua's own functions are not there: what needs them waits for a call.

-- Bytes of a value as the field holds them, and back.
local hex_of, byte_of = {}, nil

local function tables()
  if not byte_of then
    byte_of = {}
    for code = 0, 255 do
      local char, pair = string.char(code), string.format('%02x', code)
      hex_of[char], byte_of[pair] = pair, char
    end
  end
end

local function encode(value)
  tables()
  return FIELD == 'v' and string.gsub(value, '.', hex_of) or value
end

local function decode(hex)
  tables()
  hex = string.lower((string.gsub(hex, '%s+', '')))
  if #hex % 2 == 1 or string.find(hex, '%X') then
    return nil
  end
  return (string.gsub(hex, '..', byte_of))
end

-- Arguments. Each gives nil for what is none.

local function number(text, most)
  if not string.find(text, '^%d+$') then
    return nil
  end
  text = string.gsub(text, '^0+(%d)', '%1')
  if #text > #most or (#text == #most and text > most) then
    return nil
  end
  return text
end

local MOST_64, MOST_32 = '18446744073709551615', '4294967295'

-- memcached's exptime as a command and its argument.
local function expiry(exptime)
  local sign, digits = string.match(exptime or '0', '^(-?)(%d+)$')
  if not digits or #digits > 12 then
    return nil
  end
  local seconds = tonumber(digits)
  if seconds == 0 then
    return 'PERSIST', ''
  elseif sign == '-' then
    return 'UNLINK', ''
  end
  return seconds <= 2592000 and 'PEXPIRE' or 'PEXPIREAT', string.format('%.0f', seconds * 1000)
end

local function with_counter(keys)
  return {keys[1], COUNTER}
end

local function wrong()
  return redis.error_reply('ERR wrong arguments for a function of redcouch')
end

local REFUSED = {NS = true, NF = true, EX = true}

-- A token, or nothing where nothing was stored.
local function token_of(reply)
  if type(reply) == 'table' and not reply.err then
    reply = reply[1]
  end
  if REFUSED[reply] then
    return false
  end
  return type(reply) == 'number' and string.format('%.0f', reply) or reply
end

local function storing(mode)
  return function(keys, args)
    local token = ''
    if mode == 'cas' then
      token = number(table.remove(args, 1) or '', MOST_64)
    end
    local value, flags = args[1], number(args[3] or '0', MOST_32)
    local command, argument = expiry(args[2])
    if not (token and value and flags and command) or #args > 3 then
      return wrong()
    end
    return token_of(store(with_counter(keys), {
      FIELD, encode(value), flags, command, argument, mode, token, '',
    }))
  end
end

local function joining(mode)
  return function(keys, args)
    if #args ~= 1 then
      return wrong()
    end
    return token_of(concat(with_counter(keys), {
      FIELD, encode(args[1]), mode, '536870912', '0', '', '', '', '',
    }))
  end
end

local function counting(mode)
  return function(keys, args)
    local delta = number(args[1] or '1', MOST_64)
    local initial = args[2] and number(args[2], MOST_64) or ''
    local command, argument = expiry(args[3])
    if not (delta and command) or (args[2] and initial == '') or #args > 3 then
      return wrong()
    end
    local padded = string.rep('0', 20 - #delta) .. delta
    local reply = arithmetic(with_counter(keys), {
      mode, string.sub(padded, 1, 10), string.sub(padded, 11), '', initial, FIELD,
      command, argument, '', '', '', '',
    })
    if reply == 'NN' then
      return redis.error_reply('ERR value is not a number')
    end
    return token_of(reply)
  end
end

local function read(keys, args)
  if #args > 0 then
    return nil, wrong()
  end
  local now = redis.call('HMGET', keys[1], 'v', 'r', 'f', 'c')
  if now[1] then
    now[2] = decode(now[1])
    if not now[2] then
      return nil, redis.error_reply('UNREADABLE value')
    end
  end
  return now
end

local function get(keys, args)
  local now, unreadable = read(keys, args)
  return unreadable or now[2]
end

-- {value, flags, token, seconds to live or -1}; a token of 0 compares with nothing.
local function gets(keys, args)
  local now, unreadable = read(keys, args)
  if unreadable or not now[2] then
    return unreadable or false
  end
  local flags = number(now[3] and now[3] ~= '' and now[3] or '0', MOST_32)
  local token = number(now[4] or '0', MOST_64)
  if not (flags and token) then
    return redis.error_reply('UNREADABLE flags or token')
  end
  local left = redis.call('PTTL', keys[1])
  return {now[2], flags, token, left < 0 and -1 or math.ceil(left / 1000)}
end

local function remove(keys, args)
  local token = args[1] and number(args[1], MOST_64) or ''
  if #args > 1 or (args[1] and token == '') then
    return wrong()
  end
  return delete(with_counter(keys), {token}) == 1 and 1 or 0
end

local function renew(keys, args)
  local command, argument = expiry(args[1])
  if not command or #args ~= 1 then
    return wrong()
  end
  local reply = touch(with_counter(keys), {command, argument})
  return reply.err and reply or (reply ~= 'NF' and 1 or 0)
end

local function register(name, callback, ...)
  local function checked(keys, args)
    if #keys < 1 or #keys > 2 or (keys[2] and keys[2] ~= COUNTER) then
      return wrong()
    end
    return callback(keys, args)
  end
  redis.register_function{function_name = 'redcouch_' .. name, callback = checked, flags = {...}}
end

register('get', get, 'no-writes')
register('gets', gets, 'no-writes')
register('set', storing('set'))
register('add', storing('add'))
register('replace', storing('replace'))
register('cas', storing('cas'))
register('append', joining('append'))
register('prepend', joining('prepend'))
register('incr', counting('incr'))
register('decr', counting('decr'))
register('delete', remove, 'allow-oom')
register('touch', renew, 'allow-oom')
