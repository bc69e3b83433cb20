"""
Listening: how many clients may wait to be accepted, what happens when the
process has no descriptor left for one more, and how the port is shared with
the process that takes over.

Twisted's endpoints have a backlog of 50, so that of many clients that come at
once (a service that starts anew, say) some are left to try again a second
later. memcached has 1024 (its -b). And where descriptors run out, Twisted
closes whoever waits, with a line in the log for each; here they are left to
wait, as memcached does it, and the log says so once.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import socket
from collections.abc import Callable, Collection, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.internet import StreamServerEndpointService
from twisted.internet import unix
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.python.lockfile import FilesystemLock
from zope.interface import implementer

from redcouch.errors import ConfigurationError, StartError
from redcouch.process.private_keys import refuse_encrypted
from redcouch.process.reload import Reload
from redcouch.server.alarm import Alarm
from redcouch.server.tls import RenewableTLS

BACKLOG = 1024
"""Clients that may wait, unless the endpoint string says otherwise."""

REST = 1.0
"""Seconds without accepting after the system could not give another descriptor."""

EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""What accept says where it is the system that has too little."""

SPARE = 16
"""Descriptors that no client is given: a storage that is lost has to be connected to again."""

_TO_BE_HEARD = 0.05

_KINDS = ("tcp:", "tcp4:", "tcp6:", "unix:", "ssl:")


def complete(description: str) -> str:
    """
    An endpoint string with memcached's backlog, and a unix socket that is the
    owner's alone, where it says nothing else.
    """
    if description.startswith(_KINDS) and ":backlog=" not in description:
        description = f"{description}:backlog={BACKLOG}"
    if description.startswith("unix:") and ":mode=" not in description:
        description = f"{description}:mode=600"
    return description


def accept_sparing(listening: socket.socket) -> tuple[socket.socket, Any]:
    """As a socket's C{accept}. @raise OSError: also where hardly any descriptor is left."""
    accepted = os.dup(listening.fileno())
    try:
        adopted = os.dup(accepted)  # a worker's client has this one at last
    finally:
        os.close(accepted)
    os.close(adopted)
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and adopted + SPARE >= limit:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return listening.accept()


class DescriptorShortage:
    """Tells the operator once that clients cannot be accepted, and once that they can again."""

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._is_short = False
        self._alarm = Alarm(
            reactor,
            lambda: not self._is_short,
            lambda: self._log.info("There is room for clients again: accepting them"),
        )

    def begins(self, error: OSError) -> None:
        """There is no descriptor, or no memory, for another client."""
        self._is_short = True
        if self._alarm.raise_():
            self._log.error(
                "Cannot accept clients: {reason}. They wait until others are gone; "
                "raise the limit of open files (ulimit -n), or lower --max-connections",
                reason=error.strerror,
            )

    def ends(self) -> None:
        """A client was accepted, or could have been."""
        self._is_short = False

    def stop(self) -> None:
        """Nobody listens any more."""
        self._alarm.stop()


class RetryingSocket:
    """
    A listening socket in the hands of a Twisted port, with an C{accept} that
    waits for better times where descriptors run out.
    """

    def __init__(self, port: Any, reactor: Any) -> None:
        """@param port: has the socket, and is told to stop and start reading."""
        self._port = port
        self._socket: socket.socket = port.socket
        self._reactor = reactor
        self._shortage = DescriptorShortage(reactor)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def accept(self) -> tuple[socket.socket, Any]:
        """As a socket's. @raise BlockingIOError: nobody is there, or cannot come in now."""
        try:
            accepted = accept_sparing(self._socket)
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            self._shortage.begins(error)
            self._port.stopReading()
            self._reactor.callLater(REST, self._go_on)
            raise BlockingIOError(errno.EWOULDBLOCK, "later") from None
        self._shortage.ends()
        return accepted

    def close(self) -> None:
        """As a socket's."""
        self._shortage.stop()
        self._socket.close()

    def _go_on(self) -> None:
        if self._port.connected and not self._port.disconnecting:
            self._port.startReading()


@implementer(IStreamServerEndpoint)
class RetryingEndpoint:
    """Another endpoint, whose port accepts through a L{RetryingSocket}."""

    def __init__(self, inner: Any, reactor: Any, last_look: bool = False) -> None:
        """
        @param last_look: whoever waits is still accepted before the port
            closes, since nobody else would be, unless it accepts nobody yet.
        """
        self._inner = inner
        self._reactor = reactor
        self._last_look = last_look

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        listening: Deferred[IListeningPort] = maybeDeferred(self._inner.listen, factory)
        return listening.addCallback(self._make_patient)

    def _make_patient(self, port: Any) -> Any:
        if hasattr(port, "socket"):
            port.socket = RetryingSocket(port, self._reactor)
            if self._last_look:
                port.stopListening = _last_look_first(port, self._reactor)
        return port


def heard(reactor: Any) -> Deferred[None]:
    """Fires when clients who came last have been heard, before everybody has to finish."""
    waited: Deferred[None] = deferLater(reactor, _TO_BE_HEARD)
    # If this process stood still meanwhile, it reads what has come before the second one fires.
    return waited.addCallback(lambda _: deferLater(reactor, 0))


def _last_look_first(port: Any, reactor: Any) -> Callable[[], Deferred[None]]:
    stop = port.stopListening

    async def look_and_stop() -> None:
        if port in reactor.getReaders():
            port.numberAccepts = BACKLOG
            port.doRead()
        await stop()
        await heard(reactor)

    return lambda: Deferred.fromCoroutine(look_and_stop())


@implementer(IStreamServerEndpoint)
class SharedPortEndpoint:
    """A TCP port that other processes may listen on as well (SO_REUSEPORT)."""

    def __init__(self, reactor: Any, port: int, interface: str) -> None:
        self._reactor = reactor
        self._address = (interface, port)
        self._family = socket.AF_INET6 if ":" in interface else socket.AF_INET

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        return maybeDeferred(self._listen, factory)

    def _listen(self, factory: IProtocolFactory) -> Any:
        with socket.socket(self._family) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listening.setblocking(False)
            listening.bind(self._address)
            listening.listen(BACKLOG)
            return self._reactor.adoptStreamPort(listening.fileno(), self._family, factory)


class ListeningReactor:
    """
    Stands for the reactor where an endpoint is going to listen, and the socket is open already:
    how it was to be opened makes no difference. A subclass says what becomes of that.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def accept(self, factory: IProtocolFactory, backlog: int = BACKLOG) -> Any:
        """
        Begin to accept from the socket.

        @param backlog: of a unix socket.
        """
        raise NotImplementedError

    def listen(self, factory: IProtocolFactory) -> Deferred[Any]:
        """As an endpoint does it; for one that cannot be read again in another process."""
        return succeed(self.accept(factory))

    def listenTCP(self, port: int, factory: IProtocolFactory, **_: Any) -> Any:
        return self.accept(factory)

    def listenUNIX(self, path: str, factory: IProtocolFactory, backlog: int, **_: Any) -> Any:
        return self.accept(factory, backlog)

    def listenSSL(self, port: int, factory: IProtocolFactory, contextFactory: Any, **_: Any) -> Any:
        return self.accept(TLSMemoryBIOFactory(contextFactory, False, factory))


class OpenSocket(ListeningReactor):
    """A socket of the process before, which this one listens on from now on."""

    def __init__(self, listening: socket.socket, reactor: Any) -> None:
        super().__init__(reactor)
        self._socket = listening

    def accept(self, factory: IProtocolFactory, backlog: int = BACKLOG) -> Any:
        """The path of a unix socket is another process's, or user's, with its mode."""
        with self._socket as listening:
            descriptor, family = listening.fileno(), listening.family
            if family != socket.AF_UNIX:
                return self._reactor.adoptStreamPort(descriptor, family, factory)
            port = unix.Port._fromListeningDescriptor(self._reactor, descriptor, factory)
        leave_open(port)
        port.backlog = backlog
        port.startListening()
        return port


class ManagersSocket(ListeningReactor):
    """A socket that the service manager has opened, and goes on with when this process ends."""

    def adoptStreamPort(self, descriptor: int, family: int, factory: IProtocolFactory) -> Any:
        listening = socket.socket(fileno=os.dup(descriptor))  # of a family that the string may miss
        return OpenSocket(listening, self._reactor).accept(factory)


def leave_open(port: Any) -> None:
    """Let a port's socket be, which others have as well, when it is closed here."""
    port._shouldShutdown = False
    _set_path(port, b"\0")  # of another process


def remove_at_the_end(port: Any) -> None:
    """
    Nobody else has the port any more: where it is a unix socket, its path goes with it. Its lock
    tells who starts after a crash that the path is nobody's.
    """
    if isinstance(port, unix.Port):
        path = port.getHost().name
        _set_path(port, path)
        lock = FilesystemLock(path + b".lock")
        with suppress(OSError):  # it may not write there
            if lock.lock():
                port.lockFile = lock


def close_anyway(port: Any) -> None:
    """Have a unix port close also where it may not remove its path, as with twistd's --uid."""
    close = port.connectionLost

    def close_at_least(reason: Failure) -> None:
        try:
            close(reason)
        except OSError:
            _set_path(port, b"\0")
            port.lockFile = None
            close(reason)

    if isinstance(port, unix.Port):
        port.connectionLost = close_at_least  # type: ignore[method-assign]


def _set_path(port: Any, path: bytes) -> None:
    """What a unix port removes at its end."""
    if isinstance(port, unix.Port):
        port._bindPath = port.port = path
        # Twisted writes this path, with its NUL byte, into the log.
        port._logConnectionLostMsg = partial(_log_closed, port)  # type: ignore[method-assign]


def _log_closed(port: unix.Port) -> None:
    """As Twisted does, with the true path: a NUL byte makes the log a binary file for grep."""
    path = os.fsdecode(port.getHost().name).replace("\0", "@")
    Logger("-").info("(UNIX Port {path} Closed)", path=path)


def server_endpoint(
    description: str,
    reactor: Any,
    shared: bool,
    reload: Reload,
    inherited: MutableMapping[str, socket.socket] | None = None,
) -> Any:
    """
    The endpoint that a string describes.

    @param shared: other processes may have the same port, which is a C{tcp:} one.
    @param reload: is given what can be read again, as the certificates of C{ssl:}.
    @param inherited: sockets that listen already, by such strings.
    @raise ConfigurationError: the service manager has no such socket. Other exceptions: see
        L{opening}.
    """
    if inherited and description in inherited:
        reactor = OpenSocket(inherited.pop(description), reactor)
        shared = False
        if is_managed(description):
            return reactor
    elif is_managed(description):
        _refuse_shared_name(description)
        reactor = ManagersSocket(reactor)
    if shared:
        port, interface = _read_tcp(description)
        return SharedPortEndpoint(reactor, port, interface)
    try:
        _check_key(description)
        endpoint = serverFromString(reactor, complete(description))
        make_renewable(endpoint, description, reload)
        return endpoint
    except (IndexError, KeyError):
        if not is_managed(description):
            raise
        raise ConfigurationError(
            "the service manager has passed no such socket (LISTEN_FDS, LISTEN_FDNAMES)"
        ) from None


@contextmanager
def opening(option: str, endpoint: str) -> Iterator[None]:
    """
    Around what makes an endpoint of a string, and listens there.

    @param option: the command line's, that has the string.
    @raise StartError: that fails.
    """
    try:
        yield
    except CannotListenError as error:
        raise StartError(f"redcouch: --{option}: {error}") from None
    except Exception as error:  # of any library, about any part of the string
        raise StartError(f"redcouch: --{option} {endpoint}: {_explain(error)}") from None


def _explain(error: Exception) -> str:
    """What is wrong with an endpoint string, for whoever has written it."""
    if isinstance(error, ConfigurationError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        if error.filename2:  # the lock of a unix socket
            return f"{error.strerror}: its directory has to be there, and writable"
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if type(error).__module__.startswith("OpenSSL"):
        return f"its certificate or key cannot be used: {error}"
    word = re.search(r"'[^']*'$|port must .*\d", str(error))
    return (
        f"cannot be understood ({word[0] if word else error}). Right are a port up to 65535, "
        "tcp:11210:interface=127.0.0.1, unix:/run/redcouch.sock:mode=600 and other endpoints of "
        "Twisted"
    )


def _check_key(description: str) -> None:
    """Raises L{ConfigurationError} where the key of an C{ssl:} endpoint is encrypted."""
    if description.startswith("ssl:"):
        named = re.search(r":privateKey=((?:[^:\\]|\\.)*)", description)
        path = named[1].replace("\\", "") if named else "server.pem"
        refuse_encrypted(Path(path).read_bytes())


def make_renewable(endpoint: Any, description: str, reload: Reload) -> None:
    """Have the certificates of an C{ssl:} endpoint read again on request."""
    if not description.startswith("ssl:"):
        return
    options = [endpoint._sslContextFactory]

    def read() -> Any:
        try:
            _check_key(description)
            return (
                options.pop() if options else serverFromString(None, description)._sslContextFactory
            )
        except Exception as error:  # of any library between us and the files
            raise ConfigurationError(str(error) or type(error).__name__) from None

    tls = endpoint._sslContextFactory = RenewableTLS(f"certificates of {description}", read)
    reload.add(f"The certificates of {description}", tls.reload)


def _refuse_shared_name(description: str) -> None:
    """Twisted takes the last of a name: whoever connects to the others would wait for ever."""
    name = description.partition(":name=")[2].partition(":")[0]
    shared = os.environ.get("LISTEN_FDNAMES", "").split(":").count(name)
    if shared > 1:
        raise ConfigurationError(
            f"the service manager has passed {shared} sockets of this name: give each a --port of "
            "its own, with index=0, index=1 and so on in place of name="
        )


def _read_tcp(description: str) -> tuple[int, str]:
    """Port and interface of C{tcp:PORT:interface=ADDRESS}, as a --port that is a number gives."""
    _, port, rest = description.split(":", 2)
    return int(port), rest.removeprefix("interface=").replace("\\:", ":")


def is_managed(endpoint: str) -> bool:
    """Whether the service manager has opened it, and goes on with it."""
    return endpoint.startswith("systemd:")


def is_local(endpoint: str) -> bool:
    """Whether only this machine reaches it, or its service manager has opened it."""
    places = ("127.", "localhost", r"\:\:1")
    return (
        endpoint.startswith("unix:")
        or is_managed(endpoint)
        or any(f"interface={place}" in endpoint for place in places)
    )


_ANY_PORT = re.compile(r"(tcp[46]?|ssl):0(?=:|$)")


def with_port(endpoint: str, port: Any) -> str:
    """An endpoint string with the port that was got, where it asked for any."""
    if not _ANY_PORT.search(endpoint):
        return endpoint
    return _ANY_PORT.sub(rf"\1:{port.getHost().port}", endpoint)


class ListeningService(StreamServerEndpointService):
    """Listens where an endpoint string says."""

    def __init__(self, description: str, endpoint: Any, factory: IProtocolFactory) -> None:
        super().__init__(endpoint, factory)  # type: ignore[no-untyped-call]
        self._description = description
        self._raiseSynchronously = True

    @property
    def port(self) -> Any:
        """What it listens on, once it does."""
        port: Any = self._waitingForPort
        return port.result

    @property
    def place(self) -> str:
        """Where it listens, as an endpoint string, once it does."""
        return with_port(self._description, self.port)


def listening_service(
    description: str,
    factory: IProtocolFactory,
    reload: Reload,
    shared_ports: Collection[str] = (),
    inherited: MutableMapping[str, socket.socket] | None = None,
) -> ListeningService:
    """
    Like L{twisted.application.strports.service}: a port that is taken ends the
    start.

    @param reload: is given what can be read again.
    @param shared_ports: endpoint strings that other processes may have as well.
    @param inherited: see L{server_endpoint}.
    """
    from twisted.internet import reactor

    shared = description in shared_ports
    endpoint = server_endpoint(description, reactor, shared, reload, inherited)
    return ListeningService(
        description, RetryingEndpoint(endpoint, reactor, last_look=shared), factory
    )
