"""
Real memcacheds as the commands read them: which keys there are, and what the items are.

L{connection} is a socket, L{keys} asks for the list of keys and keeps it, L{reading} reads
items in three protocols, L{node} joins these.
"""
