"""The store of remembered logins: ``Store``, what any store must have, and ``MemoryStore``, the built-in one.

The protocol is the part of py-key-value-aio's ``AsyncKeyValue`` that is used here, so each of its stores can be used.
Values are small JSON objects. A key begins with the kind of thing it names, then a colon:

    login:        a login as it was remembered
    ended:        the tombstone of a login
    cookie:       a session cookie's value: the login that it was issued to, its end, or when it was issued again
    ended_until:  the time up to which logins of an (iss, sid) or (iss, sub) have ended
    known_sid:    a sid that somebody signed in with
    last_login:   the provider of a login that only ``login_source`` knew, for a second click within two minutes
    last_end:     that some login has ended just now
    deferred:     a logout that the next page finishes
    return_trip:  where a browser goes after the provider
    handed_over:  a login that the token relay of another worker has noticed
    silent_trip:  a logout whose browser fetches an ID Token at the provider first

What follows the colon is a digest. No key shows a token, a cookie value or a subject. ``logins.records`` has a class
for each kind of value.

Some records say in ``of`` who could have caused them: ``login``, the user of a login that was remembered; ``issued``,
somebody to whom the application has issued a session cookie; ``unknown``, anybody at all.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, SupportsFloat

from .errors import ConfigurationError

COLLECTION = "asgi_rp_logout"

VERSION = 1
"""The version of every record."""

Record = dict[str, Any]


class Store(Protocol):
    """The methods that a store must have. Each may raise any exception."""

    async def get(self, key: str, *, collection: str | None = None) -> Record | None:
        """Return the value of a key, or None."""
        ...

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[Record | None]:
        """Return the values of several keys, in their order."""
        ...

    async def put(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None
    ) -> None:
        """Keep a value for ``ttl`` seconds."""
        ...

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Remove a key; return whether it was there, so only one of several callers at the same time gets True."""
        ...


UNKNOWN, ISSUED, LOGIN = "unknown", "issued", "login"
"""Who could have caused a record, from anybody to the user of a remembered login."""

DETAILED = 10_000
"""Dead cookie values of strangers whose records are kept whole; their details matter for two minutes."""


class Fingerprints:
    """Remember texts by their fingerprints: the last three to four times ``generation`` of them.

    A fingerprint takes about 70 bytes. Two texts have the same one with a probability of one in 10 ** 13.
    """

    def __init__(self, generation: int) -> None:
        self._size = generation
        self._generations: list[set[int]] = [set()]

    def __len__(self) -> int:
        return sum(map(len, self._generations))

    def __contains__(self, text: str) -> bool:
        number = _fingerprint(text)
        return any(number in generation for generation in self._generations)

    def add(self, text: str) -> None:
        """Remember ``text``; the oldest generation is forgotten when the youngest is full."""
        if len(self._generations[0]) >= self._size:
            self._generations = [set(), *self._generations[:3]]
        self._generations[0].add(_fingerprint(text))

    def discard(self, text: str) -> bool:
        """Forget ``text``; return whether it was there."""
        number, there = _fingerprint(text), text in self
        for generation in self._generations:
            generation.discard(number)
        return there


def _fingerprint(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


class MemoryStore:
    """Remember logins in this process: bounded, with time limits, for one worker.

    Takes ``max_logins``, the number of logins to keep; above it the one not used for longest is forgotten. Every other
    kind of entry has a limit of its own. So have the entries that strangers can cause: they push out only entries of
    their own kind. A dead cookie value that is pushed out is still known to be dead, until at least 750,000 more of its
    kind have been pushed out. Raises ``ConfigurationError``.
    """

    def __init__(self, max_logins: int = 100_000) -> None:
        if not isinstance(max_logins, int) or isinstance(max_logins, bool) or max_logins < 1:
            raise ConfigurationError(f"max_logins={max_logins!r}: expected a whole number, 1 or more")
        self._limit = max_logins
        self.entries: dict[str, OrderedDict[str, tuple[float, Record]]] = {}
        self._dead: dict[str, Fingerprints] = {}
        self._clock = time.monotonic

    @property
    def empty(self) -> bool:
        """Return whether nothing is remembered at all."""
        return not self.entries

    def __len__(self) -> int:
        return sum(map(len, self.entries.values()))

    async def get(self, key: str, *, collection: str | None = None) -> Record | None:
        """Return the value of a key, or None."""
        return self._read(key)

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[Record | None]:
        """Return the values of several keys, in their order."""
        return [self._read(key) for key in keys]

    async def put(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None
    ) -> None:
        """Keep a value for ``ttl`` seconds, or until it is pushed out."""
        kind, cause = key.partition(":")[0], value.get("of", "")
        for name in self._shelves(kind):
            self._drop(name, key)
        name = f"{kind}:{cause}" if cause else kind
        shelf = self.entries.setdefault(name, OrderedDict())
        limit = min(self._limit, DETAILED) if cause in (UNKNOWN, ISSUED) else self._limit
        now = self._clock()
        shelf[key] = (now + float(ttl) if ttl is not None else float("inf"), dict(value))
        # The oldest entries come first. Two of them are checked for each new one, so expired ones cannot pile up.
        for oldest in tuple(itertools.islice(shelf, 2)):
            if shelf[oldest][0] <= now or len(shelf) > limit:
                if shelf[oldest][0] > now and kind == "cookie" and cause:
                    self._dead.setdefault(name, Fingerprints(GENERATION)).add(oldest)
                del shelf[oldest]

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Remove a key; return whether it was there."""
        there = self._read(key) is not None
        kind = key.partition(":")[0]
        for name in self._shelves(kind):
            self._drop(name, key)
        for fingerprints in self._dead.values() if kind == "cookie" else ():
            fingerprints.discard(key)
        return there

    def _shelves(self, kind: str) -> tuple[str, ...]:
        return _SHELVES.get(kind, (kind,))

    def _read(self, key: str) -> Record | None:
        kind = key.partition(":")[0]
        for name in self._shelves(kind):
            shelf = self.entries.get(name)
            entry = shelf.get(key) if shelf is not None else None
            if shelf is None or entry is None:
                continue
            if entry[0] <= self._clock():
                self._drop(name, key)
                return None
            # Whoever replays a dead value must not make it younger than the others.
            if name in ("login", "cookie"):
                shelf.move_to_end(key)
            return entry[1]
        if kind == "cookie" and any(key in fingerprints for fingerprints in self._dead.values()):
            return {"v": VERSION, "by": "buried", "at": 0.0}
        return None

    def _drop(self, name: str, key: str) -> None:
        shelf = self.entries.get(name)
        if shelf is not None:
            shelf.pop(key, None)
            if not shelf:
                del self.entries[name]


@functools.cache
def process_store() -> MemoryStore:
    """Return the store of all middlewares of this process that were given none.

    It is one for the process and not one for each middleware: Litestar makes a middleware for every route.
    """
    return MemoryStore()


GENERATION = 250_000
"""Dead cookie values that make one generation of fingerprints."""

_SHELVES = {
    kind: (kind, *(f"{kind}:{cause}" for cause in (LOGIN, ISSUED, UNKNOWN)))
    for kind in ("cookie", "deferred", "return_trip", "silent_trip")
}
