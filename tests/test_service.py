"""C{twistd redcouch}: what its options do, what it refuses, and how it starts and ends."""

from __future__ import annotations

import atexit
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from twisted.application.service import Application, IService, MultiService, Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.logger import ILogObserver
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from redcouch import build, service
from redcouch import options as options_module
from redcouch.errors import ConfigurationError, StartError
from redcouch.handover.succession import Succession
from redcouch.interfaces import Health, IStorageBackend
from redcouch.limits import Limits
from redcouch.server.connection import ConnectionFactory
from redcouch.service import Options, RedCouchService, makeService
from tests.support import prefork, servers
from tests.support.polling import PATIENCE, eventually
from tests.support.servers import TWISTD
from tests.support.storages import Slow
from tests.support.transports import Transport, shared_of
from tests.support.wire import Address, Wire, ask
from tests.support.workers import runs

REFUSED = b"ERROR Too many open connections\r\n"


def run(*options: str, twistd: tuple[str, ...] = ("-n", "--pidfile="), **env: str) -> Any:
    """A C{twistd redcouch} that is to end by itself."""
    command = [TWISTD, *twistd, "redcouch", *options]
    return prefork.run(command, Path.cwd(), os.environ | env, PATIENCE)


# -- options ------------------------------------------------------------------------------------

UNREADABLE: list[tuple[str, str]] = [
    ("--port 65536", "--port: 65536 is no port number"),
    ("--interface=", "--interface '': has to be a line of printable ASCII"),
    ("--max-connections 0", "--max-connections '0': has to be a whole number of at least 1"),
    ("--idle-timeout -1", "--idle-timeout '-1': has to be a number of seconds, 0 or more"),
    ("--max-item-size 1023", "--max-item-size '1023': has to be bytes, or a number with k or m"),
    ("--drain-timeout x", "--drain-timeout 'x': has to be a number of seconds, 0 or more"),
    ("--version-string=", "--version-string '': has to be a line of printable ASCII"),
    ("--workers 0", "--workers '0': has to be auto, or a whole number from 1 to"),
    ("--http 65536", "--http '65536': is no port number"),
    ("--http 0 --http-auth", "--http-auth: needs --auth-file"),
    ("--client-names /nonexistent", "--client-names: needs --http"),
    ("--nosuch", "option --nosuch not recognized"),
]

ALSO_UNREADABLE: list[tuple[str, str]] = [
    ("--max-connections x", "--max-connections 'x': "),
    ("--max-connections -1", "--max-connections '-1': "),
    ("--max-connections \N{SUPERSCRIPT TWO}", "--max-connections '\N{SUPERSCRIPT TWO}': "),
    ("--idle-timeout nan", "--idle-timeout 'nan': "),
    ("--idle-timeout x", "--idle-timeout 'x': "),
    ("--max-item-size 0", "--max-item-size '0': "),
    ("--max-item-size 1025m", "--max-item-size '1025m': "),
    ("--max-item-size 1g", "--max-item-size '1g': "),
    ("--drain-timeout -0.1", "--drain-timeout '-0.1': "),
    ("--version-string \N{SNOWMAN}", "--version-string '\N{SNOWMAN}': "),
    ("--version-string a\tb", "--version-string 'a\\tb': "),
    ("--workers 513", "--workers '513': "),
    ("--workers many", "--workers 'many': "),
    ("--http-host a.test", "--http-host: needs --http"),
    ("--http-auth --auth-file /nonexistent", "--http-auth: needs --http"),
    ("--port 0 --take-over", "--take-over: nobody can be found by a --port that is 0"),
    ("--port systemd:domain=INET:index=0 --take-over", "--take-over: nobody can be found by"),
    ("--tls-key=", "--tls-key: needs --tls-cert"),
    ("--tls-client-ca x", "--tls-client-ca: needs --tls-cert"),
    ("--port unix:/s --reuse-port", "--reuse-port: is for a --port that is a number"),
    ("--port unix:/s --tls-cert x", "--tls-cert: is for a --port that is a number"),
    ("--port tcp:1 --interface 10.0.0.1", "--interface: is for a --port that is a number"),
    ("--port", "option --port requires argument"),
    ("nosuch", "Wrong number of arguments"),
]

UNUSABLE: list[tuple[str, str]] = [
    (
        "--port tcp:x",
        "--port tcp:x: cannot be understood ('x'). Right are a port up to 65535, tcp:",
    ),
    ("--port tcp", "--port tcp: cannot be understood ('port')"),
    ("--port tcp:99999", "--port tcp:99999: cannot be understood (port must be 0-65535)"),
    ("--workers 2 --storage redis://127.0.0.1:1 --port tcp:99999", "--port tcp:99999: cannot be"),
    ("--port haproxy:tcp:99999", "--port haproxy:tcp:99999: cannot be understood (port must be"),
    ("--port tcp:0:bogus=1", "--port tcp:0:bogus=1: cannot be understood ('bogus')"),
    ("--port unix:/tmp/s:mode=9", "--port unix:/tmp/s:mode=9: cannot be understood ('9')"),
    ("--port nosuch:1", "--port nosuch:1: cannot be understood ('nosuch')"),
    ("--port=", "--port : cannot be understood ('')"),
    (
        "--port unix:/nonexistent/folder/s --port 0",
        "--port unix:/nonexistent/folder/s: No such file or directory: its directory has to be",
    ),
    ("--port ssl:0:privateKey=/nonexistent", "privateKey=/nonexistent: No such file or directory"),
    ("--port ssl:0:privateKey=/dev/null", "/dev/null: its certificate or key cannot be used: "),
    ("--port 0 --interface 203.0.113.1", "203.0.113.1:0"),
    ("--storage nosuch:", "--storage: 'nosuch:' is no storage URL"),
    ("--storage redis://u:secret@host:99999", "redis://u:***@host:99999"),
    (
        "--storage redis://127.0.0.1:1 --max-item-size 257m",
        "--storage: Redis takes items up to 256m in hex, 512m with encoding=raw",
    ),
    ("--http nosuch:1", "--http nosuch:1: cannot be understood ('nosuch')"),
    ("--port 0 --http tcp:99999", "--http tcp:99999: cannot be understood (port must be 0-65535)"),
    ("--port 0 --http tcp:0:interface=203.0.113.1", "--http: "),
    ("--port 0 --http unix:/nosuch/socket", "--http unix:/nosuch/socket: "),
    ("--auth-file /nonexistent", "--auth-file: cannot read /nonexistent"),
]

BAD = UNREADABLE + UNUSABLE


@pytest.fixture(scope="module")
def refusals() -> dict[str, Any]:
    """How C{twistd redcouch} ended with each of the bad options; they run side by side."""

    def refused(options: str) -> Any:
        return run("--storage", "memory:", *options.split())

    with ThreadPoolExecutor(4) as pool:
        bad = [options for options, _ in BAD]
        return dict(zip(bad, pool.map(refused, bad), strict=True))


@pytest.mark.parametrize(("options", "said"), BAD)
def test_bad_value(refusals: dict[str, Any], options: str, said: str) -> None:
    """A bad value ends the start with one clear line, not with a traceback, and with status 1."""
    refused = refusals[options]
    assert refused.returncode == 1
    printed = refused.stderr + refused.stdout
    (line,) = (line for line in printed.splitlines() if "redcouch: " in line)
    assert said in line
    assert "Traceback" not in printed
    assert "Whoever reaches" not in printed
    assert "secret" not in printed


@pytest.mark.parametrize(("options", "said"), UNREADABLE + ALSO_UNREADABLE)
def test_unreadable_option(options: str, said: str) -> None:
    """What cannot be read is refused before anything starts, by the name of its option."""
    with pytest.raises(SystemExit) as caught:
        Options().parseOptions(options.split(" "))
    line = str(caught.value)
    assert line.startswith(f"redcouch: {said}")
    assert "\n" not in line


@pytest.fixture
def taken() -> Iterator[str]:
    """A port that somebody else listens on."""
    with socket.create_server((servers.LOOPBACK, 0)) as listening:
        yield str(listening.getsockname()[1])


def test_port_in_use(taken: str, tmp_path: Path) -> None:
    """A port that is taken ends the start, and leaves no PID file behind."""
    pidfile = tmp_path / "pid"
    twistd = ("-n", f"--pidfile={pidfile}")
    refused = run("--storage", "memory:", "--port", taken, twistd=twistd)
    assert refused.returncode == 1
    (line,) = (line for line in refused.stdout.splitlines() if "redcouch: " in line)
    assert f"redcouch: --port: Couldn't listen on 127.0.0.1:{taken}: " in line
    assert "Traceback" not in refused.stdout + refused.stderr
    assert not pidfile.exists()


@pytest.mark.parametrize("background", [(), ("-n",)])
def test_no_place_for_the_pid(background: tuple[str, ...]) -> None:
    """Where the PID file cannot be written, as in a folder of somebody else, one line says so."""
    twistd = (*background, "--pidfile=/nonexistent/pid", "--logfile=/dev/null")
    refused = run("--storage", "memory:", "--port", "0", twistd=twistd)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "redcouch: cannot write /nonexistent/pid: " in refused.stderr


def test_port_in_use_in_the_background(taken: str, tmp_path: Path) -> None:
    """A start in the background says so too, instead of waiting for ever."""
    log, pidfile = tmp_path / "log", tmp_path / "pid"
    twistd = (f"--pidfile={pidfile}", f"--logfile={log}", f"--rundir={tmp_path}")
    refused = run("--storage", "memory:", "--port", taken, twistd=twistd)
    assert refused.returncode == 1
    assert f"Couldn't listen on 127.0.0.1:{taken}" in refused.stderr.replace("\\", "")
    eventually(
        lambda: f"redcouch: --port: Couldn't listen on 127.0.0.1:{taken}: " in log.read_text()
    )
    assert "Traceback" not in refused.stderr + log.read_text()
    assert not pidfile.exists()


def test_help() -> None:
    """C{--help} explains each option, with its default and its unit, and the storage URLs."""
    printed = run("--help")
    assert printed.returncode == 0
    words = " ".join(printed.stdout.split())
    for option in (
        "-p, --port= ",
        "[default: 11210]",
        "--interface= ",
        "[default: 127.0.0.1]",
        "-s, --storage= ",
        "REDCOUCH_STORAGE, else redis://127.0.0.1:6379/0.",
        "-c, --max-connections= ",
        "[default: 1024]",
        "--idle-timeout= Seconds ",
        "0 is never. [default: 0]",
        "-I, --max-item-size= Largest item, in bytes or with k or m ",
        "[default: 1m]",
        "--drain-timeout= Seconds ",
        "[default: 10]",
        "-w, --workers= ",
        "--auth-file= ",
        "--version-string= ",
        "[default: RedCouch ",
        "-F, --no-flush ",
        "-X, --no-dump ",
        "memory: a dict in this process",
        "embedded: a private Redis",
        "redis: redis://",
        "redis+cluster: redis+cluster://",
        "rediss+cluster: ",
        "redis+sentinel: ",
        "redis+unix: ",
        "rediss: ",
    ):
        assert option in words


def parsed(*options: str) -> Options:
    """The options of a command line."""
    made = Options()
    made.parseOptions(list(options))
    return made


class OptionsTests(SynchronousTestCase):
    """What the options mean."""

    def setUp(self) -> None:
        variable = mock.patch.dict(os.environ)
        variable.start()
        self.addCleanup(variable.stop)
        os.environ.pop("REDCOUCH_STORAGE", None)

    def test_defaults(self) -> None:
        """Without options there is one port, and Redis on this machine."""
        options = parsed()
        self.assertEqual(options["ports"], ["11210"])
        self.assertEqual(options["storage"], "redis://127.0.0.1:6379/0")
        self.assertEqual(options["interface"], "127.0.0.1")
        self.assertEqual(options["max-item-size"], 1024 * 1024)
        self.assertEqual(options["max-connections"], 1024)
        self.assertEqual(options["idle-timeout"], 0)
        self.assertEqual((options["no-flush"], options["no-dump"]), (0, 0))

    def test_storage_from_the_environment(self) -> None:
        """The storage may be given in the environment; an option counts more, nothing less."""
        os.environ["REDCOUCH_STORAGE"] = "memory:"
        self.assertEqual(parsed()["storage"], "memory:")
        self.assertEqual(parsed("--storage", "embedded:")["storage"], "embedded:")
        os.environ["REDCOUCH_STORAGE"] = ""
        self.assertEqual(parsed()["storage"], "redis://127.0.0.1:6379/0")

    def test_item_sizes(self) -> None:
        """Item sizes are in bytes, KiB or MiB."""
        for text, size in (
            ("1k", 1024),
            ("1024", 1024),
            ("512K", 512 * 1024),
            ("2m", 2 * 1024**2),
            ("1024M", 1024**3),
        ):
            self.assertEqual(parsed("-I", text)["max-item-size"], size)

    def test_seconds(self) -> None:
        """Times are in seconds, fractions too."""
        self.assertEqual(parsed("--idle-timeout", "0.5")["idle-timeout"], 0.5)
        self.assertEqual(parsed("--drain-timeout", "0")["drain-timeout"], 0)

    def test_workers(self) -> None:
        """As many workers as there are processors, if asked for."""
        self.assertEqual(parsed("-w", "3")["workers"], 3)
        self.assertGreaterEqual(parsed("-w", "auto")["workers"], 1)
        with mock.patch.object(os, "cpu_count", return_value=7):
            with mock.patch.object(os, "sched_getaffinity", return_value={1, 2}, create=True):
                self.assertEqual(parsed("-w", "auto")["workers"], 2)
            with mock.patch.object(options_module, "os", cpu_os()):
                self.assertEqual(parsed("-w", "auto")["workers"], 7)

    def test_ports(self) -> None:
        """Ports may be given several times, numbers or endpoints."""
        options = parsed("-p", "0", "--port", "unix:/run/s", "-p", "11211", "--interface", "::1")
        self.assertEqual(
            options_module.endpoints_of(options),
            [
                "tcp:0:interface=\\:\\:1",
                "unix:/run/s",
                "tcp:11211:interface=\\:\\:1",
            ],
        )

    def test_limits(self) -> None:
        """What is forbidden, and how large items may be, is in the limits."""
        limits = build._limits(parsed("-F", "-X", "-I", "4k"))
        self.assertEqual((limits.flush, limits.dump, limits.max_item_size), (False, False, 4096))
        self.assertEqual(build._limits(parsed()), Limits())

    def test_bad_value(self) -> None:
        """A bad value ends the process, with a line that names the option."""
        with self.assertRaises(SystemExit) as caught:
            parsed("-c", "many")
        self.assertEqual(
            str(caught.exception),
            "redcouch: --max-connections 'many': has to be a whole number of at least 1",
        )

    def test_whole_service(self) -> None:
        """The options that make a service make all of it."""
        made = makeService(parsed("--storage", "memory:", "--port", "0", "--idle-timeout", "5"))
        self.assertIsInstance(made, Succession)
        (service,) = made.services
        self.assertIsInstance(service, RedCouchService)
        for given, words in (
            (["--storage", "memory:x"], "redcouch: --storage: 'memory:x'"),
            (["--storage", "memory:", "--auth-file", "/nonexistent"], "redcouch: --auth-file: "),
            (["--storage", "memory:", "--workers", "2"], "redcouch: --workers: "),
        ):
            with self.assertRaisesRegex(SystemExit, words):
                makeService(parsed(*given))

    def test_part_of_an_application(self) -> None:
        """
        In an application of somebody else's, wherever it is put, it leaves the log alone, and
        starts no other process with an option that such an application does not take.
        """
        application: Any = Application("theirs")
        for parent in (application, MultiService()):
            with mock.patch.object(service, "Restart") as restart:
                made = makeService(parsed("--storage", "memory:", "--port", "0"))
            made.setServiceParent(parent)
            self.assertIsInstance(restart.return_value.possible, mock.Mock)
        self.assertIsNone(application.getComponent(ILogObserver))


def cpu_os() -> Any:
    """An operating system that knows how many processors there are, but not which are ours."""
    system = mock.Mock(spec=["cpu_count", "environ"])
    system.cpu_count.return_value = 7
    system.environ = os.environ
    return system


# -- a service, step by step -------------------------------------------------------------------


class Steps(Clock):
    """A reactor that only knows time."""

    running = True

    def __init__(self) -> None:
        super().__init__()
        self.started: list[Callable[[], object]] = []
        self.threads: list[Callable[[], object]] = []
        self.triggers: list[tuple[object, ...]] = []
        self.stopped = 0

    def callWhenRunning(self, call: Callable[[], object]) -> None:
        self.started.append(call)

    def callFromThread(self, call: Callable[[], object]) -> None:
        self.threads.append(call)

    def addSystemEventTrigger(self, *trigger: object) -> None:
        self.triggers.append(trigger)

    def stop(self) -> None:
        self.stopped += 1


@implementer(IStorageBackend)
class Watched(Slow):
    """A storage that says when it is started and stopped."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self._events = events
        self.started: Deferred[None] = Deferred()

    def start(self) -> Deferred[None]:
        self._events.append("storage starts")
        return self.started

    def stop(self) -> Deferred[None]:
        self._events.append("storage stops")
        return succeed(None)


class Listening(Service):
    """A port."""

    def __init__(self, events: list[str], endpoint: str) -> None:
        self._events = events
        self._endpoint = endpoint
        self.port = mock.Mock()

    def privilegedStartService(self) -> None:
        self._events.append(f"listens on {self._endpoint}")

    def stopService(self) -> Any:
        super().stopService()
        self._events.append(f"leaves {self._endpoint}")
        return succeed(None)


class ServiceTests(SynchronousTestCase):
    """The order of starting and stopping."""

    def setUp(self) -> None:
        self.events: list[str] = []
        self.clock = Steps()
        self.backend = Watched(self.events)
        self.factory = ConnectionFactory(shared_of(self.backend), self.clock, 10, 0)
        self.service = self.make(lambda endpoint, factory: Listening(self.events, endpoint))

    def make(self, listen: Callable[[str, ConnectionFactory], IService]) -> RedCouchService:
        bridge = mock.Mock(
            backend=self.backend,
            factory=self.factory,
            listen=listen,
            fail=self.events.append,
            usage_recorder=None,
        )
        options = {
            "ports": ["tcp:1", "tcp:2"],
            "interface": "",
            "storage": "redis://u:secret@host",
            "drain-timeout": 10.0,
            "http": None,
        }
        return RedCouchService(bridge, options, self.clock)

    def connect(self) -> tuple[Any, Transport]:
        transport = Transport()
        connection: Any = self.factory.buildProtocol(None)
        transport.protocol = connection
        connection.makeConnection(transport)
        return connection, transport

    def start(self) -> None:
        self.service.privilegedStartService()
        self.service.startService()

    def test_order(self) -> None:
        """The storage is there from before the first client until after the last answer."""
        self.start()
        self.assertEqual(self.events, ["listens on tcp:1", "listens on tcp:2", "storage starts"])
        connection, transport = self.connect()
        connection.dataReceived(b"get a\r\n")
        self.events.clear()
        stopped = self.service.stopService()
        self.assertEqual(set(self.events), {"leaves tcp:1", "leaves tcp:2"})
        self.assertNoResult(stopped)
        self.backend.answer_all()
        self.successResultOf(stopped)
        self.assertEqual(transport.value(), b"VALUE a 0 1\r\na\r\nEND\r\n")
        self.assertEqual(self.events[2:], ["storage stops"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_there(self) -> None:
        """Without clients it ends at once."""
        self.start()
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_drain_timeout(self) -> None:
        """A client that takes too long does not keep the service from ending."""
        self.start()
        connection, transport = self.connect()
        connection.dataReceived(b"get a\r\n")
        stopped = self.service.stopService()
        self.clock.advance(9.9)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.successResultOf(stopped)
        self.assertTrue(transport.aborted)
        self.assertEqual(self.events[-1], "storage stops")

    def test_storage_that_stands_still(self) -> None:
        """What it does not take in a second does not keep the service from ending."""
        self.service._usage_recorder = mock.Mock(stop=Deferred)
        self.start()
        stopped = self.service.stopService()
        self.clock.advance(0.9)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.successResultOf(stopped)
        self.assertEqual(self.events[-1], "storage stops")

    def hold(self, *endpoints: str) -> list[mock.Mock]:
        """Start, and hold these; gives the ports."""
        self.start()
        self.service._adopter = mock.Mock()
        self.service.hold(endpoints)
        return [port for _, port in self.service.listening()]

    def test_held_until_it_can_serve(self) -> None:
        """It accepts nobody from a port that is held until its storage serves."""
        held, other = self.hold("tcp:1")
        held.stopReading.assert_called_once_with()
        other.stopReading.assert_not_called()
        able = self.service.able()
        self.clock.advance(1)
        self.assertNoResult(able)
        with mock.patch.object(self.backend, "health", return_value=Health(False)) as health:
            self.backend.started.callback(None)
            self.clock.advance(1)
            self.assertNoResult(able)
            held.startReading.assert_not_called()
            health.return_value = Health(False, impaired=True)
            self.clock.advance(1)
        self.successResultOf(able)
        held.startReading.assert_called_once_with()

    def test_never_able(self) -> None:
        """Who cannot start takes nothing over, whatever the storage says of itself."""
        held, _ = self.hold("tcp:1")
        able = self.service.able()
        self.backend.started.errback(ZeroDivisionError("no disk"))
        self.clock.advance(1)
        self.assertNoResult(able)
        held.startReading.assert_not_called()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_what_it_waits_for(self) -> None:
        """Where that takes long it is said, once."""
        self.hold("tcp:1")
        away = mock.patch.object(self.backend, "health", return_value=Health(False, "no route"))
        with away, mock.patch.object(RedCouchService, "_log") as log:
            able = self.service.able()
            self.clock.pump([0.05] * 90)
            log.warn.assert_not_called()
            self.clock.pump([0.05] * 200)
            ((_, fields),) = log.warn.call_args_list
        self.assertEqual(fields, {"reason": "no route"})
        self.assertNoResult(able)

    def test_held_until_it_ends(self) -> None:
        """What has been closed is not accepted from."""
        held, _ = self.hold("tcp:1")
        self.successResultOf(self.service.stopService())
        self.service.accept()
        held.startReading.assert_not_called()

    def test_storage_that_cannot_start(self) -> None:
        """A storage that fails to start ends the service, which says why."""
        self.start()
        self.backend.started.errback(ZeroDivisionError("no disk"))
        self.assertEqual(self.events.pop(), "the storage could not start: no disk")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_storage_that_raises(self) -> None:
        """So does one that raises."""
        with mock.patch.object(self.backend, "start", side_effect=ZeroDivisionError("no disk")):
            self.start()
        self.assertEqual(self.events.pop(), "the storage could not start: no disk")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_storage_that_cannot_start_any_more(self) -> None:
        """One that fails to start while the service ends is in the log alone."""
        self.start()
        self.successResultOf(self.service.stopService())
        self.events.clear()
        self.backend.started.errback(ZeroDivisionError())
        self.assertEqual(self.events, [])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_storage_that_cannot_stop(self) -> None:
        """A storage that fails to stop is in the log, and the service ends."""
        self.start()
        with mock.patch.object(self.backend, "stop", side_effect=ZeroDivisionError):
            self.successResultOf(self.service.stopService())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_coroutines_of_a_storage(self) -> None:
        """A storage may start and stop by coroutines, or at once."""
        done = []

        async def start() -> None:
            done.append("started")

        with (
            mock.patch.object(self.backend, "start", start),
            mock.patch.object(self.backend, "stop", lambda: done.append("stopped")),
        ):
            self.start()
            self.successResultOf(self.service.stopService())
        self.assertEqual(done, ["started", "stopped"])

    def test_cannot_listen(self) -> None:
        """Where it cannot listen, it does not start, and says why in one line."""
        for error, words in (
            (CannotListenError("127.0.0.1", 1, OSError("taken")), "--port: Couldn't listen on"),
            (ConfigurationError("odd"), "redcouch: --port tcp:1: odd"),
            (ValueError("odd"), r"redcouch: --port tcp:1: cannot be understood \(odd\)"),
            (TypeError("f() got 'odd'"), r"redcouch: --port tcp:1: cannot be .* \('odd'\)"),
            (OSError(2, "odd"), "redcouch: --port tcp:1: odd$"),
            (OSError(2, "odd", "file"), "redcouch: --port tcp:1: odd: file$"),
        ):
            failing = self.make(mock.Mock(side_effect=error))
            with self.assertRaisesRegex(StartError, words) as caught:
                failing.privilegedStartService()
            self.assertIsInstance(caught.exception, SystemExit)
            self.assertNotIn("\n", str(caught.exception))

    def test_fail(self) -> None:
        """A storage that can never serve ends the service, with its reason and a status of 1."""
        with mock.patch("sys.stderr") as stderr:
            service._fail(self.clock)("no disk")
            self.clock.running = False
            service._fail(self.clock)("no disk")
        self.assertEqual(stderr.write.call_args_list[0], mock.call("redcouch: no disk"))
        at_exit = ("after", "shutdown", atexit.register, os._exit, 1)
        self.assertEqual(self.clock.triggers[0], at_exit)
        self.assertEqual(self.clock.stopped, 1)
        self.assertEqual(self.clock.started, [self.clock.stop])


# -- a service in a process --------------------------------------------------------------------


def test_storage_variable() -> None:
    """With REDCOUCH_STORAGE in the environment the command line needs no storage."""
    refused = run("--port", "0", REDCOUCH_STORAGE="nosuch:")
    assert refused.returncode == 1
    assert "redcouch: --storage: 'nosuch:' is no storage URL" in refused.stderr


def test_several_ports(tmp_path: Path) -> None:
    """One service listens on several ports and a unix socket, with the same items."""
    path = str(tmp_path / "s")
    second = servers.free_port()
    with servers.redcouch("memory:", "--port", f"unix:{path}", "-p", str(second)) as server:
        assert ask(server.address, b"set a 0 0 1\r\nx\r\n", b"\r\n") == b"STORED\r\n"
        for address in (path, (servers.LOOPBACK, second)):
            assert ask(address, b"get a\r\n", b"END\r\n") == b"VALUE a 0 1\r\nx\r\nEND\r\n"
        assert b":addr tcp:127.0.0.1:" in ask(server.address, b"stats conns\r\n", b"END\r\n")
        assert b":addr unix\r\n" in ask(path, b"stats conns\r\n", b"END\r\n")
    assert not Path(path).exists()


def figure(wire: Wire, name: bytes) -> int:
    """One of the numbers in C{stats}."""
    for line in wire.say([b"stats\r\n"], b"END\r\n").reply.splitlines():
        if line.startswith(b"STAT %b " % name):
            return int(line.split()[2])
    raise AssertionError(f"no {name!r}")


def read_all(address: Address) -> bytes:
    """All that a client hears that says nothing."""
    assert isinstance(address, tuple)
    with socket.create_connection(address, PATIENCE) as client:
        return client.makefile("rb").read()


def test_too_many_clients() -> None:
    """One client more than may be is told so, counted, and in the log once."""
    with servers.redcouch("memory:", "--max-connections", "3") as server:
        with Wire(server.address) as one:
            eventually(lambda: figure(one, b"curr_connections") == 1)
            refused = figure(one, b"rejected_connections")
            with Wire(server.address) as two, Wire(server.address) as three:
                for wire in (two, three):
                    assert figure(wire, b"max_connections") == 3
                for _ in range(3):
                    assert read_all(server.address) == REFUSED
                assert figure(one, b"rejected_connections") == refused + 3
                assert figure(one, b"curr_connections") == 3
            eventually(lambda: figure(one, b"curr_connections") == 1)
            eventually(lambda: "Accepting clients again" in server.log)
        log = server.log
        assert log.count("All 3 connections (--max-connections) are in use") == 1
        assert log.count("Accepting clients again") == 1


def test_idle_clients() -> None:
    """A client that has been silent for long is closed, and counted."""
    with servers.redcouch("memory:", "--idle-timeout", "0.2") as server:
        assert read_all(server.address) == b""

        def kicks() -> bytes:
            """Who is slow to ask is closed itself, and asks again."""
            told = ask(server.address, b"stats\r\n", b"END\r\n")
            return b"".join(re.findall(rb"STAT idle_kicks (\d+)\r", told))

        assert int(eventually(kicks)) >= 1


def test_a_stop_answers_what_was_asked() -> None:
    """At SIGTERM each client gets the answers that it waits for, and then the end."""
    with (
        servers.redis_server() as redis,
        servers.redcouch(redis.unix_url, "--drain-timeout", f"{PATIENCE:g}") as server,
        Wire(server.address) as wire,
    ):
        wire.say([b"set a 0 0 1\r\nx\r\n"], b"STORED\r\n")
        servers.hold(redis.pid)
        wire.say([b"get a\r\nget a\r\nversion\r\n"], b"")
        until_heard(server)
        os.kill(server.pid, signal.SIGTERM)
        eventually(lambda: "Waiting for " in server.log)
        os.kill(redis.pid, signal.SIGCONT)
        item = b"VALUE a 0 1\r\nx\r\nEND\r\n"
        assert wire.read_to_the_end().startswith(item + item + b"VERSION ")
        until_over(server)


def test_a_stop_does_not_wait_for_ever() -> None:
    """A client that cannot be answered in time is cut off."""
    with (
        servers.redis_server() as redis,
        servers.redcouch(redis.unix_url, "--drain-timeout", "0.1", "--no-inventory") as server,
        Wire(server.address) as wire,
    ):
        servers.hold(redis.pid)
        wire.say([b"get a\r\n"], b"")
        until_heard(server)
        os.kill(server.pid, signal.SIGTERM)
        assert wire.read_to_the_end() == b""
        until_over(server)


def until_over(server: servers.RedCouch) -> None:
    """Until the service has ended in order."""
    eventually(lambda: "Server Shut Down." in server.log)


def until_heard(server: servers.RedCouch) -> None:
    """Until the service has read what was sent: one that comes later has its answer."""
    assert ask(server.address, b"version\r\n", b"\r\n").startswith(b"VERSION ")


@pytest.mark.parametrize("form", ["{}", "warm:{}&from=memcached://127.0.0.1:1"])
def test_a_stop_while_redis_stands_still(form: str) -> None:
    """It ends all the same, however long Redis may take to answer."""
    with (
        servers.redis_server() as redis,
        servers.redcouch(form.format(f"{redis.url}?timeout=3600")) as server,
    ):
        pid = server.pid
        servers.hold(redis.pid)
        try:
            os.kill(pid, signal.SIGTERM)
            eventually(lambda: not runs(pid))
        finally:
            os.kill(redis.pid, signal.SIGCONT)


def test_interrupt() -> None:
    """Ctrl-C ends it in order, too."""
    with servers.redcouch("memory:") as server, Wire(server.address) as wire:
        assert wire.say([b"version\r\n"], b"\r\n").reply.startswith(b"VERSION ")
        os.kill(server.pid, signal.SIGINT)
        assert wire.read_to_the_end() == b""
        until_over(server)
        server.stop()
        server.start()


class WithoutResolver(servers.RedCouch):
    """One to which nobody answers what a name means."""

    def command(self) -> list[str]:
        patched = (
            "import socket, threading; known = socket.getaddrinfo; socket.getaddrinfo = "
            "lambda host, *rest, **more: print('Looking up') or threading.Event().wait()"
            " if host == 'unknown.example' else known(host, *rest, **more); "
            "from twisted.scripts.twistd import run; run()"
        )
        return [sys.executable, "-c", patched, *super().command()[1:]]


def test_end_while_a_name_is_looked_up(tmp_path: Path) -> None:
    """The process does not wait for a resolver when it is to end."""
    server = WithoutResolver(tmp_path, "redis://unknown.example", [], ready=False)
    server.start()
    eventually(lambda: "Looking up" in server.log)
    assert server.stop() == -signal.SIGTERM, server.log
