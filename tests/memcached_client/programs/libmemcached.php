<?php
// Stores the keys of standard input. MODE is "distribution,hash,compatible,prefix,binary".
[$mode, $servers] = [$argv[1], array_slice($argv, 2)];
[$distribution, $hash, $compatible, $prefix, $binary] = explode(',', $mode);
$client = new Memcached();
if ($compatible) {
    $client->setOption(Memcached::OPT_LIBKETAMA_COMPATIBLE, true);
}
if ($distribution !== '') {
    $client->setOption(Memcached::OPT_DISTRIBUTION, constant("Memcached::DISTRIBUTION_$distribution"));
}
if ($hash !== '') {
    $client->setOption(Memcached::OPT_HASH, constant("Memcached::HASH_$hash"));
}
$client->setOption(Memcached::OPT_BINARY_PROTOCOL, (bool) $binary);
$client->setOption(Memcached::OPT_PREFIX_KEY, $prefix);
foreach ($servers as $server) {
    [$host, $port, $weight] = explode(':', $server);
    $client->addServer($host, (int) $port, (int) $weight);
}
while (($key = fgets(STDIN)) !== false) {
    if (!$client->set(rtrim($key, "\n"), '1')) {
        exit($client->getResultMessage() . ": $key");
    }
}
echo 'done';
