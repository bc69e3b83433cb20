"""The contract on clusters of three masters with replicas, in both encodings, and with a cache."""

from __future__ import annotations

from redcouch.interfaces import IStorageBackend
from tests.contract import redis_storage
from tests.support.cluster import shared_cluster, shared_cluster_client


class ClusterContract(redis_storage.RedisContract):
    """The contract on a cluster of one version."""

    version, parameters = "7.0", "encoding=hex"
    further_statistics = frozenset(
        {"cluster_masters", "cluster_masters_down", "cluster_slots_unserved"}
    )

    def build(self) -> IStorageBackend:
        cluster = shared_cluster(self.version)
        cluster.clear()
        self.client = shared_cluster_client(self.version)
        self.over = redis_storage.RedisStorage(f"{cluster.url}?{self.parameters}", self.client)
        return self.over.storage


class RawClusterContract(ClusterContract):
    parameters = "encoding=raw"


class CachedClusterContract(ClusterContract):
    parameters = "cache=1m"


class Redis82ClusterContract(ClusterContract):
    version = "8.2"


class ValkeyClusterContract(ClusterContract):
    version = "valkey 8.1"
