-- The plain set as nearly all are, where one Redis counts the tokens. It goes before the functions,
-- which every call of a script makes anew: here none is needed. ARGV: see set.lua.

KEYS.counted = KEYS[2] and redis.pcall('INCR', KEYS[2])
if type(KEYS.counted) == 'number' and KEYS.counted > 1 and KEYS.counted < 9007199254740992 then
  local item, call, cas = KEYS[1], redis.call, KEYS.counted
  call('HSET', item, ARGV[1], ARGV[3], 'f', ARGV[4], 'c', cas)
  call('HDEL', item, ARGV[2], 's', 'w', 'h')
  if ARGV[6] == '' then
    call(ARGV[5], item)
  else
    call(ARGV[5], item, ARGV[6])
  end
  return cas
end
