-- The plain set. ARGV: field, value, flags, expiry command, its argument.
-- Gives the CAS token. Refused for lack of memory, it takes the old item with it,
-- as memcached does, so that no stale value lives on.

local cas, refused = next_cas()
if refused then
  if is_error(refused, 'OOM') then
    redis.call('HLEN', item) -- an error for a key of another type, which is left alone
    redis.call('UNLINK', item)
  end
  return refused
end
put(ARGV[1], ARGV[2], ARGV[3], cas)
expire(ARGV[4], ARGV[5])
return cas
