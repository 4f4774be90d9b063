"""A logout that the application asks for itself: of all logins of a user, or of one, without a logout response.

For a button "sign out on all devices", a changed password, an administrator, a receiver of security events, or a logout
inside a WebSocket.
"""

from __future__ import annotations

import math
import time
from collections.abc import MutableMapping
from datetime import datetime
from typing import Any

from ..context import find_context
from ..errors import RPLogoutError, StoreError
from ..exchange import Exchange
from ..login import Login, LogoutIntent
from ..logins.guarded_store import StoreBudget
from ..logins.registry import EndedSessions, LoginRegistry
from ..option_checks import store_of
from ..protocol.cookies import CookieSet
from .afterwards import after_logout
from .choose_provider import LogoutRequest, resolve
from .end_and_expire import end
from .evidence import has_ended_before, has_evidence, login_to_end
from .flow import login_for_hint, report
from .return_plan import ReturnPlan, plan_return

LONGEST_LIFE = 400 * 24 * 3600.0
"""Seconds for which an end is kept that knows no ``session_lifetime``: no browser keeps a cookie for longer."""


async def end_logins(
    request_or_scope: Any = None,
    *,
    iss: str | None = None,
    sub: str | None = None,
    sid: str | None = None,
    not_after: datetime | float | None = None,
    store: Any = None,
) -> None:
    """End all logins of a user here, or those of one session at the provider, that were made up to now.

    Takes whose they are: ``iss`` with ``sub``, with ``sid``, or with both; or else the request or scope of the user, if
    one is at hand. Outside of any request, takes the ``store`` of the middleware. The session cookies of these logins
    stop working, and their WebSockets and streams end. The session at the provider goes on. A login counts if its iss
    and sub, or sid, are known: see ``remember_login``.

    With ``not_after``, only logins end that began in the same second as this moment or before it. It is a datetime with
    a time zone, or seconds since the epoch as in a JWT (NumericDate; RFC 7519, section 2). One in the future counts as
    now. A login began when its ID Token was issued or when it was remembered first, whichever is earlier; a renewal
    does not change that.

    Raises ``RPLogoutError`` if nobody is named, if ``not_after`` is no such moment, and outside of
    ``RPLogoutMiddleware`` without a ``store``. Raises ``StoreError`` if the store fails: the logins have ended in this
    process then, and in others as soon as it answers.
    """
    for name, value in (("iss", iss), ("sub", sub), ("sid", sid)):
        if not isinstance(value, str | None):
            raise RPLogoutError(f"{name} is a {type(value).__name__}: expected text", code="token")
    context = find_context(request_or_scope)
    if iss is None and sub is None and sid is None and context is not None:
        login = await _living_login(_exchange_of(context, request_or_scope))
        iss, sub = (login.iss, login.sub) if login is not None else (None, None)
    if not iss or not (sub or sid):
        raise RPLogoutError(
            "nobody is named: expected iss= with sub= or sid=, or the request of a user whose iss and sub are known",
            code="nobody",
        )
    registry = registry_for(store) if store is not None else _in_exchange(context, ", or store=").registry
    await registry.end_sessions(ended_sessions(iss, sub, sid, not_after), StoreBudget())


async def end_login(request_or_scope: Any = None) -> str | None:
    """End the login of this request or WebSocket, and return the URL to send the browser to.

    For an application that logs out without a logout response, such as inside a WebSocket. Takes the request or scope,
    if one is at hand; it is needed outside of a WebSocket. All that a logout does happens here and now: the login ends,
    ``on_logout`` is called, tokens are revoked. The WebSocket itself stays open for a few seconds, so that the
    application can send the URL. Returns None if there is no session to end at a provider, or no URL: then the logout
    is a local one. RP-Initiated Logout 1.0, section 2.

    Raises ``RPLogoutError`` outside of ``RPLogoutMiddleware``.
    """
    exchange = _exchange_of(find_context(request_or_scope), request_or_scope)
    await _ask_store(exchange)
    login = await login_to_end(exchange)
    evidence, again = has_evidence(exchange, login), await has_ended_before(exchange, login)
    if exchange.connection is not None:
        exchange.connection.spare()
    exchange.remembered = exchange.noticed = None  # what was to be remembered has ended before it began
    try:
        await end(exchange, login, LogoutIntent())
        exchange.learn(await exchange.registry.status_at_response(exchange.status, exchange.budget))
        exchange.called = True
        return await _url_of(exchange, login) if evidence else None
    finally:
        if evidence and not again and not exchange.told:
            exchange.told = True
            ended = login if login is not None else Login()
            await after_logout(exchange.options, ended, exchange.asked, exchange.outcome)


async def _ask_store(exchange: Exchange) -> None:
    """Learn what is known of the login at this moment; a request may be slow, and a WebSocket old."""
    exchange.renew_budget()
    exchange.learn(await exchange.services.recogniser.status_for_logout(exchange.request, exchange.budget))


async def _living_login(exchange: Exchange) -> Login | None:
    """Return the login of whoever sent the request, if it lives: a copy of an ended session names nobody."""
    begun = exchange.remembered or exchange.noticed
    if begun is None:
        await _ask_store(exchange)
        if not exchange.status.known:
            raise StoreError("the store did not answer, so nobody knows whether this login lives", code="store")
    return begun or (exchange.status.login if exchange.status.live else None)


def _in_exchange(context: object, or_else: str = "") -> Exchange:
    """Return the exchange that a call belongs to; ``or_else`` says what could be passed in place of the request."""
    if not isinstance(context, Exchange):
        sentence = f"there is no RPLogoutMiddleware around this call: pass the request{or_else}"
        raise RPLogoutError(sentence, code="no_middleware")
    return context


def _exchange_of(found: object, request_or_scope: object) -> Exchange:
    context = _in_exchange(found)
    scope = getattr(request_or_scope, "scope", request_or_scope)
    if not context.has_begun:
        if not isinstance(scope, MutableMapping):
            raise RPLogoutError("this call needs the request: pass it as the first argument", code="not_a_request")
        context.scope = scope
    return context


async def _url_of(exchange: Exchange, login: Login | None) -> str | None:
    """Return the provider's URL; no state goes with it, because no cookie can bind it to this browser."""
    plan = ReturnPlan(plan_return(exchange.options, exchange.request, None).uri)
    wanted = LogoutRequest(None, login_for_hint(exchange, login), plan, exchange.request.as_it_came())
    try:
        destination = await resolve(exchange.options, wanted)
    except RPLogoutError as error:
        report(exchange, error, login)
        return None
    exchange.asked, exchange.outcome = destination.provider, "provider"
    return destination.url


def ended_sessions(iss: str, sub: str | None, sid: str | None, not_after: object = None) -> EndedSessions:
    """Return what ends now if the application ends the logins of a user or of one session.

    Raises ``RPLogoutError`` for a ``not_after`` that is no moment.
    """
    now = time.time()
    return EndedSessions(iss, sid or None, sub or None, _moment(not_after, now), now, "logout")


def _moment(not_after: object, now: float) -> float | None:
    """Return ``not_after`` in seconds since the epoch, at most ``now``; None for None.

    Raises ``RPLogoutError`` for what is neither a datetime with a time zone nor a finite number.
    """
    if not_after is None:
        return None
    seconds = not_after
    if isinstance(not_after, datetime) and not_after.utcoffset() is not None:
        seconds = not_after.timestamp()
    # bool is an int in Python, and json.loads reads NaN and Infinity.
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not -math.inf < seconds < math.inf:
        expected = "a datetime with a time zone, or a finite number of seconds since the epoch"
        raise RPLogoutError(f"not_after is a {type(not_after).__name__}: expected {expected}", code="not_after")
    return float(max(0, min(seconds, now)))


def registry_for(store: Any) -> LoginRegistry:
    """Return a registry for ends outside of the web process. Raises ``ConfigurationError`` for what is no store."""
    return LoginRegistry(store_of(store), session_cookies=CookieSet(()), session_lifetime=LONGEST_LIFE)
