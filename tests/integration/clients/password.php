<?php
// What a user of PHP's Memcached sees who has to authenticate (SASL PLAIN).
// Arguments: port, user, password. Prints one line of JSON.

[, $port, $user, $password] = $argv;

$client = new Memcached();
$client->setOption(Memcached::OPT_BINARY_PROTOCOL, true);
$client->setSaslAuthData($user, $password);
$client->addServer('127.0.0.1', (int) $port);
echo json_encode([
    'set' => $client->set('k', 'v'),
    'result' => $client->getResultMessage(),
    'get' => $client->get('k'),
]), "\n";
