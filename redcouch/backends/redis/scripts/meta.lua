-- Read an item with its standing. ARGV: whether the value is asked for ('1' or ''),
-- touch: expiry command ('' for none), its argument; for an item that is not there:
-- field, expiry command ('' to give up), its argument, token to carry ('' for
-- a new one); seconds below which the item is to be renewed ('' for never), whether that
-- looks at the expiry after the touch ('1' or ''), whether the read counts, whether an item
-- without a token is given one ('1' or ''), whether others are to renew it ('1', or nothing).
-- Gives {v, r, size, f, c, ttl before, idle, fetched, stale, sent, won, created}, or nothing. The
-- size is that of the value without white space only where the value is short or asked for.

-- Hex of up to this length is read to see how long the value is.
local SHORT = 8192

-- Note something that a read may do without: where nothing can be written, it is not noted.
local function note(field)
  local said = redis.pcall('HSET', item, field, 1)
  return type(said) ~= 'table'
end

local idle = redis.pcall('OBJECT', 'IDLETIME', item) -- first: the reads below are accesses
if type(idle) ~= 'number' then
  idle = 0 -- no item; or a policy under which Redis counts uses in place of time
end
local wanted = ARGV[1] == '1'
local hex, raw = redis.call('HSTRLEN', item, 'v'), redis.call('HSTRLEN', item, 'r')
local is_hex = hex > 0 or redis.call('HEXISTS', item, 'v') == 1
local there = is_hex or raw > 0 or redis.call('HEXISTS', item, 'r') == 1
local created = false
local now
if there then
  now = redis.call('HMGET', item, 'f', 'c', 's', 'w', 'h')
  local wrong = unreadable(now[1], now[2])
  if wrong then
    return wrong
  end
else
  if ARGV[5] == '' then
    return false
  end
  local cas, refused = cas_or(ARGV[7])
  if refused then
    return refused
  end
  put(ARGV[4], '', '0', cas)
  created, is_hex = true, ARGV[4] == 'v'
  now = {'0', cas, false, false, false}
end
local v, r, size = is_hex and '', not is_hex and '', is_hex and math.floor(hex / 2) or raw
if wanted or (is_hex and hex <= SHORT) then
  local value = redis.call('HGET', item, is_hex and 'v' or 'r')
  local wrong = wanted and is_hex and garbled(value)
  if wrong then
    return wrong
  end
  if wanted then
    v, r = is_hex and value, not is_hex and value
  else
    size = math.floor(#string.gsub(value, '%s+', '') / 2)
  end
end
if not now[2] and ARGV[11] == '1' then
  local cas, refused = next_cas()
  if not refused then
    redis.call('HSET', item, 'c', cas)
    now[2] = cas
  end
end

local before = ttl()
local won = ARGV[12] ~= '1' and (created or (now[3] and not now[4])) and note('w')
if ARGV[10] == '1' and not now[5] then
  note('h')
end
if created then
  expire(ARGV[5], ARGV[6])
elseif ARGV[2] ~= '' then
  expire(ARGV[2], ARGV[3])
end
if ARGV[8] ~= '' and not (won or now[4]) then
  local left = ARGV[9] == '1' and ttl() or before
  if left >= 0 and left < tonumber(ARGV[8]) then
    won = redis.call('EXISTS', item) == 0 or note('w')
  end
end

return {
  v, r, size, now[1] or '0', exact(now[2] or '0'), before, idle,
  now[5] and 1 or 0, now[3] and 1 or 0, now[4] and 1 or 0, won and 1 or 0,
  created and 1 or 0,
}
