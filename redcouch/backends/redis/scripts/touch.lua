-- ARGV: expiry command, its argument. Gives {flags, CAS token}, or NF. The token stays;
-- an item that a native client wrote without one is given one.

if not exists() then
  return 'NF'
end
local now = redis.call('HMGET', item, 'f', 'c')
local wrong = unreadable(now[1], now[2])
if wrong then
  return wrong
end
if not now[2] then
  local cas, refused = next_cas()
  if refused then -- the next reader gives it one
    now[2] = '0'
  else
    redis.call('HSET', item, 'c', cas)
    now[2] = exact(cas)
  end
end
expire(ARGV[1], ARGV[2])
return {now[1] or '0', now[2]}
