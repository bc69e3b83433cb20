-- How things stand on a cluster, for a member that asks. KEYS: the state. ARGV: the member, the
-- stage that it knows ('' for none), its version, what of the state is to be set if it is lost (''
-- for nothing); then for each old memcached that answers it the name and the process. Gives {stage,
-- version, next stage, whether nothing may begin, whether this member repairs, whether the old
-- memcacheds lack something that is to be there, how many items a sweep of this stage has left to
-- bring over (-1: nobody knows), what made no sense, whether all keys are denied, which hash of
-- denied keys counts ('' for any)}.

local state, member = KEYS[1], ARGV[1]

local unknown = mend(state, ARGV[2], ARGV[3], ARGV[4])
if unknown then
  return unknown
end
note_processes(state, 5)
local known = redis.call('HMGET', state, 'leader', 'led')
local leads = member ~= '' and (known[1] == member or not (math.abs(now - (tonumber(known[2]) or 0)) <= LATE))
if leads then
  redis.pcall('HSET', state, 'leader', member, 'led', string.format('%.0f', now))
end
local told = redis.call(
  'HMGET', state, 'stage', 'version', 'next', 'holding', 'returning', 'left', 'left_in', 'all', 'denials'
)
return {
  told[1] or '', tonumber(told[2]) or 0, not is_over and told[3] or '', not is_over and told[4] and 1 or 0,
  leads and 1 or 0,
  told[5] and 1 or 0, told[7] == told[2] and tonumber(told[6] or '') or -1,
  senseless, told[8] and 1 or 0, told[9] or '',
}
