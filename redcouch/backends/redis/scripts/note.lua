-- Note when names were last seen, unless that is known of a later time. KEYS: the hash of a kind of
-- names. ARGV: name by name, each with when, in seconds.

-- What is later than this is from before the clock was set back.
local soon = redis.call('TIME')[1] + 60

for place = 1, #ARGV, 2 do
  local name, last = ARGV[place], ARGV[place + 1]
  local before = tonumber(redis.call('HGET', KEYS[1], name) or '')
  if not (before and before >= tonumber(last) and before <= soon) then
    redis.call('HSET', KEYS[1], name, last)
  end
end
