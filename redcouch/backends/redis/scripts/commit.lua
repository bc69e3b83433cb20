-- Let the stage that was announced count, or (ARGV[2] empty) leave it. KEYS: the state, the set of
-- denied keys, the members, the CAS counter; on a cluster the state alone, and who calls sees to the
-- others. ARGV: who does, the stage, whether no key may be denied, the least that the counter has
-- to be at. The keys that are denied are allowed.
-- Gives 1; or why not: NF too late, NS some keys are denied, else the member that does not hold.

local state, denied, members, counter = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local told = redis.call('HMGET', state, 'by', 'deadline', 'holding', 'version', 'keys', 'all')
if told[1] ~= ARGV[1] then
  return 'NF'
end
if ARGV[2] == '' then
  redis.call('HDEL', state, 'by', 'next', 'holding', 'deadline')
  return 1
end
if now > (tonumber(told[2]) or 0) or not told[3] then
  return 'NF'
end
local all = members and redis.call('HGETALL', members) or {}
for place = 1, #all, 2 do
  local silent, acknowledged = living(members, all[place], all[place + 1])
  if silent and acknowledged ~= (told[4] or '0') .. '=' then
    return all[place]
  end
end
if ARGV[3] == '1' and (told[6] or (told[5] or '0') ~= '0') then
  return 'NS'
end
-- The stage comes last: what Redis refuses before it leaves the stage as it was.
local counted = counter and tonumber(redis.call('GET', counter) or '')
if counted and counted < tonumber(ARGV[4]) then
  redis.call('SET', counter, ARGV[4])
end
if denied then
  redis.call('UNLINK', denied)
end
redis.call('HSET', state, 'stage', ARGV[2])
redis.call('HINCRBY', state, 'version', 1)
redis.call('HINCRBY', state, 'epoch', 1)
redis.call('HDEL', state, 'by', 'next', 'holding', 'deadline', 'all', 'keys', 'denials')
if ARGV[2] == 'origin-first' then
  redis.call('HDEL', state, 'returning')
end
return 1
