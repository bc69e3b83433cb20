-- Stands before the scripts that are about the members: the processes that fill in items.

-- Milliseconds of UNIX time, and after how many of them without a word a member is gone; it serves
-- no more by then.
local GONE = 10000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

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
