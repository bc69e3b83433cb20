-- Write to KEYS[1] in a full Redis, too: it takes PERSIST, and after it, in a script, any command.
-- ARGV: the command, and what it has behind the key. Gives its reply.

redis.call('PERSIST', KEYS[1])
return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))
