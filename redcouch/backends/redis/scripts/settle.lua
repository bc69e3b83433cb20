-- The end of a set of a large value, see begin.lua. ARGV: field, flags, expiry command, its argument.
-- Gives the CAS token. Refused for lack of memory, it takes the old item with it; refused for
-- another reason, it leaves the item as it was.

local cas = redis.call('HGET', item, BEGUN)
if cas == '' then
  redis.call('HDEL', item, BEGUN)
elseif cas == '-' then
  redis.call('HDEL', item, BEGUN, ARGV[1])
elseif not cas then
  redis.call('UNLINK', item)
else
  redis.call('HSET', item, 'f', ARGV[2], 'c', cas)
  redis.call('HDEL', item, BEGUN, 's', 'w', 'h', LEASE)
  expire(ARGV[3], ARGV[4])
  return cas
end
local _, refused = next_cas()
return refused or redis.error_reply('OOM no memory for the CAS counter')
