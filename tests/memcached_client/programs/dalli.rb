# Stores the keys of standard input.
require 'dalli'

client = Dalli::Client.new(ARGV.drop(1), socket_timeout: 60)
$stdin.set_encoding('UTF-8')
$stdin.each_line(chomp: true) { |key| client.set(key, '1', nil, raw: true) or abort(key) }
print 'done'
