"""
RedCouch's items for users of redis-py.

::

    items = Items(redis.Redis())
    items.set("session:1", b"value", ttl=1800)
    items.get("session:1")

What is written here is what memcached clients of the service read, and the
other way round, by the service's own scripts: each change is one step and gives
the item a new CAS token. L{AsyncItems} is the same for L{redis.asyncio}.

Twisted is not imported.
"""

from redcouch.native.items import AsyncItems, Items
from redcouch.native.operations import Found, UnreadableItemError

__all__ = ["AsyncItems", "Found", "Items", "UnreadableItemError"]
