-- Store an item of a cluster that was read elsewhere, if there is none and the lease holds.
-- ARGV: lease, field, value, flags, expiry command, its argument. Gives the CAS
-- token, or NS.

if redis.call('HGET', item, 'l') ~= ARGV[1] or exists() then
  return 'NS'
end
local cas, refused = next_cas()
if refused then
  return refused
end
put(ARGV[2], ARGV[3], ARGV[4], cas)
expire(ARGV[5], ARGV[6])
return cas
