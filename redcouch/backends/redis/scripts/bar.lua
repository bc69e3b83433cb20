-- Bar keys from being filled in. KEYS: the state, the set. ARGV: how many may be barred one by
-- one, client keys. Gives 1, or NS where all are barred.

local state, barred = KEYS[1], KEYS[2]
if redis.call('HEXISTS', state, 'all') == 1 then
  return 'NS'
end
for place = 2, #ARGV do
  if redis.call('SADD', barred, ARGV[place]) == 1 then
    redis.call('HINCRBY', state, 'keys', 1)
  end
end
if tonumber(redis.call('HGET', state, 'keys') or '0') > tonumber(ARGV[1]) then
  redis.call('HSET', state, 'all', 1)
  redis.call('UNLINK', barred)
  return 'NS'
end
return 1
