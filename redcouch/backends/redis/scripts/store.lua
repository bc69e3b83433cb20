-- add, replace, and set with a token to compare or to carry.
-- ARGV: field, value, flags, expiry command, its argument, mode ('set',
-- 'add', 'replace', 'cas', or 'stale': cas that takes an older token and marks the item
-- stale), token to compare, token to carry ('' for a new one).
-- Gives the CAS token, or NS (not stored), EX (another token), NF (no item).

local mode = ARGV[6]
local stale, sent = false, false
if mode == 'cas' or mode == 'stale' then
  if not exists() then
    return 'NF'
  end
  local now = redis.call('HMGET', item, 'c', 'w')
  local own = bare(now[1])
  if own ~= ARGV[7] or own == '0' then -- as in memcached: 0 is no token to ask for
    stale = mode == 'stale' and own and not unreadable(false, own) and ARGV[7] ~= '0'
      and lower(ARGV[7], own)
    if not stale then
      return 'EX'
    end
    sent = now[2]
  end
elseif mode ~= 'set' and exists() == (mode == 'add') then
  return 'NS'
end
local cas, refused = cas_or(ARGV[8])
if refused then
  return refused
end
put(ARGV[1], ARGV[2], ARGV[3], cas)
if stale then
  redis.call('HSET', item, 's', 1)
  if sent then
    redis.call('HSET', item, 'w', sent)
  end
else
  expire(ARGV[4], ARGV[5])
end
return exact(cas)
