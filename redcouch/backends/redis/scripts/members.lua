-- Stands before the scripts that are about the members: the processes that fill in items.

-- Milliseconds of UNIX time, and after how many of them without a word a member is gone; it serves
-- no more by then.
local GONE = 10000

-- After how many another one repairs.
local LATE = 3000

-- For how many a stage is announced at most.
local LONGEST = 601000

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Whether what stands at a key is of another type than it should be.
local function is_senseless(said)
  return type(said) == 'table' and said.err and string.find(said.err, 'WRONGTYPE', 1, true)
end

-- Where something made no sense and counts as lost, for who asks to tell.
local senseless = {}

-- Since when a member has not been heard from, and what it acknowledges. Nothing for one that is
-- gone, or whose record makes no sense: that is nobody.
local function living(key, name, record)
  local seen, acknowledged = string.match(record, '^(%d+) (%S*)')
  if not seen then
    senseless[#senseless + 1] = key .. ' ' .. name
  elseif math.abs(now - seen) <= GONE then
    return now - seen, acknowledged
  end
end

local STAGES = {['origin-first'] = true, ['redis-first'] = true, ['redis-only'] = true}

-- Numbers of the state; the first ones are counted up, and begin anew at the clock; the last ones
-- are moments, between which nothing is brought over.
local NUMBERS = {'version', 'epoch', 'returning', 'left', 'keys', 'from', 'until'}
local COUNTED, MOMENTS = 3, 6

-- Whether Redis has forgotten a stage that counted, as one does that is started again from an older
-- copy, or has another master. That before it may be followed only where it is the safer one, which
-- redis-first never is: either the old memcacheds are right, or nobody tells them anything.
local function is_forgotten(state, stage, version)
  local there = redis.call('HGET', state, 'version') or '0'
  return stage ~= 'redis-first' and string.find(there, '^%d+$') and tonumber(version) > tonumber(there)
end

-- Whether what was announced is over. It stays in the state where Redis takes no write.
local is_over = false

-- See to what is lost, over or senseless in the state. A member that knows the stage ('' for none)
-- puts it back; where nobody does, it is an error, since another one would lose something. Of what
-- the old memcacheds have missed it cannot put back which: it names the field that stands for all.
local function mend(state, stage, version, missed)
  redis.pcall('PERSIST', state) -- which a full Redis takes, and after it, in a script, the others
  local there = redis.pcall('HGET', state, 'stage')
  if is_senseless(there) or (type(there) == 'string' and not STAGES[there]) then
    if stage == '' then
      return redis.error_reply(
        'NOSTAGE ' .. state .. ' has no stage in its field stage: redcouch stage STAGE --force sets it anew'
      )
    elseif type(there) == 'string' then
      redis.call('HDEL', state, 'stage')
    else
      redis.call('UNLINK', state)
      redis.call('HSET', state, 'all', 1)
    end
    senseless[#senseless + 1] = state .. ' stage'
  end
  -- Where nothing can be noted, it is told all the same.
  local lost = stage ~= '' and redis.pcall('HSETNX', state, 'stage', stage) == 1
  local forgotten = not lost and stage ~= '' and is_forgotten(state, stage, version)
  if lost or forgotten then
    redis.pcall('HSET', state, 'stage', stage, 'version', version)
  end
  if forgotten and stage == 'origin-first' then -- as where it began to count: commit.lua
    redis.pcall('HDEL', state, 'all', 'keys', 'returning')
  end
  if lost and stage == 'redis-first' and missed ~= '' then
    redis.pcall('HSET', state, missed, string.format('%.0f', now))
  end
  for place, number in ipairs(redis.call('HMGET', state, unpack(NUMBERS))) do
    local is_moment = place >= MOMENTS
    if number and (#number > 15 or not string.find(number, is_moment and '^%d+%.?%d*$' or '^%d+$')) then
      local paused = is_moment and ' (delete it: nothing may be brought over meanwhile)' or ''
      senseless[#senseless + 1] = state .. ' ' .. NUMBERS[place] .. paused
      if place <= COUNTED then
        redis.pcall('HSET', state, NUMBERS[place], string.format('%.0f', now))
      end
    end
  end
  local told = redis.call('HMGET', state, 'deadline', 'holding', 'next')
  local left = (tonumber(told[1]) or 0) - now
  if (told[1] or told[2] or told[3]) and not (left >= 0 and left <= (told[2] and GONE or LONGEST)) then
    is_over = true
    redis.pcall('HDEL', state, 'next', 'holding', 'deadline')
  end
end

-- Note which process of each old memcached answers: ARGV has their names and processes from this
-- place on. One that has been started again has nothing of what it had. In the other stages, it
-- need not.
local function note_processes(state, from)
  for place = from, #ARGV, 2 do
    local name, process = 'process:' .. ARGV[place], ARGV[place + 1]
    local before = redis.pcall('HGET', state, name)
    if before ~= process then
      local stage = redis.call('HGET', state, 'stage')
      if before and (not stage or stage == 'redis-first') then
        redis.pcall('HINCRBY', state, 'returning', 1)
      end
      redis.pcall('HSET', state, name, process)
    end
  end
end
