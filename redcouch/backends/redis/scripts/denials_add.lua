-- Deny keys, on a cluster. KEYS: a hash of the keys that are denied, with which denial of each was
-- the last, and under no key what names this hash: should Redis evict it, another one differs.
-- ARGV: a name for the hash if it is new, the denial, client keys. Gives {the hash's name, how many
-- keys are denied}.

local denied = KEYS[1]
redis.call('PERSIST', denied) -- which a full Redis takes, and after it, in a script, the others
redis.call('HSETNX', denied, '', ARGV[1])
for place = 3, #ARGV do
  redis.call('HSET', denied, ARGV[place], ARGV[2])
end
return {redis.call('HGET', denied, ''), redis.call('HLEN', denied) - 1}
