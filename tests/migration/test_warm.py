"""
A warm start with everything real: an application moves from its memcached to RedCouch, and on or
back, without an import, one failed request, or one value that is out of date.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.origin.conftest import PATIENT
from tests.backends.origin.conversation import stats
from tests.migration.instances import Instance, application, sign_in
from tests.support import servers
from tests.support.polling import eventually
from tests.support.requirements import fixture_needs
from tests.support.servers import Memcached, RedisServer


@pytest.fixture
@fixture_needs("memcached")
def old() -> Iterator[Memcached]:
    """A memcached with everybody's session."""
    with servers.memcached() as server:
        sign_in(server.address)
        yield server


def warm_url(own_redis: RedisServer, old: Memcached) -> str:
    return f"warm:{own_redis.url}?from={old.url}&{PATIENT}"


def together(mode: str, *instances: Instance) -> None:
    """None uses the new storage while another still writes to the old one."""
    for instance in instances:
        instance.pause()
    for instance in instances:
        instance.use(mode)


@pytest.mark.everywhere
@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.once)])
def test_on(own_redis: RedisServer, old: Memcached, workers: str, tmp_path: Path) -> None:
    """From memcached to a warm storage, and when that has all, to a plain one."""
    with (
        servers.redcouch(warm_url(own_redis, old), "--workers", workers) as warm,
        servers.redcouch(own_redis.url) as plain,
        application(tmp_path, f"memcached {old.port}") as (one, two),
    ):
        together(f"kept {warm.port}", one, two)
        one.work()
        old.kill()
        two.work()
        one.use(f"kept {plain.port}")
        two.use(f"kept {plain.port}")
        eventually(lambda: stats(warm).get("warm_pulled"))


def test_back(own_redis: RedisServer, old: Memcached, tmp_path: Path) -> None:
    """From memcached to a warm storage, and back, in the middle of it and without a warning."""
    with (
        servers.redcouch(warm_url(own_redis, old)) as warm,
        application(tmp_path, f"memcached {old.port}") as (one, two),
    ):
        together(f"kept {warm.port}", one, two)
        one.work()
        one.use(f"kept {old.port}")
        two.use(f"kept {old.port}")
