"""End the logins of a user, or of one session at the provider, from a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from argparse import Namespace
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any

import anyio

from ..errors import ConfigurationError, StoreError
from ..logins.guarded_store import StoreBudget
from ..logins.registry import EndedSessions
from ..logout.on_demand import ended_sessions, registry_for
from ..store import COLLECTION
from .stores import store_at

PATIENCE = 10.0
"""Seconds for the connection to the store, and as many for the calls: nobody's request waits here."""


def run(given: Namespace) -> int:
    """End the logins that the arguments name, and return 0.

    Raises ``ConfigurationError`` for arguments that name nobody, no store or no moment, and ``StoreError`` if the store
    fails.
    """
    if not given.iss or not (given.sub or given.sid):
        raise ConfigurationError("nobody is named: expected --iss with --sub, with --sid, or with both")
    if not given.store:
        raise ConfigurationError("no store is named: expected --store, such as --store redis://localhost:6379/0")
    moment = _moment(given.not_after)
    asyncio.run(_end(store_at(given.store), ended_sessions(given.iss, given.sub, given.sid, moment)))
    whose = ("this session" if given.sid else "this user") + (f" up to {given.not_after}" if given.not_after else "")
    sys.stdout.write(f"The logins of {whose} have ended. All workers with this store know it within their freshness.\n")
    return 0


def _moment(text: str | None) -> datetime | None:
    """Return the moment that ``--not-after`` names. Raises ``ConfigurationError``."""
    if text is None:
        return None
    with contextlib.suppress(ValueError):
        moment = datetime.fromisoformat(text)
        if moment.utcoffset() is not None:
            return moment
    raise ConfigurationError(f"--not-after {text!r}: expected a time with its zone, such as 2026-11-26T13:00:00Z")


async def _end(store: Any, ending: EndedSessions) -> None:
    """End the logins in ``store``. Nothing that a store raises is shown but its type: it may hold the password."""
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
