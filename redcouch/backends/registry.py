"""
From a storage URL to a backend: the scheme finds a plugin, the plugin builds.

In the manner of L{twisted.cred.strcred}: what stands before the first colon
chooses among the L{IStorageBackendFactory<redcouch.interfaces.IStorageBackendFactory>}
plugins that L{twisted.plugin} finds in any installed C{twisted/plugins/}.
"""

from __future__ import annotations

import traceback
from importlib import import_module

from twisted.plugin import IPlugin, getPlugins
from zope.interface import implementer

from redcouch.errors import ConfigurationError
from redcouch.interfaces import BackendContext, IStorageBackend, IStorageBackendFactory
from redcouch.urls import redact


@implementer(IPlugin, IStorageBackendFactory)
class BackendMaker:
    """
    A backend plugin that costs nothing until it is chosen.

    The lazy twin of L{twisted.application.service.ServiceMaker}: C{module} is
    imported when a URL asks for the scheme, and its
    C{make_backend(url, context)} does the work.
    """

    def __init__(self, scheme: str, module: str, summary: str) -> None:
        self.scheme = scheme
        self.module = module
        self.summary = summary

    def build(self, url: str, context: BackendContext) -> IStorageBackend:
        """Import the module and let it make the backend."""
        backend: IStorageBackend = import_module(self.module).make_backend(url, context)
        return backend


LAYER_SCHEMES = {
    "warm": "warm:redis://host?from=memcached://old, filled from there",
}
"""What else a storage URL may begin with, to ask for a layer around another storage."""


def factories() -> dict[str, IStorageBackendFactory]:
    """Every installed backend factory, by scheme in lower case."""
    return {plugin.scheme.lower(): plugin for plugin in getPlugins(IStorageBackendFactory)}


def schemes() -> dict[str, str]:
    """Every scheme that a storage URL may begin with, each with its line for --help."""
    return {name: plugin.summary for name, plugin in factories().items()} | LAYER_SCHEMES


def make_backend(url: str, context: BackendContext) -> IStorageBackend:
    """
    Build the backend that a storage URL asks for, without the layers around it.

    @raise ConfigurationError: no plugin has that scheme, or it refuses the URL.
    """
    scheme, colon, _ = url.partition(":")
    factory = factories().get(scheme.lower())
    if factory is None or not colon:
        raise ConfigurationError(
            f"{redact(url)!r} is no storage URL: it has to begin with one of "
            + ", ".join(f"{name}:" for name in sorted(schemes()))
        )
    try:
        backend = factory.build(url, context)
    except ConfigurationError:
        raise
    except Exception as error:  # of anybody's code
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{error!r} ({where.filename}, line {where.lineno})"
    else:
        if callable(getattr(backend, "execute", None)) and not isinstance(backend, type):
            return backend
        said = f"it made {backend!r}, which is no IStorageBackend"
    said = " ".join(said.replace(url, redact(url)).split())
    raise ConfigurationError(f"a fault in the plugin of {scheme}: {said}")
