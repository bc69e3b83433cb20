-- ARGV: token ('' for none). Gives 1, NF or EX.

if not exists() then
  if not counter then
    redis.call('HDEL', item, 'l') -- a lease on it
  end
  return 'NF'
end
if ARGV[1] ~= '' and redis.call('HGET', item, 'c') ~= ARGV[1] then
  return 'EX'
end
redis.call('UNLINK', item)
return 1
