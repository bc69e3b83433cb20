"""What the peers are called."""

MEMCACHED = "memcached"
TWEMPROXY = "twemproxy"
REDCOUCH = "redcouch"
CACHED = "redcouch-cache"
CLUSTER = "redcouch-cluster"
TWEMPROXY_3 = "twemproxy-3"
ORIGIN_FIRST = "redcouch-origin-first"
REDIS_FIRST = "redcouch-redis-first"

USUAL = (MEMCACHED, TWEMPROXY, REDCOUCH, CACHED)
"""Those that a scenario is measured with where it says nothing else."""
