"""A node of a cluster starts again."""

from __future__ import annotations

import re

from tests.support.cluster import redis_cluster
from tests.support.requirements import needs


@needs("valkey 8.1")
def test_replicas_shard_in_doubt() -> None:
    """Also where it has written of a replica that it is in another shard than its master."""
    with redis_cluster(version="valkey 8.1", masters=1) as cluster:
        (node,) = cluster.masters
        node.stop()
        written = node.folder / "nodes.conf"
        told = written.read_text()
        doubtful, replicas = re.subn(r"(shard-id=)\w+( slave)", rf"\g<1>{'0' * 40}\2", told)
        assert replicas == 1
        written.write_text(doubtful)
        node.start()
        cluster.wait()
