-- Stands before the scripts that are about the members: the processes that fill in items.

-- Milliseconds of UNIX time, and after how many of them without a word a member is gone; it serves
-- no more by then.
local GONE = 10000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
