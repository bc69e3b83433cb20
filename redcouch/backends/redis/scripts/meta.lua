-- Read an item with its standing. ARGV: whether the value is asked for ('1' or ''),
-- touch: expiry command ('' for none), its argument; for an item that is not there:
-- field, other field, expiry command ('' to give up), its argument, token to carry ('' for
-- a new one); seconds below which the item is to be renewed ('' for never), whether that
-- looks at the expiry after the touch ('1' or ''), whether the read counts ('1' or '').
-- Gives {v, r, size, f, c, ttl before, idle, fetched, stale, sent, won, created}, or nothing.

local idle = redis.pcall('OBJECT', 'IDLETIME', item) -- first: the reads below are accesses
if type(idle) ~= 'number' then
  idle = 0 -- no item; or a policy under which Redis counts uses in place of time
end
local now = redis.call('HMGET', item, 'v', 'r', 'f', 'c', 's', 'w', 'h')
local created = false
if not now[1] and not now[2] then
  if ARGV[6] == '' then
    return false
  end
  local cas, refused = cas_or(ARGV[8])
  if refused then
    return refused
  end
  put(ARGV[4], ARGV[5], '', '0', cas)
  created = true
  now = {ARGV[4] == 'v' and '', ARGV[4] == 'r' and '', '0', cas, false, false, false}
end
if not now[4] then
  local cas, refused = next_cas()
  if refused then
    return refused
  end
  redis.call('HSET', item, 'c', cas)
  now[4] = cas
end

local before = ttl()
local won = created or (now[5] and not now[6])
if won then
  redis.call('HSET', item, 'w', 1)
end
if ARGV[11] == '1' and not now[7] then
  redis.call('HSET', item, 'h', 1)
end
if created then
  expire(ARGV[6], ARGV[7])
elseif ARGV[2] ~= '' then
  expire(ARGV[2], ARGV[3])
end
if ARGV[9] ~= '' and not (won or now[6]) then
  local left = ARGV[10] == '1' and ttl() or before
  if left >= 0 and left < tonumber(ARGV[9]) then
    won = true
    if redis.call('EXISTS', item) == 1 then
      redis.call('HSET', item, 'w', 1)
    end
  end
end

local size
if now[1] then
  size = #string.gsub(now[1], '%s+', '') / 2
else
  size = #now[2]
end
local value = ARGV[1] == '1'
return {
  now[1] and (value and now[1] or ''), now[2] and (value and now[2] or ''), size,
  now[3] or '0', exact(now[4]), before, idle,
  now[7] and 1 or 0, now[5] and 1 or 0, now[6] and 1 or 0, won and 1 or 0, created and 1 or 0,
}
