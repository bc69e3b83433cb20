"""RedCouch for twistd, and backends for RedCouch; none is imported before it is chosen."""

from twisted.application.service import ServiceMaker

from redcouch.backends.registry import BackendMaker

_REDIS = "redcouch.backends.redis"

redcouch = ServiceMaker(
    "RedCouch", "redcouch.service", "The memcached protocols, served from Redis.", "redcouch"
)

redis = BackendMaker(
    "redis",
    _REDIS,
    "redis://[[user]:password@]host[:port][/db]; ?cache=64m keeps items in memory too",
)
redis_tls = BackendMaker("rediss", _REDIS, "the same over TLS, with ?ca=, ?cert=, ?key=")
redis_unix = BackendMaker("redis+unix", _REDIS, "redis+unix:///path/to/socket?db=0")
redis_sentinel = BackendMaker("redis+sentinel", _REDIS, "redis+sentinel://host,host/master/db")
redis_sentinel_tls = BackendMaker("rediss+sentinel", _REDIS, "the same over TLS")
redis_cluster = BackendMaker("redis+cluster", _REDIS, "redis+cluster://host:port,host:port")
redis_cluster_tls = BackendMaker("rediss+cluster", _REDIS, "the same over TLS")
embedded = BackendMaker(
    "embedded", "redcouch.backends.embedded", "a private Redis: embedded: or embedded:///dir"
)
embedded_cluster = BackendMaker(
    "embedded+cluster",
    "redcouch.backends.embedded",
    "three private masters of a Redis Cluster, for trials",
)
memory = BackendMaker("memory", "redcouch.backends.memory", "a dict in this process, for trials")
