"""Whether clients may go back to the old side at this moment: one rule, for all who show it."""

from __future__ import annotations

from redcouch.backends.origin.stages import Stage

LACKING = (
    "not all that Redis has is on the old memcacheds: one has been started again or has refused an "
    "item, or keys have been changed that it cannot be told of, or all is still being brought "
    "back. redcouch stage redis-first puts there what it takes"
)


def why_not_back(
    stage: Stage, pending: int | None, away: int, lacking: bool = False, left: int = 0
) -> str | None:
    """
    Why going back to the old memcacheds would show somebody something wrong; C{None} if it would
    not.

    @param pending: items that they may have out of date; C{None} for all.
    @param away: how many of them do not answer some RedCouch.
    @param lacking: one of them does not have what it is to have (L{LACKING}).
    @param left: changes that are not over: of a RedCouch that has ended in the middle of them, or
        that an old memcached has not answered.
    """
    if stage is Stage.REDIS_ONLY:
        return "the old memcacheds are told of no change in this stage"
    if pending is None:
        return "the old memcacheds have missed too much, and are told of nothing any more"
    if lacking:
        return LACKING
    if pending and stage is not Stage.ORIGIN_FIRST:
        some = "1 item" if pending == 1 else f"{pending:,} items"
        return f"{some} may be out of date on the old memcacheds until they have been repaired"
    if left:
        some = "1 change" if left == 1 else f"{left:,} changes"
        return f"{some} may be on the way to them still, perhaps of a RedCouch that has ended"
    if away:
        some = "1 of the old memcacheds does" if away == 1 else f"{away} of the old memcacheds do"
        return f"{some} not answer"
    return None
