"""What a user of a cluster has to be allowed for C{warm:} and the commands, as documented."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.backends.origin.conversation import say, stats
from tests.backends.redis.access import CLUSTER_RULES
from tests.cli.running import Ended, run
from tests.support import servers
from tests.support.cluster import Cluster, redis_cluster
from tests.support.polling import eventually
from tests.support.requirements import needs
from tests.support.servers import Memcached, RedCouch

pytestmark = [pytest.mark.once, needs("memcached")]

SERVICE, COMMANDS = CLUSTER_RULES

_ELSEWHERE = {"asking"}
"""What takes a slot that moves."""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster with two users, who have done nothing yet."""
    with redis_cluster(replicas=False) as running:
        for node in running.nodes:
            node.ask("ACL", "SETUSER", "redcouch", *SERVICE)
            node.ask("ACL", "SETUSER", "tools", *SERVICE, *COMMANDS)
            node.ask("CONFIG RESETSTAT")
        yield running


def denied(cluster: Cluster) -> list[tuple[str, str]]:
    """Who was not allowed what."""
    entries = [entry for node in cluster.nodes for entry in node.ask("ACL LOG")]
    return [(entry["username"], entry["object"]) for entry in entries]


def used(cluster: Cluster) -> set[str]:
    """What any node was asked for."""
    names: set[str] = set()
    for node in cluster.nodes:
        with node.client() as client:
            names |= client.info("commandstats").keys()
    return {name.removeprefix("cmdstat_") for name in names}


def use(bridge: RedCouch) -> None:
    """Something of each kind."""
    request = (
        b"set session:1 3 0 1\r\n1\r\nset session:1 3 100 1\r\n1\r\nincr session:1 1\r\n"
        b"touch session:1 0\r\nset session:2 0 2000000000 1\r\n1\r\nmg session:1 h l t v\r\n"
        b"set large 0 0 10000\r\n%b\r\nappend session:2 0 0 1\r\n2\r\nget session:1 session:2\r\n"
        b"md large I T30\r\nms large 1\r\nx\r\ndelete large\r\nset session:3 0 0 1\r\n1\r\nmn\r\n"
    )
    said = say(bridge, request % (b"x" * 10_000), b"MN\r\n")
    assert b"ERROR" not in said, said


def done(*words: object) -> Ended:
    """A command that does what it is to do."""
    ended = run(*words)
    assert ended.status == 0, (words, ended)
    return ended


def test_documented_rights(cluster: Cluster) -> None:
    """
    Two users with the documented rights go through all stages and back, and run every command:
    the cluster refuses them nothing, and they use each right.
    """
    with servers.memcached() as one, servers.memcached() as other:
        nodes = [one, other]
        olds = [node.url for node in nodes]
        hosts = cluster.url.partition("//")[2]
        service, tools = (f"redis+cluster://{one}:secret@{hosts}" for one in ("redcouch", "tools"))
        sources = "&".join(f"from={old}" for old in olds)
        parameters = f"?timeout=30&{sources}&ring=ketama&from-timeout=3"
        with servers.redcouch(f"warm:{service}{parameters}") as bridge:
            go_through_stages(bridge, nodes, f"warm:{tools}{parameters}")
            run_commands(bridge, olds, tools)
        assert denied(cluster) == []
    rights = {word[1:] for word in (*SERVICE, *COMMANDS) if word.startswith("+")}
    assert rights - used(cluster) == _ELSEWHERE


def go_through_stages(bridge: RedCouch, nodes: list[Memcached], url: str) -> None:
    """Forth and back, with old memcacheds that hang for a while."""
    for stage in ("origin-first", "redis-first"):
        done("stage", stage, "--timeout", 60, "-s", url)
        use(bridge)
    for node in nodes:
        servers.hold(node.pid)
    say(bridge, b"set session:4 0 0 1\r\n1\r\n")
    for node in nodes:
        os.kill(node.pid, signal.SIGCONT)
    eventually(lambda: stats(bridge)["warm_barred"] == 0)
    done("stage", "-s", url)
    assert say(bridge, b"flush_all 100\r\nflush_all\r\n", b"OK\r\nOK\r\n").count(b"OK") == 2
    done("sweep", "-s", url)
    for stage in ("redis-only", "redis-first"):
        done("stage", stage, "--timeout", 60, "-s", url, "--force")
        use(bridge)


def run_commands(bridge: RedCouch, olds: list[str], url: str) -> None:
    """Every command that asks a storage for something."""
    ring = ("--ring", "ketama")
    say(bridge, b"lru_crawler metadump all\r\n", b"END\r\n")
    with servers.memcached() as another:
        done("export", "--to", another.url, "--flush", "-s", url)
    done("cleanup", "--yes", "--force", "-s", url)
    done("import", *olds, *ring, "--to", url)
    done("import", *olds, *ring, "--to", url, "--overwrite")
    done("verify", *olds, url, *ring)
    done("ls", "-s", url)
    done("inspect", "session:1", "-s", url)
    eventually(lambda: run("traffic", "-s", url).status == 0)
    assert run("ready", "--quiet-for", "1h", "-s", url).status == 1
    assert run("promote", "session:*", "--to", "string", "-s", url).status == 1  # in use
    promote = ("promote", "session:*", "--to", "string", "--force", "-s", url)
    done(*promote, "--dry-run")
    done(*promote)
    done("functions", "load", "-s", url)
    done("cleanup", "--yes", "--force", "--system", "-s", url)
