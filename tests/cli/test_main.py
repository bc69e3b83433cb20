"""The command as such: its help, its options for the storage, how it ends."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from redcouch import __version__, cli
from redcouch.backends.redis.url import read_location
from redcouch.cli.main import COMMANDS
from redcouch.cli.storage import why_it_failed
from tests.cli.running import REDCOUCH, finish, run, start
from tests.support.polling import PATIENCE
from tests.support.servers import RedisServer, free_port

pytestmark = pytest.mark.everywhere


def test_version() -> None:
    assert run("--version").out == f"RedCouch {__version__}\n"


def test_help_lists_the_commands_and_the_statuses() -> None:
    """C{redcouch --help} names each command, and says what the exit status means."""
    said = run("--help")
    assert said.status == 0
    for name in COMMANDS:
        assert f"\n  {name} " in said.out
    assert "130, 143 and 129" in said.out


def test_a_command_imports_only_what_it_needs() -> None:
    """One that asks Redis is there at once: without Twisted, and without the other commands."""
    program = (
        "import sys; from redcouch.cli.main import main;"
        "main(['ls', '--help'], standalone_mode=False); print(*sys.modules)"
    )
    words = [sys.executable, "-c", program]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    imported = set(said.splitlines()[-1].split())
    assert "redcouch.cli.ls" in imported
    assert not imported & {"redcouch.cli.stage", "twisted", "rich"}


@pytest.mark.parametrize("words", ["--help", "ls --help"])
@pytest.mark.parametrize(
    ("output", "why"),
    [("/dev/full", "No space left on device"), ("&-", "standard output is closed")],
)
def test_output_that_is_lost(words: str, output: str, why: str) -> None:
    """Who cannot write what it was asked for says so in one line, with status 3."""
    told = f"{shlex.quote(str(REDCOUCH))} {words} >{output}"
    said = subprocess.run(told, shell=True, stderr=subprocess.PIPE, text=True)
    assert (said.returncode, said.stderr.count("\n")) == (3, 1)
    assert why in said.stderr


@pytest.mark.parametrize(
    "words",
    [
        "cleanup --yes",
        "export --to memcached://127.0.0.1:1",
        "import memcached://127.0.0.1:1",
        "inspect k",
        "ls",
        "promote * --to string",
        "ready --quiet-for 1h",
        "stage",
        "traffic",
        "verify memcached://127.0.0.1:1",
    ],
)
def test_a_failure_as_json(words: str) -> None:
    """Whatever fails, who has asked for JSON can read it, and why; and has the same status."""
    said = run(*words.split(), "--json", env={"REDCOUCH_STORAGE": "redis://127.0.0.1:1"})
    assert said.status == 3
    assert said.err == f"redcouch: {said.json['error']}\n"
    assert "Connection refused" in said.err


def test_a_closed_standard_error() -> None:
    """What is wrong is not said on standard output in its place."""
    told = f"{shlex.quote(str(REDCOUCH))} import --json 2>&-"
    said = subprocess.run(told, shell=True, stdout=subprocess.PIPE)
    assert said.returncode == 2
    assert list(json.loads(said.stdout)) == ["error"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("ls -s redis://127.0.0.1:1 >/dev/full", 3),
        ("ready --quite-for 24h", 2),
        ("lss", 2),
        ("ls >&-", 3),
    ],
)
def test_a_full_disk_for_what_is_wrong(words: str, status: int, unbuffered: str) -> None:
    """The status is that of what is wrong, also where there is no room to say it."""
    told = f"{shlex.quote(str(REDCOUCH))} {words} 2>/dev/full"
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    assert subprocess.run(told, shell=True, env=environment).returncode == status


def test_interrupted_while_it_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C ends it in one line, with status 130, before any of its own code could say so."""

    def begin() -> None:
        raise cli.Interrupt(signal.SIGINT)

    monkeypatch.setattr("redcouch.cli.main.main", begin)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        cli.run()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "redcouch: interrupted\n"


def test_ctrl_c_is_held_down() -> None:
    """It goes on being told to end, once it ends: at each call of a function from there on."""
    program = """
import os, signal, sys
import redcouch.cli, redcouch.cli.main

def again(frame, event, argument):
    if event == "call" and frame.f_code.co_filename.endswith(("signal.py", "cli/__init__.py")):
        signal.raise_signal(signal.SIGINT)

def main():
    sys.setprofile(again)
    signal.raise_signal(signal.SIGINT)

redcouch.cli.main.main = main
redcouch.cli.run()
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (ended.returncode, ended.stderr) == (130, "redcouch: interrupted\n")


def test_ctrl_c_again_and_again() -> None:
    """However often it comes while it is being answered, it is no question left unanswered."""
    program = """
import signal, sys
import redcouch.cli, redcouch.cli.main

class Again(redcouch.cli.main.Interrupted):
    def __init__(self, *arguments):
        signal.raise_signal(signal.SIGINT)

redcouch.cli.main.Interrupted = Again
redcouch.cli.main.import_module = lambda name: signal.raise_signal(signal.SIGINT)
redcouch.cli.run()
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, "ls"], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (ended.returncode, ended.stderr) == (130, "redcouch: interrupted\n")


@pytest.mark.parametrize("words", ["--help", "ls --help"])
def test_interrupted_while_a_command_is_imported(
    monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """So does a signal that comes while it imports what it was called for."""

    def begin(name: str) -> None:
        raise cli.Interrupt(signal.SIGTERM)

    monkeypatch.setattr("redcouch.cli.main.import_module", begin)
    assert run(*words.split()) == (143, "", "redcouch: interrupted\n")


@pytest.mark.parametrize("number", ["nan", "inf"])
@pytest.mark.parametrize(
    "words",
    [
        "verify memcached://x --rate",
        "verify memcached://x --ttl-tolerance",
        "stage redis-only --timeout",
    ],
)
def test_numbers_to_reckon_with(words: str, number: str) -> None:
    """What is in every range, and in none, is refused."""
    ended = run(*words.split(), number)
    assert ended.status == 2
    assert f"Invalid value for '{words.split()[-1]}': {number} is" in ended.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("words", ["ls", "inspect k", "ready --quiet-for 1h", "traffic"])
def test_terminated(words: str, number: signal.Signals) -> None:
    """It ends what waits for a Redis that says nothing, with a word and its own status."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = start(*words.split(), "-s", f"redis://127.0.0.1:{silent.getsockname()[1]}")
        with silent.accept()[0]:
            process.send_signal(number)
            assert finish(process) == (128 + number, "", "redcouch: interrupted\n")


def test_nohup() -> None:
    """Who has it ignore that its terminal goes away is obeyed."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        process = start("ls", "-s", url, at_hangup=signal.SIG_IGN)
        with silent.accept()[0]:
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGTERM)
            assert finish(process) == (143, "", "redcouch: interrupted\n")


def test_no_summary_is_cut() -> None:
    """Each command is told in a whole sentence, however wide the terminal is."""
    for said in (run("--help"), run("functions", "--help")):
        assert "..." not in said.out.replace("[ARGS]...", "")
    told = " ".join(run("--help").out.split())
    assert "Turn the items whose keys match PATTERN into plain Redis strings." in told


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(name: str) -> None:
    said = run(name, "--help")
    assert said.status == 0
    assert "Exit status" in said.out


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("memory:", "no storage in Redis"),
        ("nonsense", "no storage in Redis"),
        ("redis://127.0.0.1/x", "is no database number"),
        ("redis://127.0.0.1/0?prefix=", "must not be empty"),
        ("redis://u:secret@h/0?colour=red", "unknown parameter"),
        ("embedded:", "only the service itself knows"),
    ],
)
def test_a_wrong_storage_url(url: str, why: str) -> None:
    """Refused as the service refuses it, with status 2 and without a password."""
    said = run("ls", "--storage", url)
    assert (said.status, said.out) == (2, "")
    assert why in said.err
    assert "secret" not in said.err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("stage --force", "--force: needs a STAGE to change to"),
        ("stage --timeout 9", "--timeout: needs a STAGE to change to"),
        ("stale memcached://a --force", "--force: needs --delete"),
        ("inspect k --raw --json", "--raw: not with --json"),
    ],
)
def test_an_option_without_effect(words: str, why: str) -> None:
    """It is refused, before anything is asked of anybody."""
    said = run(*words.split(), env={"REDCOUCH_STORAGE": "redis://127.0.0.1:1"})
    assert said.status == 2
    assert why in said.json["error"] if "--json" in words else said.out == ""
    assert why in said.err


def test_a_redis_that_is_not_there() -> None:
    """One line, and status 3."""
    url = f"redis://:secret@127.0.0.1:{free_port()}"
    said = run("ls", env={"REDCOUCH_STORAGE": url})
    assert (said.status, said.out) == (3, "")
    assert said.err.startswith("redcouch: redis://:***@127.0.0.1:")
    assert said.err.count("\n") == 1


REFUSED = "ERR max number of clients reached"


@pytest.mark.parametrize("scheme", ["redis", "redis+unix"])
def test_a_redis_that_refuses_who_comes(scheme: str, tmp_path: Path) -> None:
    """What it says before it closes is told, though a client that writes may not hear it."""
    family = socket.AF_UNIX if scheme == "redis+unix" else socket.AF_INET
    with socket.socket(family) as redis:
        redis.bind(str(tmp_path / "s") if scheme == "redis+unix" else ("127.0.0.1", 0))
        redis.listen()
        redis.settimeout(PATIENCE)
        name = redis.getsockname()
        url = f"{scheme}://{name}" if isinstance(name, str) else f"{scheme}://127.0.0.1:{name[1]}"

        def refuse() -> None:
            for words in ("", f"-{REFUSED}\r\n"):
                with redis.accept()[0] as client:
                    client.sendall(words.encode())

        with ThreadPoolExecutor() as threads:
            refused = threads.submit(refuse)
            said = run("ls", "--storage", url)
            refused.result(PATIENCE)
    assert (said.status, said.err) == (3, f"redcouch: {url}: {REFUSED}\n")


def test_a_node_that_refuses_who_comes() -> None:
    """So it is where it is not the first node of a cluster."""
    with ExitStack() as closing:
        waits, refuses = (
            closing.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)
        )
        ports = (server.getsockname()[1] for server in (waits, refuses))
        nodes = ",".join(f"127.0.0.1:{port}" for port in ports)
        location = read_location(f"redis+cluster://{nodes}")
        threads = closing.enter_context(ThreadPoolExecutor())
        told = threads.submit(why_it_failed, RedisConnectionError("Broken pipe"), location)
        refuses.settimeout(PATIENCE)
        with refuses.accept()[0] as client:
            client.sendall(f"-{REFUSED}\r\n".encode())
        assert told.result(PATIENCE) == REFUSED


def test_the_option_wins_over_the_environment(any_redis: RedisServer) -> None:
    gone = {"REDCOUCH_STORAGE": f"redis://127.0.0.1:{free_port()}"}
    assert run("ls", "nothing-has-this-name", "-s", any_redis.url, env=gone).status == 1
