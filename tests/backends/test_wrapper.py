"""A layer has what its inner backend has, and hands on what it does not change."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any
from unittest import mock

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Interface, directlyProvides
from zope.interface.verify import verifyObject

from redcouch.backends.wrapper import BackendWrapper
from redcouch.commands import Command, Get, Noop
from redcouch.interfaces import CAPABILITIES, IDirectBackend, IFillableBackend, IStorageBackend
from redcouch.results import Outcome, Result

SOME = [
    chosen for count in range(len(CAPABILITIES) + 1) for chosen in combinations(CAPABILITIES, count)
]


def inner(*capabilities: type[Interface]) -> Any:
    """A backend that notes what it is asked, and provides these."""
    made = mock.Mock()
    directlyProvides(made, IStorageBackend, *capabilities)
    return made


@pytest.mark.parametrize("capabilities", SOME, ids=len)
def test_same_capabilities(capabilities: Sequence[type[Interface]]) -> None:
    """No more and no less, but that every layer can be asked without a Deferred."""
    layer = BackendWrapper(inner(*capabilities))
    provided = {each for each in CAPABILITIES if each.providedBy(layer)}
    assert provided == {*capabilities, IDirectBackend}
    for interface in provided:
        verifyObject(interface, layer)


def test_hidden() -> None:
    """A layer may not have what its inner backend has."""

    class Unfillable(BackendWrapper):
        hidden = frozenset({IFillableBackend})

    layer = Unfillable(inner(*CAPABILITIES))
    assert not IFillableBackend.providedBy(layer)
    assert all(each.providedBy(layer) for each in CAPABILITIES if each is not IFillableBackend)


def test_everything_is_forwarded() -> None:
    """Every method of every capability reaches the inner backend, through two layers too."""
    asked = inner(*CAPABILITIES)
    layer: Any = BackendWrapper(BackendWrapper(asked))
    for interface in CAPABILITIES:
        for name, attribute in interface.namesAndDescriptions(all=True):
            if name == "execute":
                continue  # which a layer answers by perform
            if not hasattr(attribute, "positional"):
                assert getattr(layer, name) is getattr(asked, name)
                continue
            arguments = [mock.sentinel.argument] * len(attribute.positional)
            given = getattr(layer, name)(*arguments)
            if name != "perform":
                assert given is getattr(asked, name).return_value
            getattr(asked, name).assert_called_once_with(*arguments)
            getattr(asked, name).reset_mock()


class PerformTests(SynchronousTestCase):
    """The one way in which commands go through a layer."""

    def test_override(self) -> None:
        """Who overrides C{perform} has overridden C{execute}."""

        class Quiet(BackendWrapper):
            def perform(self, commands: Sequence[Command], answer: Any) -> None:
                answer([Outcome.OK] * len(commands))

        layer = Quiet(inner())
        self.assertEqual(self.successResultOf(layer.execute([Noop()])), [Outcome.OK])

    def test_inner_with_deferreds(self) -> None:
        """A backend that has C{execute} alone is asked by that."""
        asked = inner()
        answered: Deferred[list[Result]] = Deferred()
        asked.execute.return_value = answered
        results: list[Any] = []
        BackendWrapper(asked).perform([Get([b"k"])], results.append)
        self.assertEqual(results, [])
        answered.callback([[None]])
        self.assertEqual(results, [[[None]]])
