"""What a user of Redis has to be allowed for RedCouch to work."""

from __future__ import annotations

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
