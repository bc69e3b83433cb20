<?php
// Sets and gets on one connection until the input ends. Arguments: port, "binary" or "text".
// Prints one line of JSON: how often, and every failure.

[, $port, $protocol] = $argv;

$client = new Memcached();
$client->setOption(Memcached::OPT_BINARY_PROTOCOL, $protocol === 'binary');
$client->setOption(Memcached::OPT_TCP_NODELAY, true);
$client->setOption(Memcached::OPT_POLL_TIMEOUT, 60000);
$client->addServer('127.0.0.1', (int) $port);

$failed = [];
$turns = 0;
stream_set_blocking(STDIN, false);
while (!feof(STDIN)) {
    $key = "php-$protocol-" . $turns % 50;
    $value = str_repeat("$turns-", 1 + $turns % 300);
    if (!$client->set($key, $value)) {
        $failed[] = 'set: ' . $client->getResultMessage();
    } elseif ($client->get($key) !== $value) {
        $failed[] = 'get: ' . $client->getResultMessage();
    }
    $turns++;
    fread(STDIN, 1);
    usleep(3000); // not to keep the machine busy
}
echo json_encode(['protocol' => $protocol, 'turns' => $turns, 'failed' => $failed]), "\n";
