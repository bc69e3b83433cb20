-- ARGV: token ('' for none), when the item has to be over, as read.lua says it (nothing for any).
-- Gives 1, NF or EX.

if not exists() then
  if not counter then
    redis.call('HDEL', item, 'l') -- a lease on it
  end
  return 'NF'
end
if is_other(redis.call('HGET', item, 'c'), ARGV[1]) then
  return 'EX'
end
if ARGV[2] and math.abs(over_at() - ARGV[2]) > NEARLY then
  return 'EX'
end
redis.call('UNLINK', item)
return 1
