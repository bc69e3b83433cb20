"""
What the documents promise: their commands are run, and their tables compared
with what there is.
"""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from twisted.internet import reactor

from redcouch.backends.registry import schemes
from redcouch.build import make_storage
from redcouch.dialects import auth as gate
from redcouch.dialects import binary, meta, text
from redcouch.interfaces import BackendContext
from redcouch.limits import Limits
from redcouch.options import Options
from redcouch.results import ErrorKind, Outcome
from tests.backends.redis import access
from tests.differential.differences import DIFFERENCES
from tests.support.documents import (
    DOCUMENTS,
    README,
    ROOT,
    STORAGE,
    bash,
    blocks,
    quoted,
    rows,
    section,
    shell,
)
from tests.support.requirements import needs
from tests.support.servers import RedCouch, RedisServer
from tests.support.wire import ask

_COMPATIBILITY = ROOT / "docs/compatibility.md"
_OPERATIONS = ROOT / "docs/operations.md"


# -- the commands ------------------------------------------------------------------------------


def test_the_two_commands() -> None:
    """They are what L{tests.test_packages} and tox itself run, each in an environment it makes."""
    assert [block.strip() for block in blocks(README, "sh")] == [
        "python3 -m venv .venv && .venv/bin/pip install '.[embedded]' && "
        ".venv/bin/twistd -n redcouch --storage embedded:",
        ".venv/bin/twistd -n redcouch --port 11210 --storage redis://127.0.0.1:6379/0",
        "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox",
    ]


def conversation(session: str, port: int) -> tuple[str, str]:
    """The lines of a session that a user types, for this port, and what they print."""
    lines = session.replace("/11210", f"/{port}").replace(" 11210", f" {port}").splitlines()
    typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return "\n".join(typed), "".join(f"{line}\n" for line in lines if not line.startswith("$ "))


def test_a_first_conversation(redcouch: RedCouch) -> None:
    """Typed into a bare machine's shell, the README's lines are answered as it shows."""
    script, expected = conversation(blocks(README, "console")[0], redcouch.port)
    assert bash(script).replace("\r\n", "\n") == expected


@needs("nc")
def test_a_conversation_with_netcat(redcouch: RedCouch) -> None:
    """And so are those for netcat."""
    script, expected = conversation(blocks(README, "console")[1], redcouch.port)
    assert bash(script).replace("\r\n", "\n") == expected


def test_native_python(redcouch: RedCouch, any_redis: RedisServer) -> None:
    """A native client reads what a memcached client has set, and the other way round."""
    with any_redis.client() as client:
        ask(redcouch.address, b"set greeting 0 60 5\r\nhello\r\n", b"\r\n")
        names: dict[str, object] = {"client": client}
        for block in blocks(README, "python"):
            exec(block, names)
        assert names["value"] == b"hello"
        said = ask(redcouch.address, b"get farewell\r\n", b"END\r\n")
        assert said == b"VALUE farewell 0 3\r\nbye\r\nEND\r\n"

        ask(redcouch.address, b"set session:abc 7 100 3\r\nold\r\n", b"\r\n")
        old = ask(redcouch.address, b"gets session:abc\r\n", b"END\r\n").split()[4]
        read, write = blocks(STORAGE, "python")
        exec(read, names)
        assert (names["value"], names["flags"]) == (b"old", 7)
        assert 90 < int(str(names["left"])) <= 100
        exec(write, names)
        said = ask(redcouch.address, b"get session:abc\r\n", b"END\r\n")
        assert said == b"VALUE session:abc 0 5\r\nhello\r\nEND\r\n"
        assert 50 < client.ttl("rc:session:abc") <= 60
        late = ask(redcouch.address, b"cas session:abc 0 0 1 %b\r\nx\r\n" % old, b"\r\n")
        assert late == b"EXISTS\r\n"


@needs("redis-cli")
def test_native_shell(redcouch: RedCouch, any_redis: RedisServer, tmp_path: Path) -> None:
    """An item can be written and read with redis-cli; no line takes keys for a shell's words."""
    (script,) = blocks(STORAGE, "sh")
    write, read = script.splitlines()
    shell(write, any_redis, tmp_path)
    assert ask(redcouch.address, b"get k\r\n", b"END\r\n") == b"VALUE k 0 5\r\nhello\r\nEND\r\n"
    assert shell(read, any_redis, tmp_path) == "hello"
    scripts = [line for path in DOCUMENTS for line in "".join(blocks(path, "sh")).splitlines()]
    assert scripts
    assert not [line for line in scripts if "xargs" in line]


def test_links() -> None:
    """Each link within the documents leads to something."""
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)]+)\)", document.read_text()):
            if link.startswith("https:"):
                continue
            path, _, anchor = link.partition("#")
            target = document.parent / path if path else document
            assert target.exists(), f"{document}: {link}"
            assert not anchor or anchor in _anchors(target), f"{document}: {link}"


def _anchors(document: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", document.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


# -- the tables --------------------------------------------------------------------------------


def test_options() -> None:
    """The README has every option, with its default."""
    usage = Options().getUsage(10_000)
    options = re.findall(r"^  (-\w|  )[, ] --([\w-]+)=? +(.*)$", usage, re.M)
    there = {name: (short.strip(), text) for short, name, text in options}
    del there["help"], there["version"]
    told = {names[-1].removeprefix("--"): (names, default) for names, default in _options()}
    assert told.keys() == there.keys()
    for name, (names, default) in told.items():
        short, text = there[name]
        assert names[:-1] == ([short] if short else []), name
        shown = re.search(r"\[default: (.*)\]", text)
        if shown is not None:
            assert default.split(" (")[0].strip("`") == shown[1].strip(), name


def _options() -> Iterator[tuple[list[str], str]]:
    for option, default, _ in rows(section(README, "Options")):
        yield quoted(option), default


@pytest.mark.parametrize("document", [README, _OPERATIONS], ids=["README", "operations"])
def test_storage_urls(document: Path) -> None:
    """Each form of URL that the documents show is understood, with and without what is optional."""
    title = "Storage URLs" if document is README else "Storage"
    context = BackendContext(reactor, Limits(), time.time, print)
    shown = set()
    for row in rows(section(document, title)):
        for form in quoted(row[0]):
            scheme, colon, _ = form.partition(":")
            if not colon:
                continue
            shown.add(scheme)
            for url in _urls(form):
                make_storage({"storage": url, "on-outage": "error", "take-over": False}, context)
    assert shown == set(schemes()) - {"example"}


def _urls(form: str) -> Iterator[str]:
    """Every way to write a URL whose optional parts stand in brackets."""
    form = form.replace("[[user]:password@]", "[{user}:password@]").replace(",...", ",other:1")
    pieces = re.split(r"\[(.*?)\]", form)
    for taken in product((False, True), repeat=len(pieces) // 2):
        url = "".join(
            piece if place % 2 == 0 or taken[place // 2] else ""
            for place, piece in enumerate(pieces)
        )
        for user in ("", "user"):
            yield (
                url.replace("{user}", user)
                .replace(":port", ":7000")
                .replace("/db", "/1")
                .replace("///dir", "///tmp/redcouch-tests-no-such-directory")
            )


def test_every_verb() -> None:
    """The table of compatibility has each command of text and meta."""
    told = quoted("".join(row[0] for row in rows(section(_COMPATIBILITY, "Text"))))
    told += quoted("".join(row[0] for row in rows(section(_COMPATIBILITY, "Meta"))))
    words = {phrase.split()[0] for phrase in told}
    assert {verb.decode() for verb in text._VERBS} <= words


def test_every_flag() -> None:
    """And each flag of the meta commands."""
    flags = {*meta._BARE, *meta._NUMBERS, ord("M"), ord("b")}
    table = rows(section(_COMPATIBILITY, "Meta"))
    told = {name for row in table if len(row) == 4 for name in quoted(row[0])}
    assert told == {chr(code) for code in flags}


def test_help_is_set_well() -> None:
    """C{twistd redcouch --help} has no runs of blanks in a sentence, and sorts the storages."""
    lines = Options().getUsage(10_000).splitlines()
    assert [line for line in lines if len(re.split(r" {2,}", line.strip())) > 2] == []
    schemes = [line.split()[0].rstrip(":") for line in lines[lines.index("Storage URLs:") + 1 :]]
    assert schemes == sorted(schemes)


def test_every_opcode() -> None:
    """And each opcode."""
    told = {
        int(name, 16)
        for row in rows(section(_COMPATIBILITY, "Binary"))
        for name in re.findall(r"`0x([0-9a-f]{2})` [A-Z]", row[0])
    }
    known = set(binary._OPCODES) | {gate._LIST_MECHANISMS, gate._AUTH, gate._STEP}
    assert told == known


def test_every_difference() -> None:
    """What the differential tests except is in the list of differences."""
    told = section(_COMPATIBILITY, "Every difference that is tested")
    for difference in DIFFERENCES:
        lines = [line.decode("latin-1") for line in difference.sent.splitlines() if line]
        verbs = {line.split()[0].removeprefix("{then}") for line in lines}
        assert any(re.search(rf"[`, ]{re.escape(verb)}\b", told) for verb in verbs), difference


def test_every_statistic(redcouch: RedCouch) -> None:
    """The names in C{stats} are those of the table."""
    said = ask(redcouch.address, b"stats\r\n", b"END\r\n").decode()
    table = rows(section(_OPERATIONS, "Statistics"))
    told = [name for row in table for name in quoted(row[0])]
    assert sorted(told) == sorted(re.findall(r"^STAT (\S+)", said, re.M))


def test_the_access_rule() -> None:
    """The rule for a user of Redis is the one that is tested to be enough, and no more."""
    (rule, *_) = [block for block in blocks(STORAGE, "text") if "ACL SETUSER" in block]
    words = rule.split()[5:]
    needed = f"{access.KEYS} {access.BASICS} {access.STANDING} "
    needed += f"{access.FLUSHING} {access.FIGURES} {access.OTHERS}"
    assert words == needed.split()


def test_environments_of_tox() -> None:
    """tox has each environment that the documents name."""
    settings = (ROOT / "tox.ini").read_text()
    said = "".join(document.read_text() for document in DOCUMENTS)
    named = set(re.findall(r"\btox (?:run )?-e (\w+)", said))
    assert named
    assert named <= set(re.findall(r"^\[testenv:(\w+)\]$", settings, re.M))


def test_nothing_is_in_the_way() -> None:
    """The folders that the README's commands make are not there as files."""
    made = set(re.findall(r"-m venv (\S+)", (ROOT / "README.md").read_text())) | {".tox"}
    assert made >= {".venv", ".tox"}
    assert not [name for name in made if (ROOT / name).is_file()]


def _explained() -> dict[str, re.Pattern[str]]:
    """Each line of the log that is explained, and what it looks like."""
    return {
        line: re.compile(".*".join(re.escape(piece.strip()) for piece in pieces), re.S)
        for row in rows(section(_OPERATIONS, "The log"))
        for line in quoted(row[0])
        if (pieces := [piece for piece in line.split("...") if piece.strip(" .")])
    }


def _nodes() -> Iterator[ast.AST]:
    for path in ROOT.glob("redcouch/**/*.py"):
        yield from ast.walk(ast.parse(path.read_text()))


def test_log_lines() -> None:
    """Each line of the log that is explained is one that the source can write."""
    constants = [
        node.value
        for node in _nodes()
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    for line, pattern in _explained().items():
        assert any(pattern.search(constant) for constant in constants), line


def test_all_log_lines() -> None:
    """Each line that the source writes is explained; of faults, the table says it once for all."""
    written = {
        node.args[0].value
        for node in _nodes()
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("info", "warn", "error")
        and ast.unparse(node.func.value).endswith("_log")
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }
    assert len(written) > 30
    patterns = _explained().values()
    named = {line for line in written if any(one.search(line) for one in patterns)}
    assert {line for line in written - named if re.sub(r"\[.*\] |{\w+}", "", line)} == set()


def test_the_example_of_a_backend() -> None:
    """What is shown of the example package is what stands in it."""
    document, example = ROOT / "docs/backends.md", ROOT / "examples/redcouch-example"
    (plugin,) = blocks(document, "python")
    assert plugin in (example / "twisted/plugins/redcouch_example_plugin.py").read_text()
    (table,) = blocks(document, "toml")
    assert table in (example / "pyproject.toml").read_text()
    assert blocks(document, "sh") == blocks(example / "README.md", "sh")
    tree, *_ = blocks(document, "text")
    for line in tree.splitlines()[1:]:
        assert (example / line.split()[0]).is_file(), line
    known: dict[str, type] = {"ErrorKind": ErrorKind, "Outcome": Outcome, "context": BackendContext}
    told = re.findall(r"\b(ErrorKind|Outcome|context)\.(\w+)", document.read_text())
    assert {owner for owner, _ in told} == known.keys()
    assert all(hasattr(known[owner], name) for owner, name in told), told
