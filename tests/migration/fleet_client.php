<?php
// A client of the fleet trial: reads a line of JSON, does it with php-memcached, answers a line.
function connect(array $servers): Memcached
{
    $client = new Memcached();
    $client->setOption(Memcached::OPT_HASH, Memcached::HASH_CRC);
    $client->setOption(Memcached::OPT_DISTRIBUTION, Memcached::DISTRIBUTION_MODULA);
    $client->setOption(Memcached::OPT_TCP_NODELAY, true);
    $client->setOption(Memcached::OPT_POLL_TIMEOUT, 60000);
    $client->addServers($servers);
    return $client;
}

function answer(Memcached $client, string $verb, array $words)
{
    switch ($verb) {
        case 'get':
            $value = $client->get($words[0]);
            return $client->getResultCode() === Memcached::RES_NOTFOUND ? null : $value;
        case 'gets':
            $found = $client->get($words[0], null, Memcached::GET_EXTENDED);
            if ($client->getResultCode() === Memcached::RES_NOTFOUND) {
                return null;
            }
            return [$found['value'], strval($found['cas'])];
        case 'set':
            return $client->set($words[0], $words[1]);
        case 'add':
            return $client->add($words[0], $words[1]);
        case 'delete':
            return $client->delete($words[0]);
        case 'incr':
            return $client->increment($words[0], 1);
        case 'cas':
            return $client->cas($words[2], $words[0], $words[1]);
    }
}

$client = null;
$fine = [Memcached::RES_SUCCESS, Memcached::RES_NOTFOUND, Memcached::RES_NOTSTORED, Memcached::RES_DATA_EXISTS];
while (($line = fgets(STDIN)) !== false) {
    [$verb, $words] = json_decode($line, true);
    if ($verb === 'use') {
        $client = connect($words);
        echo "[true, null]\n";
        continue;
    }
    $said = answer($client, $verb, $words);
    $code = $client->getResultCode();
    echo json_encode([$said, in_array($code, $fine, true) ? null : $client->getResultMessage()]), "\n";
}
