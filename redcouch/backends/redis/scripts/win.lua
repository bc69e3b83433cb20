-- Win the right to renew a stale item. ARGV: the CAS token it had when it was read.
-- Gives 1 to the first who asks, 0 to everybody else.

if bare(redis.call('HGET', item, 'c')) ~= ARGV[1] or redis.call('HEXISTS', item, 's') == 0 then
  return 0
end
return redis.call('HSETNX', item, 'w', 1)
