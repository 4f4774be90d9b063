"""Where logins are remembered: the protocol that a store has, and the one that is built in.

The protocol is the part of py-key-value-aio's ``AsyncKeyValue`` that is used here, so that each of its stores fits as
it is. Values are small JSON objects. A key begins with the kind of thing it names, then a colon:

    login:    a login as it was remembered              ended:    the tombstone of one
    buried:   a session cookie's value after a logout   invented: the same, of a logout without a remembered login
    before:   the time up to which logins of an (iss, sid) or (iss, sub) have ended
    trip:     where a browser wants to go after the provider        later:    a logout that waits for a navigation
    ends:     that some login has ended just now
    echo:     what a second click within two minutes needs      known:    a sid that somebody signed in with

What follows the colon is a digest. No key shows a token, a cookie value or a subject.
"""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, SupportsFloat

from .errors import ConfigurationError

COLLECTION = "asgi_rp_logout"

Record = dict[str, Any]


class Store(Protocol):
    """Describe what a store has to have. Every method may raise; nothing here depends on how."""

    async def get(self, key: str, *, collection: str | None = None) -> Record | None:
        """Give the value of a key, or None."""
        ...

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[Record | None]:
        """Give the values of several keys, in their order."""
        ...

    async def put(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None
    ) -> None:
        """Keep a value for ``ttl`` seconds."""
        ...

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Remove a key; tell whether it was there, so that of several who delete it one is the first."""
        ...


class MemoryStore:
    """Remember logins in this process: bounded, with time limits, for one worker.

    Takes ``max_logins``, the number of logins to keep; above it the one not used for longest is forgotten. Every other
    kind of entry has a limit of its own, the same number: logouts with invented session cookies, which anybody can
    send, push out none but each other. Raises ``ConfigurationError``.
    """

    def __init__(self, max_logins: int = 100_000) -> None:
        if not isinstance(max_logins, int) or isinstance(max_logins, bool) or max_logins < 1:
            raise ConfigurationError(f"max_logins={max_logins!r}: expected a whole number, 1 or more")
        self._limit = max_logins
        self.entries: dict[str, OrderedDict[str, tuple[float, Record]]] = {}
        self.ends = 0
        self._clock = time.monotonic

    @property
    def empty(self) -> bool:
        """Tell whether nothing is remembered at all."""
        return not self.entries

    def __len__(self) -> int:
        return sum(map(len, self.entries.values()))

    async def get(self, key: str, *, collection: str | None = None) -> Record | None:
        """Give the value of a key, or None."""
        return self._read(key)

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[Record | None]:
        """Give the values of several keys, in their order."""
        return [self._read(key) for key in keys]

    async def put(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None
    ) -> None:
        """Keep a value for ``ttl`` seconds, or until it is pushed out."""
        kind = self.entries.setdefault(key.partition(":")[0], OrderedDict())
        kind.pop(key, None)
        now = self._clock()
        kind[key] = (now + float(ttl) if ttl is not None else float("inf"), dict(value))
        # The oldest entries stand first: a look at two of them for each one that comes keeps the dead from piling up.
        for oldest in tuple(itertools.islice(kind, 2)):
            if kind[oldest][0] <= now or len(kind) > self._limit:
                del kind[oldest]

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Remove a key; tell whether it was there."""
        there = self._read(key) is not None
        self._drop(key)
        return there

    def _read(self, key: str) -> Record | None:
        name = key.partition(":")[0]
        kind = self.entries.get(name)
        entry = kind.get(key) if kind is not None else None
        if kind is None or entry is None:
            return None
        if entry[0] <= self._clock():
            self._drop(key)
            return None
        if name == "login":
            kind.move_to_end(key)
        return entry[1]

    def _drop(self, key: str) -> None:
        name = key.partition(":")[0]
        kind = self.entries.get(name)
        if kind is not None:
            kind.pop(key, None)
            if not kind:
                del self.entries[name]
