"""What the status tells, and what it hides."""

from __future__ import annotations

import json
from typing import Any

import pytest

from redcouch.http.collect import View
from redcouch.http.history import History
from redcouch.http.processes import usage
from redcouch.http.status import settings, status
from redcouch.options import Options
from redcouch.telemetry.counters import Counters
from redcouch.telemetry.service_status import SlotStatus, WorkerStatus
from redcouch.telemetry.snapshot import StatsSnapshot

UP = SlotStatus(1, WorkerStatus(11, True, "", 1, 0))
DOWN = SlotStatus(2, WorkerStatus(12, False, "Redis at x: refused", 0, 0), restarts=3)
NOBODY = SlotStatus(3, None)


def view(*places: SlotStatus, **facts: Any) -> View:
    """A view of these workers."""
    snapshot = StatsSnapshot(1, 60.0, 0.0, 0.0, Counters(curr_connections=1))
    snapshot.spoken = {"text": Counters(get_hits=5, cmd_get=5)}
    return View(snapshot, [(place, None) for place in places], {"curr_items": 3}, facts)


def options(*words: str) -> dict[str, Any]:
    """The options of a command line."""
    parsed = Options()
    parsed.parseOptions(list(words))
    return dict(parsed)


def test_secrets_are_hidden() -> None:
    """No password of any option is told."""
    shown = settings(
        options("--storage", "redis://ann:hush@host/1?sentinel_password=hush", "--http", "0")
    )
    told = {row["name"]: row["value"] for row in shown}
    assert told["--storage"] == "redis://ann:***@host/1?sentinel_password=***"
    assert settings({"no-flush": False, "workers": 1}) == [
        {"name": "--no-flush", "value": "no"},
        {"name": "--workers", "value": "1"},
    ]
    assert told["--port"] == "11210"
    assert settings({"new-password": "hush"}) == [{"name": "--new-password", "value": "***"}]


def test_it_is_all_json() -> None:
    """The whole can be written, and counts are by dialect."""
    chosen = options("--storage", "redis://:hush@host")
    told = status(view(UP, natives=4), History(), chosen, [], 1000.0, False)
    assert "hush" not in json.dumps(told)
    assert told["commands"] == [{"dialect": "text", "command": "get", "outcome": "hit", "count": 5}]
    assert told["phase"]["number"] == 2
    assert told["ready"] is True


def test_trouble() -> None:
    """One worker without storage is trouble for its clients; one that is restarted is not."""
    assert view(UP).trouble == view(UP, NOBODY).trouble == ""
    assert view(UP, DOWN).trouble == "Redis at x: refused"
    assert view(NOBODY).trouble == "no worker serves"
    told = status(view(UP), History(), options(), [], 1000.0, draining=True)
    assert (told["ready"], told["reason"]) == (False, "draining")


def test_an_outage_is_no_step_back() -> None:
    """While the storage cannot be asked, what it last told of native clients counts."""
    history = History()
    assert status(view(UP, natives=4), history, options(), [], 9.0, False)["phase"]["number"] == 2
    told = status(view(DOWN), history, options(), [], 12.0, False)["phase"]
    assert (told["number"], told["blockers"][0]) == (2, "The storage cannot be reached.")


def test_what_the_inventory_knows() -> None:
    """Traffic before this process began counts; monitors do not."""
    seen = view(UP, natives=0)
    day = 86_400
    commands = [
        {"name": "statistics", "last": 9 * day, "seconds": 1},
        {"name": "get", "last": 5 * day, "seconds": 1},
    ]
    recorded = {"command": 0}
    seen.traffic = {"since": 0, "looked": 9 * day, "recorded": recorded, "command": commands}
    told = status(seen, History(), options(), [], 9.0 * day, False)
    assert told["phase"]["number"] == 3
    assert told["phase"]["says"] == "Nobody has spoken memcached for 4 days."
    commands[1]["last"] = 9 * day - 7300
    told = status(seen, History(), options(), [], 9.0 * day, False)
    assert told["phase"]["number"] == 1


@pytest.mark.parametrize("recorded", [{"command": 99_999}, {}])
def test_a_lost_record(recorded: dict[str, int]) -> None:
    """Silence from before the commands of clients were on record proves nothing."""
    seen = view(UP, natives=0)
    seen.traffic = {"since": 0, "looked": 100_000, "recorded": recorded, "command": []}
    told = status(seen, History(), options(), [], 100_000.0, False)["phase"]
    assert told["number"] == 1


def test_a_storage_that_is_no_redis() -> None:
    """The command has no way to C{memory:}, nor to a storage of somebody's own."""
    for seen, command in ((view(UP), ""), (view(UP, kind="Redis"), "redcouch functions load")):
        assert status(seen, History(), options(), [], 9.0, False)["phase"]["command"] == command


@pytest.mark.parametrize(
    ("said", "command"),
    [
        ({"warm_stage": 1}, "redcouch stage redis-first"),
        ({"warm_stage": 1, "warm_left": 0}, "redcouch stage redis-first"),
        ({"warm_stage": 2}, "redcouch sweep"),
        ({"warm_stage": 2, "warm_left": 7}, "redcouch sweep"),
        ({"warm_stage": 2, "warm_left": 0}, "redcouch stage redis-only"),
        ({"warm_stage": 2, "warm_ended": 1}, "redcouch functions load"),
        ({"warm_stage": 3}, "redcouch functions load"),
    ],
)
def test_the_next_stage(said: dict[str, int], command: str) -> None:
    """Of a storage with C{warm:}, the next stage comes before the first native client."""
    seen = view(UP, natives=0)
    seen.snapshot.storage = {"warm_hits": 0}
    seen.statistics = {"curr_items": 3, **said}
    assert status(seen, History(), options(), [], 9.0, False)["phase"]["command"] == command


def test_many_clients() -> None:
    """The list of clients is bounded, and says so."""
    clients = [{"number": str(number), "address": "unix"} for number in range(600)]
    told = status(view(UP), History(), options(), clients, 1000.0, False)
    assert (len(told["clients"]), told["clients_left_out"]) == (500, 100)


def test_usage(tmp_path: Any) -> None:
    """What the system says of a process, whatever its name; nothing once it is gone."""
    process = tmp_path / "7"
    (process / "fd").mkdir(parents=True)
    (process / "fd" / "0").touch()
    fields = ["S"] + ["0"] * 10 + ["150", "50"] + ["0"] * 6 + ["1000"] + ["0", "3"]
    (process / "stat").write_text("7 (a) b (c) " + " ".join(fields))
    (tmp_path / "uptime").write_text("70.5 1.0\n")
    found = usage(7, tmp_path)
    assert found is not None
    assert (found.cpu, found.files, found.age) == (2.0, 1, 60.5)
    assert found.memory % 3 == 0
    assert usage(8, tmp_path) is None
