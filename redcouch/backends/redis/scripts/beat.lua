-- A member is there, and asks how things stand. KEYS: the state, the set of denied keys, the
-- members (a hash: milliseconds of UNIX time, what it acknowledges, what others may know of it),
-- the changes under way (a hash: <member>/<number> to client key). ARGV: how many keys may be
-- denied one by one, the member ('' to see to those that are gone only), what it acknowledges,
-- what others may know, the stage that it knows, its version, what of the state is to be set if it
-- is lost ('' for nothing); then for each old memcached that answers it the name and the process.
-- Gives {stage, version, next stage, whether nothing may begin, denied keys (-1: all), whether this
-- member repairs, whether the old memcacheds lack something that is to be there, how many items a
-- sweep of this stage has left to bring over (-1: nobody knows), what made no sense, whether it is
-- noted that this member is there}.

local members, doing = KEYS[3], KEYS[4]
local most, member = tonumber(ARGV[1]), ARGV[2]

local unknown = mend(state, ARGV[5], ARGV[6], ARGV[7])
if unknown then
  return unknown
end
for _, key in ipairs({members, doing}) do
  if is_senseless(redis.pcall('HLEN', key)) then
    redis.call('UNLINK', key)
    senseless[#senseless + 1] = key
  end
end
local many = redis.pcall('SCARD', denied)
if is_senseless(many) then
  deny_all()
  senseless[#senseless + 1] = denied
elseif type(many) == 'table' then -- the user may not: that is no loss, and whoever asks is told
  return many
end
local counted = redis.call('HMGET', state, 'all', 'keys')
if not counted[1] and many < (tonumber(counted[2] or '') or 0) then -- evicted: nobody knows which
  deny_all()
end
local noted
if member ~= '' then
  noted = redis.pcall('HSET', members, member, string.format('%.0f %s %s', now, ARGV[3], ARGV[4]))
end

note_processes(state, 8)

local leader = redis.call('HGET', state, 'leader')
local lives, some_gone, leader_lives = {}, false, false
local all = redis.call('HGETALL', members)
for place = 1, #all, 2 do
  local name, silent = all[place], living(members, all[place], all[place + 1])
  if not silent then -- it stays where Redis takes no write; and so may all
    some_gone = type(redis.pcall('HDEL', members, name)) == 'number' or some_gone
  else
    lives[name] = true
    leader_lives = leader_lives or (name == leader and silent <= LATE)
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
  told[1] or '', tonumber(told[2]) or 0, not is_over and told[3] or '', not is_over and told[4] and 1 or 0,
  told[5] and -1 or tonumber(told[6] or '0') or -1, leader == member and 1 or 0,
  told[7] and 1 or 0, told[9] == told[2] and tonumber(told[8] or '') or -1, senseless,
  type(noted) == 'number' and 1 or 0,
}
