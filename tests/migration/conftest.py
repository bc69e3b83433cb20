"""The fixtures are those of the command's tests."""

from __future__ import annotations

from tests.cli.conftest import client, old

__all__ = ["client", "old"]
