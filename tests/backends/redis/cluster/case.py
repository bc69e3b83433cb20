"""What the tests of storages on a cluster share."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.backends.redis.case import RedisCase
from tests.support.cluster import Cluster, redis_cluster, shared_cluster, shared_cluster_client
from tests.support.polling import eventually_in_reactor
from tests.support.requirements import OnRedis


class ClusterCase(OnRedis, RedisCase):
    """Tests on a cluster that other tests use as well."""

    version = "7.0"
    connects: ClassVar[bool] = True
    cluster: Cluster
    client: Any

    async def setUp(self) -> None:  # type: ignore[override]
        self.cluster = shared_cluster(self.version)
        self.cluster.clear()
        self.client = shared_cluster_client(self.version)
        if self.connects:
            storage = await self.connect(self.cluster.url)
            await eventually_in_reactor(lambda: storage.health().ready)

    def start_cluster(self, **options: Any) -> Cluster:
        """A cluster of the test's own."""
        cluster: Cluster = self.enterContext(redis_cluster(version=self.version, **options))
        return cluster
