"""What a user of Redis has to be allowed for RedCouch to work."""

from __future__ import annotations

import re
from pathlib import Path

from redcouch.commands import (
    Arithmetic,
    Command,
    Delete,
    Discard,
    Dump,
    Flush,
    Get,
    GetAndTouch,
    Inspect,
    Invalidate,
    MetaGet,
    Store,
    StoreMode,
    Touch,
)

# What RedCouch needs, as a rule for ACL SETUSER. Keys: the items, and the system keys.
KEYS = "resetkeys ~rc:* ~redcouch:sys:*"


# To connect, and to keep the items.
BASICS = (
    "+script|load +evalsha +eval +multi +exec"
    " +hmget +hget +hset +hsetnx +hdel +hexists +hlen +hstrlen +incr +set"
    " +time +pttl +exists +persist +pexpire +pexpireat +unlink"
)


# For the age of an item (mg with h, l, t), and dumps.
STANDING = "+object|idletime"


# For flush_all, at once and later, and for dumps.
FLUSHING = "+scan +get +del"


# For the figures in stats.
FIGURES = "+info +dbsize"


# For each connection: another database than 0, and Sentinel.
OTHERS = "+select +role"


# To fill in items from memcacheds: for warm:, and for redcouch import.
FILLING = "+hincrby +hgetall +sadd +scard +sismember +srem +srandmember"


_PAGE = Path(__file__).parents[3] / "docs/cluster.md"

CLUSTER_RULES = [
    rule.split() for rule in re.findall(r"ACL SETUSER redcouch ([^`]*)", _PAGE.read_text())
]
"""What is documented for a cluster: the service's rule, and what the commands take besides."""


# Something of each kind that a client can ask.
EVERYTHING: list[Command] = [
    Store(StoreMode.SET, b"k", b"1"),
    Store(StoreMode.SET, b"large", b"v" * 10_000),
    Store(StoreMode.ADD, b"k", b"1"),
    Store(StoreMode.ADD, b"new", b"1", exptime=500),
    Store(StoreMode.REPLACE, b"k", b"1", exptime=4_000_000_000),
    Store(StoreMode.APPEND, b"k", b"1"),
    Store(StoreMode.SET, b"k", b"1", compare=1),
    Arithmetic(b"k", 1, ttl=True),
    Arithmetic(b"number", 1, initial=1),
    Get([b"k", b"none"], cas=True),
    Get([b"native", b"none"], cas=True),
    GetAndTouch([b"k"], 500),
    Touch(b"native", 0),
    Touch(b"k", 20),
    MetaGet(b"k", recache=30),
    Touch(b"k", 0),
    MetaGet(b"k"),
    MetaGet(b"k", metadata=True, vivify=0, recache=30),
    Invalidate(b"k", stale=True, exptime=500),
    MetaGet(b"k"),
    MetaGet(b"k", metadata=True),
    Inspect(b"k"),
    Dump(),
    Delete(b"k", compare=1),
    Delete(b"number"),
    Store(StoreMode.SET, b"k", b"1", exptime=-1),
    Discard(b"new"),
    Flush(),
    Flush(1000),
]
