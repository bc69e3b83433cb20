// Stores the keys of standard input. MODE is the ring's hash algorithm.
'use strict';
const Memcached = require('memcached');
const [algorithm, ...listed] = process.argv.slice(2);
const servers = {};
for (const server of listed) {
  const [host, port, weight] = server.split(':');
  servers[`${host}:${port}`] = Number(weight);
}
const client = new Memcached(servers, { algorithm, timeout: 60000 });
const keys = require('fs').readFileSync(0, 'utf8').split('\n').filter(Boolean);
const set = (key) =>
  new Promise((done, failed) =>
    client.set(key, '1', 0, (error) => (error ? failed(error) : done()))
  );
async function store() {
  while (keys.length) {
    await Promise.all(keys.splice(0, 50).map(set));
  }
  client.end();
  process.stdout.write('done');
}
store();
