"""A logout by fetch, finished by the next page.

A browser does not let a fetch follow a redirect to another origin. So the application's own response is sent, with a
cookie that marks the browser. The next top-level navigation with this cookie is answered with the redirect to the
provider. The cookie is a random value, or refers to the tombstone of a session cookie. What it stands for is in the
store.

A browser may drop that answer, if the user clicks twice or a script of the page starts another navigation. So the
logout can be finished again for ``REPLAYED_FOR`` seconds, by navigations that the application's own pages start. This
ends as soon as the browser comes from somewhere else, as it does on its way back from the provider.

Until then the browser is still signed in at the provider, and any page can send it through a login unseen, such as by
the address of an image. Such a login does not count: see ``responses.unseen_login``.

A logout by form or link is answered with that redirect at once. It leaves a deferred logout all the same, which counts
as finished once: when a second click arrives, the first answer may already have deleted the session cookie. The second
click may even arrive after the browser has come back.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from dataclasses import dataclass, replace
from urllib.parse import parse_qs

from ..asgi.request import Request
from ..asgi.types import Scope
from ..errors import StoreError
from ..exchange import Exchange
from ..login import Login, LogoutIntent
from ..logins.guarded_store import StoreBudget
from ..logins.handle import digest
from ..logins.records import DeferredRecord, Ended, cookie_key, is_tombstone, read, shortened
from ..logins.registry import LoginRegistry
from ..store import UNKNOWN, Record

LATER_LIFETIME = 600.0
"""Seconds for which a logout waits for the next page. A click after that means something else."""

REPLAYED_FOR = 10.0
"""Seconds in which a logout or a return trip can be used again: the browser may have dropped the first answer."""

MOST_PLAYS = 5
"""How often one deferred logout can be finished. Nobody clicks more often, and a redirect loop ends here."""

REFERENCE = "~"
"""What the cookie of an anonymous logout begins with; doubled if the logout's own answer finished it. See ``save``."""

_LONGEST_REFERENCE = 80


@dataclass(frozen=True, slots=True)
class Deferred:
    """A logout for this request to finish. ``stays`` says that it can be finished again."""

    intent: LogoutIntent
    login: Login | None
    stays: bool


def is_login_response(scope: Scope) -> bool:
    """Return whether a request brings a provider's answer to a login (OpenID Connect Core 1.0, section 3.1.2.5)."""
    query = scope.get("query_string", b"").decode("latin-1")
    try:
        return {"code", "state"} <= parse_qs(query, max_num_fields=50).keys()
    except ValueError:
        return False


def deferred_key(value: str) -> str:
    """Return the store's key for the value of a deferred logout's cookie."""
    return f"deferred:{digest(value)}"


def record_of(request: Request, intent: LogoutIntent, login: Login | None, *, finished: bool) -> DeferredRecord:
    """Return the record of a deferred logout. ``finished`` says that its own answer has finished it once."""
    record = DeferredRecord(replace(intent, local=False), login)
    if finished:
        record = replace(record, plays=1, played=time.time(), via=(request.method, request.path))
    if login is None:  # anybody can send this: it stays small, and evicts no record of a login
        intent = replace(record.intent, return_to=shortened(intent.return_to))
        record = replace(record, intent=intent, cause=UNKNOWN)
    return record


async def save(
    exchange: Exchange, intent: LogoutIntent, login: Login | None, tombstone: str | None, *, finished: bool = False
) -> list[bytes]:
    """Keep a logout for later.

    Takes what it is to do, its login if one is known, and whether its own answer has ``finished`` it. Returns the
    cookies to set: none if the store did not take the record.

    Anybody can send a logout without a known login, so little is written for it. If it ended a session cookie,
    ``tombstone`` is that cookie's digest: the tombstone holds everything already, and nothing more is written. If not,
    one small record is written for the next page, and none for a second click.
    """
    lifetime, own = REPLAYED_FOR if finished else LATER_LIFETIME, exchange.request.own
    if login is None and tombstone is not None:
        return [own.setting(own.deferred, REFERENCE * (1 + finished) + tombstone, lifetime)]
    if login is None and finished:
        return []
    value = secrets.token_urlsafe(32)
    record = record_of(exchange.request, intent, login, finished=finished)
    if not await exchange.registry.store.put(deferred_key(value), record.to_json(), lifetime, exchange.budget):
        return []
    return [own.setting(own.deferred, value, lifetime)]


@dataclass(frozen=True, slots=True)
class _Stored:
    """A deferred logout in the store, under ``key``: a record of its own, or a part of the tombstone ``ended``."""

    key: str
    record: DeferredRecord
    json: Record
    ended: Ended | None = None

    async def write(self, registry: LoginRegistry, record: DeferredRecord, budget: StoreBudget) -> bool:
        """Write its new state, for ``REPLAYED_FOR`` from its first use. A tombstone keeps its own time to live."""
        if self.ended is not None:
            left = registry.left_of(self.ended.at)
            return await registry.store.put(self.key, {**self.json, **record.state()}, left, budget)
        return await registry.store.put(self.key, record.to_json(), _left(record, time.time()), budget)


async def _read(registry: LoginRegistry, value: str, budget: StoreBudget) -> _Stored | None:
    """Read the deferred logout that a cookie stands for. Raises ``StoreError``."""
    is_reference = value.startswith(REFERENCE)
    if is_reference and len(value) > _LONGEST_REFERENCE:
        return None
    key = cookie_key(value.lstrip(REFERENCE)) if is_reference else deferred_key(value)
    json = (await registry.store.read([key], budget, vital=True))[key]
    if json is None or (is_reference and not is_tombstone(json)):
        return None
    record = read(DeferredRecord.from_json, json)
    ended = read(Ended.from_json, json) if is_reference else None
    if record is None or not is_reference:
        return _Stored(key, record, json) if record is not None else None
    if ended is None or ended.intent.local or time.time() - ended.at > LATER_LIFETIME:
        return None
    if value.startswith(REFERENCE * 2) and not record.plays:
        record = replace(record, plays=1, played=ended.at)
    return _Stored(key, record, json, ended)


async def take(
    registry: LoginRegistry, value: str, budget: StoreBudget, *, again: bool, repeats: Request | None = None
) -> Deferred | None:
    """Return the deferred logout that a request is to finish; None if there is none, or the store fails.

    The store keeps it for ``REPLAYED_FOR`` more, for all workers. ``again`` says that this request may get one that was
    finished before. ``repeats`` is a request that may get only a logout of the same method and path.
    """
    try:
        stored = await _read(registry, value, budget)
    except StoreError:
        return None
    if stored is None or (repeats is not None and stored.record.via != (repeats.method, repeats.path)):
        return None
    record, now = stored.record, time.time()
    if _is_over(record, now) or (record.plays and not again):
        return None
    if record.plays and record.back and repeats is None:
        return None
    played = now if record.played is None else record.played
    stays = await stored.write(registry, replace(record, plays=record.plays + 1, played=played), budget)
    return Deferred(record.intent, record.login, stays)


async def note_return(registry: LoginRegistry, value: str, budget: StoreBudget) -> bool:
    """Note that the browser has left our pages since a logout was finished; return whether it was finished.

    From now on only a second click, the same request once more, can finish it again.
    """
    try:
        stored = await _read(registry, value, budget)
    except StoreError:
        return False
    if stored is None:
        return False
    record = stored.record
    if record.plays and not record.back and _left(record, time.time()) > 0:
        await stored.write(registry, replace(record, back=True), budget)
    return bool(record.plays)


async def still_waits(registry: LoginRegistry, value: str, budget: StoreBudget) -> bool:
    """Return whether a deferred logout can still be finished, for the first time or again; also if the store fails."""
    try:
        stored = await _read(registry, value, budget)
    except StoreError:
        return True
    return stored is not None and not _is_over(stored.record, time.time())


async def cancel(registry: LoginRegistry, value: str, budget: StoreBudget) -> None:
    """Drop a deferred logout."""
    with contextlib.suppress(StoreError):
        if not value.startswith(REFERENCE):
            await registry.store.take(deferred_key(value), budget)
        elif (stored := await _read(registry, value, budget)) is not None:
            await stored.write(registry, replace(stored.record, plays=MOST_PLAYS, played=1.0), budget)


def _is_over(record: DeferredRecord, now: float) -> bool:
    """Return whether a logout was finished so often, or so long ago, that it cannot be finished again."""
    return bool(record.plays) and (record.plays >= MOST_PLAYS or _left(record, now) <= 0)


def _left(record: DeferredRecord, now: float) -> float:
    return REPLAYED_FOR - max(now - (now if record.played is None else record.played), 0.0)
