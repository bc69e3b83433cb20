-- A member is there, and asks how things stand. KEYS: the state, the set of denied keys, the
-- members (a hash: milliseconds of UNIX time, what it acknowledges, what others may know of it),
-- the changes under way (a hash: <member>/<number> to client key). ARGV: how many keys may be
-- denied one by one, the member ('' to see to those that are gone only), what it acknowledges,
-- what others may know, the stage that it knows, its version; then for each old memcached that
-- answers it the name and the process.
-- Gives {stage, version, next stage, whether nothing may begin, denied keys (-1: all), whether this
-- member repairs, whether the old memcacheds lack something that is to be there, how many items a
-- sweep of this stage has left to bring over (-1: nobody knows)}.

local members, doing = KEYS[3], KEYS[4]
local most, member = tonumber(ARGV[1]), ARGV[2]

-- Milliseconds after which another one repairs.
local LATE = 3000

-- Where Redis is full nothing can be noted, but it is told all the same.
if ARGV[5] ~= '' and redis.pcall('HSETNX', state, 'stage', ARGV[5]) == 1 then
  redis.pcall('HSET', state, 'version', ARGV[6])
end
local deadline = tonumber(redis.call('HGET', state, 'deadline') or '')
if deadline and now > deadline then
  redis.call('HDEL', state, 'next', 'holding', 'deadline')
end
if member ~= '' then
  redis.pcall('HSET', members, member, string.format('%.0f %s %s', now, ARGV[3], ARGV[4]))
end

note_processes(state, 7)

local leader = redis.call('HGET', state, 'leader')
local lives, some_gone, leader_lives = {}, false, false
local all = redis.call('HGETALL', members)
for place = 1, #all, 2 do
  local name, seen = all[place], tonumber(string.match(all[place + 1], '^%d+'))
  if now - seen > GONE then
    redis.call('HDEL', members, name)
    some_gone = true
  else
    lives[name] = true
    leader_lives = leader_lives or (name == leader and now - seen <= LATE)
  end
end
if not leader_lives and member ~= '' then
  redis.pcall('HSET', state, 'leader', member)
  leader = member
end
if some_gone or member == '' then
  local left = {}
  all = redis.call('HGETALL', doing)
  for place = 1, #all, 2 do
    if not lives[string.match(all[place], '^(.*)/')] then
      redis.call('HDEL', doing, all[place])
      left[#left + 1] = all[place + 1]
    end
  end
  if #left > 0 then
    deny(left, 1, most)
  end
end

local told = redis.call(
  'HMGET', state, 'stage', 'version', 'next', 'holding', 'all', 'keys', 'returning', 'left', 'left_in'
)
return {
  told[1] or '', tonumber(told[2] or '0'), told[3] or '', told[4] and 1 or 0,
  told[5] and -1 or tonumber(told[6] or '0') or -1, leader == member and 1 or 0,
  told[7] and 1 or 0, told[9] == told[2] and tonumber(told[8] or '') or -1,
}
