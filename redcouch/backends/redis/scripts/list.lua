-- An item as it is listed. Gives {size, f, c, milliseconds to live, idle, fetched, stale}, or
-- nothing. Reads no value, and writes nothing.

local idle = redis.pcall('OBJECT', 'IDLETIME', item)
local hex = redis.call('HSTRLEN', item, 'v')
local now = redis.call('HMGET', item, 'f', 'c', 'h', 's')
local size = hex / 2
if hex == 0 and redis.call('HEXISTS', item, 'v') == 0 then
  if redis.call('HEXISTS', item, 'r') == 0 then
    return false
  end
  size = redis.call('HSTRLEN', item, 'r')
end
return {
  math.floor(size), now[1] or '0', now[2] or '0', redis.call('PTTL', item),
  type(idle) == 'number' and idle or 0, now[3] and 1 or 0, now[4] and 1 or 0,
}
