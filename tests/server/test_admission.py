"""Who may go to the storage, and who waits."""

from __future__ import annotations

from redcouch.server.admission import KEYS_AT_A_TIME, Admission, Charge

MIB = 1024 * 1024


class Client:
    """Wants to go."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.went = 0
        self.charge: Charge | None = None

    def go(self) -> None:
        self.went += 1

    def ask(self, keys: int, size: int = 0, small: bool = False) -> bool:
        self.charge = Charge(self, keys, size, small)
        return self.admission.admits(self.charge)

    def done(self, unsent: int = 0) -> None:
        """It is answered, and does not take so many bytes."""
        assert self.charge is not None
        if unsent:
            self.admission.pause(unsent)
        self.admission.free(self.charge.work, self.charge.size)


def client_count(count: int, memory_limit: int = 64 * MIB) -> list[Client]:
    admission = Admission(memory_limit)
    return [Client(admission) for _ in range(count)]


def test_keys() -> None:
    """So many keys at a time; the rest in the order in which they came."""
    clients = client_count(6)
    went = [client.ask(KEYS_AT_A_TIME // 4) for client in clients]
    assert went == [True] * 4 + [False] * 2
    clients[1].done()
    assert [client.went for client in clients] == [0, 0, 0, 0, 1, 0]
    clients[0].done()
    assert clients[5].went == 1


def test_new_ones_first() -> None:
    """Who asks for one key is not behind those who ask for many."""
    clients = client_count(6)
    for client in clients[:5]:
        client.ask(KEYS_AT_A_TIME // 4)
    clients[5].ask(KEYS_AT_A_TIME // 4, small=True)
    clients[0].done()
    assert (clients[4].went, clients[5].went) == (0, 1)


def test_however_large() -> None:
    """What is more than all goes when nothing else does."""
    one, other = client_count(2, MIB)
    assert one.ask(1, 100 * MIB)
    assert not other.ask(1, 100 * MIB)
    one.done()
    assert other.went == 1
    other.done()
    assert one.admission.held == 0


def test_memory() -> None:
    """While others do not take what they have asked for, the large wait and the small do not."""
    holder, large, small, new = client_count(4, 16 * MIB)
    assert holder.ask(1, MIB)
    holder.done(unsent=15 * MIB)
    assert not large.ask(2, 2 * MIB)
    assert small.ask(20, MIB // 2)
    assert new.ask(1, 2 * MIB, small=True)
    new.done()
    small.done()
    assert large.went == 0
    holder.admission.free(0, 15 * MIB)
    assert large.went == 1


def test_answered_at_once() -> None:
    """A storage that answers before it returns leaves nobody waiting."""

    class Prompt(Client):
        def go(self) -> None:
            super().go()
            self.done()

    admission = Admission(MIB)
    holders = [Client(admission) for _ in range(2)]
    for holder in holders:
        assert holder.ask(KEYS_AT_A_TIME)
    waiting = [Prompt(admission) for _ in range(1000)]
    for client in waiting:
        assert not client.ask(100, MIB)
    for holder in holders:
        holder.done()
    assert all(client.went == 1 for client in waiting)
    assert admission.held == 0
