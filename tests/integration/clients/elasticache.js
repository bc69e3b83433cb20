// Finds nodes by way of one, writes and reads 50 keys, and prints what it has found.
const Client = require('memcached-elasticache');

const client = new Client(`127.0.0.1:${process.argv[2]}`);
const call = (name, ...words) => new Promise((done, fail) => {
  client[name](...words, (error, found) => (error ? fail(error) : done(found)));
});

client.on('autoDiscoverFailure', (error) => { throw error; });
client.on('autoDiscover', async (nodes) => {
  const keys = Array.from({ length: 50 }, (_, number) => `key-${number}`);
  for (const [number, key] of keys.entries()) await call('set', key, String(number), 0);
  const values = [];
  for (const key of keys) values.push(await call('get', key));
  console.log(JSON.stringify({ nodes: nodes.sort(), values }));
  client.end();
});
