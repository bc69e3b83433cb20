-- Deny that keys are filled in. KEYS: the state, the set. ARGV: how many may be denied one by
-- one, client keys. Gives 1, or NS where all are denied.

local state, denied = KEYS[1], KEYS[2]
if redis.call('HEXISTS', state, 'all') == 1 then
  return 'NS'
end
for place = 2, #ARGV do
  if redis.call('SADD', denied, ARGV[place]) == 1 then
    redis.call('HINCRBY', state, 'keys', 1)
  end
end
if tonumber(redis.call('HGET', state, 'keys') or '0') > tonumber(ARGV[1]) then
  redis.call('HSET', state, 'all', 1)
  redis.call('UNLINK', denied)
  return 'NS'
end
return 1
