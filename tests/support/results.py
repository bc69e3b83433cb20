"""Results as tests like to read them."""

from __future__ import annotations

from collections.abc import Sequence

from redcouch.results import Item, Result


def named(results: Sequence[Result]) -> list[Result]:
    """A batch's results, with names for what an item consists of."""
    return [
        [Item(*found) if isinstance(found, tuple) else found for found in result]
        if isinstance(result, list)
        else result
        for result in results
    ]
