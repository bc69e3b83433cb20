-- Read an item and give it a new expiry. ARGV: expiry command, its argument.
-- Gives the fields v, r, f, c.

local found = redis.call('HMGET', item, 'v', 'r', 'f', 'c')
if found[1] or found[2] then
  local wrong = unreadable(found[3], found[4]) or (found[1] and garbled(found[1]))
  if wrong then
    return wrong
  end
  expire(ARGV[1], ARGV[2])
end
return found
