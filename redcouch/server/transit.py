"""What is known of a client that goes on in another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Transit:
    """
    @ivar dialect: the name of the dialect that it speaks; empty where it has said nothing yet.
    @ivar user: who it has proved to be.
    @ivar skip: how many of its next bytes belong to what was refused.
    @ivar unread: what it has sent and was not understood yet.
    @ivar unsent: replies that it has not taken yet.
    """

    dialect: str = ""
    user: bytes | None = None
    skip: int = 0
    unread: bytes = b""
    unsent: bytes = b""

    def described(self) -> dict[str, Any]:
        """All but the bytes, as a message may have it."""
        return {
            "dialect": self.dialect,
            "user": None if self.user is None else self.user.decode("latin-1"),
            "skip": self.skip,
            "unread": len(self.unread),
        }

    @classmethod
    def read(cls, described: dict[str, Any], data: bytes) -> Transit:
        """The other way round, with the bytes."""
        user, unread = described["user"], described["unread"]
        return cls(
            described["dialect"],
            None if user is None else user.encode("latin-1"),
            described["skip"],
            data[:unread],
            data[unread:],
        )
