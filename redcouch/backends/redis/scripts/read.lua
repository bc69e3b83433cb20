-- Read an item of which a plain read has not said enough, in one step.
-- ARGV: whether the token is asked for ('1' or ''), whether more is ('1', or nothing). Gives the
-- fields v, r, f, c; and with more s, milliseconds to live, and when the item will be over.

local now = redis.call('HMGET', item, 'v', 'r', 'f', 'c')
if (now[1] or now[2]) and not now[4] then
  now[4] = '0'
  if ARGV[1] == '1' then
    local cas, refused = next_cas()
    if refused then
      return refused
    end
    redis.call('HSET', item, 'c', cas)
    now[4] = exact(cas)
  end
end
if ARGV[2] then
  now[5], now[6], now[7] = redis.call('HGET', item, 's'), redis.call('PTTL', item), over_at()
end
return now
