-- add, replace, and set with a token to compare.
-- ARGV: field, other field, value, flags, expiry command, its argument, mode, token.
-- Gives the CAS token, or NS (not stored), EX (another token), NF (no item).

local mode = ARGV[7]
local there = exists()
if mode == 'cas' then
  if not there then
    return 'NF'
  end
  if redis.call('HGET', item, 'c') ~= ARGV[8] then
    return 'EX'
  end
elseif there == (mode == 'add') then
  return 'NS'
end
local cas, refused = next_cas()
if refused then
  return refused
end
put(ARGV[1], ARGV[2], ARGV[3], ARGV[4], cas)
expire(ARGV[5], ARGV[6])
return cas
