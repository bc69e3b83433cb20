-- Look through a Redis with many keys for items, where there is no CAS counter. ARGV: a cursor of
-- SCAN, '0' at first. Gives the next cursor, or 1 when there is no more to look at.
--
-- Once all is seen and there were none, the counter is made, and the first token is going to be 1.

if redis.call('EXISTS', counter) == 1 or (ARGV[1] == '0' and redis.call('DBSIZE') <= PAGE) then
  return 1
end
local cursor = page_without_tokens(ARGV[1])
if cursor == '0' then
  redis.call('SET', counter, string.format('%.0f', UNUSED))
end
return cursor ~= '0' and cursor or 1
