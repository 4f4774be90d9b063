"""A logout by fetch, finished by the next navigation.

The browser lets no fetch follow a redirect to another origin. So the application's own answer goes through, and a
one-shot cookie marks the browser: its next top-level navigation is answered with the redirect to the provider. What the
cookie stands for is in the store, and is taken out by whoever plays it.
"""

from __future__ import annotations

import secrets
import time

from .context import Mark
from .errors import StoreError
from .ledger import Deadline, Ledger
from .login import Login
from .request import Request
from .store import Record
from .verdict import Handle, digest, login_from, login_record

LATER_LIFETIME = 3600.0
"""Seconds for which a logout waits: a page that navigates softly may take its time."""


def later_key(value: str) -> str:
    """Give the store's key for the value of the one-shot cookie."""
    return f"later:{digest(value)}"


async def defer(
    ledger: Ledger, request: Request, mark: Mark, login: Login | None, target: str | None, deadline: Deadline
) -> list[bytes]:
    """Keep a logout for later.

    Takes what the logout is about, and the application's own redirect target. Gives the cookies to set: none if the
    store did not take it.
    """
    value = secrets.token_urlsafe(32)
    record: Record = {"provider": mark.provider, "to": target, "login": None}
    if login is not None:
        kept = login_record(login, Handle.new(login, time.time()), time.time())
        kept.pop("refresh_token", None)
        record["login"] = kept
    if not await ledger.put(later_key(value), record, LATER_LIFETIME, deadline):
        return []
    return [request.own.setting(request.own.later, value, LATER_LIFETIME)]


async def take(ledger: Ledger, value: str, deadline: Deadline) -> tuple[Mark, Login | None, str | None] | None:
    """Take a deferred logout out of the store, once; None if there is none, or the store fails."""
    try:
        record = await ledger.claim(later_key(value), deadline)
    except StoreError:
        return None
    if record is None:
        return None
    login = login_from(record["login"]) if record.get("login") else None
    return Mark(provider=record.get("provider")), login, record.get("to")
