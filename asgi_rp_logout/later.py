"""A logout by fetch, finished by the next navigation.

The browser lets no fetch follow a redirect to another origin. So the application's own answer goes through, and a
cookie with a random key marks the browser: its next top-level navigation is answered with the redirect to the provider.
What the cookie stands for is in the store.

A browser may drop that answer: the user clicks twice, or a script of the page starts another navigation. So the logout
stays for a few seconds after it was played first, and is played again for navigations that the application's own pages
start. It ends as soon as the browser comes from somewhere else, which it does on its way back from the provider. A
logout by form or link, whose answer is that redirect at once, leaves one that was played already: by the second click
the first answer may have taken the session cookie away. That click may even come after the browser was back.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from dataclasses import dataclass
from urllib.parse import parse_qs

from ._asgi import Scope
from .context import Mark
from .errors import StoreError
from .ledger import Deadline, Ledger
from .login import Login
from .request import Request
from .store import Record
from .verdict import Handle, digest, login_from, login_record

LATER_LIFETIME = 600.0
"""Seconds for which a logout waits. Later than that a click is about something else."""

REPLAYED_FOR = 10.0
"""Seconds in which what is used once may be used again, because the answer to the first use may have been dropped."""

MOST_PLAYS = 5
"""Answers that one deferred logout may get: nobody clicks more often, and a loop ends here."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """A logout that was deferred; ``stays`` says that it can be played again."""

    mark: Mark
    login: Login | None
    target: str | None
    stays: bool


def is_login_response(scope: Scope) -> bool:
    """Return whether a request is the answer of a provider to a login (OpenID Connect Core 1.0, section 3.1.2.5)."""
    query = scope.get("query_string", b"").decode("latin-1")
    try:
        return {"code", "state"} <= parse_qs(query, max_num_fields=50).keys()
    except ValueError:
        return False


def later_key(value: str) -> str:
    """Give the store's key for the value of the cookie."""
    return f"later:{digest(value)}"


async def defer(
    ledger: Ledger,
    request: Request,
    mark: Mark,
    login: Login | None,
    target: str | None,
    deadline: Deadline,
    *,
    played: bool = False,
) -> list[bytes]:
    """Keep a logout for later.

    Takes what the logout is about, the application's own redirect target, and whether this answer plays it. Returns the
    cookies to set: none if the store did not take it.
    """
    value, lifetime = secrets.token_urlsafe(32), REPLAYED_FOR if played else LATER_LIFETIME
    record: Record = {"provider": mark.provider, "to": target, "login": None}
    if played:
        record |= {"plays": 1, "played": time.time(), "by": [request.method, request.path]}
    if login is not None:
        kept = login_record(login, Handle.new(login, time.time()), time.time())
        kept.pop("refresh_token", None)
        record["login"] = kept
    if not await ledger.put(later_key(value), record, lifetime, deadline):
        return []
    return [request.own.setting(request.own.later, value, lifetime)]


async def play(
    ledger: Ledger, value: str, deadline: Deadline, *, again: bool, repeats: Request | None = None
) -> Deferred | None:
    """Return the deferred logout that a navigation is to finish; None if there is none, or the store fails.

    The store keeps it for ``REPLAYED_FOR`` more, whichever worker asks next. ``again`` says that this navigation may
    get one that was played before. ``repeats`` is a request that may get only what the same one has left.
    """
    key, now = later_key(value), time.time()
    try:
        record = (await ledger.read([key], deadline))[key]
    except StoreError:
        return None
    if record is None or (repeats is not None and record.get("by") != [repeats.method, repeats.path]):
        return None
    plays, since, left = int(record.get("plays", 0)), record.get("played", now), _left(record, now)
    if plays and (not again or plays >= MOST_PLAYS or left <= 0 or (record.get("back") and repeats is None)):
        return None
    stays = await ledger.put(key, {**record, "plays": plays + 1, "played": since}, left, deadline)
    login = login_from(record["login"]) if record.get("login") else None
    return Deferred(Mark(provider=record.get("provider")), login, record.get("to"), stays)


def _left(record: Record, now: float) -> float:
    return REPLAYED_FOR - max(now - float(record.get("played", now)), 0.0)


async def note_return(ledger: Ledger, value: str, deadline: Deadline) -> bool:
    """Note that the browser has been somewhere else since this was played; return whether it had been played.

    From now on only the same request once more, a second click, is answered with it.
    """
    key, now = later_key(value), time.time()
    try:
        record = (await ledger.read([key], deadline))[key] or {}
    except StoreError:
        return False
    if record.get("plays") and not record.get("back") and _left(record, now) > 0:
        await ledger.put(key, {**record, "back": True}, _left(record, now), deadline)
    return bool(record.get("plays"))


async def cancel(ledger: Ledger, value: str, deadline: Deadline) -> None:
    """Drop a deferred logout."""
    with contextlib.suppress(StoreError):
        await ledger.claim(later_key(value), deadline)
