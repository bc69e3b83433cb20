-- Turn an item into a plain string under another key, with its time to live.
-- KEYS[3]: that key. KEYS[4]: where flags and token of such a string are kept. ARGV: whether
-- a string that is there is replaced, whether the item stays, whether nothing is done but to
-- say what would be, whether flags and token are kept ('1' or '' each).
-- Gives {outcome, flags}; an outcome other than 'promoted' says why nothing was done.

local now = redis.call('HMGET', item, 'v', 'r', 'f', 's', 'c')
local value, flags = now[2], now[3] ~= '' and now[3] or '0'
if not now[1] and not now[2] then
  return {'gone', flags}
end
if now[4] then
  return {'stale', flags}
end
if unreadable(flags) then
  return {'unreadable', flags}
end
if now[1] then
  value = from_hex(now[1])
  if not value then
    return {'unreadable', flags}
  end
end

local there = redis.call('TYPE', KEYS[3])['ok']
if there ~= 'none' and (ARGV[1] ~= '1' or there ~= 'string') then
  return {'present', flags}
end
if ARGV[3] == '1' then
  return {'promoted', flags}
end

local left = math.min(redis.call('PTTL', item), 2 ^ 52) -- twice as long, too, Redis surely takes
if left < 0 then
  redis.call('SET', KEYS[3], value)
else
  redis.call('SET', KEYS[3], value, 'PX', math.max(left, 1))
end
if ARGV[4] == '1' then -- '<digest of the value> <flags> <token, or ->', for twice as long
  local digest = string.sub(redis.sha1hex(value), 1, 20)
  local token = not unreadable(nil, now[5]) and now[5] or '-'
  redis.call('SET', KEYS[4], digest .. ' ' .. flags .. ' ' .. token)
  if left >= 0 then
    redis.call('PEXPIRE', KEYS[4], 2 * left + 60000)
  end
else
  redis.call('UNLINK', KEYS[4])
end
if ARGV[2] ~= '1' then
  redis.call('UNLINK', item)
end
return {'promoted', flags}
