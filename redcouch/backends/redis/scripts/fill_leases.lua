-- Stands before the scripts that fill in items from another cache. The last three of KEYS are
-- the item's lease, the state of filling in, and the set of denied keys.
--
-- The state is a hash: all (set where nothing may be filled in any more), keys (how many are
-- denied), epoch (raised to revoke every lease), from and until (UNIX times of a pause).

local lease, state, denied = KEYS[#KEYS - 2], KEYS[#KEYS - 1], KEYS[#KEYS]

local function epoch()
  return redis.call('HGET', state, 'epoch') or '0'
end

-- Why this client key must not be filled in: NS (nothing may be), NF (not now); or nil.
-- A set that has fewer keys than were denied has been evicted: then nobody knows which.
local function closed(key, now)
  local known = redis.call('HMGET', state, 'all', 'keys', 'from', 'until')
  if known[1] or (known[2] and redis.call('SCARD', denied) < tonumber(known[2])) then
    return 'NS'
  end
  if known[3] and now >= tonumber(known[3]) and now < tonumber(known[4]) then
    return 'NF'
  end
  if redis.call('SISMEMBER', denied, key) == 1 then
    return 'NF'
  end
end
