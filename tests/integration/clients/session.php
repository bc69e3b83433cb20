<?php
// Two requests of one visitor, each with a session of its own process' making.
// Arguments: port, "binary" or "text". Prints one line of JSON.

[, $port, $protocol] = $argv;

ini_set('session.save_handler', 'memcached');
ini_set('session.save_path', "127.0.0.1:$port");
ini_set('session.use_strict_mode', '1');
ini_set('session.use_cookies', '0');
ini_set('session.cache_limiter', '');
ini_set('session.gc_maxlifetime', '600');
ini_set('memcached.sess_locking', '1');
ini_set('memcached.sess_binary_protocol', $protocol === 'binary' ? '1' : '0');
ini_set('memcached.sess_lock_wait_min', '10');
ini_set('memcached.sess_lock_wait_max', '20');
ini_set('memcached.sess_lock_retries', '3');

$seen = [];
$seen['begun'] = session_start();
$id = session_id();
$_SESSION['basket'] = ['apples' => 3];
$_SESSION['visits'] = 1;
$seen['closed'] = session_write_close();

$_SESSION = [];
session_id($id);
$seen['again'] = session_start();
$seen['basket'] = $_SESSION['basket'] ?? null;
$_SESSION['visits']++;
$seen['closed again'] = session_write_close();

$_SESSION = [];
session_id($id);
session_start(['read_and_close' => true]);
$seen['visits'] = $_SESSION['visits'] ?? null;

session_id('somebody-elses-invention');
session_start();
$seen['unknown id is replaced'] = session_id() !== 'somebody-elses-invention';
session_write_close();

session_id($id);
session_start();
$seen['destroyed'] = session_destroy();
$_SESSION = [];
session_id($id);
session_start();
$seen['gone'] = !isset($_SESSION['visits']) && session_id() !== $id;
session_write_close();
echo json_encode($seen, JSON_THROW_ON_ERROR), "\n";
