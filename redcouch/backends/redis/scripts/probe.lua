-- What a get and a set do, so that Redis refuses it where it refuses these; of which nothing stays:
-- no item, and the CAS counter as it was. ARGV: field.

redis.call('HMGET', item, 'v', 'r', 'f', 'c')
local counted = counter and redis.pcall('INCR', counter)
if type(counted) == 'table' then
  return counter_error(counted)
elseif counted == 1 then
  redis.call('UNLINK', counter)
elseif counted and counted < 9007199254740992 then -- beyond, a token is used up
  redis.call('SET', counter, string.format('%.0f', counted - 1), 'KEEPTTL')
elseif not counted then
  local _, refused = next_cas()
  if refused then
    return refused
  end
end
-- What others do behind a change: where the user lacks the right, they fail with half of it done.
for _, call in ipairs({
  {'UNLINK'}, {'HDEL', 'c'}, {'HGET', 'c'}, {'HEXISTS', 'c'}, {'HSTRLEN', 'c'}, {'HLEN'}, {'EXISTS'},
  {'PTTL'}, {'PERSIST'}, {'PEXPIRE', '1'}, {'PEXPIREAT', '1'},
}) do
  redis.call(call[1], item, unpack(call, 2))
end
redis.call('TIME')
put(ARGV[1], '', '0', '1')
local done = redis.pcall('HSETNX', item, 'c', '1')
expire('UNLINK', '')
return done
