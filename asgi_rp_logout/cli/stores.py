"""The store that ``--store`` names: by its URL, or as an object of the application.

The store must be the one of the middleware. A URL makes the store of py-key-value-aio for that kind of server, as it is
by default. What is set up in another way, such as a table of another name, a prefix or encryption, is found only as an
object of the application: the store, or the app with the middleware.

No error here shows anything of a URL but its scheme, because there is a password in it.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from ..doctor.search import middlewares_of
from ..errors import ConfigurationError
from ..option_checks import store_of
from ..store import MemoryStore, Store
from .loading import load


class _Kind(NamedTuple):
    """How a store is made: its module and extra in py-key-value-aio, its class, and what its constructor takes."""

    module: str
    name: str
    arguments: Callable[[str], dict[str, Any]]


def _url(url: str) -> dict[str, Any]:
    return {"url": url}


def _host_and_port(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    given = {"host": parts.hostname, "port": parts.port}
    return {name: value for name, value in given.items() if value is not None}


def _parts(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    given = {"username": parts.username, "password": parts.password}
    access = {name: unquote(value) for name, value in given.items() if value}
    return _host_and_port(url) | access | {"db": int(parts.path.strip("/") or 0)}


def _redis(url: str) -> dict[str, Any]:
    # RedisStore takes a URL, but does not decode the password in it.
    return _parts(url) | {"ssl": urlsplit(url).scheme == "rediss"}


_KINDS = {
    **dict.fromkeys(("redis", "rediss"), _Kind("redis", "RedisStore", _redis)),
    **dict.fromkeys(("postgresql", "postgres"), _Kind("postgresql", "PostgreSQLStore", _url)),
    **dict.fromkeys(("mongodb", "mongodb+srv"), _Kind("mongodb", "MongoDBStore", _url)),
    "valkey": _Kind("valkey", "ValkeyStore", _parts),
    "memcached": _Kind("memcached", "MemcachedStore", _host_and_port),
}


def store_at(address: str) -> Store:
    """Return the store of a URL or of ``module:attribute``. Raises ``ConfigurationError``."""
    scheme, separator, _ = address.partition("://")
    store = _by_url(scheme.lower(), address) if separator else _of_application(load(address))
    if isinstance(store, MemoryStore):
        raise ConfigurationError("--store: a MemoryStore is known to its own process only: expected a shared store")
    return store


def _of_application(part: object) -> Store:
    """Return a store of the application, or the store of the middleware in an application."""
    stores = {id(one.options.store): one.options.store for one in middlewares_of(part) if one.options is not None}
    if len(stores) > 1:
        raise ConfigurationError(f"--store: this app has {len(stores)} stores: expected one of them by its own name")
    return next(iter(stores.values())) if stores else store_of(part, "--store")


def _by_url(scheme: str, url: str) -> Store:
    kind = _KINDS.get(scheme)
    if kind is None:
        accepted = ", ".join(f"{name}://" for name in _KINDS)
        shown = f"{scheme}://" if scheme.isalnum() else "this"
        raise ConfigurationError(f"--store: {shown} is no known kind of store: expected {accepted} or module:attribute")
    try:
        module = importlib.import_module(f"key_value.aio.stores.{kind.module}")
    except ImportError:
        raise ConfigurationError(
            f"--store {scheme}:// needs another package: pip install 'py-key-value-aio[{kind.module}]'"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # some stores warn that they may change their layout
            return store_of(getattr(module, kind.name)(**kind.arguments(url)))
    except Exception as error:
        raise ConfigurationError(
            f"--store: this {scheme}:// URL cannot be used ({type(error).__name__}): expected one such as "
            f"{scheme}://user:password@host:port/database, with special characters of the password percent-encoded"
        ) from None
