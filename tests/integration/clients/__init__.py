"""Programs in other languages, each a user of one memcached client library."""
