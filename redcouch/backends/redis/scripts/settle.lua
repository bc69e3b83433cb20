-- The end of a set of a large value, which HSET has written a moment ago in the
-- same transaction. ARGV: other field, flags, expiry command, its argument.
-- Gives the CAS token.

local cas, refused = next_cas()
if refused then
  redis.call('UNLINK', item)
  return refused
end
redis.call('HSET', item, 'f', ARGV[2], 'c', cas)
redis.call('HDEL', item, ARGV[1], 's', 'w', 'h')
expire(ARGV[3], ARGV[4])
return cas
