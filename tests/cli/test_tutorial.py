"""
What docs/migration.md shows is what happens: its commands are run in turn, with real servers,
and print what stands there but for times and tokens; its programs are run in their languages.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from tests.cli.filling import Given, fill
from tests.integration.clients.programs import GO, run
from tests.support import servers
from tests.support.documents import blocks, patient, section
from tests.support.polling import eventually
from tests.support.requirements import fixture_needs, give_up, installed, needs
from tests.support.servers import Memcached, RedCouch, RedisServer

pytestmark = pytest.mark.once

_TUTORIAL = Path(__file__).parent.parent.parent / "docs/migration.md"
_BEFORE, _AFTER = "Before", "Phase 3: native"
_TIME = re.compile(r"\b\d+\.\d+ s\b|\b3[56]\d\d\b")
_AGO = re.compile(r"^ +.* ago  ", re.M)
_TOKEN = re.compile(r"^(cas +)\d+$", re.M)


class Scene(NamedTuple):
    """The servers that the tutorial speaks of."""

    memcached: Memcached
    redis: RedisServer
    redcouch: RedCouch

    def place(self, text: str) -> str:
        """The same with the ports that these have."""
        ports = {"11211": self.memcached, "11210": self.redcouch, "6379": self.redis}
        return re.sub("|".join(ports), lambda port: str(ports[port[0]].port), text)


@pytest.fixture(scope="module")
@fixture_needs("memcached")
def scene() -> Iterator[Scene]:
    """RedCouch is started with the options that the tutorial gives it."""
    (start,) = re.findall(r"^twistd -n redcouch .*$", _TUTORIAL.read_text(), re.M)
    _, _, options = start.partition("/0 ")
    with (
        servers.memcached() as memcached,
        servers.redis_server() as redis,
        servers.redcouch(redis.url, *options.split()) as redcouch,
    ):
        yield Scene(memcached, redis, redcouch)


@pytest.fixture
@fixture_needs("redis-cli")
def shell(scene: Scene, tmp_path: Path) -> Mapping[str, str]:
    """An environment in which C{redcouch} and C{redis-cli} are those of the tutorial."""
    wrapper = tmp_path / "redis-cli"
    wrapper.write_text(f'#!/bin/sh\nexec {installed("redis-cli")} -p {scene.redis.port} "$@"\n')
    wrapper.chmod(0o755)
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "REDCOUCH_STORAGE": f"{scene.redis.url}/0"}


def alike(text: str) -> str:
    """Without what differs each time."""
    timeless = _AGO.sub("<time> ago ", _TIME.sub("<time>", text))
    return _TOKEN.sub(r"\1<token>", timeless).replace("\r\n", "\n")


def steps() -> Iterator[tuple[str, str]]:
    """The tutorial's commands (C{$}) and its programs of Python that belong together (C{py})."""
    for kind, block in re.findall(r"^```(\w+)\n(.*?)^```$", _TUTORIAL.read_text(), re.M | re.S):
        if kind == "console":
            yield from (("$", step) for step in block.split("$ ")[1:])
        elif kind == "python" and ("rc:" in block or "def either" in block):
            yield "py", block


def test_the_tutorial(scene: Scene, shell: Mapping[str, str]) -> None:
    """Each step in turn, from a warm memcached to a Redis without a trace of the bridge."""
    items = {b"session:%d" % n: Given(b"user-%d" % n, 0, 3600) for n in range(1000)}
    items |= {b"lock:%d" % n: Given(b"1", 0, 3600) for n in range(4)}
    fill(scene.memcached.address, items)
    names: dict[str, object] = {}
    printed = []
    for kind, step in steps():
        if kind == "py":
            with redirect_stdout(StringIO()) as out:
                exec(scene.place(step), names)
            printed.append(out.getvalue())
            continue
        command, _, expected = step.partition("\n")
        if command.startswith("redcouch ready"):  # what was seen is written down by and by
            with scene.redis.client() as client:
                eventually(partial(client.exists, "redcouch:sys:traffic:client"))
        done = subprocess.run(
            ["bash", "-c", scene.place(command)],
            capture_output=True,
            text=True,
            timeout=120,
            env=dict(shell),
        )
        assert done.stderr == "", command
        assert alike(done.stdout).strip("\n") == alike(expected).strip("\n"), command
    assert printed == ["user-1\n", "user-1\n"]
    with scene.redis.client() as client:
        assert client.keys("rc:*") == []
        assert (client.get("session:3"), client.get("session:2")) == (b"carol", b"bob")
        assert 0 < client.ttl("session:10") <= 3600
        read, write = names["either"], names["write_string"]
        assert callable(read) and callable(write)
        client.hset("rc:old", "v", "76")
        write("old", b"new", 60)
        assert (read("old"), client.delete("old"), read("old")) == (b"new", 1, None)
        getattr(names["client"], "close")()  # noqa: B009 - it has no type here


def program(language: str, title: str) -> str:
    """The program that a phase has in a language."""
    text = section(_TUTORIAL, title)
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)
    (source,) = (block for block in found if "session:1" in block and "def " not in block)
    return str(source)


def variants(scene: Scene, language: str) -> list[str]:
    """A program with memcached, with RedCouch in its place, and in its native form."""
    before, after = program(language, _BEFORE), program(language, _AFTER)
    return [scene.place(patient(one)) for one in (before, before.replace("11211", "11210"), after)]


def test_python(scene: Scene, tmp_path: Path) -> None:
    for source in variants(scene, "python"):
        assert run([sys.executable, "-c", source]) == "alice\n"


def test_shell(scene: Scene, shell: Mapping[str, str]) -> None:
    for source in variants(scene, "sh"):
        assert run(["bash", "-c", source]) == "alice\n"


@needs("php", "php memcached", "php redis")
def test_php(scene: Scene, tmp_path: Path) -> None:
    for source in variants(scene, "php"):
        (tmp_path / "program.php").write_text(source)
        assert run([installed("php"), str(tmp_path / "program.php")]) == "alice\n"


@needs("go", "go memcache", "go redis")
def test_go(scene: Scene, tmp_path: Path) -> None:
    for source in variants(scene, "go"):
        (tmp_path / "program.go").write_text(source)
        assert run([installed("go"), "run", str(tmp_path / "program.go")], GO) == "alice\n"


@needs("node", "npm")
def test_node(scene: Scene, tmp_path: Path) -> None:
    """Where npm's registry is to be had: Debian has no memjs."""
    install = [
        installed("npm"),
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "memjs@1",
        "redis@5",
    ]
    done = subprocess.run(install, cwd=tmp_path, capture_output=True, timeout=120)
    if done.returncode:
        give_up("npm cannot install memjs and redis here")
    for source in variants(scene, "js"):
        (tmp_path / "program.js").write_text(source)
        assert run([installed("node"), str(tmp_path / "program.js")], cwd=tmp_path) == "alice\n"


def test_each_command_and_option_is_told() -> None:
    """The tutorial's table has every command, with every option of its own."""
    from redcouch.cli.main import COMMANDS, main

    table = section(_TUTORIAL, "The commands")
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        (row,) = (line for line in table.splitlines() if f"| `redcouch {name}" in line)
        told = set(re.findall(r"--[a-z-]+", row))
        there = {
            name
            for parameter in command.params
            for name in (*parameter.opts, *parameter.secondary_opts)
            if name.startswith("--")
        }
        assert told == there - {"--storage", "--help"}, name


def test_the_examples_are_complete() -> None:
    """Each language has a program before and one after."""
    for language in ("python", "go", "js", "php", "sh"):
        assert "alice" in program(language, _BEFORE) + program(language, _AFTER)
    assert len(blocks(_TUTORIAL, "console")) >= 5
