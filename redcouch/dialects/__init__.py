"""
Bytes to commands, results to bytes: memcached's protocols as pure code.

Nothing here knows of sockets, of Twisted or of a storage. A dialect is given
bytes as they come and gives L{requests<redcouch.dialects.request.Request>};
each request knows how its result is said in that dialect.
"""
