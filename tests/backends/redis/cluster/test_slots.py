"""Slots as a real node counts them."""

from __future__ import annotations

import random

import pytest

from redcouch.backends.redis.cluster.slots import ItemSlots, slot_of
from tests.support.cluster import CLUSTER_VERSIONS, redis_cluster
from tests.support.requirements import needs, redis_name

_PREFIXES = (b"rc:", b"", b"{all}", b"a{", b"a{}b", b"}{x", b"\0\xff{t}:")


def _keys(count: int) -> list[bytes]:
    """Keys of all lengths, of which many have braces."""
    chance = random.Random(5)
    alphabets = (b"{}", b"{}ab", b"abcdefgh0123456789:_-", bytes(set(range(256)) - {10, 13}))
    return [
        bytes(chance.choices(chance.choice(alphabets), k=chance.randint(0, 40)))
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    "version", [pytest.param(v, marks=needs(redis_name(v))) for v in CLUSTER_VERSIONS]
)
def test_as_redis_counts(version: str) -> None:
    """20,000 keys, under each prefix in turn, have the slots that CLUSTER KEYSLOT gives."""
    keys = _keys(20_000)
    with (
        redis_cluster(version=version, masters=1, replicas=False) as cluster,
        cluster.nodes[0].client() as client,
        client.pipeline(transaction=False) as pipe,
    ):
        for place, key in enumerate(keys):
            pipe.execute_command("CLUSTER KEYSLOT", _PREFIXES[place % len(_PREFIXES)] + key)
        real = pipe.execute()
    for start, prefix in enumerate(_PREFIXES):
        slots, own = ItemSlots(prefix), keys[start :: len(_PREFIXES)]
        wanted = real[start :: len(_PREFIXES)]
        assert slots.of_all(own) == wanted
        assert [*map(slots.of, own)] == wanted
        assert [slot_of(prefix + key) for key in own] == wanted


def test_a_batch_without_braces() -> None:
    """Where no key of a batch has a brace, all have the slots that each has alone."""
    keys = [key for key in _keys(2000) if b"{" not in key]
    slots = ItemSlots(b"rc:")
    assert len(keys) > 500
    assert slots.of_all(keys) == [slot_of(b"rc:" + key) for key in keys]
