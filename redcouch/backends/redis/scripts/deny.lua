-- Deny that keys are filled in. KEYS: the state, the set. ARGV: how many may be denied one by
-- one, client keys. Gives 1, or NS where all are denied.

return deny(ARGV, 2, tonumber(ARGV[1]))
