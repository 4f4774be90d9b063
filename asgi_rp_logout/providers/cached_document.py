"""A document of a provider, fetched when it is needed and then kept: its metadata, and the keys that it publishes.

Every logout may need the metadata and every logout token the keys, and a provider may be slow or down. So:

1. One fetch at a time. A request that has waited for it uses its result.
2. A document is used until there is a newer one. A fetch that fails does not remove it.
3. A failure is kept with its time, so that the next request does not wait for the same time-out.

The two documents differ in when they are fetched again. ``Metadata`` is refreshed after a response, because a logout
must not wait. Old keys are fetched before they are used, because the provider may have withdrawn one: see
``PublishedKeys``.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import anyio

from ..errors import ProviderError
from ..log import logger
from ..protocol.discovery import FAILURE_REMEMBERED_FOR, FRESH_FOR
from .transport import HTTPClient

T = TypeVar("T")


class CachedDocument(ABC, Generic[T]):
    """Keep one document and the last failure to fetch it; ``clock`` returns seconds that never run backwards."""

    fresh_for = FRESH_FOR
    """Seconds after which a document is stale."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.http_client: HTTPClient | None = None
        self.document: T | None = None
        self.fetched_at = 0.0
        self.failure: Exception | None = None
        self.failed_at = 0.0
        self.fetching = anyio.Lock()
        """Hold it around ``fetch()`` wherever nobody else may fetch at the same time."""

    @abstractmethod
    async def load(self) -> T:
        """Get the document from the provider. Raises ``ProviderError``."""

    @property
    def stale(self) -> bool:
        """Return whether there is a document, but an old one."""
        return self.document is not None and self.clock() - self.fetched_at > self.fresh_for

    async def fetch(self) -> T:
        """Load the document and keep it. A failure is kept and raised; a cancelled fetch is no failure."""
        try:
            self.document = document = await self.load()
        except Exception as error:
            self.failure, self.failed_at = error, self.clock()
            raise
        self.failure, self.fetched_at = None, self.clock()
        return document


class Metadata(CachedDocument[dict[str, Any]]):
    """Keep what a provider says of itself: its issuer and its endpoints. ``source`` names it in the log."""

    def __init__(self, source: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self.source = source

    @property
    def address(self) -> str | None:
        """The URL of the document, or None if there is none."""
        return None

    async def get(self) -> dict[str, Any]:
        """Return the metadata, stale or not; it is fetched first if there is none. Raises ``ProviderError``.

        A failure is remembered for ``FAILURE_REMEMBERED_FOR`` seconds. It is then the cause of the error raised here.
        """
        if self.document is not None:
            return self.document
        async with self.fetching:
            if self.document is not None:
                return self.document
            failure = self.failure
            if isinstance(failure, ProviderError) and self.clock() - self.failed_at < FAILURE_REMEMBERED_FOR:
                raise ProviderError(str(failure), code=failure.code) from failure
            return await self.fetch()

    async def prefetch(self) -> None:
        """Fetch the metadata ahead of need. Raises ``ProviderError``, and forgets it: no logout has waited yet."""
        try:
            await self.get()
        except ProviderError:
            self.failure = None
            raise

    async def refresh(self) -> None:
        """Fetch the metadata again if it is stale. A ``ProviderError`` is logged, and the old metadata serves on."""
        if not self.stale:
            return
        # Other requests do not try meanwhile. If this fetch fails, the next one comes after the time of a failure.
        self.fetched_at = self.clock() - self.fresh_for + FAILURE_REMEMBERED_FOR
        try:
            await self.fetch()
        except ProviderError as error:
            logger.info("the metadata of %s could not be refreshed, so the old one is used: %s", self.source, error)
