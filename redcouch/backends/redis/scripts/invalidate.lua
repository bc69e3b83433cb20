-- Mark an item stale, empty its value, or both. ARGV: whether to mark it ('1' or ''),
-- whether to empty it ('1' or ''), expiry command ('' to leave it), its argument, token to
-- compare ('' for none), token to carry ('' for a new one), flags of the empty item.
-- Gives 1, NF or EX.

if not exists() then
  return 'NF'
end
if is_other(redis.call('HGET', item, 'c'), ARGV[5]) then
  return 'EX'
end
local cas, refused = cas_or(ARGV[6])
if refused then
  return refused
end
if ARGV[2] == '1' then
  put(redis.call('HEXISTS', item, 'v') == 1 and 'v' or 'r', '', ARGV[7], cas)
else
  redis.call('HSET', item, 'c', cas)
end
if ARGV[1] == '1' then
  redis.call('HSET', item, 's', 1)
  redis.call('HDEL', item, 'w')
end
if ARGV[3] ~= '' then
  expire(ARGV[3], ARGV[4])
end
return 1
