-- Take a lease on an item of a cluster that is going to be filled in: a field of the item's own
-- hash, which has nothing else then, and ends with the lease. ARGV: a lease that nobody has had,
-- milliseconds that it lasts. Gives the lease. One that is there is shared: nothing has changed
-- since. Where there is something else, it gives one that does not hold.

local there = redis.call('HGET', item, 'l')
if there and not exists() then
  return there
elseif redis.call('EXISTS', item) == 1 then
  return ARGV[1]
end
redis.call('HSET', item, 'l', ARGV[1])
redis.call('PEXPIRE', item, ARGV[2])
return ARGV[1]
