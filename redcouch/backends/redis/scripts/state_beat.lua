-- How things stand on a cluster, for a member that asks. KEYS: the state. ARGV: the member, the
-- stage that it knows ('' for none), its version; then for each old memcached that answers it the
-- name and the process. Gives {stage, version, next stage, whether nothing may begin, whether this
-- member repairs, whether the old memcacheds lack something that is to be there, how many items a
-- sweep of this stage has left to bring over (-1: nobody knows), whether all keys are denied, which
-- hash of denied keys counts ('' for any)}.

local state, member = KEYS[1], ARGV[1]

-- Milliseconds after which another one repairs.
local LATE = 3000

-- Where Redis is full nothing can be noted, but it is told all the same.
if ARGV[2] ~= '' and redis.pcall('HSETNX', state, 'stage', ARGV[2]) == 1 then
  redis.pcall('HSET', state, 'version', ARGV[3])
end
local known = redis.call('HMGET', state, 'deadline', 'leader', 'led')
if known[1] and now > tonumber(known[1]) then
  redis.call('HDEL', state, 'next', 'holding', 'deadline')
end
note_processes(state, 4)
local leads = member ~= '' and (known[2] == member or now - tonumber(known[3] or '0') > LATE)
if leads then
  redis.pcall('HSET', state, 'leader', member, 'led', string.format('%.0f', now))
end
local told = redis.call(
  'HMGET', state, 'stage', 'version', 'next', 'holding', 'returning', 'left', 'left_in', 'all', 'denials'
)
return {
  told[1] or '', tonumber(told[2] or '0'), told[3] or '', told[4] and 1 or 0, leads and 1 or 0,
  told[5] and 1 or 0, told[7] == told[2] and tonumber(told[6] or '') or -1,
  told[8] and 1 or 0, told[9] or '',
}
