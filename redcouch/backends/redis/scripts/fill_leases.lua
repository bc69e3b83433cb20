-- Stands before the scripts that fill in items from another cache. The last three of KEYS are
-- the item's lease, the state of filling in, and the set of denied keys.
--
-- The state is a hash: all (set where nothing may be filled in any more), keys (how many are
-- denied), epoch (raised to revoke every lease), from and until (UNIX times of a pause), stage and
-- its version; next, holding and deadline while another stage is announced.

local lease, state, denied = KEYS[#KEYS - 2], KEYS[#KEYS - 1], KEYS[#KEYS]

local function epoch()
  return redis.call('HGET', state, 'epoch') or '0'
end

-- Why this client key must not be filled in: NS (nothing may be), NF (not now), the error of a
-- user who may not look; or nil.
-- A set that has fewer keys than were denied has been evicted: then nobody knows which, no more
-- than where what stands there makes no sense.
local function closed(key, now)
  local known = redis.pcall('HMGET', state, 'all', 'keys', 'from', 'until', 'stage')
  local many = redis.pcall('SCARD', denied)
  local refused = known.err and known or type(many) == 'table' and many
  if refused and not string.find(refused.err, '^WRONGTYPE') then
    return refused
  end
  if refused or known[1] then
    return 'NS'
  end
  if known[5] == 'redis-only' then
    return 'NF'
  end
  if known[2] and not (tonumber(known[2]) and many >= tonumber(known[2])) then
    return 'NS'
  end
  local from, to = tonumber(known[3] or 'nan'), tonumber(known[4] or 'nan')
  if (known[3] or known[4]) and not (from and to and (now < from or now >= to)) then
    return 'NF'
  end
  if redis.call('SISMEMBER', denied, key) == 1 then
    return 'NF'
  end
end
