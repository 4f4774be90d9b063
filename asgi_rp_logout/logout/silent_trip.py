"""Before a logout without an ID Token goes to its provider, the browser may fetch one there: ``silent_hint=True``.

1. ``plan_trip``: the logout is complete here. The browser is sent to the authorization endpoint with ``prompt=none``,
   and a cookie that binds the way back to it.
2. ``come_back``: at the callback path, the answer is compared with the cookie, and the code is redeemed.
3. The browser goes on to the end-session endpoint, with the ID Token as a hint if all went well, else without one.

Nobody is signed in by this, and nothing that comes back decides where the browser goes: what is to be done is in the
store, under the digest of the state. If anything fails, the logout goes on as it does without this option.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass, replace

import anyio

from ..errors import RPLogoutError, StoreError
from ..exchange import Exchange
from ..log import logger
from ..login import Login, LogoutIntent
from ..logins.records import SHORT, SilentTripRecord, read
from ..negotiation.request_kind import RequestKind, is_without_click
from ..options import Options
from ..protocol.authorization import AuthorizationResponse, read_authorization_response
from ..protocol.return_target import absolute_url, local_reference
from ..providers.provider import Provider, is_issuer_of, list_providers, name_of
from ..providers.silent_hint import SilentAnswer, SilentHint, SilentRequest
from ..store import UNKNOWN, Record
from .afterwards import AFTER_DEADLINE
from .deferred import REPLAYED_FOR
from .return_plan import browser_digest

TRIP_LIFETIME = 60.0
"""Seconds in which the browser may come back. A provider that shows no page answers at once."""


REVOKED_AFTER = 1.0
"""Seconds after the answer in which the browser is to reach the end-session endpoint first.

Keycloak ends the session with the refresh token. Then there is nothing left to log out of, and no logout in its events.
"""


@dataclass(frozen=True, slots=True, repr=False)
class SilentTrip:
    """A trip to begin: where the browser goes, the cookie that binds it, and the record that waits for it."""

    url: str
    cookie: bytes
    key: str
    record: Record


@dataclass(frozen=True, slots=True, repr=False)
class Return:
    """What is left to do when a browser has come back: the logout, its login, and a refresh token to revoke.

    The refresh token of somebody who is not logged out is left alone, because revoking it may end a session. ``bound``
    says that it was the browser's own trip, whose cookie is not needed any more.
    """

    intent: LogoutIntent
    login: Login | None = None
    bound: bool = True
    silent: SilentHint | None = None
    refresh_token: str | None = None


def silent_of(provider: object) -> SilentHint | None:
    """Return how a provider is asked for an ID Token without a page; None if it is not to be asked."""
    silent = getattr(provider, "silent", None)
    return silent if isinstance(silent, SilentHint) else None


# -- the way there -------------------------------------------------------------------------------------------------


async def plan_trip(
    exchange: Exchange, intent: LogoutIntent, login: Login | None, provider: Provider
) -> SilentTrip | None:
    """Return the trip that a logout begins with; None if it goes to the end-session endpoint at once.

    ``login`` is what the provider may get of the login. A provider that has yet to show, or to show again, that it
    answers is noted: see ``probe_after_answer``.
    """
    silent, request, options = silent_of(provider), exchange.request, exchange.options
    name, redirect_uri = name_of(provider), _redirect_uri(exchange)
    if silent is None or name is None or not _needs_hint(login, provider):
        return None
    if options.why_not_silent is not None:
        options.notices.once(f"silent_hint of provider {name!r} is ignored: {options.why_not_silent}")
        return None
    # Without a click another site may have caused this logout: then the provider asks the user.
    if redirect_uri is None or is_without_click(request.headers, exchange.origins):
        return None
    exchange.probe_at = redirect_uri if silent.needs_probe(redirect_uri) else None
    if not silent.is_on(redirect_uri):
        return None
    question = SilentRequest(redirect_uri)
    target = intent.return_to
    if login is None and target is not None and len(target) > SHORT:  # anybody can send this
        target = None
    record = SilentTripRecord(name, target, login, cause=UNKNOWN if login is None else "")
    cookie = request.own.setting(request.own.silent_trip, question.secret, TRIP_LIFETIME)
    return SilentTrip(await silent.url(question), cookie, silent_trip_key(question.state), record.to_json())


def silent_trip_key(state: str) -> str:
    """Return the key under which a trip is stored."""
    return f"silent_trip:{browser_digest(state)}"


def _needs_hint(login: Login | None, provider: Provider) -> bool:
    return login is None or (login.id_token is None and is_issuer_of(provider, login))


def _redirect_uri(exchange: Exchange) -> str | None:
    path, base = exchange.options.callback_path, exchange.request.base(exchange.options.public_url)
    return absolute_url(path, base) if path is not None and base is not None else None


async def probe_after_answer(exchange: Exchange) -> None:
    """Find out whether the provider answers such requests, after the response of a logout."""
    silent, redirect_uri = silent_of(exchange.asked), exchange.probe_at
    if silent is not None and redirect_uri is not None:
        with anyio.move_on_after(AFTER_DEADLINE, shield=True):
            await silent.probe(redirect_uri)


# -- the way back --------------------------------------------------------------------------------------------------


async def come_back(exchange: Exchange) -> Return | None:
    """Return what is left to do for a browser with an authorization response; None if this is no such return."""
    request = exchange.request
    response = read_authorization_response(request.scope.get("query_string", b"").decode("latin-1"))
    if (
        response is None
        or not exchange.options.may_ask_silently
        or exchange.kind is not RequestKind.NAVIGATION
        or request.method != "GET"
    ):
        return None
    secret = request.cookie(request.own.silent_trip)
    question = SilentRequest(_redirect_uri(exchange) or "", secret or "")
    bound = bool(secret) and hmac.compare_digest(question.state.encode(), response.state.encode())
    try:
        record, is_first = await _take(exchange, response.state, bound=bound)
    except StoreError:
        record, is_first = None, False
    if record is None:  # lost, or unknown; its own browser at least goes to the provider, if there is only one
        return Return(LogoutIntent()) if bound else None
    if not bound:  # another browser, or one whose cookie is gone: it gets nothing that belongs to this logout
        return Return(LogoutIntent(record.provider), bound=False)
    intent, login = LogoutIntent(record.provider, return_to=local_reference(record.target or "", own=())), record.login
    if not is_first:
        return Return(intent, login)
    return await _with_hint(exchange, Return(intent, login), question, response)


async def _take(exchange: Exchange, state: str, *, bound: bool) -> tuple[SilentTripRecord | None, bool]:
    """Read a trip, and use it up for its own browser; return it, and whether this is its first use.

    It can be read for ``REPLAYED_FOR`` more after that: a browser may drop the first answer. Raises ``StoreError``.
    """
    key, store, budget = silent_trip_key(state), exchange.registry.store, exchange.budget
    used_key = f"{key}.used"
    records = await store.read([key, used_key], budget, vital=True)
    record = read(SilentTripRecord.from_json, records[key] or records[used_key])
    if record is None or not bound or records[key] is None:
        return record, False
    await store.put(used_key, record.to_json(), REPLAYED_FOR, budget)
    return record, await store.delete(key, budget)  # only one of several visits at the same time gets True


async def _with_hint(
    exchange: Exchange, trip: Return, question: SilentRequest, response: AuthorizationResponse
) -> Return:
    options, intent, login = exchange.options, trip.intent, trip.login
    until = time.monotonic() + options.provider_timeout
    silent = await _find(options, intent.provider)
    if silent is None:
        return trip
    answer = await silent.answer(question, response, max(until - time.monotonic(), 0))
    if answer.id_token is None:
        return trip
    if login is not None and _is_somebody_else(login, answer):
        logger.info("somebody else is signed in at %r than here, so it gets no ID Token, and asks", intent.provider)
        return trip
    logout_hint = login.logout_hint if login is not None else None
    login = Login(intent.provider, answer.id_token, logout_hint=logout_hint, known_by="silent_hint")
    return replace(trip, login=login, silent=silent, refresh_token=answer.refresh_token)


def _is_somebody_else(login: Login, answer: SilentAnswer) -> bool:
    """Return whether an ID Token belongs to somebody else than the user who has logged out.

    If the ``sub`` is known, it decides alone. If the ``sid`` differs then, the same user has signed in again in this
    browser, and the logout is meant for that session as well. If only the ``sid`` is known, an ID Token with another
    ``sid``, or with none, may be anybody's (Back-Channel Logout 1.0, section 2.1).
    """
    if login.sub is not None:
        return login.sub != answer.sub
    return login.sid is not None and login.sid != answer.sid


async def _find(options: Options, name: str | None) -> SilentHint | None:
    try:
        with anyio.fail_after(options.provider_timeout):
            providers = await list_providers(options.providers, options.http_client)
    except (RPLogoutError, TimeoutError):
        return None
    return next((silent_of(provider) for provider in providers if name_of(provider) == name), None)


async def revoke_after_answer(trip: Return) -> None:
    """Revoke the refresh token of a trip, if it brought one: nobody needs it, and it may outlive the logout."""
    if trip.silent is None or trip.refresh_token is None:
        return
    with anyio.move_on_after(AFTER_DEADLINE, shield=True):
        await anyio.sleep(REVOKED_AFTER)
        await trip.silent.revoke(trip.refresh_token)
