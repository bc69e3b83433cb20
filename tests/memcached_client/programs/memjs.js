// Stores the keys of standard input.
'use strict';
const memjs = require('memjs');
const client = memjs.Client.create(process.argv.slice(3).join(','), { timeout: 60 });
const keys = require('fs').readFileSync(0, 'utf8').split('\n').filter(Boolean);
async function store() {
  while (keys.length) {
    await Promise.all(keys.splice(0, 50).map((key) => client.set(key, '1', {})));
  }
  client.quit();
  process.stdout.write('done');
}
store();
