-- Stands, behind members.lua, before the scripts that deny keys. They have two names: state and denied.

local state, denied = KEYS[1], KEYS[2]

local function deny_all()
  redis.call('HSET', state, 'all', 1)
  redis.call('UNLINK', denied)
  return 'NS'
end

-- Deny keys, from this place in a list on. Gives 1, or NS where all are denied.
local function deny(keys, from, most)
  redis.call('PERSIST', denied) -- which a full Redis takes, and after it, in a script, the others
  local all = redis.pcall('HEXISTS', state, 'all')
  if is_senseless(all) then
    redis.call('UNLINK', state)
    return deny_all()
  elseif all == 1 then
    return 'NS'
  elseif is_senseless(redis.pcall('SCARD', denied)) then
    return deny_all()
  end
  for place = from, #keys do
    if redis.call('SADD', denied, keys[place]) == 1 then
      local counted = redis.pcall('HINCRBY', state, 'keys', 1)
      if type(counted) == 'table' and string.find(counted.err, 'not an integer', 1, true) then
        return deny_all()
      end
    end
  end
  local many = tonumber(redis.call('HGET', state, 'keys') or '0')
  if not many or many > most then
    return deny_all()
  end
  return 1
end
