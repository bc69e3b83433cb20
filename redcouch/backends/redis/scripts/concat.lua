-- append and prepend. ARGV: field of the piece, piece, mode, room for the
-- value in bytes, room that flags take, token to compare ('' for none), token to carry
-- ('' for a new one), and for an item that is not there: expiry command ('' to give up),
-- its argument, flags.
-- Gives {CAS token, bytes of the value}, NS or EX. Flags, expiry and the item's own encoding stay.

local now = redis.call('HMGET', item, 'v', 'r', 'f', 'c')
local field, value = 'v', now[1]
if not value then
  field, value = 'r', now[2]
end
if not value then
  if ARGV[8] == '' then
    return 'NS'
  end
  local cas, refused = cas_or(ARGV[7])
  if refused then
    return refused
  end
  put(ARGV[1], ARGV[2], ARGV[10], cas)
  expire(ARGV[8], ARGV[9])
  return {exact(cas), ARGV[1] == 'v' and #ARGV[2] / 2 or #ARGV[2]}
end
if is_other(now[4], ARGV[6]) then
  return 'EX'
end
local piece, length = ARGV[2], #value
if field == 'v' then
  value = string.gsub(value, '%s+', '')
  if #value % 2 == 1 or string.find(value, '%X') then
    return redis.error_reply('UNREADABLE value')
  end
  length = #value / 2
  if ARGV[1] == 'r' then
    piece = to_hex(piece)
  end
elseif ARGV[1] == 'v' then
  piece = from_hex(piece)
end
local added = field == 'v' and #piece / 2 or #piece
local room = tonumber(ARGV[4])
if now[3] and now[3] ~= '0' then
  room = room - tonumber(ARGV[5])
end
if length + added > room then
  return 'NS'
end
local cas, refused = cas_or(ARGV[7])
if refused then
  return refused
end
if ARGV[3] == 'append' then
  value = value .. piece
else
  value = piece .. value
end
put(field, value, now[3] or '0', cas)
return {exact(cas), length + added}
