"""
Several processes that are one service (C{--workers}).

The parent is the process that was started: it opens the listening sockets, but
leaves it to the workers to accept from them. L{parent} starts the workers,
each an ordinary child process that runs L{child}, and sees to it that they are
there; L{process} is one of them as the parent sees it. The two talk over pipes
(L{control}), and all workers know from a few bytes of common memory how many
clients each has (L{client_counts}), by which L{accepting} shares them out.
"""
