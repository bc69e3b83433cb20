-- ARGV: expiry command, its argument. Gives 1, or NF. The CAS token stays.

if not exists() then
  return 'NF'
end
expire(ARGV[1], ARGV[2])
return 1
