-- Give a token to an item that a native client wrote without one.
-- ARGV: SHA-1 of the value that was read, in lower-case hex and as it is.
-- Gives the item's token; where the item is no longer what was read, a fresh one
-- that belongs to nothing, so that it never compares as equal.

local now = redis.call('HMGET', item, 'v', 'r', 'c')
local same
if now[1] then
  same = redis.sha1hex(string.lower((string.gsub(now[1], "%s+", "")))) == ARGV[1]
elseif now[2] then
  same = redis.sha1hex(now[2]) == ARGV[2]
end
if same and now[3] then
  return unreadable(false, now[3]) or now[3]
end
local cas, refused = next_cas()
if refused then
  return refused
end
if same then
  redis.call('HSET', item, 'c', cas)
end
return exact(cas)
