"""
The one place where something else can be plugged in: the storage.

A package of yours provides a backend in two steps: a class that implements
L{IStorageBackend} (most easily on top of
L{redcouch.backends.per_command.PerCommandBackend}), and a file in its
C{twisted/plugins/} folder that makes a
L{BackendMaker<redcouch.backends.registry.BackendMaker>}. The example in
C{examples/} is such a package, whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface

from redcouch.commands import Command
from redcouch.limits import Limits
from redcouch.results import Result
from redcouch.telemetry.counters import CountedUp
from redcouch.telemetry.latency import Meter
from redcouch.telemetry.usage import Usage, UsageSample


@dataclass(frozen=True, slots=True)
class Health:
    """
    Whether all is well with a backend, and in one line why not.

    @ivar impaired: clients are served all the same.
    """

    ready: bool
    reason: str = ""
    impaired: bool = False

    @property
    def serves(self) -> bool:
        """Whether clients are served."""
        return self.ready or self.impaired


@dataclass(frozen=True, slots=True)
class BackendContext:
    """
    What a backend is given to live with.

    @ivar reactor: the reactor that the service runs on.
    @ivar limits: the limits in force.
    @ivar now: gives the UNIX time in seconds.
    @ivar fail: ends the whole service, with one line for the operator that
        says why; for a backend that can never serve.
    @ivar meter: to be told of round trips and of connections; C{None} where
        nobody looks.
    @ivar counts: what the backend counts itself, for C{stats}: by name, and
        summed up over all processes that serve.
    @ivar count_up: adds up what the parts of a storage have counted, as L{CountedUp.take} does, for
        all processes together; perhaps later.
    """

    reactor: Any
    limits: Limits
    now: Callable[[], float]
    fail: Callable[[str], None]
    meter: Meter | None = None
    counts: dict[str, int] = field(default_factory=dict)
    count_up: Callable[[dict[str, dict[str, int]]], Any] = field(
        default_factory=lambda: CountedUp().take
    )


class IStorageBackend(Interface):
    """Where the items live."""

    def start() -> Deferred[None]:
        """
        Begin to work. Called once, when the service starts.

        Fires when the backend has done what it can for now. A storage that
        cannot be reached yet is not a failure: keep trying, and fail the
        commands meanwhile. A failure ends the whole service.
        """

    def stop() -> Deferred[None]:
        """
        Let go of everything. Called once, after the last batch is answered;
        fires when nothing is left running. It is waited for ten seconds at most.
        """

    def execute(commands: Sequence[Command]) -> Deferred[list[Result]]:
        """
        Perform a batch: commands of one client, in their order, each as if
        the one before it were finished.

        The next batch of the same client is given only after this one has
        fired; batches of different clients may overlap.

        Fires with one result for each command, in the same order; what a
        command answers is in its docstring. A command that could not be
        performed has a L{Failed<redcouch.results.Failed>} in its place and
        changes nothing for the others. May fail as a whole with
        L{BackendError<redcouch.errors.BackendError>}: then every command in
        the batch is answered with that failure.

        Any other failure is a fault in the backend: it is logged, and the
        client's connection is closed.
        """

    def health() -> Health:
        """Whether commands can be performed now, and well. Answers at once, from what is known."""

    def statistics() -> Deferred[Mapping[str, int]]:
        """
        What the storage knows about itself, under memcached's names (all of
        them optional): C{curr_items}, C{bytes}, C{limit_maxbytes},
        C{evictions}, C{reclaimed}; and what a kind of storage counts of its own, under names
        that begin with the kind, such as C{cluster_masters}. Fails with
        L{BackendError<redcouch.errors.BackendError>} where it cannot be asked.
        """


Answer = Callable[[list[Result] | Failure], None]
"""Is given the results of a batch, or why there are none."""


class IDirectBackend(IStorageBackend):
    """
    A backend that can answer without a Deferred. Nothing but speed is won by
    it: on the path of every request, a Deferred is a tenth of the cost.
    """

    def perform(commands: Sequence[Command], answer: Answer) -> None:
        """
        As C{execute}; C{answer} is called once, with what the Deferred would
        have fired with, perhaps before this returns.
        """


def performer(backend: IStorageBackend) -> Callable[[Sequence[Command], Answer], None]:
    """
    What L{IDirectBackend.perform} does, for any backend; a fault of its own is an answer too,
    and so is another number of results than commands.
    """
    if IDirectBackend.providedBy(backend):
        return backend.perform

    def execute(commands: Sequence[Command], answer: Answer) -> None:
        try:
            performed = backend.execute(commands)
        except Exception:
            answer(Failure())
        else:
            performed.addCallback(_one_for_each, commands).addBoth(answer)

    return execute


def _one_for_each(results: list[Result], commands: Sequence[Command]) -> list[Result]:
    if len(results) != len(commands):
        raise ValueError(f"{len(results)} results for {len(commands)} commands")
    return results


class IDescribedBackend(IStorageBackend):
    """A backend that can tell an operator more about its storage."""

    def describe() -> Deferred[Mapping[str, Any]]:
        """
        Facts about the storage, all of them optional: C{kind}, C{version},
        C{role}, C{policy} (text); C{uptime} in seconds, C{replicas},
        C{memory}, C{memory_limit} (bytes, 0 for none), C{memory_peak},
        C{evicted}, C{expired}, C{clients} (all that are connected to it), C{natives} (those of
        them that are no RedCouch, command of it, replica or sentinel),
        C{operations} (commands a second, of all its clients); and of a cluster
        C{nodes}, a list with a dict for each master, fit for JSON. Fails with
        L{BackendError<redcouch.errors.BackendError>} where it cannot be asked.
        """


class IWriteProbingBackend(IStorageBackend):
    """A backend that can tell whether its storage takes reads and writes."""

    def probe_writes() -> Deferred[None]:
        """
        Try a read and a write that leaves nothing behind. Fails with
        L{BackendError<redcouch.errors.BackendError>} where the storage refuses it, as when it is
        full.
        """


class ITrafficBackend(IStorageBackend):
    """A backend that can keep the inventory of memcached traffic beside the items."""

    def keep_traffic(seen: Sequence[UsageSample], now: float) -> Deferred[None]:
        """
        Add what was seen, and that this process watches. C{now} is the UNIX time in seconds
        by the clock that it was noted by. Called again and again, even where nothing was seen.
        Fails with L{BackendError<redcouch.errors.BackendError>}.
        """

    def traffic() -> Deferred[Usage]:
        """What has been kept, by all services on this storage. Fails with the same."""


class IDiscoveryBackend(IStorageBackend):
    """A backend that can number the lists of nodes which discovery clients are told."""

    def list_version(nodes: bytes, now: int) -> Deferred[int]:
        """
        The number of this list. Where it is not the last one that was given, it becomes so,
        with a number that is larger by one; all that share the items count together. No
        number is given twice, nor one below that of an earlier list, even if the storage
        has lost what it knew: C{now} (UNIX time in seconds) sees to that. Fails with
        L{BackendError<redcouch.errors.BackendError>}.
        """


class IFillableBackend(IStorageBackend):
    """
    A backend that can be filled from another cache while clients use it: it
    performs the commands of L{redcouch.backends.fill_leases} as well, each in
    one step, in order with the other commands of their batch, and alike for all
    processes that share the items.
    """


class ILocalBackend(IStorageBackend):
    """
    A backend whose items belong to the process that it runs in. Where several
    workers serve, each has a backend of its own, and that would be wrong here.
    """

    shared_url = Attribute(
        "The storage URL, a str, under which another process of this machine reaches the same "
        "items while this backend runs; or None, where none can."
    )


class IBoundedBackend(IStorageBackend):
    """A backend whose memory is the service's own, and may be bounded by a client."""

    def limit_memory(size: int) -> Deferred[bool]:
        """Let the items take so many bytes and no more; tells whether that is so now."""


CAPABILITIES = (
    IDirectBackend,
    IDescribedBackend,
    IWriteProbingBackend,
    ITrafficBackend,
    IDiscoveryBackend,
    IFillableBackend,
    ILocalBackend,
    IBoundedBackend,
)
"""What a backend may provide beyond L{IStorageBackend}."""


class IStorageBackendFactory(Interface):
    """A plugin that makes the backend for one scheme of storage URL."""

    scheme = Attribute("The URL scheme that it answers to, a str without the colon.")
    summary = Attribute("One line about it for --help, a str.")

    def build(url: str, context: BackendContext) -> IStorageBackend:
        """
        Make a backend that is not started yet.

        @param url: the storage URL as the operator gave it, scheme and all.
        @raise redcouch.errors.ConfigurationError: the URL is wrong.
        """
