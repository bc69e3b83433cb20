"""
One RedCouch follows another on the same ports.

The names at which a service can be followed are made of its endpoint strings, so that one
that is started with the same ports finds it.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from redcouch.errors import StartError
from redcouch.handover.descriptors import (
    PATIENCE,
    POSSIBLE,
    DescriptorChannel,
    Listener,
    abstract_name,
    allowed_users,
    call,
    speak,
)
from redcouch.process.systemd import Tell
from redcouch.server.listeners import close_anyway, is_managed, leave_open, remove_at_the_end
from redcouch.workers.channel import ANSWER, ASK, REFUSE, Unanswered

PROTOCOL = 1
"""
What is said on the way: counted up where a process that says something else, or understands it
otherwise, could not follow.
"""

_LENGTH = struct.Struct("!I")
_MOST_SOCKETS = 200

_LOOK = 0.2
"""Seconds between two looks whether a process that is to take over has failed."""

TAKE_OVER = "--take-over"
"""The option of twistd redcouch."""

Inherited = dict[str, socket.socket]
"""Listening sockets of the service before, by their endpoint strings."""


class Successor(Protocol):
    """A service that can follow, and be followed."""

    #: Tells the service manager how things stand.
    tell: Tell

    #: Where the processes of the one that follows adopt clients; nowhere, if nobody does.
    adopters: Sequence[str]

    #: Called when its processes adopt clients elsewhere than L{able} has said.
    renewed: Callable[[], None]

    def listening(self) -> list[tuple[str, Any]]:
        """Its endpoint strings, each with its port."""

    def hold(self, endpoints: Collection[str]) -> None:
        """
        Leave whoever comes on these to the process before, until it is able to serve, or told
        to L{accept}.
        """

    def accept(self) -> None:
        """Nobody else does: accept clients everywhere."""

    def able(self) -> Deferred[Sequence[str]]:
        """Fires when all its processes serve, with the addresses at which they adopt clients."""


def name_of(endpoint: str) -> str | None:
    """The address at which whoever listens there can be followed; C{None} where nobody can."""
    kind, _, rest = endpoint.partition(":")
    if kind == "systemd" or rest.split(":")[0] == "0":
        return None
    if kind == "unix":
        path, *others = rest.split(":")
        endpoint = ":".join((kind, os.path.abspath(path), *others))
    return abstract_name(endpoint)


class Predecessor:
    """The service that is to be followed."""

    def __init__(self, caller: socket.socket) -> None:
        """@param caller: a blocking connection to it."""
        self._caller = caller

    def close(self) -> None:
        """Leave it alone."""
        self._caller.close()

    def take_sockets(self, endpoints: Collection[str]) -> Inherited:
        """
        Its listening sockets, of these endpoints.

        @raise OSError: it does not give them.
        """
        question = json.dumps([ASK, 0, "sockets", PROTOCOL]).encode()
        self._caller.sendall(_LENGTH.pack(len(question)) + question)
        data, descriptors = b"", []
        while len(data) < 4 or len(data) < 4 + _LENGTH.unpack(data[:4])[0]:
            piece, found, _, _ = socket.recv_fds(self._caller, 65536, _MOST_SOCKETS)
            if not piece:
                raise OSError("it hangs up")
            data += piece
            descriptors += found
        kind, _, _, given = json.loads(data[4:])
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        if kind == REFUSE:
            raise OSError(given)
        if kind != ANSWER or len(given) != len(sockets):
            raise OSError(f"it answers {given!r}")
        inherited = {}
        for endpoint, listening in zip(given, sockets, strict=True):
            if endpoint in endpoints:
                listening.set_inheritable(False)
                inherited[endpoint] = listening
            else:
                listening.close()
        return inherited

    def speak(self, lost: Callable[[], None], reactor: Any) -> DescriptorChannel:
        """The channel to it from now on."""
        channel = DescriptorChannel({}, lost, reactor)
        speak(self._caller, channel, reactor)
        return channel


def find(endpoints: Sequence[str], users: Collection[int]) -> Predecessor | None:
    """Who can be followed on one of these endpoints, as one of these users."""
    if not POSSIBLE:
        return None
    for name in filter(None, map(name_of, endpoints)):
        caller = call(name, allowed_users(users))
        if caller is not None:
            return Predecessor(caller)
    return None


class Succession(MultiService):
    """Around the service: what it is followed by, and whom it follows."""

    _log = Logger()

    def __init__(
        self,
        whole: Any,
        service: Successor,
        endpoints: Sequence[str],
        inherited: Inherited,
        options: Any,
        reactor: Any,
    ) -> None:
        """
        @param whole: the service with all that is around it, and all that listens.
        @param inherited: is given the sockets of the service before, when this one starts.
        @param options: those of twistd redcouch.
        """
        super().__init__()
        whole.setServiceParent(self)
        self._whole = whole
        self._service = service
        self._endpoints = endpoints
        self._inherited = inherited
        self._take_over = bool(options["take-over"])
        self._follow = bool(options["reuse-port"])
        self._wanted = [*endpoints, options["http"]]
        #: The endpoints with which whoever takes over goes on; others end with this process.
        self._left = self._wanted
        self._users = options.service_users
        self._pid_file: PidFile = options.pid_file
        self._reactor = reactor
        self._predecessor: Predecessor | None = None
        #: Ports that are the predecessor's as well.
        self._borrowed: list[Any] = []
        self._listeners: list[Listener] = []
        #: Who has been given the sockets, and is to take over.
        self._heir: DescriptorChannel | None = None
        self._follower: DescriptorChannel | None = None

    def privilegedStartService(self) -> None:
        if self._take_over or self._follow:
            self._predecessor = find(self._endpoints, self._users)
        if self._take_over and self._predecessor is not None:
            try:
                self._inherited.update(self._predecessor.take_sockets(self._wanted))
            except (OSError, ValueError, TypeError) as error:
                raise StartError(
                    f"redcouch: --take-over: the RedCouch that serves there does not give its "
                    f"sockets: {error}"
                ) from None
        taken = set(self._inherited)
        super().privilegedStartService()
        for _, port in self._whole.listening():
            close_anyway(port)
        if taken:
            borrowed = [(place, port) for place, port in self._whole.listening() if place in taken]
            for _, port in borrowed:
                leave_open(port)
            self._borrowed = [port for place, port in borrowed if not is_managed(place)]
            self._whole.hold(taken)

    def startService(self) -> None:
        super().startService()
        self._reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        if self._predecessor is None:
            self._offer()
            return
        channel = self._predecessor.speak(self._on_followed, self._reactor)

        def follow() -> None:
            self._service.able().addCallback(self._on_able, channel)

        if not self._take_over:
            self._service.renewed = follow
        follow()

    def _on_able(self, adopters: Sequence[str], channel: DescriptorChannel) -> None:
        if not self.running:
            return
        self._whole.accept()
        if channel.connected:
            how = {"adopters": adopters, "now": self._take_over, "protocol": PROTOCOL}
            how["wanted"] = self._wanted
            asked = channel.ask("follow", how, seconds=PATIENCE)
            asked.addCallbacks(self._on_agreed, self._not_followed, (channel.peer,))

    def _on_agreed(self, _: Any, pid: int) -> None:
        """It knows where its clients are to go."""
        said = "Taking over from process {pid}" if self._take_over else "Following process {pid}"
        self._log.info(said, pid=pid)

    def _not_followed(self, failure: Failure) -> None:
        failure.trap(Unanswered)
        self._log.warn("No clients come from the process before: {why}", why=failure.value)

    def _on_followed(self) -> None:
        """The service before is gone."""
        if self.running:
            self._whole.accept()
            for port in self._borrowed:
                remove_at_the_end(port)
            self._pid_file.settle()
            self._offer()

    # -- being followed ----------------------------------------------------------------------

    def can_be_followed(self) -> bool:
        """Whether the next one would find this service, and no other."""
        return bool(self._listeners)

    def _offer(self) -> None:
        """Let the next one find this service."""
        if not POSSIBLE:
            return
        for name in filter(None, map(name_of, self._endpoints)):
            try:
                self._listeners.append(Listener(name, self._channel, self._reactor))
            except OSError as error:
                self._log.warn("Nobody can take over from this process: {error}", error=error)

    def _channel(self) -> DescriptorChannel:
        channel = DescriptorChannel(
            {
                "sockets": lambda protocol: self._give_sockets(channel, protocol),
                "follow": lambda how: self._on_follower(channel, how),
            },
            lambda: self._on_lost(channel),
            self._reactor,
        )
        return channel

    def _give_sockets(self, channel: DescriptorChannel, protocol: Any) -> list[str]:
        if protocol != PROTOCOL:
            raise Unanswered(_another(protocol))
        if not self.running:
            raise Unanswered("it ends")
        if self._heir is not None:
            raise Unanswered(f"process {self._heir.peer} is to take over already")
        self._heir = channel
        given = []
        for endpoint, port in self._whole.listening():
            channel.give(port.fileno())
            given.append(endpoint)
        return given

    def _on_follower(self, channel: DescriptorChannel, how: Mapping[str, Any]) -> None:
        """There is a process that serves on the same ports, and adopts clients."""
        protocol = how.get("protocol")
        if protocol != PROTOCOL:
            self._log.warn(
                "Process {pid} cannot have the clients: {reason}",
                pid=channel.peer,
                reason=_another(protocol),
            )
            raise Unanswered(_another(protocol))
        if not self.running:
            raise Unanswered("it ends")
        self._follower = channel
        self._service.adopters = how["adopters"]
        if not how["now"]:
            return
        self._left = how.get("wanted", self._left)
        self._log.info("Process {pid} takes over", pid=channel.peer)
        self._service.tell(f"MAINPID={channel.peer}")
        self._pid_file.leave()
        self._reactor.stop()

    def _on_lost(self, channel: DescriptorChannel) -> None:
        if self._heir is channel:
            self._heir = None
        if self._follower is channel and self.running:
            self._service.adopters = ()

    def stopService(self) -> Any:
        if self._heir is not None:
            for place, port in self._whole.listening():
                if place in self._left:
                    leave_open(port)
        stopped = super().stopService()
        while self._listeners:
            self._listeners.pop().stop()
        return stopped


def _another(protocol: Any) -> str:
    return f"it is of a version that hands over otherwise (protocol {PROTOCOL}, not {protocol})"


class Restart:
    """What SIGUSR2 does where one process serves: another one takes over from it."""

    _log = Logger()

    def __init__(self, environment: Mapping[str, str], reactor: Any) -> None:
        """@param environment: what this process was started with."""
        self._reactor = reactor
        self._environment = dict(environment)
        self._directory = os.getcwd()  # from which twistd may go away
        self._process: subprocess.Popen[bytes] | None = None
        #: Whether the other one would find this one.
        self.possible: Callable[[], bool] = bool

    def __call__(self) -> None:
        """Start the process, from what is installed now, with the same options."""
        if not self.possible() or os.getpid() == 1:
            reason = "is the first of its container" if self.possible() else "cannot be found"
            self._log.error(
                "SIGUSR2: no other process can take over from this one, which {reason}",
                reason=reason,
            )
            return
        if self._process is not None and self._process.poll() is None:
            return
        command = [sys.executable, *sys.orig_argv[1:]]
        if TAKE_OVER not in command:
            command.append(TAKE_OVER)
        try:
            self._process = subprocess.Popen(
                command, env=self._environment, cwd=self._directory, stdin=subprocess.DEVNULL
            )
        except OSError as error:
            self._log.error("SIGUSR2: cannot start another process: {error}", error=error)
            return
        self._log.info("SIGUSR2: process {pid} is to take over", pid=self._process.pid)
        self._look_whether_it_fails(self._process)

    def give_up(self) -> None:
        """This service is told to end before the other one has taken over: so is that one."""
        if self._process is not None:
            self._process.terminate()

    def _look_whether_it_fails(self, process: subprocess.Popen[bytes]) -> None:
        """Its own words may have gone nowhere: in the background there is no standard error."""
        status = process.poll()
        if status is None:
            self._reactor.callLater(_LOOK, self._look_whether_it_fails, process)
        elif status:
            self._log.error(
                "SIGUSR2: process {pid} has ended with status {status}, and this one goes on. "
                "Start one with --take-over to see why",
                pid=process.pid,
                status=status,
            )


class PidFile:
    """
    twistd's file with the process id: it refuses to start where that of a running process
    stands in it. A process that takes over has another one, until it has taken over.
    """

    def __init__(self, options: Any) -> None:
        """@param options: those of twistd."""
        self._options = options if options is not None else {}
        self._at_last: str | None = None
        path = self._options.get("pidfile")
        if path and not self._options.get("chroot") and not os.access(Path(path).parent, os.W_OK):
            raise StartError(
                f"redcouch: cannot write {path}: before the word redcouch, --pidfile= names "
                "another file, or none with -n"
            )

    def step_aside(self) -> None:
        """Use another file for the time being."""
        path = self._options.get("pidfile")
        if path:
            self._at_last = os.path.abspath(path)
            # Of this process alone: another one, which is refused, removes its own.
            self._options["pidfile"] = f"{self._at_last}.{os.getpid()}.next"

    def settle(self) -> None:
        """Use the file that was asked for."""
        if self._at_last is not None:
            try:
                Path(self._options["pidfile"]).replace(self._at_last)
            except OSError as error:
                Logger().warn("Cannot write {path}: {error}", path=self._at_last, error=error)
                return
            self._options["pidfile"] = self._at_last

    def leave(self) -> None:
        """Leave the file to the process that takes over."""
        if self._options:
            self._options["pidfile"] = ""
