"""Real clients place keys on five real memcacheds: each ring names the node that has each key."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import md5
from pathlib import Path
from typing import Any

import bmemcached
import memcache
import pytest
from pymemcache.client.hash import HashClient

from redcouch.memcached_client import key_hashes
from redcouch.memcached_client.rings import RingNode, make_ring, read_ring
from tests.integration.clients.programs import GO, run
from tests.memcached_client.fleet import Fleet, fleet, port_of
from tests.support import servers
from tests.support.requirements import fixture_needs, installed, needs
from tests.support.wire import Wire, ask

pytestmark = pytest.mark.once

SOME = 500
"""Keys for what differs from another test in its hash alone: a wrong one misplaces most of them."""

PROGRAMS = Path(__file__).parent / "programs"

Nodes = Sequence[RingNode]
Write = Callable[[Nodes, Sequence[bytes]], None]


@pytest.fixture(scope="module")
@fixture_needs("memcached")
def nodes() -> Iterator[Fleet]:
    """The fleet, with what the last test has left on it."""
    with fleet() as running:
        yield running


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where programs are compiled."""
    return tmp_path_factory.mktemp("programs")


def some_keys(count: int, kinds: str) -> list[bytes]:
    """
    Keys of every kind: short, long, with what could be a hash tag, and, where the client
    permits it, with letters of other alphabets ("text") or bytes of no alphabet ("bytes").
    """
    forms: list[Callable[[int], bytes]] = [
        lambda n: b"key:%d" % n,
        lambda n: b"%x" % n,
        lambda n: b"{user:%d}:cart" % (n // 3),
        lambda n: b"page/{%d}/%s" % (n, md5(b"%d" % n).hexdigest().encode()),
        lambda n: b"l%d:" % n + b"x" * (240 - len(b"l%d:" % n)),
    ]
    if kinds != "ascii":
        forms.append(lambda n: f"ключ-{n}-€😀".encode())
        forms.append(lambda n: f"na\u00efve:{n}".encode())
    if kinds == "bytes":
        forms.append(lambda n: b"\xff\x80%d\xfe" % n)
    keys: dict[bytes, None] = {}
    number = 0
    while len(keys) < count:
        keys[forms[number % len(forms)](number)] = None
        number += 1
    return list(keys)


def check(
    fleet: Fleet,
    ring: str,
    nodes: Nodes,
    write: Write,
    keys: Sequence[bytes],
    addresses: Mapping[str, str] | None = None,
) -> None:
    """
    Every key is on the node that the ring names, and nowhere else.

    @param addresses: of nodes that have a name of their own.
    """
    fleet.empty()
    write(nodes, keys)
    found = fleet.where()
    assert len(found) == len(keys)
    owner = make_ring(read_ring(ring), nodes).owner
    ports = [port_of((addresses or {}).get(node.name, node.name)) for node in nodes]
    wrong = [key for key, at in found.items() if at != {ports[owner(key)]}]
    assert not wrong, f"{len(wrong)} of {len(keys)} keys are elsewhere, as {wrong[:3]}"


def check_all(
    fleet: Fleet,
    ring: str,
    write: Write,
    kinds: str = "text",
    count: int = 10_000,
    weights: Sequence[int] = (),
    name: Callable[[str], str] = str,
) -> None:
    """
    The whole fleet; and a client's list without one node, in another order.

    @param name: what the client makes of an address.
    """
    keys = some_keys(count, kinds)
    nodes = [replace(node, name=name(node.name)) for node in fleet.nodes(weights)]
    check(fleet, ring, nodes, write, keys)
    check(fleet, ring, [nodes[4], nodes[0], nodes[2], nodes[3]], write, keys[:2_000])


def joined(nodes: Nodes) -> list[str]:
    return [f"{node.name}:{node.weight}" for node in nodes]


def program(
    command: Sequence[str], servers: Sequence[str], keys: Sequence[bytes], **more: Any
) -> None:
    """One that stores keys. It says when it has."""
    said = run([*command, *servers], given=b"\n".join([*keys, b""]), **more)
    assert said.endswith("done"), said


# -- Python ------------------------------------------------------------------------------------


def with_pylibmc(**behaviors: object) -> Write:
    import pylibmc

    def write(nodes: Nodes, keys: Sequence[bytes]) -> None:
        client = pylibmc.Client(joined(nodes), behaviors=behaviors)
        for key in keys:
            assert client.set(key, b"1")

    return write


@needs("pylibmc")
@pytest.mark.parametrize(
    ("ring", "behaviors", "count"),
    [
        ("modula", {}, 10_000),
        ("ketama", {"ketama": True}, 10_000),
        ("ketama", {"distribution": "consistent"}, SOME),
        ("ketama-spy", {"distribution": "consistent ketama spy"}, SOME),
        ("ketama-weighted", {"ketama_weighted": True}, 10_000),
        ("ketama-weighted", {"distribution": "consistent weighted", "hash": "md5"}, SOME),
    ],
)
def test_pylibmc(nodes: Fleet, ring: str, behaviors: dict[str, object], count: int) -> None:
    """Each distribution, with its own hash."""
    check_all(nodes, ring, with_pylibmc(**behaviors), "bytes", count)


@needs("pylibmc")
@pytest.mark.parametrize("distribution", ["modula", "ketama", "ketama-spy", "ketama-weighted"])
def test_pylibmc_hashes(nodes: Fleet, distribution: str) -> None:
    """Each hash that it has been built with, with each distribution."""
    import pylibmc

    names = {
        "modula": "modula",
        "ketama": "consistent",
        "ketama-spy": "consistent ketama spy",
        "ketama-weighted": "consistent weighted",
    }
    tried = []
    for name in pylibmc.hashers:
        client = pylibmc.Client(["127.0.0.1"])
        try:
            client.behaviors = {"hash": name}
        except pylibmc.Error:
            continue  # built without it
        write = with_pylibmc(hash=name, distribution=names[distribution])
        check_all(nodes, f"{distribution}&hash={name}", write, "bytes", SOME)
        tried.append(name)
    assert {"default", "md5", "crc", "fnv1_32", "fnv1a_32", "fnv1_64", "jenkins"} <= set(tried)


@needs("pylibmc")
@pytest.mark.parametrize("weights", [(1, 2, 3, 4, 5), (1, 1, 1, 11, 11), (1, 1, 1, 1, 100)])
def test_pylibmc_weights(nodes: Fleet, weights: Sequence[int]) -> None:
    """Nodes of different sizes, also where 32-bit arithmetic rounds to a point fewer."""
    write = with_pylibmc(ketama_weighted=True)
    check_all(nodes, "ketama-weighted", write, "bytes", 2_000, weights)


@needs("libhashkit")
@pytest.mark.parametrize("name", key_hashes.LIBMEMCACHED)
def test_hashes(name: str) -> None:
    """libmemcached's own functions, by themselves: keys of every length."""
    library = ctypes.CDLL(installed("libhashkit"))
    exported = {"default": "one_at_a_time", "crc": "crc32"}.get(name, name)
    function = getattr(library, f"libhashkit_{exported}")
    function.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
    function.restype = ctypes.c_uint32
    if function(b"x", 1) == 0:
        pytest.skip(f"Debian's libhashkit2 is built without {name}")
    keys = [bytes(random.randrange(256) for _ in range(size)) for size in range(1, 251)]
    wrong = [key for key in keys if key_hashes.LIBMEMCACHED[name](key) != function(key, len(key))]
    assert not wrong


def pymemcache(nodes: Nodes, keys: Sequence[bytes]) -> None:
    client = HashClient([node.name for node in nodes], allow_unicode_keys=True)
    for key in keys:
        assert client.set(key.decode(), b"1", noreply=False)
    client.close()


def pymemcache_bytes(nodes: Nodes, keys: Sequence[bytes]) -> None:
    client = HashClient([node.name for node in nodes], key_prefix=b"app:")
    for key in keys:
        assert client.set(key, b"1", noreply=False)
    client.close()


def test_pymemcache(nodes: Fleet) -> None:
    """HashClient with keys that are text."""
    check_all(nodes, "pymemcache", pymemcache)


def test_pymemcache_bytes(nodes: Fleet) -> None:
    """HashClient with keys that are bytes, and a prefix that is not hashed."""
    check_all(nodes, "pymemcache&keys=bytes&unhashed=app:", pymemcache_bytes, "bytes", SOME)


def python_memcached(nodes: Nodes, keys: Sequence[bytes]) -> None:
    client = memcache.Client([(node.name, node.weight) for node in nodes], socket_timeout=60)
    for key in keys:
        assert client.set(key, b"1")
    client.disconnect_all()


def test_python_memcached(nodes: Fleet) -> None:
    """As it comes."""
    check_all(nodes, "python-memcached", python_memcached, "bytes")
    check_all(nodes, "python-memcached", python_memcached, "bytes", 2_000, (3, 1, 2, 1, 4))


def test_python_memcached_old(nodes: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the hash that it offers for the sake of old fleets."""
    monkeypatch.setattr(memcache, "serverHashFunction", memcache.serverHashFunction)
    memcache.useOldServerHashFunction()
    check_all(nodes, "python-memcached&hash=crc32", python_memcached, "bytes", SOME)


def python_binary_memcached(nodes: Nodes, keys: Sequence[bytes]) -> None:
    client = bmemcached.DistributedClient([node.name for node in nodes], socket_timeout=60)
    for key in keys:
        assert client.set(key.decode(), "1")
    client.disconnect_all()


def test_python_binary_memcached(nodes: Fleet) -> None:
    """DistributedClient."""
    check_all(nodes, "bmemcached", python_binary_memcached)


# -- PHP, Ruby, Perl, Go -----------------------------------------------------------------------


@needs("php", "php memcached")
@pytest.mark.parametrize(
    ("ring", "mode", "weights", "count"),
    [
        ("modula", ",,,,", (), 10_000),
        ("modula", ",,,,1", (), SOME),
        ("ketama-weighted", ",,1,,", (), 10_000),
        ("ketama-weighted", ",,1,,1", (1, 5, 2, 3, 1), 2_000),
        ("ketama", "CONSISTENT,,,,", (), 10_000),
        ("ketama-weighted&hash=default", "CONSISTENT,,,,", (2, 5, 2, 3, 1), 2_000),
        ("modula&unhashed=app:", ",,,app:,", (), SOME),
        ("modula&hash=fnv1a_64", ",FNV1A_64,,,1", (), SOME),
        ("ketama-weighted&hash=crc", ",CRC,1,,", (), SOME),
    ],
)
def test_php(nodes: Fleet, ring: str, mode: str, weights: Sequence[int], count: int) -> None:
    """php-memcached, the library of most PHP applications."""
    command = [installed("php"), str(PROGRAMS / "libmemcached.php"), mode]

    def write(members: Nodes, keys: Sequence[bytes]) -> None:
        program(command, joined(members), keys)

    # Its text protocol takes printable ASCII only.
    check_all(nodes, ring, write, "bytes" if mode.endswith("1") else "ascii", count, weights)


@needs("ruby", "dalli")
def test_dalli(nodes: Fleet) -> None:
    """Debian's version of Ruby's client."""
    command = [installed("ruby"), str(PROGRAMS / "dalli.rb"), "-"]

    def write(members: Nodes, keys: Sequence[bytes]) -> None:
        program(command, joined(members), keys)

    check_all(nodes, "dalli", write)
    check_all(nodes, "dalli", write, "text", 2_000, (1, 2, 3, 10, 1))


@needs("perl", "perl memcached")
def test_perl(nodes: Fleet) -> None:
    """Cache::Memcached places keys as python-memcached does."""
    command = [installed("perl"), str(PROGRAMS / "cache_memcached.pl")]

    def write(members: Nodes, keys: Sequence[bytes]) -> None:
        program([*command, ""], joined(members), keys)

    check_all(nodes, "python-memcached", write, "bytes")
    check_all(nodes, "python-memcached", write, "bytes", 2_000, (1, 2, 3, 10, 1))


@needs("go", "go memcache")
def test_gomemcache(nodes: Fleet, build: Path) -> None:
    """Go's client: printable ASCII only."""
    compiled = str(build / "gomemcache")
    run([installed("go"), "build", "-o", compiled, str(PROGRAMS / "gomemcache.go")], GO)

    def write(members: Nodes, keys: Sequence[bytes]) -> None:
        listed = [member.name for member in members for _ in range(member.weight)]
        program([compiled, "-"], listed, keys)

    check_all(nodes, "gomemcache", write, "ascii")
    check_all(nodes, "gomemcache", write, "ascii", 2_000, (1, 2, 1, 1, 3))


# -- JavaScript and Java -----------------------------------------------------------------------


def node(name: str) -> tuple[list[str], dict[str, str]]:
    """The program of this name, and where npm has put the packages that it needs."""
    modules = str(Path(installed("npm packages")).parent)
    return [installed("node"), str(PROGRAMS / name)], {"NODE_PATH": modules}


@needs("node", "npm packages")
def test_npm_memcached(nodes: Fleet) -> None:
    """The package memcached, which places keys by the package hashring."""
    command, environment = node("npm_memcached.js")

    def write(algorithm: str) -> Write:
        return lambda members, keys: program(
            [*command, algorithm], joined(members), keys, environment=environment
        )

    check_all(nodes, "hashring", write("md5"))
    check_all(nodes, "hashring", write("md5"), "text", 2_000, (1, 2, 3, 10, 1))
    check_all(nodes, "hashring&hash=sha1", write("sha1"), "text", SOME)


@needs("node", "npm packages")
def test_memjs(nodes: Fleet) -> None:
    """The package memjs."""
    command, environment = node("memjs.js")

    def write(members: Nodes, keys: Sequence[bytes]) -> None:
        program([*command, "-"], [member.name for member in members], keys, environment=environment)

    check_all(nodes, "memjs", write)


@needs("java", "javac", "spymemcached")
@pytest.mark.parametrize(
    ("ring", "mode", "weights", "count"),
    [
        ("spymemcached", "KETAMA,KETAMA_HASH,SPYMEMCACHED", (), 10_000),
        ("spymemcached", "KETAMA,KETAMA_HASH,SPYMEMCACHED", (1, 5, 2, 3, 1), 2_000),
        ("spymemcached&hash=fnv1a_32", "KETAMA,FNV1A_32_HASH,SPYMEMCACHED", (), SOME),
        ("ketama-weighted", "KETAMA,KETAMA_HASH,LIBMEMCACHED", (), SOME),
        ("spymemcached&distribution=modula", "ARRAY_MOD,NATIVE_HASH", (), 10_000),
        ("spymemcached&distribution=modula&hash=crc", "ARRAY_MOD,CRC_HASH", (), SOME),
        ("spymemcached&distribution=modula&hash=fnv1_64", "ARRAY_MOD,FNV1_64_HASH", (), SOME),
        ("spymemcached&distribution=modula&hash=fnv1a_64", "ARRAY_MOD,FNV1A_64_HASH", (), SOME),
        ("spymemcached&distribution=modula&hash=fnv1_32", "ARRAY_MOD,FNV1_32_HASH", (), SOME),
    ],
)
def test_spymemcached(
    nodes: Fleet, build: Path, ring: str, mode: str, weights: Sequence[int], count: int
) -> None:
    """Debian's version of Java's client."""
    library = installed("spymemcached")
    compiled = build / "SpyMemcached.class"
    if not compiled.exists():
        source = str(PROGRAMS / "SpyMemcached.java")
        run([installed("javac"), "-cp", library, "-d", str(build), source])
    java = [installed("java"), "-cp", f"{library}:{build}", "SpyMemcached"]

    def name(address: str) -> str:
        """With what a host's name and an address have been looked up as."""
        if mode.endswith("LIBMEMCACHED"):
            return address.replace("127.0.0.1:", "localhost:")
        return address.replace("localhost", "localhost/127.0.0.1")

    def write(members: Nodes, keys: Sequence[bytes]) -> None:
        listed = [f"{node.name}:{node.weight}" for node in members]
        program(
            [*java, mode],
            [text.replace("localhost/127.0.0.1", "localhost") for text in listed],
            keys,
        )

    check_all(nodes, ring, write, "text", count, weights, name)


# -- twemproxy ---------------------------------------------------------------------------------


class Twemproxy(servers.Server):
    """Debian's nutcracker before a fleet."""

    name = "nutcracker"

    def __init__(
        self,
        folder: Path,
        nodes: Nodes,
        settings: Sequence[str],
        addresses: Mapping[str, str],
    ) -> None:
        super().__init__(folder)
        self._program = installed("nutcracker")
        self._settings = settings
        self._servers = [
            f"{addresses[node.name]}:{node.weight} {node.name}"
            if node.name in addresses
            else f"{node.name}:{node.weight}"
            for node in nodes
        ]

    def command(self) -> Sequence[str]:
        lines = [
            "fleet:",
            f"  listen: 127.0.0.1:{self.port}",
            *(f"  {setting}" for setting in self._settings),
            "  servers:",
            *(f"   - {server}" for server in self._servers),
        ]
        (self.folder / "configuration").write_text("\n".join([*lines, ""]))
        statistics = str(servers.free_port())
        return [self._program, "-c", "configuration", "-s", statistics, "-a", "127.0.0.1"]

    def answers(self) -> bool:
        return ask(self.address, b"get nothing\r\n", b"END\r\n") == b"END\r\n"


@needs("nutcracker")
@pytest.mark.parametrize("distribution", ["ketama", "modula"])
@pytest.mark.parametrize(
    ("hash_name", "weights", "count"),
    [
        ("fnv1a_64", (), 10_000),
        *((name, (), SOME) for name in key_hashes.TWEMPROXY if name != "fnv1a_64"),
        ("murmur", (1, 2, 3, 11, 11), 2_000),
    ],
)
def test_twemproxy(
    nodes: Fleet,
    tmp_path: Path,
    distribution: str,
    hash_name: str,
    weights: Sequence[int],
    count: int,
) -> None:
    """Each distribution with each hash, and a hash tag."""
    ring = f"twemproxy&distribution={distribution}&hash={hash_name}&hash_tag={{}}"
    settings = [f"hash: {hash_name}", f"distribution: {distribution}", 'hash_tag: "{}"']
    write = through_twemproxy(tmp_path, settings)
    check_all(nodes, ring, write, "bytes", count, weights)


@needs("nutcracker")
@pytest.mark.parametrize("distribution", ["ketama", "modula"])
def test_twemproxy_names(nodes: Fleet, tmp_path: Path, distribution: str) -> None:
    """Servers with names of their own, and no hash tag."""
    names = ["zebra", "bear", "a-long-one", "ape", "cat"]
    addresses = dict(zip(names, nodes.names, strict=True))
    write = through_twemproxy(tmp_path, [f"distribution: {distribution}"], addresses)
    members = [RingNode(name) for name in names]
    ring = f"twemproxy&distribution={distribution}"
    check(nodes, ring, members, write, some_keys(SOME, "text"), addresses)


def batched(keys: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    """As itertools has it from Python 3.12 on."""
    for place in range(0, len(keys), size):
        yield keys[place : place + size]


def through_twemproxy(
    folder: Path, settings: Sequence[str], addresses: Mapping[str, str] | None = None
) -> Write:
    """@param addresses: of nodes that have a name of their own."""

    def write(members: Nodes, keys: Sequence[bytes]) -> None:
        proxy = Twemproxy(folder, members, settings, addresses or {})
        proxy.start()
        try:
            with Wire(proxy.address) as wire:
                for some in batched(keys, 50):
                    requests = [b"set %b 0 0 1\r\n1\r\n" % key for key in some]
                    stored = b"STORED\r\n" * len(some)
                    assert wire.say(requests, stored).reply == stored
        finally:
            proxy.stop()

    return write
