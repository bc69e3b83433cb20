-- Announce another stage, or hold for it. KEYS: the state. ARGV: who does, the stage, 1 to hold, for
-- how many milliseconds that stands. Gives 1; NS where somebody else is at it; NF where it is too
-- late to hold.

local state = KEYS[1]
local deadline = tonumber(redis.call('HGET', state, 'deadline') or '')
local under_way = deadline and now <= deadline
if under_way and redis.call('HGET', state, 'by') ~= ARGV[1] then
  return 'NS'
elseif ARGV[3] == '1' and not under_way then
  return 'NF'
end
redis.call(
  'HSET', state, 'by', ARGV[1], 'next', ARGV[2],
  'deadline', string.format('%.0f', now + tonumber(ARGV[4]))
)
if ARGV[3] == '1' then
  redis.call('HSET', state, 'holding', 1)
end
return 1
