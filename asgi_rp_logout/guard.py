"""Between the ledger and its store: a deadline, a breaker, one warning a second. No store takes the app down."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

import anyio

from ._asgi import logger
from .errors import StoreError

T = TypeVar("T")

STORE_DEADLINE = 0.5
"""Seconds for all store calls of one request."""

BREAKER_OPEN = 1.0
"""Seconds after a failure in which reads are not even tried."""


_ENDED_HERE = "the end of a login could not be written: until it can, only this process knows of it"
NOT_WRITTEN = {
    "login": "a login could not be remembered",
    **dict.fromkeys(("ended", "buried", "invented"), _ENDED_HERE),
    "later": "the logout of a fetch could not be kept for the next page",
    "trip": "where a browser wants to go after the provider could not be kept",
}
"""What it means that a record of one kind could not be written."""


@dataclass(slots=True)
class Deadline:
    """Share one deadline among the store calls of a request; what the application does in between does not count."""

    spent: float = 0.0

    def left(self) -> float:
        """Give the seconds left, never less than a hundredth."""
        return max(STORE_DEADLINE - self.spent, 0.01)


class Guard:
    """Call a store that may raise, hang or be slow."""

    def __init__(self) -> None:
        self._broken_until = 0.0
        self._warned_at = float("-inf")

    async def call(self, call: Awaitable[T], deadline: Deadline, *, breaker: bool) -> T:
        """Await a store's answer. Raises ``StoreError``; with ``breaker`` also at once, just after a failure."""
        if breaker and time.monotonic() < self._broken_until:
            if inspect.iscoroutine(call):
                call.close()  # never awaited, on purpose
            raise StoreError("the store failed a moment ago", code="breaker")
        began = time.monotonic()
        try:
            with anyio.move_on_after(deadline.left()):
                return await call
            raise TimeoutError
        except Exception as error:
            self._broken_until = time.monotonic() + BREAKER_OPEN
            raise StoreError(f"the store failed: {type(error).__name__}", code="store") from error
        finally:
            deadline.spent += time.monotonic() - began

    def complain(self, what: str, error: StoreError) -> None:
        """Log a failure, unless one was logged a moment ago."""
        now = time.monotonic()
        if now - self._warned_at > BREAKER_OPEN:
            self._warned_at = now
            logger.warning("%s: %s", what, error)
