"""The work of ``remember_login`` and ``forget_login``, done when the response starts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from .. import log
from ..asgi.response import HEADERS_AT_MOST, ResponseStart
from ..exchange import Exchange
from ..log import logger
from ..login import Login, unverified_claims
from ..logins import app_session
from ..logins.guarded_store import StoreBudget
from ..logins.handle import LoginHandle
from ..logins.status import LoginStatus
from ..logout.deferred import cancel
from ..options import Options
from ..protocol.cookie_values import Secret
from ..protocol.cookies import is_deletion, name_set_by
from ..providers.provider import issuer_of, name_of


def login_to_remember(exchange: Exchange, start: ResponseStart) -> Login | None:
    """Return the login that a response is to remember: the handler's, or one that was noticed and begins a session.

    An application may refuse the user after its client library has completed the login. It then begins no session: it
    sets no session cookie, and leaves the session around us empty or as it is.
    """
    if exchange.remembered is not None or exchange.noticed is None or exchange.forgotten:
        return exchange.remembered
    cookies, declared = exchange.options.session_cookie, exchange.options.session_declared
    begins = app_session.has_changed(exchange.request) or any(
        cookies.sets(line) or not (declared or is_deletion(line)) for line in start.set_cookies
    )
    return exchange.noticed if begins else None


def is_accepted(exchange: Exchange, start: ResponseStart) -> bool:
    """Return whether the application has accepted the login that it remembers: no error, and there is a session.

    The session is the one around us, or a session cookie that the response sets or the request has brought. Where the
    cookie's name was never declared, its absence means nothing.
    """
    if start.status >= 400:
        return False
    session, cookies = exchange.request.live_session(), exchange.options.session_cookie
    if session or not exchange.options.session_declared:
        return True
    lines = start.set_cookies
    if any(cookies.sets(line) for line in lines):
        return True
    return bool(exchange.status.credentials.cookies) and not any(cookies.has(name_set_by(line)) for line in lines)


async def remember(exchange: Exchange, login: Login, start: ResponseStart) -> ResponseStart:
    """Remember a login, and return the start message with the cookie for it, if it needs one."""
    own, deferred_key = exchange.request.own, exchange.status.credentials.deferred_key
    lines = await _write(exchange, login, start)
    start = start.with_cookies(lines)
    if not set(lines).issubset(start.set_cookies):
        logger.warning(
            "a login is not remembered: with the cookie for it the headers of its answer would exceed %d bytes, which "
            "nginx and other proxies refuse; shorten the application's own headers, or put RPLogoutMiddleware inside "
            "the session middleware",
            HEADERS_AT_MOST,
        )
    if deferred_key is not None:  # the user has just signed in, and does not want the earlier logout
        await cancel(exchange.registry, deferred_key, exchange.budget)
        start = start.with_cookies([own.deletion(own.deferred)])
    return start


async def _write(exchange: Exchange, login: Login, start: ResponseStart) -> list[bytes]:
    """Write a new login under a new handle, and end the one before it; renew one that is the same.

    Returns the cookies to set: none if the handle went into the session.
    """
    status, registry, options = exchange.status, exchange.registry, exchange.options
    issued = options.session_cookie.issued(start.set_cookies)
    new = [one.digest for one in issued if one.digest]
    now = await registry.status_at_response(status, exchange.budget)
    old = status.login if status.live else None
    renews = old is not None and is_renewal(old, login)
    if renews and status.handle is not None:
        handle, login = status.handle, renewed(status.record.login if status.record else Login(), login)
        other = handle if now.ended is not None else None  # ended meanwhile, so what its response sets is dead too
    else:
        login = with_issuer(options, login)
        _check_audience(options, login)
        if registry.is_tied(set(new).difference(status.credentials.digests)):
            log.same_value(options.notices)  # unless this browser has kept its session, and signs in once more
        handle = LoginHandle.new(login, time.time())
        other = _login_beside(status, handle)
    if other is not None:
        await registry.tie(other, new, exchange.budget)
        return []
    own = _session_cookies_after(exchange, issued)
    if not renews:
        await registry.end_replaced(exchange, own)
    # In a budget of its own: what the look-up has spent, with a store that was slow then, must not cost the login.
    await registry.remember(handle, login, _without_foreign(status, now, handle, own), StoreBudget())
    return _publish(exchange, handle)


def _publish(exchange: Exchange, handle: LoginHandle) -> list[bytes]:
    """Put the handle into the session, or else return the cookie that carries it to the browser."""
    if not handle.text:  # renewed by a request with the session cookie alone: it gets no companion
        return []
    session, own = exchange.request.live_session(), exchange.request.own
    if session is None:
        return [own.setting(own.login, handle.text, exchange.registry.lifetime)]
    if session.get(app_session.SESSION_KEY) != handle.text:
        exchange.registry.anonymous_keys.mark_in(exchange.request, session)
    session[app_session.SESSION_KEY] = handle.text
    return []


def _session_cookies_after(exchange: Exchange, issued: Sequence[Secret]) -> list[str]:
    """Return the digests of the session cookies that the browser has after this response."""
    cookies = exchange.options.session_cookie
    set_anew = {cookies.declared(one) for one in issued}
    kept = [one for one in exchange.status.credentials.cookies if cookies.declared(one) not in set_anew]
    return [one.digest for one in (*issued, *kept) if one.digest]


def _without_foreign(status: LoginStatus, now: LoginStatus, handle: LoginHandle, digests: list[str]) -> list[str]:
    """Return which of the session cookies in ``digests`` belong to a login from now on.

    A dead one that the request has brought stays dead, and one that belongs to another login still does.
    """
    own = (handle.key, status.handle.key if status.handle is not None else "")
    taken = {cookie.digest for cookie in (*status.dead_cookies, *now.dead_cookies)}
    taken |= {digest for digest, tie in status.ties.items() if tie.key not in own}
    return [digest for digest in digests if digest not in taken]


def _login_beside(status: LoginStatus, new: LoginHandle) -> LoginHandle | None:
    """Return the login of a session cookie that came with another user's login, if it is the one now remembered.

    A thief must not get a companion cookie, and with it the tokens, by sending the stolen cookie with their own login.
    """
    if not status.live or status.handle is None:
        return None
    others = (tie for tie in status.ties.values() if tie.sub not in ("", status.handle.sub))
    return next((tie for tie in others if tie.sub == new.sub), None)


def is_renewal(old: Login, new: Login) -> bool:
    """Return whether two logins are of one session at the provider: nothing that is known of both differs.

    The answer to a refresh may lack the ID Token, and with it whose it is (OpenID Connect Core 1.0, section 12.2).
    """
    names = ("iss", "sub", "sid")
    # The issuer identifies the provider as well as its name, which may be given at the refresh for the first time.
    same_provider = new.provider in (None, old.provider) or (old.provider is None and old.iss == new.iss is not None)
    return same_provider and all(getattr(new, name) in (None, getattr(old, name)) for name in names)


def renewed(old: Login, new: Login) -> Login:
    """Return the new login, with what it lacks taken from the old one."""
    names = ("provider", "id_token", "sub", "sid", "iss", "refresh_token", "logout_hint", "known_by")
    return Login(**{name: getattr(new, name) or getattr(old, name) for name in names})


def with_issuer(options: Options, login: Login) -> Login:
    """Fill in the issuer from the provider's name, or the name from the issuer.

    A logout token names an issuer, and a login without an ID Token is found by this alone.
    """
    if callable(options.providers):
        return login
    for provider in options.providers:
        if login.provider is None and login.iss is not None and issuer_of(provider) == login.iss:
            return replace(login, provider=name_of(provider))
        if login.iss is None and login.provider is not None and name_of(provider) == login.provider:
            return replace(login, iss=issuer_of(provider))
    return login


def _check_audience(options: Options, login: Login) -> None:
    """Warn of an ID Token that was issued to another client, which its provider will refuse as a hint."""
    audience = unverified_claims(login.id_token).get("aud") if login.id_token else None
    if not audience or callable(options.providers):
        return
    audiences = audience if isinstance(audience, list) else [audience]
    for provider in options.providers:
        client_id = getattr(provider, "client_id", None)
        own = login.provider is not None and name_of(provider) == login.provider
        own = own or (login.iss is not None and issuer_of(provider) == login.iss) or len(options.providers) == 1
        if own and isinstance(client_id, str) and client_id not in audiences:
            log.other_audience(options.notices, audience, client_id)


async def forget(exchange: Exchange, start: ResponseStart) -> ResponseStart:
    """Drop what is remembered, without ending anything."""
    credentials, own = exchange.status.credentials, exchange.request.own
    if credentials.handle is not None:
        await exchange.registry.forget(credentials.handle, exchange.budget)
    app_session.forget_handle(exchange.request)
    return start.with_cookies([own.deletion(own.login)] if credentials.has_companion else [])
