"""
Several processes that are one service (C{--workers}).

The parent is the process that was started: it opens the listening sockets, but
leaves it to the workers to accept from them. L{supervisor} sees to it that the
workers are there: each runs L{worker} and is forked by L{fork_server}, a child
that has everything imported; L{process} is what the parent sees of them. Parent
and workers talk over sockets (L{channel}), and all workers know from a few bytes
of common memory how many clients each has (L{client_counts}), by which
L{acceptor} shares them out.
"""
