-- The plain set as nearly all are, where one Redis counts the tokens. It goes before the functions,
-- which every call of a script makes anew: here none is needed. ARGV: see set.lua.

KEYS.counted = KEYS[2] and redis.pcall('INCR', KEYS[2])
if type(KEYS.counted) == 'number' and KEYS.counted > 1 and KEYS.counted < 9007199254740992 then
  local item, field, call, cas = KEYS[1], ARGV[1], redis.call, KEYS.counted
  call('HSET', item, field, ARGV[2], 'f', ARGV[3], 'c', cas)
  call('HDEL', item, field == 'v' and 'r' or 'v', 's', 'w', 'h')
  if ARGV[5] == '' then
    call(ARGV[4], item)
  else
    call(ARGV[4], item, ARGV[5])
  end
  return cas
end
