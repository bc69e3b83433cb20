"""The process that workers are forked from, and the parent's side of it."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

import redcouch
from redcouch.workers import fork_server
from redcouch.workers.channel import CONTROL, REPORT, REQUEST, RUNNING
from redcouch.workers.process import ForkServer, Output, Reports, WorkerProcess


class Machine(Clock):
    """A reactor whose processes and connections the test plays."""

    def __init__(self) -> None:
        super().__init__()
        self.protocols: list[Any] = []

    def spawnProcess(self, protocol: Any, *what: Any, childFDs: dict[int, int]) -> None:
        self.control = socket.socket(fileno=os.dup(childFDs[CONTROL]))
        protocol.makeConnection(mock.Mock(pid=99))

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> None:
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(mock.Mock())
        self.protocols.append(protocol)


def started() -> tuple[ForkServer, Reports, Output, Machine]:
    machine = Machine()
    server = ForkServer([], 0, machine)
    reports, output = machine.protocols
    return server, reports, output, machine


def forked(server: ForkServer, machine: Machine) -> tuple[WorkerProcess, list[str]]:
    """A worker, and how it has ended."""
    worker = WorkerProcess(1, {}, machine)
    server.fork(worker)
    ends: list[str] = []
    worker.ended.addCallback(ends.append)
    return worker, ends


def hang_up(*several: Any) -> None:
    for one in several:
        one.connectionLost()


def end(server: ForkServer, machine: Machine, status: int = 0) -> None:
    """Have the fork server end."""
    machine.control.close()
    how = ProcessTerminated(status, None, status << 8) if status else ProcessDone(0)
    server.processEnded(Failure(how))


def test_reports_come_in_pieces() -> None:
    """A worker has ended when that is reported and it can say no more, whichever is first."""
    server, reports, output, machine = started()
    worker, ends = forked(server, machine)
    said = REPORT.pack(1, 1234, RUNNING) + REPORT.pack(1, 1234, signal.SIGSEGV)
    for place in range(len(said)):
        reports.dataReceived(said[place : place + 1])
    assert worker.pid == 1234
    assert not ends
    hang_up(worker.channel, worker.output, reports, output)
    end(server, machine)
    assert ends == ["was ended by SIGSEGV"]
    assert worker.signalled
    assert not worker.ended_well


def test_fork_server_ends() -> None:
    """Of workers that it has forked nobody knows more; the others have ended as it has."""
    server, reports, output, machine = started()
    one, one_ends = forked(server, machine)
    reports.dataReceived(REPORT.pack(1, 1234, RUNNING))
    two, two_ends = forked(server, machine)
    output.dataReceived(b"redcouch: no such thing\n")
    hang_up(reports, output)
    assert server.is_usable()
    end(server, machine, 3)
    assert not server.is_usable()
    assert not one_ends
    hang_up(one.channel, one.output, two.channel, two.output)
    assert "who knew how has ended" in one_ends[0]
    assert one.signalled
    assert two_ends == ["ended with status 3"]
    assert two.last_words == "redcouch: no such thing"
    with pytest.raises(OSError, match="Bad file descriptor"):
        server.fork(WorkerProcess(2, {}, machine))


def test_installed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that starts after another release was installed is not half of each."""
    module = tmp_path / "__init__.py"
    module.write_text("")
    monkeypatch.setattr(redcouch, "__file__", str(module))
    server, reports, output, machine = started()
    assert server.is_usable()
    other = tmp_path / "other"
    other.write_text("")
    other.replace(module)
    assert not server.is_usable()
    hang_up(reports, output)
    end(server, machine)


def test_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system lets nobody fork, the worker's last words say so, and the next can ask."""
    parent, child = socket.socketpair()
    ours, output = socket.socketpair()
    monkeypatch.setattr(fork_server, "CONTROL", child.fileno())
    for name in ("signal.signal", "signal.set_wakeup_fd", "os.closerange"):
        monkeypatch.setattr(name, mock.Mock())
    woken, wake = os.pipe()
    monkeypatch.setattr(os, "pipe", lambda: (woken, wake))
    monkeypatch.setattr(os, "fork", mock.Mock(side_effect=OSError(11, "try again")))
    with parent, child, ours, output:
        for number in (1, 2):
            request = [REQUEST.pack(number, 7)]
            socket.send_fds(parent, request, [output.fileno(), output.fileno()])
        parent.shutdown(socket.SHUT_WR)
        forks = fork_server.Forks()
        assert forks.run() is None
        forks._control.detach()
        said = parent.recv(100)
        assert [*REPORT.iter_unpack(said)] == [(1, 0, 1 << 8), (2, 0, 1 << 8)]
        os.close(woken)
        os.close(wake)
        assert ours.recv(1000) == b"redcouch: cannot fork: [Errno 11] try again\n" * 2
