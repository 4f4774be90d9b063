"""Logins that one worker has noticed for another: the token relay of one redeems the code that another expects.

Only a login whose ID Token was verified is written, so a stranger writes nothing. It stays for a minute, and is taken
once, by a request that was on its way when the code was redeemed.
"""

from __future__ import annotations

import time

from ..errors import StoreError
from ..log import logger
from ..login import Login
from ..store import MemoryStore, Store
from .guarded_store import GuardedStore, StoreBudget
from .handle import digest
from .records import HandedOverRecord, handed_over_key, read

KEPT_FOR = 60.0
"""Seconds for which a login waits for the worker that expects it. The answer to its callback comes sooner."""


class HandedOver:
    """Hand over logins through the store of several workers."""

    def __init__(self, store: Store) -> None:
        self._store = GuardedStore(store)

    async def put(self, code: str, login: Login) -> None:
        """Keep a login for the worker that expects its code; never raises."""
        record = HandedOverRecord(login, time.time()).to_json()
        await self._store.put(handed_over_key(digest("code", code)), record, KEPT_FOR, StoreBudget())

    async def take(self, code: str, since: float) -> Login | None:
        """Take the login of a code, if it was kept after ``since``, in seconds since the epoch; never raises."""
        try:
            key, budget = handed_over_key(digest("code", code)), StoreBudget()
            stored = read(HandedOverRecord.from_json, (await self._store.read([key], budget))[key])
            if stored is None or stored.at < since or not await self._store.delete(key, budget):
                return None
        except StoreError as error:
            logger.debug("a login that another worker may have noticed could not be looked up: %s", error)
            return None
        return stored.login


def hand_over_for(store: Store) -> HandedOver | None:
    """Return how workers with this store hand over logins; None if it is for one process."""
    return None if isinstance(store, MemoryStore) else HandedOver(store)
