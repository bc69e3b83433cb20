-- The beginning of a set of a large value: HSETNX writes it next, and settle.lua ends it, in the
-- same transaction. ARGV: field, other field.
--
-- Takes a token and leaves it in the item (field n), without its value. Where there is none, the
-- value stays, so that HSETNX changes nothing; n says with - that there was none.

local cas, refused = next_cas()
if not refused then
  redis.call('HSET', item, 'n', cas)
  redis.call('HDEL', item, ARGV[1], ARGV[2])
elseif not is_error(refused, 'OOM') then
  redis.call('HSET', item, 'n', redis.call('HEXISTS', item, ARGV[1]) == 1 and '' or '-')
end
return 1
