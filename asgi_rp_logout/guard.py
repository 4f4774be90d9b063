"""Between the ledger and its store: a deadline, a breaker, one warning a second. No store takes the app down.

The breaker is there for a store that is down: requests need not wait for it one after the other. It opens on failures
of the store's own, never on a request that ran into the deadline by its own size or number of calls. After a second,
one call is the probe, and the others go on without the store until it has answered. What must not get lost is always
tried: see ``vital``.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio

from .errors import StoreError
from .log import logger

T = TypeVar("T")

STORE_DEADLINE = 0.5
"""Seconds for all store calls of one request."""

BREAKER_OPEN = 1.0
"""Seconds after a failure in which calls that are not vital are not even tried."""

SMALL = 8
"""Keys of a call whose time-out is the store's own failure: handle, tombstone, two not-before times, a few cookies."""

_ENDED_HERE = "the end of a login could not be written to the store yet, so other workers do not know of it"
NOT_WRITTEN = {
    "login": "a login could not be remembered, so its logout has no ID Token",
    **dict.fromkeys(("ended", "cookie"), _ENDED_HERE),
    "later": "a logout by fetch could not be kept for the next page, so the user stays signed in at the provider",
    "trip": "the page to return to could not be kept, so the browser will return to the default one",
}
"""What it means that a record of one kind could not be written."""


@dataclass(slots=True)
class Deadline:
    """Share one deadline among the store calls of a request; what the application does in between does not count."""

    spent: float = 0.0

    def left(self) -> float:
        """Return the seconds left, never less than a hundredth."""
        return max(STORE_DEADLINE - self.spent, 0.01)


class Guard:
    """Call a store that may raise, hang or be slow. ``clock`` gives seconds that never run backwards."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or (lambda: time.monotonic())  # noqa: PLW0108  # the clock of now, not of the import
        self._opened_at: float | None = None
        self._probing = False
        self._warned_at = float("-inf")

    def close(self) -> None:
        """Take the store for a sound one again."""
        self._opened_at = None

    async def call(self, call: Callable[[], Awaitable[T]], deadline: Deadline, *, vital: bool, keys: int = 1) -> T:
        """Await a store's answer. Raises ``StoreError``; also at once, while the breaker is open.

        Takes the call, the request's deadline, the number of ``keys`` that the call is about, and ``vital``: a call
        that is tried whatever the breaker says, since something would be lost without it.
        """
        probe = not vital and self._opened_at is not None
        if probe:
            self._begin_probe()
        began, seconds = self._clock(), deadline.left()
        try:
            with anyio.move_on_after(seconds):
                answer = await call()
                self._opened_at = None
                return answer
            if keys <= SMALL and seconds >= STORE_DEADLINE / 2:
                self._opened_at = self._clock()
            raise StoreError(f"the store did not answer within {seconds:.1f} s", code="store")
        except StoreError:
            raise
        except Exception as error:
            self._opened_at = self._clock()
            raise StoreError(f"the store failed: {type(error).__name__}", code="store") from error
        finally:
            if probe:
                self._probing = False
            deadline.spent += self._clock() - began

    def _begin_probe(self) -> None:
        opened = self._opened_at
        if self._probing or (opened is not None and self._clock() - opened < BREAKER_OPEN):
            raise StoreError("the store failed a moment ago", code="breaker")
        self._probing = True

    def complain(self, what: str, error: StoreError) -> None:
        """Log a failure, unless one was logged a moment ago."""
        now = self._clock()
        if now - self._warned_at > BREAKER_OPEN:
            self._warned_at = now
            logger.warning("%s: %s", what, error)
