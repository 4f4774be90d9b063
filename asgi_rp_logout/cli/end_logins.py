"""End the logins of a user, or of one session at the provider, from a process of its own."""

from __future__ import annotations

import asyncio
import sys
import time
from argparse import Namespace
from contextlib import AsyncExitStack
from typing import Any

import anyio

from ..errors import ConfigurationError, StoreError
from ..logins.guarded_store import StoreBudget
from ..logins.registry import EndedSessions
from ..logout.on_demand import registry_for
from ..store import COLLECTION
from .stores import store_at

PATIENCE = 10.0
"""Seconds for the connection to the store, and as many for the calls: nobody's request waits here."""


def run(given: Namespace) -> int:
    """End the logins that the arguments name, and return 0.

    Raises ``ConfigurationError`` for arguments that name nobody or no store, and ``StoreError`` if the store fails.
    """
    if not given.iss or not (given.sub or given.sid):
        raise ConfigurationError("nobody is named: expected --iss with --sub, with --sid, or with both")
    if not given.store:
        raise ConfigurationError("no store is named: expected --store, such as --store redis://localhost:6379/0")
    asyncio.run(_end(store_at(given.store), given))
    whose = "this session" if given.sid else "this user"
    sys.stdout.write(f"The logins of {whose} have ended. All workers with this store know it within their freshness.\n")
    return 0


async def _end(store: Any, given: Namespace) -> None:
    """End the logins in ``store``. Nothing that a store raises is shown but its type: it may hold the password."""
    ending = EndedSessions(given.iss, given.sid or None, given.sub or None, None, time.time(), "logout")
    async with AsyncExitStack() as stack:
        try:
            with anyio.fail_after(PATIENCE):
                if hasattr(store, "__aenter__"):
                    await stack.enter_async_context(store)
                await store.get("ended_until:", collection=COLLECTION)
        except Exception as error:
            name = type(error).__name__
            raise StoreError(f"the store cannot be reached ({name}), so nothing has ended") from None
        try:
            await registry_for(store).end_sessions(ending, StoreBudget(spent=-PATIENCE))
        except StoreError as error:
            raise StoreError(f"{error}, so the logins may live on: try again") from None
