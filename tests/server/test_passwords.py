"""Who is let in by which file, how slowly the others are told, and what the log says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import bcrypt
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.threadpool import ThreadPool

from redcouch.errors import ConfigurationError
from redcouch.server.passwords import FAILURE_DELAY, Authenticator, read_users
from redcouch.telemetry.counters import Counters

# With a salt of our own, so that the tests have the same names in every process.
HASH = bcrypt.hashpw(b"hashed secret", b"$2b$04$abcdefghijklmnopqrstuu")


class _ThreadPool(ThreadPool):
    """One that works at once, in the calling thread."""

    def callInThreadWithCallback(self, onResult, func, *args, **kw):  # type: ignore[no-untyped-def]
        onResult(True, func(*args, **kw))


class Reactor(Clock):
    """Time that the tests move, and threads that are none."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = _ThreadPool()

    def getThreadPool(self) -> ThreadPool:
        return self.pool

    def callFromThread(self, callable, *args, **kw):  # type: ignore[no-untyped-def]
        callable(*args, **kw)


@pytest.fixture
def log(request: pytest.FixtureRequest) -> list[LogEvent]:
    """What is said in the log."""
    events: list[LogEvent] = []
    observer = cast(ILogObserver, events.append)
    globalLogPublisher.addObserver(observer)
    request.addfinalizer(lambda: globalLogPublisher.removeObserver(observer))
    return events


def lines(log: list[LogEvent]) -> list[str]:
    return [event["log_format"].format(**event) for event in log]


class Guard:
    """An authenticator with a file, a clock and counters of its own."""

    def __init__(self, folder: Path, text: bytes) -> None:
        self.file = folder / "users"
        self.file.write_bytes(text)
        self.reactor = Reactor()
        self.counters = Counters()
        self.authenticator = Authenticator(self.file, self.counters, self.reactor)

    def ask(self, user: bytes, password: bytes) -> list[bool]:
        """The answer, in a list that is empty until there is one."""
        answers: list[bool] = []
        check: Deferred[bool] = self.authenticator.check(user, password, "tcp:192.0.2.1:5")
        check.addCallback(answers.append)
        return answers

    def lets_in(self, user: bytes, password: bytes) -> bool:
        answers = self.ask(user, password)
        if not answers:
            self.reactor.advance(FAILURE_DELAY)
        (answer,) = answers
        return answer


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    """Knows a plain password and a hashed one."""
    return Guard(tmp_path, b"# staff\n\nanna:plain secret\nbert:" + HASH + b"\r\ncleo:a:b\n")


@pytest.mark.parametrize(
    ("user", "password"),
    [(b"anna", b"plain secret"), (b"bert", b"hashed secret"), (b"cleo", b"a:b")],
)
def test_the_right_password(guard: Guard, user: bytes, password: bytes) -> None:
    """Whoever knows the password is let in, at once, whether the file has it plain or hashed."""
    assert guard.ask(user, password) == [True]
    assert (guard.counters.auth_cmds, guard.counters.auth_errors) == (1, 0)


@pytest.mark.parametrize(
    ("user", "password"),
    [
        (b"anna", b"plain secret "),
        (b"anna", b"plain"),
        (b"anna", b""),
        (b"bert", b"plain secret"),
        (b"bert", b""),
        (b"bert", b"hashed secret\0"),
        (b"bert", b"x" * 73),
        (b"bert", HASH),
        (b"nobody", b"plain secret"),
        (b"nobody", b"\0"),
        (b"", b""),
        (b"# staff", b""),
        (b"\xff", b"\xfe"),
    ],
)
def test_a_wrong_password_is_answered_late(guard: Guard, user: bytes, password: bytes) -> None:
    """Whoever does not know it waits before hearing so: guessing is slow, and is counted."""
    answers = guard.ask(user, password)
    guard.reactor.advance(FAILURE_DELAY * 0.9)
    assert answers == []
    guard.reactor.advance(FAILURE_DELAY * 0.1)
    assert answers == [False]
    assert (guard.counters.auth_cmds, guard.counters.auth_errors) == (1, 1)


def test_a_long_password_is_not_its_beginning(tmp_path: Path) -> None:
    """bcrypt looks at 72 bytes only: a longer word that begins so is not the password."""
    password = b"p" * 72
    guard = Guard(tmp_path, b"user:" + bcrypt.hashpw(password, bcrypt.gensalt(4)))
    assert guard.lets_in(b"user", password)
    assert not guard.lets_in(b"user", password + b"p")


@pytest.mark.parametrize("prefix", [b"$2a$", b"$2b$", b"$2y$"])
def test_hashes_of_every_maker(tmp_path: Path, prefix: bytes) -> None:
    """htpasswd writes $2y$, others $2a$ or $2b$: all the same hash."""
    guard = Guard(tmp_path, b"user:" + HASH.replace(b"$2b$", prefix))
    assert guard.lets_in(b"user", b"hashed secret")
    assert not guard.lets_in(b"user", b"hashed")


def test_the_log_of_failures(guard: Guard, log: list[LogEvent]) -> None:
    """
    The log says how often and from where, once a minute and never a password or a name,
    which may be a password typed in the wrong place.
    """
    for _ in range(3):
        guard.lets_in(b"anna", b"WRONG")
    assert lines(log) == ["Authentication failed 1 times, most recently from tcp:192.0.2.1:5"]
    guard.reactor.advance(60)
    guard.lets_in(b"NOBODY", b"WRONG")
    assert lines(log)[1:] == ["Authentication failed 3 times, most recently from tcp:192.0.2.1:5"]
    assert not any(word in str(event) for event in log for word in ("WRONG", "NOBODY", "anna"))


def test_the_file_is_read_again(guard: Guard) -> None:
    """After a reload new users are in, old ones out, and changed passwords count."""
    guard.file.write_bytes(b"anna:new\ndora:secret\n")
    assert guard.lets_in(b"anna", b"plain secret")
    assert guard.authenticator.reload() == f"2 users from {guard.file}"
    assert guard.lets_in(b"anna", b"new")
    assert guard.lets_in(b"dora", b"secret")
    assert not guard.lets_in(b"anna", b"plain secret")
    assert not guard.lets_in(b"bert", b"hashed secret")


@pytest.mark.parametrize("spoil", [b"", b"anna\n", b"anna:\n", b"a:b\na:b", None])
def test_a_file_that_cannot_be_used_again(guard: Guard, spoil: bytes | None) -> None:
    """A file that is half written, empty or gone locks nobody out: the users stay as they are."""
    if spoil is None:
        guard.file.unlink()
    else:
        guard.file.write_bytes(spoil)
    with pytest.raises(ConfigurationError):
        guard.authenticator.reload()
    assert guard.lets_in(b"anna", b"plain secret")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "names no user"),
        (b"# nobody\n\n   \n", "names no user"),
        (b"anna:x\nbert\n", "line 2: has to be user:password"),
        (b"anna:\n", "line 1: has to be user:password"),
        (b":secret\n", "line 1: has to be user:password"),
        (b"anna:x\n\n \nbert:\n", "line 4: has to be user:password"),
        (b"anna:x\nbert:y\nanna:x\n", "line 3: names a user a second time"),
        (b"anna:x\nbert:$2y$05$short\n", "line 2: has a broken bcrypt hash"),
        ("anna:x\n".encode("utf-16"), "has zero bytes, as UTF-16 has"),
        (b"anna:$2b$", "line 1: has a broken bcrypt hash"),
        (b"anna:$2y$99$" + b"." * 53, "line 1: has a broken bcrypt hash"),
        (b"anna:$2y$05$" + b"x" * 53, "line 1: has a broken bcrypt hash"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, text: bytes, complaint: str) -> None:
    """One line says which file and which line is wrong, and shows none of its words."""
    file = tmp_path / "users"
    file.write_bytes(text)
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        read_users(file)
    said = str(caught.value)
    assert str(file) in said
    assert "\n" not in said
    assert "secret" not in said


def test_a_byte_order_mark(tmp_path: Path) -> None:
    """The mark that some editors put before UTF-8 is no part of a name."""
    file = tmp_path / "users"
    file.write_text("anna:x\n", encoding="utf-8-sig")
    assert read_users(file) == {b"anna": b"x"}


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, or a folder, is named with the reason."""
    with pytest.raises(ConfigurationError, match=r"cannot read .*nowhere: No such file"):
        read_users(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match=r"cannot read .*: Is a directory"):
        read_users(tmp_path)


def test_what_a_file_may_hold(tmp_path: Path) -> None:
    """Comments, blank lines, line ends of any system."""
    file = tmp_path / "users"
    file.write_bytes(b"#c:c\na:1\r\n\r\nb:2:3\n a :x y \n")
    assert read_users(file) == {b"a": b"1", b"b": b"2:3", b" a ": b"x y "}


class Held(_ThreadPool):
    """Threads that wait until a test lets them work."""

    def __init__(self) -> None:
        super().__init__()
        self.works: list[tuple[Any, Any]] = []

    def callInThreadWithCallback(self, onResult, func, *args, **kw):  # type: ignore[no-untyped-def]
        self.works.append((onResult, lambda: func(*args, **kw)))

    def work(self) -> None:
        """Let the one work that was given first."""
        on_result, func = self.works.pop(0)
        on_result(True, func())


@pytest.fixture
def held(guard: Guard) -> Held:
    """The threads of the guard."""
    guard.reactor.pool = Held()
    return guard.reactor.pool


def test_the_last_is_checked_first(guard: Guard, held: Held) -> None:
    """Of one address: who guesses many passwords keeps nobody out for long."""
    guesses = [guard.ask(b"bert", b"guess %d" % number) for number in range(100)]
    right = guard.ask(b"bert", b"hashed secret")
    assert len(held.works) == 2, "and only so many at a time"
    for _ in range(3):
        held.work()
    assert right == [True]
    assert not any(guesses)
    again = guard.ask(b"bert", b"hashed secret")
    assert again == [True], "what is known needs no check"


def test_addresses_take_turns(guard: Guard, held: Held) -> None:
    """Of several addresses each has its turn."""
    for number in range(100):
        guard.authenticator.check(b"bert", b"guess %d" % number, "tcp:192.0.2.1:5")
    answers: list[bool] = []
    elsewhere = guard.authenticator.check(b"bert", b"hashed secret", "tcp:192.0.2.2:5")
    elsewhere.addCallback(answers.append)
    for number in range(100):
        guard.authenticator.check(b"bert", b"later %d" % number, "tcp:192.0.2.1:5")
    for _ in range(4):
        held.work()
    assert answers == [True]


def test_too_many_wait(guard: Guard, held: Held) -> None:
    """Past 128 of one address who came first is refused, and may try again."""
    first = guard.ask(b"bert", b"hashed secret")
    second = guard.ask(b"bert", b"hashed secret")
    third = guard.ask(b"bert", b"hashed secret")
    others = [guard.ask(b"bert", b"guess %d" % number) for number in range(128)]
    guard.reactor.advance(FAILURE_DELAY)
    assert (first, second, third) == ([], [], [False])
    assert not any(others)
    held.work()
    assert first == [True]
    assert guard.ask(b"bert", b"hashed secret") == [True]


@pytest.mark.parametrize(
    ("user", "password"),
    [
        (b"bert", b"wrong"),
        (b"bert", b"w" * 100),
        (b"anna", b"wrong"),
        (b"nobody", b"wrong"),
        (b"", b"\0"),
    ],
)
def test_equal_work(
    guard: Guard, user: bytes, password: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong password costs one hash of the same cost, whether there is such a user or not."""
    costs = []
    checkpw = bcrypt.checkpw

    def counted(password: bytes, expected: bytes) -> bool:
        costs.append(expected[4:6])
        return checkpw(password, expected)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    assert not guard.lets_in(user, password)
    assert costs == [b"04"]
    assert not guard.lets_in(user, password)
    assert costs == [b"04"], "and the same one again costs none"


def test_what_is_being_checked_is_not_counted(guard: Guard, held: Held) -> None:
    """An attempt counts once it has succeeded or failed: the successes never go back."""
    guard.ask(b"bert", b"wrong")
    assert (guard.counters.auth_cmds, guard.counters.auth_errors) == (0, 0)
    held.work()
    assert (guard.counters.auth_cmds, guard.counters.auth_errors) == (1, 1)


def test_equal_time(guard: Guard, held: Held) -> None:
    """The answer comes a whole number of delays after the question, however long it took."""
    answers = guard.ask(b"bert", b"wrong")
    guard.reactor.advance(2.3 * FAILURE_DELAY)
    held.work()
    guard.reactor.advance(0.6 * FAILURE_DELAY)
    assert answers == []
    guard.reactor.advance(0.2 * FAILURE_DELAY)
    assert answers == [False]


def test_known_until_the_line_changes(guard: Guard) -> None:
    """Another user's new password makes nobody forget; one's own does."""
    assert guard.lets_in(b"bert", b"hashed secret")
    text = guard.file.read_bytes()
    guard.file.write_bytes(text + b"dora:secret\n")
    guard.authenticator.reload()
    assert guard.authenticator.knows(b"bert", b"hashed secret")
    guard.file.write_bytes(text.replace(HASH, b"other"))
    guard.authenticator.reload()
    assert not guard.authenticator.knows(b"bert", b"hashed secret")
    assert not guard.lets_in(b"bert", b"hashed secret")


ENDING = """
import atexit, bcrypt, threading
atexit.register(print, "the end")
from redcouch.server import passwords
known, begun = bcrypt.checkpw, threading.Event()
def check(*both):
    begun.set()
    threading.main_thread().join()
    print("right" if known(*both) else "wrong")
bcrypt.checkpw = check
word = bcrypt.hashpw(b"x", bcrypt.gensalt(8))
threading.Thread(target=passwords._matches, args=(b"x", word), daemon=True).start()
begun.wait()
"""


def test_end_meanwhile() -> None:
    """The process ends after a check on a thread that nobody joins: within it, it would abort."""
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "right\nthe end\n", "")
