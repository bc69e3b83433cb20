-- Put ARGV[2] in the place of the string ARGV[1], or nothing where it is empty. KEYS[1]: where. Gives 1,
-- or 0 where something else stands there.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1]) -- which a full Redis takes, and after it, in a script, a SET
if ARGV[2] ~= '' then
  redis.call('SET', KEYS[1], ARGV[2])
end
return 1
