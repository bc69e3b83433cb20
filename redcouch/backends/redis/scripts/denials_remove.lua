-- Deny keys no longer, on a cluster, unless they have been denied anew. KEYS: the denied keys, see
-- denials_add.lua. ARGV: client keys, each with the denial that is over. Gives 1 or 0 for each.

local done = {}
for place = 1, #ARGV, 2 do
  local same = redis.call('HGET', KEYS[1], ARGV[place]) == ARGV[place + 1]
  done[#done + 1] = same and redis.call('HDEL', KEYS[1], ARGV[place]) or 0
end
return done
