"""The contract on each supported Redis and on Valkey, in both encodings."""

from __future__ import annotations

import pytest

from tests.contract import redis_storage


class Redis62HexContract(redis_storage.RedisContract):
    version, encoding = "6.2", "hex"


class Redis62RawContract(redis_storage.RedisContract):
    version, encoding = "6.2", "raw"


@pytest.mark.everywhere
class Redis70HexContract(redis_storage.RedisContract):
    version, encoding = "7.0", "hex"


class Redis70RawContract(redis_storage.RedisContract):
    version, encoding = "7.0", "raw"


class Redis82HexContract(redis_storage.RedisContract):
    version, encoding = "8.2", "hex"


class Redis82RawContract(redis_storage.RedisContract):
    version, encoding = "8.2", "raw"


class ValkeyHexContract(redis_storage.RedisContract):
    version, encoding = "valkey 8.1", "hex"


class ValkeyRawContract(redis_storage.RedisContract):
    version, encoding = "valkey 8.1", "raw"


class StringContract(redis_storage.RedisContract):
    """The contract on items that are plain strings."""

    version = "7.0"
    parameters = "layout=string&prefix=rc:"


class Redis62StringContract(StringContract):
    version = "6.2"


class Redis82StringContract(StringContract):
    version = "8.2"


class ValkeyStringContract(StringContract):
    version = "valkey 8.1"


class BareStringContract(StringContract):
    """The same under the clients' own keys."""

    parameters = "layout=string&flush=all"
    prefix = b""


@pytest.mark.everywhere
class CachedContract(redis_storage.RedisContract):
    """The contract with a cache in front, which nobody may notice."""

    version = "7.0"
    parameters = "cache=1m"


class Redis62CachedContract(CachedContract):
    version = "6.2"


class Redis82CachedRawContract(CachedContract):
    version = "8.2"
    parameters = "cache=1m&encoding=raw"


class CachedStringContract(CachedContract):
    parameters = "cache=1m&layout=string&prefix=rc:"


class CachedBareStringContract(BareStringContract):
    parameters = "cache=1m&layout=string&flush=all"
