"""
C{warm:}, any other storage, filled from old memcacheds while clients use it.

C{warm:redis://host?from=memcached://old:11211} is C{redis://host}, but what is
not there is looked for in the old memcached, answered, and stored; and whatever
changes there changes in the old memcached too. So nobody begins with a cold
cache, nothing that was deleted comes back, and clients can go back to the old
memcached at any moment. Of several, C{ring=} says which one has a key.

L{url} reads the URL, L{fetch} brings items over, L{replicate} says what a change means
for the old side, and L{backend} joins them. The old memcacheds are asked through
L{redcouch.memcached_client}.
"""
