-- Note that a process watches who speaks memcached. KEYS: the hash of who has watched, and when:
-- for each process, since when and until when, in milliseconds. ARGV: the process; after how
-- many milliseconds without a note it begins anew, with what was before under a name of its own;
-- and for how many it has watched before its first note. Gives the time, by the clock of this Redis.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local before = redis.call('HGET', KEYS[1], ARGV[1])
local since, looked = string.match(before or '', '^(%d+) (%d+)$')
if since and now - looked > tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], ARGV[1] .. ':' .. since, before)
  since = nil
elseif since and now < tonumber(looked) then -- the clock has been set back
  since = nil
elseif not since then
  since = string.format('%.0f', now - ARGV[3])
end
local told = string.format('%.0f', now)
redis.call('HSET', KEYS[1], ARGV[1], (since or told) .. ' ' .. told)
return told
