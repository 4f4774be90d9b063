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
from dataclasses import dataclass, replace
from urllib.parse import parse_qs

from .asgi.types import Scope
from .context import Mark
from .errors import StoreError
from .ledger import Deadline, Ledger
from .login import Login
from .request import Request
from .store import UNKNOWN, Record
from .verdict import cookie_key, digest, login_from, login_parts

LATER_LIFETIME = 600.0
"""Seconds for which a logout waits. Later than that a click is about something else."""

REPLAYED_FOR = 10.0
"""Seconds in which what is used once may be used again, because the answer to the first use may have been dropped."""

MOST_PLAYS = 5
"""Answers that one deferred logout may get: nobody clicks more often, and a loop ends here."""


REFERENCE = "~"
"""What the cookie of an anonymous logout begins with, twice if its answer played it: see ``defer``."""

_LONGEST_REFERENCE = 80

SHORT = 100
"""Characters of a path that are kept of a logout by nobody known."""


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
    """Return the store's key for the value of the cookie."""
    return f"later:{digest(value)}"


async def defer(
    ledger: Ledger,
    request: Request,
    mark: Mark,
    login: Login | None,
    target: str | None,
    deadline: Deadline,
    *,
    end: str | None = None,
    played: bool = False,
) -> list[bytes]:
    """Keep a logout for later.

    Takes what the logout is about, the application's own redirect target, whether this answer plays it, and ``end``:
    the digest of the session cookie whose tombstone says all that there is to know, if nobody is known. Nothing more is
    written then: anybody can send such a logout. Without such a cookie, one small record is written for the next page,
    and none for a second click. Returns the cookies to set: none if the store did not take it.
    """
    lifetime = REPLAYED_FOR if played else LATER_LIFETIME
    if login is None and end is not None:
        return [request.own.setting(request.own.later, REFERENCE * (1 + played) + end, lifetime)]
    if login is None and played:
        return []
    value = secrets.token_urlsafe(32)
    record = later_record(request, mark, login, target, played=played)
    if not await ledger.put(later_key(value), record, lifetime, deadline):
        return []
    return [request.own.setting(request.own.later, value, lifetime)]


def later_record(request: Request, mark: Mark, login: Login | None, target: str | None, *, played: bool) -> Record:
    """Return what is kept of a logout for later."""
    record: Record = {"provider": mark.provider, "to": target, "login": None}
    if played:
        record |= {"plays": 1, "played": time.time(), "via": [request.method, request.path]}
    if login is None:
        # Anybody can send this: it stays small, and pushes out none of somebody's.
        record |= {"of": UNKNOWN, "to": target if len(target or "") <= SHORT else None}
    else:
        record["login"] = login_parts(replace(login, refresh_token=None))
    return record


async def _read(ledger: Ledger, value: str, deadline: Deadline) -> Record | None:
    """Read what a cookie stands for. Raises ``StoreError``."""
    key = _key(value)
    record = (await ledger.read([key], deadline, vital=True))[key] if key is not None else None
    if record is None or not value.startswith(REFERENCE):
        return record
    at = float(record.get("at", 0))
    if "by" not in record or record.get("local") or time.time() - at > LATER_LIFETIME:
        return None
    return {"plays": 1, "played": at, **record} if value.startswith(REFERENCE * 2) else record


async def _write(ledger: Ledger, value: str, record: Record, deadline: Deadline) -> bool:
    """Write back what has become of it, for ``REPLAYED_FOR`` from its first play; a tombstone lives on as it would."""
    left = _left(record, time.time())
    if value.startswith(REFERENCE):
        left = ledger.left_of(float(record["at"]))
    return await ledger.put(str(_key(value)), record, left, deadline)


def _key(value: str) -> str | None:
    if not value.startswith(REFERENCE):
        return later_key(value)
    return cookie_key(value.lstrip(REFERENCE)) if len(value) <= _LONGEST_REFERENCE else None


async def play(
    ledger: Ledger, value: str, deadline: Deadline, *, again: bool, repeats: Request | None = None
) -> Deferred | None:
    """Return the deferred logout that a navigation is to finish; None if there is none, or the store fails.

    The store keeps it for ``REPLAYED_FOR`` more, whichever worker asks next. ``again`` says that this navigation may
    get one that was played before. ``repeats`` is a request that may get only what the same one has left.
    """
    try:
        record = await _read(ledger, value, deadline)
    except StoreError:
        return None
    if record is None or (repeats is not None and record.get("via") != [repeats.method, repeats.path]):
        return None
    now = time.time()
    plays, since, left = int(record.get("plays", 0)), record.get("played", now), _left(record, now)
    if plays and (not again or plays >= MOST_PLAYS or left <= 0 or (record.get("back") and repeats is None)):
        return None
    stays = await _write(ledger, value, {**record, "plays": plays + 1, "played": since}, deadline)
    login = login_from(record["login"]) if record.get("login") else None
    return Deferred(Mark(provider=record.get("provider")), login, record.get("to"), stays)


def _left(record: Record, now: float) -> float:
    return REPLAYED_FOR - max(now - float(record.get("played", now)), 0.0)


async def note_return(ledger: Ledger, value: str, deadline: Deadline) -> bool:
    """Note that the browser has been somewhere else since this was played; return whether it had been played.

    From now on only the same request once more, a second click, is answered with it.
    """
    try:
        record = await _read(ledger, value, deadline) or {}
    except StoreError:
        return False
    if record.get("plays") and not record.get("back") and _left(record, time.time()) > 0:
        await _write(ledger, value, {**record, "back": True}, deadline)
    return bool(record.get("plays"))


async def cancel(ledger: Ledger, value: str, deadline: Deadline) -> None:
    """Drop a deferred logout."""
    with contextlib.suppress(StoreError):
        if not value.startswith(REFERENCE):
            await ledger.claim(later_key(value), deadline)
        elif (record := await _read(ledger, value, deadline)) is not None:
            await _write(ledger, value, {**record, "plays": MOST_PLAYS, "played": 0}, deadline)
