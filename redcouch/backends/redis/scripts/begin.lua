-- The beginning of a set of a large value: HSETNX writes it next, and settle.lua ends it, in the
-- same transaction. ARGV: field.
--
-- Takes a token and leaves it in the item (field BEGUN), without its value. Where there is none,
-- the value stays, so that HSETNX changes nothing; a - there says that there was none. The item must
-- not expire before settle.lua: to Redis 7.0 time goes on between the commands of a transaction.

local cas, refused = next_cas()
if not refused then
  redis.call('HSET', item, BEGUN, cas)
  redis.call('HDEL', item, 'v', 'r')
  redis.call('PERSIST', item)
elseif not is_error(refused, 'OOM') then
  redis.call('HSET', item, BEGUN, redis.call('HEXISTS', item, ARGV[1]) == 1 and '' or '-')
end
return 1
