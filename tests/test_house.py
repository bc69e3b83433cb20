"""The tests' own rules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

_TESTS = Path(__file__).parent


def imported(path: Path) -> Iterator[str]:
    """The names that a module imports, and those that it imports from."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        if isinstance(node, ast.ImportFrom | ast.Import):
            yield from (alias.name for alias in node.names)


def test_nothing_is_imported_from_a_test_module() -> None:
    """What two test modules share lies in a third, where others find it."""
    for path in _TESTS.rglob("*.py"):
        if "node_modules" in path.parts:
            continue
        for name in imported(path):
            assert not name.rpartition(".")[2].startswith("test_"), f"{path} imports {name}"


def test_every_file_has_its_line() -> None:
    """The tree in docs/architecture.md names each file, and none that is not there."""
    root = Path(__file__).parent.parent
    text = (root / "docs/architecture.md").read_text()
    tree = text.partition("## Every file\n")[2].partition("```text\n")[2].partition("```")[0]
    named: list[Path] = []
    folders: list[str] = []
    for line in tree.splitlines():
        name, _, said = line.strip().partition(" ")
        folders[(len(line) - len(line.lstrip())) // 2 :] = [name.rstrip("/")]
        if not name.endswith("/"):
            named.append(Path("redcouch", *folders))
            assert said.strip(), line
    there = [path.relative_to(root) for path in (root / "redcouch").rglob("*.py")]
    assert sorted(named) == sorted(path for path in there if path.name != "__init__.py")
