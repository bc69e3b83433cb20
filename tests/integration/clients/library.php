<?php
// What a user of PHP's Memcached sees. Arguments: port, "binary" or "text".
// Prints one line of JSON.

[, $port, $protocol] = $argv;

function client(int $port, string $protocol): Memcached
{
    $client = new Memcached();
    $client->setOption(Memcached::OPT_BINARY_PROTOCOL, $protocol === 'binary');
    $client->setOption(Memcached::OPT_TCP_NODELAY, true);
    $client->setOption(Memcached::OPT_POLL_TIMEOUT, 60000);
    $client->addServer('127.0.0.1', $port);
    return $client;
}

$client = client((int) $port, $protocol);
$seen = [];

$values = [
    'string' => "any \r\n bytes \0 \xff",
    'empty' => '',
    'int' => 42,
    'negative' => -1,
    'float' => 1.5,
    'true' => true,
    'false' => false,
    'null' => null,
    'array' => ['a' => [1, 2, ['b' => null]], 'c' => 'd'],
    'large' => str_repeat('0123456789', 20000),
];
foreach ($values as $name => $value) {
    $client->set("type-$name", $value);
    $seen['types'][$name] = $client->get("type-$name") === $value
        && $client->getResultCode() === Memcached::RES_SUCCESS;
}

$seen['version'] = array_values($client->getVersion() ?: [null])[0];
$seen['missing'] = [$client->get('nothing'), $client->getResultCode() === Memcached::RES_NOTFOUND];
$seen['add'] = [$client->add('once', 1), $client->add('once', 2), $client->get('once')];
$seen['replace'] = [$client->replace('nothing', 1), $client->replace('once', 3), $client->get('once')];
$client->setOption(Memcached::OPT_COMPRESSION, false);
$client->set('text', 'b');
$seen['concatenate'] = [$client->append('text', 'c'), $client->prepend('text', 'a'), $client->get('text')];
$seen['append missing'] = [$client->append('nothing', 'c'), $client->getResultCode() === Memcached::RES_NOTSTORED];

$client->set('counter', 10);
$seen['count'] = [
    $client->increment('counter', 5),
    $client->decrement('counter', 20),
    $client->get('counter'),
    $client->increment('nothing'),
];
if ($protocol === 'binary') {
    $seen['initial'] = [$client->increment('fresh', 1, 7), $client->increment('fresh', 1, 7)];
}

$seen['set many'] = $client->setMulti(['m1' => 1, 'm2' => 'two', 'm3' => [3]]);
$seen['get many'] = $client->getMulti(['m3', 'none', 'm1', 'm2'], Memcached::GET_PRESERVE_ORDER);
$many = [];
for ($i = 0; $i < 500; $i++) {
    $many["many-$i"] = "value $i";
}
$client->setMulti($many);
$seen['get 500'] = $client->getMulti(array_keys($many)) == $many;
$seen['delete many'] = $client->deleteMulti(['m1', 'm2', 'none'])['m1'];
$client->deleteMulti(array_keys($many));

$item = $client->get('once', null, Memcached::GET_EXTENDED);
$seen['cas'] = [
    $client->cas($item['cas'], 'once', 'mine'),
    $client->cas($item['cas'], 'once', 'late'),
    $client->getResultCode() === Memcached::RES_DATA_EXISTS,
    $client->get('once'),
];

$client->set('short', 'x', 100);
$seen['touch'] = [$client->touch('short', 200), $client->touch('nothing', 200)];
$client->set('absolute', 'x', time() + 31 * 24 * 3600);
$seen['absolute'] = $client->get('absolute');
$client->set('over', 'x', time() - 10);
$seen['over'] = $client->get('over');
$seen['delete'] = [$client->delete('short'), $client->delete('short')];

$client->setOption(Memcached::OPT_COMPRESSION, true);
$seen['too large'] = [
    $client->set('once', random_bytes(2000000)),
    $client->getResultCode() === Memcached::RES_E2BIG,
    $client->get('once'),
];

$stats = array_values($client->getStats())[0];
$seen['stats'] = isset($stats['pid'], $stats['cmd_get'], $stats['curr_items'])
    && $stats['get_hits'] > 0;

$client->flush();
foreach (['k1', 'k2', 'k3'] as $key) {
    $client->set($key, 1);
}
$keys = client((int) $port, 'text')->getAllKeys();
is_array($keys) && sort($keys);
$seen['all keys'] = $keys;

$client->flush();
$seen['flushed'] = $client->get('k1');
echo json_encode($seen, JSON_THROW_ON_ERROR), "\n";
