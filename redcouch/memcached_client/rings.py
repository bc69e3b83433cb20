"""
Which node of a memcached fleet has a key: the hash rings of memcached clients.

L{read_ring} reads what an operator writes, C{SCHEME&name=value...}, and L{read_member}
what belongs to one node of it. L{make_ring} joins both into a L{Ring}, which names the
owner of a key as the client does. The real clients are the measure:
tests/memcached_client/test_ring_oracle.py asks them.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import md5, new, sha1
from math import floor
from typing import TypeAlias
from urllib.parse import unquote, unquote_to_bytes
from zlib import crc32

import mmh3

from redcouch.errors import ConfigurationError
from redcouch.memcached_client import key_hashes
from redcouch.memcached_client.key_hashes import KeyHash, md5_word, md5_words

MAX_WEIGHT = 10_000

PARAMETERS = ("hash", "distribution", "hash_tag", "keys", "unhashed")
"""What a scheme may have behind it."""

_DEFAULT_PORT = ":11211"
_IPV4_NAME = re.compile(r"\d+\.\d+\.\d+\.\d+:\d+")


@dataclass(frozen=True, slots=True)
class RingNode:
    """
    @ivar name: the node as the client's own list of servers has it: host:port, or the
        path of a unix socket.
    """

    name: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class RingScheme:
    """
    What an operator says of a client's ring. L{read_ring} makes it.

    @ivar unhashed: prefixes that the client puts before a key without hashing them.
    """

    name: str
    distribution: str
    options: Mapping[str, str]
    unhashed: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Ring:
    """
    @ivar owner: gives the index, in the list of nodes, of the one that has a key.
    """

    owner: Callable[[bytes], int]


ONE_NODE = Ring(lambda key: 0)
"""Of a single node, which has everything."""

Nodes: TypeAlias = Sequence[RingNode]
Owner: TypeAlias = Callable[[bytes], int]
Build: TypeAlias = Callable[[Nodes, Mapping[str, str]], Owner]


def read_ring(text: str) -> RingScheme:
    """
    Understand C{SCHEME} and C{SCHEME&name=value...}, percent-encoded where need be.

    @raise ConfigurationError: there is no such scheme, or it has no such parameter.
    """
    name, *parameters = text.split("&")
    if name not in _SCHEMES:
        raise ConfigurationError(f"ring={name}: the schemes are {', '.join(_SCHEMES)}")
    given: dict[str, str] = {}
    unhashed: list[bytes] = []
    for parameter in parameters:
        option, _, value = parameter.partition("=")
        if option in given:
            raise ConfigurationError(f"ring={name}: {option} is given twice")
        if option == "unhashed" and value:
            unhashed.append(unquote_to_bytes(value))
        else:
            given[option] = unquote(value)
    distributions = _SCHEMES[name]
    distribution = next(iter(distributions))
    known: dict[str, _Choices] = {"distribution": distributions} if len(distributions) > 1 else {}
    known |= distributions[distribution].choices  # alike for each distribution
    options = {
        option: _read_option(f"ring={name}: {option}", known, option, value)
        for option, value in given.items()
    }
    distribution = options.pop("distribution", distribution)
    return RingScheme(name, distribution, options, tuple(unhashed))


def read_member(query: str) -> tuple[str | None, int]:
    """
    Understand what belongs to one node: C{as=NAME}, the name that the client gives it where
    that is not its address, and C{weight=NUMBER}. Gives the name, or None, and the weight.

    @raise ConfigurationError: it is something else.
    """
    name: str | None = None
    weight: int | None = None
    for parameter in query.split("&") if query else ():
        option, _, value = parameter.partition("=")
        if option == "as" and name is None and value:
            name = unquote(value)
        elif option == "weight" and weight is None:
            weight = int(value) if re.fullmatch("[0-9]{1,5}", value) else 0
            if not 1 <= weight <= MAX_WEIGHT:
                raise ConfigurationError(f"weight={value}: write a number from 1 to {MAX_WEIGHT}")
        else:
            raise ConfigurationError(
                f"{parameter}: a node has as=NAME and weight=NUMBER, once each"
            )
    return name, weight or 1


def make_ring(scheme: RingScheme, nodes: Nodes) -> Ring:
    """
    The ring of these nodes, in the order in which the client has them.

    @raise ConfigurationError: two have one name, or the client has no weights.
    """
    kind = _SCHEMES[scheme.name][scheme.distribution]
    names = [node.name for node in nodes]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"ring={scheme.name}: two nodes are named {name}")
    weighted = next((node for node in nodes if node.weight != 1), None)
    if weighted is not None and not kind.weights:
        raise ConfigurationError(
            f"ring={scheme.name}: {weighted.name} has a weight, which this ring knows nothing of"
            + (f"; {kind.instead}" if kind.instead else "")
        )
    if len(nodes) == 1:
        return ONE_NODE
    owner = kind.build(nodes, scheme.options)
    return Ring(_without(scheme.unhashed, owner) if scheme.unhashed else owner)


def _without(prefixes: tuple[bytes, ...], owner: Owner) -> Owner:
    longest_first = sorted(prefixes, key=len, reverse=True)

    def without(key: bytes) -> int:
        for prefix in longest_first:
            if key.startswith(prefix):
                return owner(key.removeprefix(prefix))
        return owner(key)

    return without


# -- what schemes are made of ------------------------------------------------------------------


def _buckets(nodes: Nodes, key_hash: KeyHash) -> Owner:
    """The hash modulo the number of nodes, each of which counts as often as it weighs."""
    owners = [index for index, node in enumerate(nodes) for _ in range(node.weight)]
    size = len(owners)
    return lambda key: owners[key_hash(key) % size]


def _modula(hashes: Mapping[str, KeyHash], default: str) -> Build:
    """Such a ring, by whichever of these hashes is chosen."""
    return lambda nodes, options: _buckets(nodes, hashes[options.get("hash", default)])


Points: TypeAlias = Iterable[tuple[int, int]]
"""Places on a continuum, and the node of each."""


def _continuum(points: Points, key_hash: KeyHash) -> Owner:
    """The node of the first point at or after the hash; of equal points the first counts."""
    by_value: dict[int, int] = {}
    for value, index in points:
        by_value.setdefault(value, index)
    values = sorted(by_value)
    owners = [by_value[value] for value in [*values, values[0]]]
    return lambda key: owners[bisect_left(values, key_hash(key))]


def _four_a_digest(names: Iterable[tuple[str, int]]) -> Points:
    """Four points for each of so many MD5 digests of each name."""
    for index, (name, digests) in enumerate(names):
        for number in range(digests):
            for value in md5_words(f"{name}-{number}".encode()):
                yield value, index


def _one_a_hash(names: Iterable[tuple[str, int]], key_hash: KeyHash) -> Points:
    """A point for each of so many hashes of each name."""
    for index, (name, hashes) in enumerate(names):
        for number in range(hashes):
            yield key_hash(f"{name}-{number}".encode()), index


def _shares(nodes: Nodes) -> list[int]:
    """
    How many digests each node has of forty a node, in proportion to its weight, in the
    32-bit arithmetic of C clients: an exact one gives other numbers for some weights.
    """
    total = sum(node.weight for node in nodes)
    shares = []
    for node in nodes:
        part = _float32(_float32(node.weight / total) * 160) / 4
        shares.append(floor(_float32(part * len(nodes))))
    return shares


def _float32(number: float) -> float:
    rounded: float = struct.unpack("f", struct.pack("f", number))[0]
    return rounded


def _without_default_port(node: RingNode) -> str:
    return node.name.removesuffix(_DEFAULT_PORT)


# -- libmemcached ------------------------------------------------------------------------------


def _libmemcached_name(node: RingNode) -> str:
    return f"{node.name}:0" if node.name.startswith("/") else _without_default_port(node)


def _libmemcached_ketama(nodes: Nodes, options: Mapping[str, str]) -> Owner:
    key_hash = key_hashes.LIBMEMCACHED[options.get("hash", "default")]
    names = ((_libmemcached_name(node), 100) for node in nodes)
    return _continuum(_one_a_hash(names, key_hash), key_hash)


def _libmemcached_ketama_spy(nodes: Nodes, options: Mapping[str, str]) -> Owner:
    key_hash = key_hashes.LIBMEMCACHED[options.get("hash", "default")]
    names = (
        (f"/{node.name}:0" if node.name.startswith("/") else f"/{node.name}", 100) for node in nodes
    )
    return _continuum(_one_a_hash(names, key_hash), key_hash)


def _libmemcached_weighted(nodes: Nodes, options: Mapping[str, str]) -> Owner:
    names = zip(map(_libmemcached_name, nodes), _shares(nodes), strict=True)
    key_hash = key_hashes.LIBMEMCACHED[options.get("hash", "md5")]
    return _continuum(_four_a_digest(names), key_hash)


# -- Python ------------------------------------------------------------------------------------


def _pymemcache(nodes: Nodes, options: Mapping[str, str]) -> Owner:
    """Rendezvous: the node whose name and the key together hash to the most."""
    # Of equal scores the greater name wins: the later one here.
    named = sorted((node.name, index) for index, node in enumerate(nodes))
    prefixes = [(_murmur_units(f"{name}-"), index) for name, index in named]
    spelled = _SPELLINGS[options.get("keys", "text")]

    def owner(key: bytes) -> int:
        units = key if spelled is _as_text and key.isascii() else _murmur_units(spelled(key))
        best = winner = -1
        for prefix, index in prefixes:
            score = mmh3.hash(prefix + units, 0, signed=False)
            if score >= best:
                best, winner = score, index
        return winner

    return owner


def _murmur_units(text: str) -> bytes:
    """What pymemcache's murmur3 sees of a text: the low byte of each character."""
    return bytes(ord(character) & 0xFF for character in text)


def _as_text(key: bytes) -> str:
    return key.decode(errors="surrogateescape")


_SPELLINGS: Mapping[str, Callable[[bytes], str]] = {"text": _as_text, "bytes": repr}
"""A key of type bytes is hashed by pymemcache and bmemcached as Python prints it."""


_PYTHON_MEMCACHED: Mapping[str, KeyHash] = {"crc15": key_hashes.crc15, "crc32": crc32}


def _bmemcached(nodes: Nodes, options: Mapping[str, str]) -> Owner:
    """A ring of whole MD5 digests, of which the last of equal points counts."""
    spelled = _SPELLINGS[options.get("keys", "text")]

    def digest(text: str) -> int:
        data = text.encode(errors="surrogateescape")
        return int.from_bytes(md5(data, usedforsecurity=False).digest())

    points = [
        (digest(f"{node.name}_None_None-{number}"), index)
        for index, node in enumerate(nodes)
        for number in range(160)
    ]
    return _continuum(reversed(points), lambda key: digest(spelled(key)) + 1)


# -- other languages ---------------------------------------------------------------------------


def _dalli(nodes: Nodes, options: Mapping[str, str]) -> Owner:
    """The node of the last point at or before the hash."""
    total = sum(node.weight for node in nodes)
    points = sorted(
        (int.from_bytes(sha1(data, usedforsecurity=False).digest()[:4]), index)
        for index, node in enumerate(nodes)
        for number in range(floor(len(nodes) * 160 * node.weight / total))
        for data in (f"{node.name}:{number}".encode(),)
    )
    values = [value for value, _ in points]
    owners = [index for _, index in points]
    return lambda key: owners[bisect_right(values, crc32(key)) - 1]


def _hashring(nodes: Nodes, options: Mapping[str, str]) -> Owner:
    algorithm = options.get("hash", "md5")

    def words(data: bytes) -> tuple[int, ...]:
        digest = new(algorithm, data, usedforsecurity=False).digest()
        return struct.unpack("<4I", digest[:16])

    total = sum(node.weight for node in nodes)
    points = (
        (value, index)
        for index, node in enumerate(nodes)
        for number in range(floor(node.weight / total * 40 * len(nodes)))
        for value in words(f"{_without_default_port(node)}-{number}".encode())
    )
    key_hash = md5_word if algorithm == "md5" else lambda key: words(key)[0]
    return _continuum(points, key_hash)


# -- Java --------------------------------------------------------------------------------------


def _spymemcached_ketama(nodes: Nodes, options: Mapping[str, str]) -> Owner:
    """Of equal points the last counts."""
    key_hash = key_hashes.JAVA[options.get("hash", "ketama")]
    names = [_java_name(node, "") for node in nodes]
    if any(node.weight != 1 for node in nodes):
        points = _four_a_digest(zip(names, _shares(nodes), strict=True))
    elif key_hash is md5_word:
        points = _four_a_digest((name, 40) for name in names)
    else:
        points = _one_a_hash(((name, 160) for name in names), key_hash)
    return _continuum(reversed(list(points)), key_hash)


def _xmemcached_ketama(nodes: Nodes, options: Mapping[str, str]) -> Owner:
    """Of equal points one counts that the number itself chooses, in the order of names."""
    key_hash = key_hashes.JAVA[options.get("hash", "ketama")]
    names = [_java_name(node, "/") for node in nodes]
    weights = [node.weight for node in nodes]
    if key_hash is md5_word:
        points = _four_a_digest((n, 40 * weight) for n, weight in zip(names, weights, strict=True))
    else:
        several = ((n, 160 * weight) for n, weight in zip(names, weights, strict=True))
        points = _one_a_hash(several, key_hash)
    sharing: dict[int, list[int]] = {}
    for value, index in points:
        sharing.setdefault(value, []).append(index)
    for value, indices in sharing.items():
        indices.sort(key=lambda index: names[index])
        sharing[value] = [indices[value % len(indices)]]
    return _continuum(((value, index) for value, [index] in sharing.items()), key_hash)


def _java_name(node: RingNode, before: str) -> str:
    """
    An address as Java writes it.

    @raise ConfigurationError: that would need to know how its host resolves.
    """
    if _IPV4_NAME.fullmatch(node.name):
        return before + node.name
    if "/" not in node.name:
        raise ConfigurationError(f"{node.name}: Java's rings need as=HOST/IP:PORT here")
    return node.name


# -- twemproxy ---------------------------------------------------------------------------------


def _twemproxy_name(node: RingNode) -> str:
    return f"{node.name}:" if node.name.startswith("/") else _without_default_port(node)


def _twemproxy_modula(nodes: Nodes, options: Mapping[str, str]) -> Owner:
    """twemproxy sorts its servers by their names, short ones first."""
    key_hash = key_hashes.TWEMPROXY[options.get("hash", "fnv1a_64")]
    names = [_twemproxy_name(node).encode() for node in nodes]
    order = sorted(range(len(nodes)), key=lambda index: (len(names[index]), names[index]))
    owner = _buckets([nodes[index] for index in order], key_hash)
    return _within_tag(options.get("hash_tag", ""), lambda key: order[owner(key)])


def _twemproxy_ketama(nodes: Nodes, options: Mapping[str, str]) -> Owner:
    key_hash = key_hashes.TWEMPROXY[options.get("hash", "fnv1a_64")]
    names = zip(map(_twemproxy_name, nodes), _shares(nodes), strict=True)
    owner = _continuum(_four_a_digest(names), key_hash)
    return _within_tag(options.get("hash_tag", ""), owner)


def _within_tag(tag: str, owner: Owner) -> Owner:
    """Hashes what is between two characters of a key, where it has them and that is not empty."""
    if not tag:
        return owner
    opening, closing = tag.encode("latin-1")[:1], tag.encode("latin-1")[1:]

    def within(key: bytes) -> int:
        _, found, rest = key.partition(opening)
        inner, closed, _ = rest.partition(closing)
        return owner(inner if found and closed and inner else key)

    return within


# -- the schemes -------------------------------------------------------------------------------


_Choices: TypeAlias = Collection[str] | None
"""The values of a parameter, or None for a pair of characters."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """
    @ivar instead: what to use where there are weights.
    """

    build: Build
    weights: bool = False
    choices: Mapping[str, _Choices] = field(default_factory=dict)
    instead: str = ""


_LIBMEMCACHED: Mapping[str, _Choices] = {"hash": key_hashes.LIBMEMCACHED}
_JAVA: Mapping[str, _Choices] = {"hash": key_hashes.JAVA}
_TWEMPROXY: Mapping[str, _Choices] = {"hash": key_hashes.TWEMPROXY, "hash_tag": None}
_KEYS: Mapping[str, _Choices] = {"keys": _SPELLINGS}

_SCHEMES: Mapping[str, Mapping[str, _Kind]] = {
    "modula": {"": _Kind(_modula(key_hashes.LIBMEMCACHED, "default"), choices=_LIBMEMCACHED)},
    "ketama": {
        "": _Kind(
            _libmemcached_ketama,
            choices=_LIBMEMCACHED,
            instead="libmemcached itself has ketama-weighted then",
        )
    },
    "ketama-spy": {"": _Kind(_libmemcached_ketama_spy, choices=_LIBMEMCACHED)},
    "ketama-weighted": {"": _Kind(_libmemcached_weighted, True, _LIBMEMCACHED)},
    "pymemcache": {"": _Kind(_pymemcache, choices=_KEYS)},
    "python-memcached": {
        "": _Kind(_modula(_PYTHON_MEMCACHED, "crc15"), True, {"hash": _PYTHON_MEMCACHED})
    },
    "bmemcached": {"": _Kind(_bmemcached, choices=_KEYS)},
    "gomemcache": {"": _Kind(lambda nodes, _: _buckets(nodes, crc32), True)},
    "dalli": {"": _Kind(_dalli, True)},
    "spymemcached": {
        "ketama": _Kind(_spymemcached_ketama, True, _JAVA),
        "modula": _Kind(_modula(key_hashes.JAVA, "native"), choices=_JAVA),
    },
    "xmemcached": {
        "ketama": _Kind(_xmemcached_ketama, True, _JAVA),
        "modula": _Kind(_modula(key_hashes.JAVA, "native"), True, _JAVA),
    },
    "hashring": {"": _Kind(_hashring, True, {"hash": ("md5", "sha1", "sha256", "sha512")})},
    "memjs": {"": _Kind(lambda nodes, _: _buckets(nodes, key_hashes.javascript_string))},
    "twemproxy": {
        "ketama": _Kind(_twemproxy_ketama, True, _TWEMPROXY),
        "modula": _Kind(_twemproxy_modula, True, _TWEMPROXY),
    },
}

SCHEMES = tuple(_SCHEMES)


def _read_option(shown: str, known: Mapping[str, _Choices], option: str, value: str) -> str:
    if option not in known:
        raise ConfigurationError(f"{shown}: is unknown; it has {', '.join([*known, 'unhashed'])}")
    choices = known[option]
    if choices is None:
        if len(value) != 2 or not value.isascii():
            raise ConfigurationError(f"{shown}={value}: write two characters, as {{}}")
        return value
    value = value.lower().replace("-", "_")
    if value not in choices:
        raise ConfigurationError(f"{shown}={value}: choose from {', '.join(choices)}")
    return value
