-- A member of a cluster's is there. KEYS: the members (a hash: milliseconds of UNIX time, what it
-- acknowledges, what others may know of it). ARGV: the member ('' for nobody), what it
-- acknowledges, what others may know, and the names of members to forget if they are gone.
-- Gives {the names of those that live, the names of those that are gone, what made no sense, whether
-- it is noted that this member is there}.

local members, noted = KEYS[1], nil
if ARGV[1] ~= '' then
  redis.pcall('PERSIST', members) -- which a full Redis takes, and after it, in a script, the other
  noted = redis.pcall('HSET', members, ARGV[1], string.format('%.0f %s %s', now, ARGV[2], ARGV[3]))
end
local forgotten = {}
for place = 4, #ARGV do
  forgotten[ARGV[place]] = true
end
local there, gone = {}, {}
local all = redis.call('HGETALL', members)
for place = 1, #all, 2 do
  local name = all[place]
  if living(members, name, all[place + 1]) then
    there[#there + 1] = name
  elseif forgotten[name] then
    redis.call('HDEL', members, name)
  else
    gone[#gone + 1] = name
  end
end
return {there, gone, senseless, type(noted) == 'number' and 1 or 0}
