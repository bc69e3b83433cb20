# What a user of Ruby's Dalli sees. Argument: the port. Prints one line of JSON.
# (Debian's Dalli speaks the binary protocol only; later ones speak meta.)

require 'dalli'
require 'json'

client = Dalli::Client.new("127.0.0.1:#{ARGV[0]}", compress: true, socket_timeout: 60)
seen = {}

values = {
  'string' => "any \r\n bytes \0".b, 'empty' => '', 'int' => 42, 'nil' => nil, 'list' => [1, 'two', { three: 3 }],
  'large' => '0123456789' * 20_000, 'unicode' => 'žluťoučký'
}
seen['types'] = values.to_h { |name, value| [name, client.set("type-#{name}", value) && client.get("type-#{name}") == value] }
seen['missing'] = client.get('nothing')
seen['add'] = [!!client.add('once', 1), !!client.add('once', 2), client.get('once')]
seen['replace'] = [!!client.replace('nothing', 1), !!client.replace('once', 3), client.get('once')]
client.set('text', 'b', 0, raw: true)
client.append('text', 'c')
client.prepend('text', 'a')
seen['concatenate'] = client.get('text', raw: true)
seen['count'] = [client.incr('counter', 1, 100, 10), client.incr('counter', 5), client.decr('counter', 50), client.incr('nothing')]
client.multi { 50.times { |i| client.set("many-#{i}", "value #{i}") } }
found = client.get_multi((0...60).map { |i| "many-#{i}" })
seen['get many'] = found == (0...50).to_h { |i| ["many-#{i}", "value #{i}"] }
seen['fetch'] = [client.fetch('fetched', 100) { 'made' }, client.fetch('fetched', 100) { 'again' }]
seen['cas'] = [!!client.cas('once') { |value| value + 1 }, client.get('once'), client.cas('nothing') { 1 }]
value, token = client.get_cas('once')
client.set('once', 'changed')
seen['late cas'] = [value, token.positive?, !!client.set_cas('once', 'late', token), client.get('once')]
odd = "sp\u00e4ce \u2603"
seen['odd key'] = client.set(odd, 1) && client.get(odd)
client.set('short', 'x', 100)
seen['touch'] = [!!client.touch('short', 200), !!client.touch('nothing', 200), client.gat('short', 300)]
seen['delete'] = [!!client.delete('short'), !!client.delete('short')]
client.multi do
  client.set('q', 1)
  client.delete('once')
end
seen['after quiet'] = [client.get('q'), client.get('once')]
too_large = begin
  client.set('big', Random.bytes(2_000_000), 0, raw: true)
rescue StandardError => e
  e.class.name
end
seen['too large'] = [too_large, client.get('big')]
stats = client.stats.values.first
seen['stats'] = stats['get_hits'].to_i.positive? && stats.key?('curr_items')
seen['reset'] = client.reset_stats
seen['version'] = client.version.values.first
seen['alive'] = !client.alive!.nil?
client.flush
seen['flushed'] = client.get('q')
client.close
puts JSON.generate(seen)
