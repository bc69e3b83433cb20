-- incr and decr of an unsigned 64-bit decimal number.
-- ARGV: 'incr' or 'decr', delta in halves (high, low), token to compare ('' for none),
-- initial value ('' for none), and for a new item: field, expiry command, argument;
-- token to carry ('' for a new one), new expiry command ('' for none), its argument,
-- whether the time to live is asked for ('1' or '').
-- Gives {number, CAS token, ttl before, whether it is new}, or NF, EX, NN (not a number).
--
-- Numbers are kept in halves, high * 10^10 + low, as Lua's doubles are exact only
-- up to 2^53. 2^64 is 1844674407 * 10^10 + 3709551616.

local HALF, TOP_HIGH, TOP_LOW = 10000000000, 1844674407, 3709551616

-- A number is looked for in this many bytes of a value.
local MOST = 1024

-- Digits and blanks in hex, without a step in Lua for each.
local function encode(field, text)
  if field == 'v' then
    text = string.gsub(string.gsub(text, '%d', '3%0'), ' ', '20')
  end
  return text
end

-- The front of a value in hex, and how long the value is.
local function decode(hex)
  local digits, count = string.gsub(hex, '3(%d)', '%1')
  if count * 2 == #hex then
    return digits, count
  end
  hex = string.gsub(hex, '%s+', '')
  if #hex % 2 == 1 or string.find(hex, '%X') then
    return nil
  end
  return from_hex(string.sub(hex, 1, 2 * MOST)), #hex / 2
end

local function finish(field, text, flags, in_place)
  local cas, refused = cas_or(ARGV[9])
  if refused then
    return nil, refused
  end
  if in_place then -- the item stays the same one: a stale one stays stale
    redis.call('HSET', item, field, encode(field, text), 'c', cas)
    redis.call('HDEL', item, field == 'v' and 'r' or 'v')
  else
    put(field, encode(field, text), flags, cas)
  end
  return cas
end

local now = redis.call('HMGET', item, 'v', 'r', 'f', 'c')
if not now[1] and not now[2] then
  if ARGV[5] == '' then
    return 'NF'
  end
  local cas, refused = finish(ARGV[6], ARGV[5], '0')
  if refused then
    return refused
  end
  expire(ARGV[7], ARGV[8])
  return {ARGV[5], exact(cas), -1, 1}
end
if is_other(now[4], ARGV[4]) then
  return (now[1] or now[2]) == '' and 'NN' or 'EX' -- as memcached, which looks for a number first
end
local field, value, length = 'v', now[1]
if value then
  value, length = decode(value)
  if not value then
    return redis.error_reply('UNREADABLE value')
  end
else
  field, value, length = 'r', string.sub(now[2], 1, MOST), #now[2]
end

-- What C's strtoull reads, as memcached does: blanks, a sign, digits, and then
-- a blank, a NUL or the end. A negative number wraps, if small enough.
local front = string.match(value, '^[^%z]*')
local sign, digits, behind = string.match(front, '^[ \t\n\v\f\r]*([+-]?)(%d+)(.?)')
if not digits or not string.find(behind, '^[ \t\n\v\f\r]?$') then
  return 'NN'
end
digits = string.gsub(digits, '^0+', '')
if #digits > 20 then
  return 'NN'
end
local padded = string.rep('0', 20 - #digits) .. digits
local high, low = tonumber(string.sub(padded, 1, 10)), tonumber(string.sub(padded, 11))
if high > TOP_HIGH or (high == TOP_HIGH and low >= TOP_LOW) then
  return 'NN'
end
if sign == '-' and (high > 0 or low > 0) then
  high, low = TOP_HIGH - high, TOP_LOW - low
  if low < 0 then
    high, low = high - 1, low + HALF
  end
end
if string.find(front, '-', 1, true) and (high > 922337203 or (high == 922337203 and low >= 6854775808)) then
  return 'NN'
end

local delta_high, delta_low = tonumber(ARGV[2]), tonumber(ARGV[3])
if ARGV[1] == 'incr' then
  high, low = high + delta_high, low + delta_low
  if low >= HALF then
    high, low = high + 1, low - HALF
  end
  if high > TOP_HIGH or (high == TOP_HIGH and low >= TOP_LOW) then
    high, low = high - TOP_HIGH, low - TOP_LOW
    if low < 0 then
      high, low = high - 1, low + HALF
    end
  end
else
  high, low = high - delta_high, low - delta_low
  if low < 0 then
    high, low = high - 1, low + HALF
  end
  if high < 0 then
    high, low = 0, 0
  end
end

local number
if high > 0 then
  number = string.format('%.0f%010.0f', high, low)
else
  number = string.format('%.0f', low)
end
-- The number takes the value's place, blanks filling up the length it had.
local text = number .. string.rep(' ', length - #number)
local cas, refused = finish(field, text, now[3] or '0', #number <= length)
if refused then
  return refused
end
local before = ARGV[12] == '1' and ttl() or -1
if ARGV[10] ~= '' then
  expire(ARGV[10], ARGV[11])
end
return {number, exact(cas), before, 0}
