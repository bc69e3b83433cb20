-- Deny a key no longer, if its item is still the one that was told. ARGV: client key, UNIX time,
-- CAS token ('' for no item, or none that can be read), milliseconds for which it is known that
-- this has been. Gives 1, or NS.

local there = ''
local of_its_type, is_there = pcall(exists)
if of_its_type and is_there then
  local cas = redis.call('HGET', item, 'c')
  there = unreadable(redis.call('HGET', item, 'f'), cas) and '' or bare(cas) or '0'
end
if there ~= ARGV[3] then
  return 'NS'
end
if redis.call('SREM', denied, ARGV[1]) == 1 then
  redis.call('HINCRBY', state, 'keys', -1)
end
redis.call('SET', lease, 'repaired', 'PX', ARGV[4])
return 1
