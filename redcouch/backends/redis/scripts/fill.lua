-- Store an item that was read elsewhere, if there is none and the lease holds.
-- ARGV: client key, UNIX time in seconds, lease, field, value, flags, expiry
-- command, its argument. Gives the CAS token, or NS.

if redis.call('GET', lease) ~= ARGV[3]
  or string.match(ARGV[3], ':(.*)$') ~= epoch()
  or closed(ARGV[1], tonumber(ARGV[2]))
  or exists()
then
  return 'NS'
end
local cas, refused = next_cas()
if refused then
  return refused
end
put(ARGV[4], ARGV[5], ARGV[6], cas)
expire(ARGV[7], ARGV[8])
redis.call('UNLINK', lease)
return exact(cas)
