"""
Micro-benchmarks of single parts (pytest-benchmark), so that a regression can be placed.

C{pytest bench/micro} runs them. Each is one request without a socket: the
codec alone, the backend alone, and the way of the request through all of it.
"""
