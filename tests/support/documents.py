"""The documents, in the pieces that tests compare."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.support.polling import PATIENCE
from tests.support.requirements import installed
from tests.support.servers import RedisServer


def blocks(document: Path, language: str) -> list[str]:
    """The examples of a document that are in one language."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", document.read_text(), re.M | re.S)
    return [block for kind, block in found if kind == language]


_PATIENT = (
    (r"(cache := memcache\.New\(.*\))", r"\1\n\tcache.Timeout = 60e9"),
    (r'(memjs\.Client\.create\("[^"]+")\)', r"\1, { timeout: 60 })"),
    (r"(Dalli::Client\.new\('[^']+')\)", r"\1, socket_timeout: 60)"),
    (
        r"new MemcachedClient\((new InetSocketAddress\([^)]*\))\)",
        r"new MemcachedClient(new net.spy.memcached.ConnectionFactoryBuilder()"
        r".setOpTimeout(60_000).build(), java.util.List.of(\1))",
    ),
)


def patient(program: str) -> str:
    """An example that waits for a busy machine: its client gives up after 0.1 s to 2.5 s."""
    for pattern, instead in _PATIENT:
        program = re.sub(pattern, instead, program)
    return program


def section(document: Path, title: str) -> str:
    """What stands below a heading, up to the next of its rank."""
    _, heading, rest = re.split(rf"^(#+ {title})$", document.read_text(), maxsplit=1, flags=re.M)
    rank = len(heading) - len(heading.lstrip("#"))
    return re.split(rf"^#{{1,{rank}}} ", rest, maxsplit=1, flags=re.M)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the rows of all tables, without the heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    heads = {place - 1 for place, row in enumerate(cells) if set("".join(row)) <= {"-"}}
    return [
        [cell.strip() for cell in row]
        for place, row in enumerate(cells)
        if place not in heads and place - 1 not in heads
    ]


def quoted(text: str) -> list[str]:
    """What is marked as code."""
    return re.findall(r"`([^`]+)`", text)


ROOT = Path(__file__).parents[2]


README = ROOT / "README.md"


STORAGE = ROOT / "docs/storage.md"


DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")])


def bash(script: str, path: str = "/usr/bin:/bin") -> str:
    """What a script prints."""
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shell(script: str, server: RedisServer, folder: Path) -> str:
    """What a script prints whose C{redis-cli} talks to this Redis."""
    wrapper = folder / "redis-cli"
    program = installed("redis-cli")
    wrapper.write_text(f'#!/bin/sh\nexec {program} -p {server.port} "$@"\n')
    wrapper.chmod(0o755)
    return bash(script, f"{folder}:/usr/bin:/bin")
