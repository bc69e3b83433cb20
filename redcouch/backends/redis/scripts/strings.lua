-- Stands before lib.lua where items are plain strings (layout=string). KEYS[3] is the side key.
--
-- The scripts speak of an item's fields. Here r is the string itself, and the others stand in
-- the side key, as '<digest> <flags> <token, or ->' with s, w, h behind it where they are set.
-- The digest is of the value that they belong to: where it is of another one, a native client
-- has written the string, and none of them counts.

local outer, text, side = redis, KEYS[1], KEYS[3]
local value, fields -- the item as it is now; fields is nil until it is known

local function digest()
  return string.sub(outer.sha1hex(value), 1, 20)
end

-- The string itself is read when it is needed: it may be long.
local function load_value()
  if value == nil then
    value = outer.call('GET', text)
  end
  return value
end

local function load()
  if fields then
    return
  end
  fields = {}
  local line = outer.call('GET', side)
  local seen, flags, token, marks
  if line then
    seen, flags, token, marks = string.match(line, '^(%x+) (%d+) ([%d-]+)(%a*)$')
  end
  if seen and load_value() and seen == digest() then
    fields.f, fields.c = flags, token ~= '-' and token or nil
    for mark in string.gmatch(marks, '.') do
      fields[mark] = '1'
    end
  end
end

-- The side key outlives the item, so that a native EXPIRE that prolongs it loses nothing soon; or
-- lives for as long as Redis surely takes.
local function side_life(left)
  return math.min(2 * left + 60000, 2 ^ 53)
end

local function save()
  load_value()
  local line = digest() .. ' ' .. (fields.f or '0') .. ' ' .. (fields.c or '-')
  for _, mark in ipairs({'s', 'w', 'h'}) do
    line = line .. (fields[mark] and mark or '')
  end
  local left = outer.call('PTTL', text)
  if left >= 0 then
    outer.call('SET', side, line, 'PX', side_life(left))
  else
    outer.call('SET', side, line)
  end
end

local function field(name)
  if name == 'r' then
    return load_value()
  end
  load()
  return fields[name] or false
end

-- What the scripts ask of a hash, done to the string and its side key.
local hash = {HGET = field}

function hash.HMGET(...)
  local found = {}
  for place, name in ipairs({...}) do
    found[place] = field(name)
  end
  return found
end

function hash.HSTRLEN(name)
  if name == 'r' and value == nil then
    return outer.call('STRLEN', text) -- an error for a key of another type
  end
  return #(field(name) or '')
end

function hash.HEXISTS(name)
  if name == 'r' and value == nil then
    return hash.HSTRLEN(name) > 0 and 1 or outer.call('EXISTS', text)
  end
  return field(name) and 1 or 0
end

function hash.HLEN()
  return hash.HSTRLEN('r')
end

-- A long string of a native client's gets no side key only to say that it has been read.
local LONG = 65536

function hash.HSET(...)
  local given = {}
  for place = 1, select('#', ...), 2 do
    local name, new = select(place, ...)
    given[name] = type(new) == 'number' and string.format('%.0f', new) or new
  end
  if given.r and not fields then
    outer.call('STRLEN', text) -- an error for a key of another type; what was there is replaced
    fields = {}
  end
  load()
  if ... == 'h' and not next(fields) and hash.HSTRLEN('r') > LONG then
    return 0
  end
  for name, new in pairs(given) do
    fields[name] = new
  end
  if given.r then
    value = given.r
    outer.call('SET', text, value, 'KEEPTTL')
  end
  save()
end

function hash.HSETNX(name, new)
  if field(name) then
    return 0
  end
  hash.HSET(name, new)
  return 1
end

function hash.HDEL(...)
  load()
  local some = false
  for _, name in ipairs({...}) do
    some = some or (name ~= 'r' and fields[name])
    fields[name] = nil
  end
  if some then
    save()
  end
end

local function expiry(command)
  return function(...)
    outer.call(command, text, ...)
    local left = outer.call('PTTL', text)
    if left == -2 then
      outer.call('UNLINK', side)
      value, fields = false, {}
    elseif left == -1 then
      outer.call('PERSIST', side)
    else
      outer.call('PEXPIRE', side, side_life(left))
    end
  end
end

for _, command in ipairs({'PERSIST', 'PEXPIRE', 'PEXPIREAT', 'UNLINK'}) do
  hash[command] = expiry(command)
end

local redis = {sha1hex = outer.sha1hex, error_reply = outer.error_reply}

function redis.call(command, ...)
  local own = ... == text and hash[command]
  if own then
    return own(select(2, ...))
  end
  return outer.call(command, ...)
end

function redis.pcall(command, ...)
  local own = ... == text and hash[command]
  if not own then
    return outer.pcall(command, ...)
  end
  local done, said = pcall(own, select(2, ...))
  if done or type(said) == 'table' then
    return said
  end
  return {err = tostring(said)}
end
