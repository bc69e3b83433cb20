-- In the place of a command on a key that belongs to RedCouch itself.

return redis.error_reply('RESERVED key')
