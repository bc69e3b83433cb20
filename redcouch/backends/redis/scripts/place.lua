-- Put a plain string at a key, which is KEYS[1], or take it away again. ARGV: value ('' to take it
-- away), milliseconds to live ('' for ever), whether a string that is there is replaced ('1' or
-- ''; without a value: whether it is to live for ever in place of being taken away), and of what
-- was put there before the SHA-1 ('' for nothing) and when it was to be over: that is always
-- replaced. The same bytes with another expiry are somebody else's.
-- The value stands behind a letter, so that an empty one is another thing than none.
-- Gives when the string will be over, or 'present' where there is something else.

local there = redis.call('TYPE', item)['ok']
local ours = there == 'string' and redis.sha1hex(redis.call('GET', item)) == ARGV[4]
  and math.abs(over_at() - ARGV[5]) <= NEARLY
if ARGV[1] == '' then
  if ours then
    redis.call(ARGV[3] == '1' and 'PERSIST' or 'UNLINK', item)
  end
elseif there ~= 'none' and not ours and not (ARGV[3] == '1' and there == 'string') then
  return 'present'
elseif ARGV[2] == '' then
  redis.call('SET', item, string.sub(ARGV[1], 2))
else
  redis.call('SET', item, string.sub(ARGV[1], 2), 'PX', ARGV[2])
end
return over_at()
