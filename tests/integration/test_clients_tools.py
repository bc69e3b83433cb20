"""What users of memcached's and libmemcached's own tools see."""

from __future__ import annotations

import re

import pytest

from redcouch.options import VERSION
from tests.integration.clients.programs import run
from tests.support.requirements import installed, needs
from tests.support.servers import LOOPBACK, RedCouch
from tests.support.wire import Wire, ask


@needs("memccapable")
@pytest.mark.parametrize(("protocol", "count"), [("-a", 27), ("-b", 27)], ids=["text", "binary"])
def test_memccapable(redcouch: RedCouch, protocol: str, count: int) -> None:
    """libmemcached's conformance test passes, every single one of its tests."""
    program = installed("memccapable")
    printed = run([program, "-h", LOOPBACK, "-p", str(redcouch.port), "-t", "60", protocol])
    results = re.findall(r"^(\S.*?) +\[(\w+)\]$", printed, re.MULTILINE)
    assert [name for name, result in results if result != "pass"] == []
    assert len(results) == count
    assert printed.endswith("All tests passed\n")


@needs("memcaslap")
@pytest.mark.parametrize("options", [[], ["-B"], ["-d", "20"]], ids=["text", "binary", "multi-get"])
def test_memcaslap(redcouch: RedCouch, options: list[str]) -> None:
    """
    A load of sets and gets, of which each value is looked at: nothing is lost, changed,
    mistaken for another, or alive after its time.
    """
    program = installed("memcaslap")
    server = f"--servers={LOOPBACK}:{redcouch.port}"
    load = ["--threads=1", "--concurrency=16", "--execute_number=8000"]
    printed = run([program, server, *load, "--verify=1", "--exp_verify=1", *options])
    counts = {name: int(count) for name, count in re.findall(r"^(\w+): (\d+)$", printed, re.M)}
    assert counts["cmd_get"] + counts["cmd_set"] == 8000
    for trouble in ("get_misses", "verify_misses", "verify_failed", "expired_get"):
        assert counts[trouble] == 0, printed
    assert counts["unexpired_unget"] == 0, printed
    assert "error" not in printed.lower()


@needs("memcping")
def test_memcping(redcouch: RedCouch) -> None:
    """libmemcached finds the server alive: it can read what version it is."""
    run([installed("memcping"), f"--servers={LOOPBACK}:{redcouch.port}"])


class Tool:
    """Debian's memcached-tool."""

    def __init__(self, port: int) -> None:
        self._command = [installed("perl"), installed("memcached-tool"), f"{LOOPBACK}:{port}"]

    def __call__(self, *mode: str) -> str:
        return run([*self._command, *mode])

    def table(self, mode: str) -> dict[str, str]:
        lines = self(mode).splitlines()
        assert lines[0].startswith("#")
        return dict(line.split(None, 1) for line in lines[1:])


@needs("memcached-tool", "perl")
def test_memcached_tool(redcouch: RedCouch) -> None:
    """memcached-tool shows statistics and settings, lists keys, and dumps what can be put back."""
    tool = Tool(redcouch.port)
    with Wire(redcouch.address) as wire:
        wire.say([b"set a 5 0 2\r\nab\r\nset b 0 1000 3\r\nx\ny\r\n"], b"STORED\r\nSTORED\r\n")
    stats = tool.table("stats")
    assert stats["version"] == VERSION
    assert int(stats["cmd_set"]) >= 2
    settings = tool.table("settings")
    assert settings["maxconns"] == "1024"
    assert settings["tcpport"] == str(redcouch.port)
    assert tool.table("sizes") == {"sizes_status": "disabled"}
    head, *classes = tool("display").splitlines()
    assert head.split()[:3] == ["#", "Item_Size", "Max_age"]
    assert classes == []  # a bridge has no slabs, and makes none up
    keys = re.findall(r"^key=(\S+) exp=(-?\d+) .* size=(\d+) flags=(\d+)$", tool("keys"), re.M)
    assert sorted((key, size, flags) for key, _, size, flags in keys) == [
        ("a", "66", "5"),
        ("b", "63", "0"),
    ]
    assert tool("keys", "1").count("key=") == 1
    printed = tool("dump")
    assert "add a 5 0 2\r\nab\r\n" in printed or "add a 5 -1 2\r\nab\r\n" in printed
    put_back = re.findall(r"^add .*?\r\n.*?\r\n", printed, re.DOTALL | re.MULTILINE)
    assert len(put_back) == 2
    assert ask(redcouch.address, b"flush_all\r\n", b"\r\n") == b"OK\r\n"
    with Wire(redcouch.address) as wire:
        wire.say(["".join(put_back).encode()], b"STORED\r\nSTORED\r\n")
        heard = wire.say([b"get b\r\nmg b t\r\n"], b"\r\n").reply
        assert heard.startswith(b"VALUE b 0 3\r\nx\ny\r\nEND\r\n")
