-- Leases on items are void. KEYS: the leases. Gives 1 where one of these items has just been allowed
-- to be filled in again; else 0.

local repaired = 0
for _, name in ipairs(KEYS) do
  if string.find(lease_at(name), '^repaired') then
    repaired = 1
  end
end
redis.call('UNLINK', unpack(KEYS))
return repaired
