"""
Where items live. Each backend implements
L{IStorageBackend<redcouch.interfaces.IStorageBackend>} and knows nothing of
dialects: no opcode, no opaque, no noreply reaches it.
"""
