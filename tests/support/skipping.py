"""
What becomes of tests that need what is missing: they are skipped, and the run
says so in its first and its last lines; or they fail, where nothing may be
skipped.

With xdist the controller looks up what is there, tells the workers, and counts
what they report.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import requirements
from tests.support.requirements import OnRedis, redis_name, strict

_BETWEEN_SERVERS = ("contract", "differential", "integration", "migration", "origin", "reliability")
"""
Folders of tests that watch servers and foreign clients: they run on one Python. On
the others a sample of them does, those marked C{everywhere}.
"""

_BESIDE_SERVERS = ("cached", "cli", "cluster")
"""The same of these; but some need no server, and are in the quick loop."""


def needs_of(item: pytest.Item) -> set[str]:
    """What a test and the fixtures that it uses say that they need."""
    needed = {name for mark in item.iter_markers("needs") for name in mark.args}
    fixtures = getattr(item, "_fixtureinfo").name2fixturedefs  # noqa: B009 - of no public type
    for definitions in fixtures.values():
        needed.update(getattr(definitions[-1].func, "needs", ()))
    case = getattr(item, "cls", None)
    if case is not None and issubclass(case, OnRedis) and case.version:
        needed.add(redis_name(case.version))
    return needed


class Skipping:
    """The plugin for pytest."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        told = getattr(config, "workerinput", None)
        if told is None:
            self.missing = {
                name for name in requirements.REQUIREMENTS if requirements.find(name) is None
            }
            self._folder = tempfile.TemporaryDirectory(prefix="redcouch-tests-")
            self._note = Path(self._folder.name) / "note"
        else:
            self.missing = set(told["missing"])
            self._note = Path(told["note"])
        self._is_worker = told is not None
        self._said = False
        self._concerned: set[str] = set()
        self._deselected: set[str] = set()
        coverage = config.pluginmanager.getplugin("_cov")
        if self.missing and coverage is not None:
            coverage.options.cov_fail_under = 0  # what the skipped tests reach is not known

    # Before the first test

    def pytest_report_header(self) -> list[str]:
        """The first lines."""
        redis = requirements.find("redis")
        lines = [f"redis: {requirements.version_of(redis)}, {redis}"] if redis else []
        if self.missing:
            lines += [f"missing here: {self._names()}; tests that need it {self._fate()}"]
        return lines + self._remedy()

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """The quick loop does not even look where every test starts servers."""
        name = collection_path.name
        all_start = name in _BETWEEN_SERVERS and name != "contract"
        return True if all_start and requirements.quick() else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        sampled = _BETWEEN_SERVERS + (() if requirements.quick() else _BESIDE_SERVERS)
        for item in items:
            here = item.path.parent.name in sampled
            seldom = here and item.get_closest_marker("everywhere") is None
            if seldom or needs_of(item) & requirements.ONCE:
                item.add_marker(pytest.mark.once)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        many = len(session.items)
        concerned = sum(1 for item in session.items if needs_of(item) & self.missing)
        if concerned:
            self._note.write_text(f"{concerned} of {many} tests need what is missing here")

    def pytest_report_collectionfinish(self) -> list[str]:
        return [self._note.read_text()] if self._note.exists() else []

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """xdist is about to start a worker."""
        node.workerinput.update(missing=sorted(self.missing), note=str(self._note))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self) -> None:
        """A worker knows its tests: each of them the same ones."""
        if not self._said:
            self._said = True
            for line in self.pytest_report_collectionfinish():
                self._terminal().write_line(line)

    # Each test

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        needed = needs_of(item)
        requirements.begin(needed)
        if lacking := needed & self.missing:
            item.user_properties.append(("missing", sorted(lacking)))
            requirements.give_up(f"missing here: {', '.join(sorted(lacking))}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if any(name == "missing" for name, _ in report.user_properties):
            self._concerned.add(report.nodeid)

    # Counting

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        self._deselected.update(item.nodeid for item in items)

    def pytest_sessionfinish(self) -> None:
        if self._is_worker:
            output = getattr(self._config, "workeroutput")  # noqa: B009 - xdist's
            output["deselected"] = sorted(self._deselected)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker has ended. xdist itself forgets what was deselected."""
        self._deselected.update(getattr(node, "workeroutput", {}).get("deselected", ()))
        left_out = [SimpleNamespace(nodeid=nodeid) for nodeid in self._deselected]
        self._terminal().stats["deselected"] = left_out

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self) -> Generator[None, None, None]:
        """The last lines."""
        yield
        if self._concerned:
            many = len(self._concerned)
            write = self._terminal().write_line
            write(f"{many} tests {self._fate()}, since this is missing here: {self._names()}")
            for line in self._remedy():
                write(line)

    def pytest_unconfigure(self) -> None:
        if not self._is_worker:
            self._folder.cleanup()

    # Words

    def _terminal(self) -> Any:
        return self._config.pluginmanager.getplugin("terminalreporter")

    def _fate(self) -> str:
        return "fail" if strict() else "are skipped"

    def _names(self) -> str:
        return ", ".join(sorted(self.missing))

    def _remedy(self) -> list[str]:
        lacking = [requirements.REQUIREMENTS[name] for name in sorted(self.missing)]
        packages = sorted({package for one in lacking for package in one.packages})
        commands = [f"apt-get install {' '.join(packages)}"] if packages else []
        commands += [one.command for one in lacking if one.command]
        return commands + sorted({why for one in lacking if (why := one.why())})
