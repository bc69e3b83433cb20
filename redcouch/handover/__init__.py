"""
A process that ends hands its listening sockets and its clients to the one that follows it.

Whoever serves offers this at an abstract unix socket whose name is made of where it listens
(L{succession}), to processes of its own user and of root. The follower takes the listening
sockets when it starts, and when it can serve it says where its processes adopt clients. The
one before ends then: each of its processes finishes what a client has asked for, and sends
the socket with what is known of the client (L{clients}) to one of these. A client notices
nothing. Descriptors travel over L{descriptors}.
"""
