"""C{twistd redcouch} is there, and costs nothing until it is chosen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from twisted.application.service import IServiceMaker
from twisted.plugin import IPlugin, getPlugins
from zope.interface.verify import verifyObject

TWISTD = Path(sys.executable).parent / "twistd"

HEAVY = (
    "redcouch.service",
    "redcouch.server.connection",
    "redcouch.server.session",
    "redcouch.dialects",
    "redcouch.workers",
    "redcouch.backends.redis",
    "redcouch.backends.embedded",
    "redcouch.backends.memory",
    "txredisapi",
    "hiredis",
    "bcrypt",
    "redcouch.cli",
    "click",
    "redis",
    "rich",
    "twisted.internet.reactor",
)


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command prints, all of it to standard output."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_plugin() -> None:
    """Twisted finds it, once."""
    (maker,) = (
        plugin
        for plugin in getPlugins(IServiceMaker)
        if getattr(plugin, "tapname", "") == "redcouch"
    )
    verifyObject(IServiceMaker, maker)
    verifyObject(IPlugin, maker)


def test_twistd_lists_it(tmp_path: Path) -> None:
    """C{twistd --help} names it with its one line, from whichever folder."""
    lines = run(TWISTD, "--help", cwd=tmp_path).splitlines()
    (line,) = (line.split(None, 1) for line in lines if line.split()[:1] == ["redcouch"])
    assert line[1] == "The memcached protocols, served from Redis."


@pytest.mark.parametrize(
    "load",
    [
        "import twisted.plugins.redcouch_plugin",
        "from twisted.plugin import getPlugins\n"
        "from twisted.application.service import IServiceMaker\n"
        "assert [one for one in getPlugins(IServiceMaker) if one.tapname == 'redcouch']",
    ],
    ids=["imported", "found"],
)
def test_nothing_heavy(load: str) -> None:
    """Whoever runs any other twistd plugin does not load RedCouch and its client of Redis."""
    script = f"import sys\n{load}\nprint(*sorted(sys.modules), sep='\\n')"
    loaded = run(sys.executable, "-c", script).splitlines()
    assert "twisted.plugins.redcouch_plugin" in loaded
    assert [name for name in loaded if name.startswith(HEAVY)] == []
