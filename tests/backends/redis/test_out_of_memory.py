"""A full Redis, in each version: see L{tests.backends.redis.out_of_memory}."""

from __future__ import annotations

from tests.backends.redis.out_of_memory import (
    OutOfMemoryTests,
    OutOfMemoryTests62,
    OutOfMemoryTests82,
)

__all__ = ["OutOfMemoryTests", "OutOfMemoryTests62", "OutOfMemoryTests82"]
