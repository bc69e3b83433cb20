"""Which phase the signs speak for, and what is still to be done."""

from __future__ import annotations

from dataclasses import replace

from redcouch.http.migration_phase import QUIET, Signs, phase

BUSY = Signs(clients=3, quiet=0.0, watched=90.0, natives=0)


def test_bridge() -> None:
    """Nobody uses Redis natively: the first service has to be moved."""
    found = phase(BUSY)
    assert found.number == 1
    assert found.blockers == [
        "No client but the bridge is connected to Redis: move a first service."
    ]
    assert "does not tell" in phase(replace(BUSY, natives=None)).blockers[0]


def test_an_outage() -> None:
    """A storage that cannot be asked is not taken for one that does not tell."""
    away = phase(replace(BUSY, natives=None, reachable=False))
    assert (away.number, away.blockers) == (1, ["The storage cannot be reached."])
    later = phase(replace(BUSY, natives=2, reachable=False))
    assert (later.number, later.blockers[0]) == (2, "The storage cannot be reached.")


def test_dual_access() -> None:
    """Native clients are there beside those that speak memcached."""
    found = phase(replace(BUSY, natives=2))
    assert found.number == 2
    assert found.says == "2 native clients connected to Redis beside RedCouch."
    assert found.blockers == [
        "3 memcached clients are connected.",
        "memcached is spoken at this moment.",
    ]
    one = phase(Signs(clients=1, quiet=7300.0, watched=9000.0, natives=1))
    assert one.blockers == [
        "1 memcached client is connected.",
        "memcached was spoken 2 hours ago; a day has to pass.",
    ]


def test_watched_for_too_short() -> None:
    """Silence since a start a moment ago proves nothing."""
    found = phase(Signs(clients=0, quiet=None, watched=120.0, natives=1))
    assert found.number == 2
    seen = ["No memcached traffic seen, but watched for 2 minutes only; a day has to pass."]
    assert found.blockers == seen
    back = phase(Signs(clients=0, quiet=3 * QUIET, watched=120.0, natives=1, items=5))
    assert (back.number, back.blockers, back.command) == (2, seen, "redcouch traffic")


def test_native() -> None:
    """A day of silence, whether it was ever broken or not."""
    for quiet in (QUIET, None):
        found = phase(Signs(clients=0, quiet=quiet, watched=2 * QUIET, natives=0))
        assert (found.number, found.blockers) == (3, [])
    silent = phase(Signs(clients=1, quiet=QUIET, watched=2 * QUIET, natives=0))
    assert silent.blockers == ["1 client still connected, though silent."]


def test_an_old_memcached() -> None:
    """One behind the storage is part of what blocks, asked or not, and silence is not the end."""
    filled = replace(BUSY, filled=True)
    found = phase(replace(filled, warm=0.873))
    assert found.blockers[0].endswith("Redis itself had 87.3% of the hits.")
    assert phase(replace(filled, natives=1, warm=0.5)).blockers[-1].endswith("50.0% of the hits.")
    assert phase(filled).blockers[0] == "The old memcached is still asked."
    assert "not asked any more" in phase(replace(filled, onward="", warm=0.5)).blockers[0]
    assert phase(Signs(0, None, 2 * QUIET, 0, filled=True)).number == 1


def test_what_comes_next() -> None:
    """One command, as far as the signs tell; none while something has to be mended."""
    empty = replace(BUSY, items=0)
    assert phase(empty).command == "redcouch import memcached://HOST:PORT --to URL"
    assert phase(replace(BUSY, items=5)).command == "redcouch functions load"
    assert phase(replace(BUSY, items=5, strings=True)).command == "redcouch ls"
    assert phase(replace(BUSY, natives=2, items=5)).command == "redcouch traffic"
    silent = Signs(clients=0, quiet=QUIET, watched=2 * QUIET, natives=0, items=5)
    assert phase(silent).command == "redcouch promote '*' --to string"
    assert phase(replace(silent, items=0)).command == "redcouch cleanup --system"
    assert phase(replace(silent, strings=True)).command == "redcouch cleanup --system"
    for wrong in (replace(empty, trouble="it is full"), replace(empty, reachable=False)):
        assert phase(wrong).command == ""
        assert phase(wrong).blockers


def test_no_native_client_yet() -> None:
    """While an old memcached is asked, what a native client removes comes back: stages go first."""
    filled = replace(BUSY, filled=True, items=5, onward="redcouch sweep")
    for strings in (False, True):
        found = phase(replace(filled, strings=strings))
        assert found.command == "redcouch sweep"
        assert found.blockers == ["The old memcached is still asked."]
    assert phase(replace(filled, natives=2)).command == "redcouch sweep"
    past = phase(replace(filled, onward=""))
    assert past.command == "redcouch functions load"
    assert past.blockers[-1].endswith("move a first service.")


def test_trouble_blocks() -> None:
    """Whatever keeps clients from being served stands first."""
    for signs in (BUSY, replace(BUSY, natives=2), Signs(0, QUIET, 2 * QUIET, 0)):
        blockers = phase(replace(signs, trouble="it is full")).blockers
        assert blockers[0] == "Clients cannot be served as they should: it is full."
