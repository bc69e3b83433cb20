-- Take a lease on an item that is going to be filled in. ARGV: client key, UNIX time in seconds,
-- milliseconds that the lease lasts. Gives the lease, NS or NF.
--
-- A lease is '<token>:<epoch>'. One that is there is shared: nothing has changed since. Where the
-- item has just been allowed to be filled in again, it goes on saying so: see revoke.lua.

local why = closed(ARGV[1], tonumber(ARGV[2]))
if why then
  return why
end
local now = epoch()
local there = lease_at(lease)
if string.match(there, ':(.*)$') == now then
  return there
end
local cas, refused = next_cas()
if refused then
  return refused
end
local mark = string.match(there, '^repaired') and 'repaired ' or ''
local new = mark .. exact(cas) .. ':' .. now
redis.call('SET', lease, new, 'PX', ARGV[3])
return new
