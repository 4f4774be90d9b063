"""What a response that is no logout does to a login: remember, forget or renew it, and drop its Set-Cookie if it ended.

A login may end while the application is still handling a request of it. The slow response, which is then still on its
way, may set a session cookie that must not bring the session back: see ``drop_cookies_of_ended_login``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from . import log
from .asgi.response import HEADERS_AT_MOST, ResponseStart
from .exchange import Exchange
from .log import logger
from .login import Login, unverified_claims
from .logins import app_session
from .logins.handle import LoginHandle
from .logins.recognise import hides_session
from .logins.status import LoginStatus
from .logout.deferred import cancel
from .options import Options
from .protocol.cookie_values import Secret
from .protocol.cookies import is_deletion, name_set_by
from .providers.provider import issuer_of, name_of


async def apply_to_response(exchange: Exchange, start: ResponseStart) -> ResponseStart:
    """Return the start message as it goes out, for a response that is no logout."""
    status, registry = exchange.status, exchange.registry
    login = login_to_remember(exchange, start)
    if login is not None and is_accepted(exchange, start):
        return await _remember(exchange, login, start)
    if login is not None:
        log.not_remembered(start.status)
    issued = exchange.options.session_cookie.issued(start.set_cookies)
    if exchange.forgotten:
        registry.note_issued(issued)
        return await _forget(exchange, start)
    if status.ended is not None or status.credentials.excess:
        registry.note_issued(issued)
        return expire_dead(exchange, start)
    registry.anonymous_keys.note_new_session(exchange.request)
    sets_session = any(exchange.options.session_cookie.sets(line) for line in start.set_cookies)
    if await _ended_meanwhile(exchange, writes_session=sets_session or app_session.will_be_written(exchange.request)):
        return drop_cookies_of_ended_login(exchange, start)
    _keep_session(exchange, start)
    if sets_session:
        start = await _issue(exchange, issued, start)
    return expire_dead(exchange, start) if status.hides else start


def _keep_session(exchange: Exchange, start: ResponseStart) -> None:
    """Look after the application's session: warn if it is deleted, and keep the login handle in it."""
    request, status = exchange.request, exchange.status
    if not exchange.handled_inside and deletes_session(exchange, start):
        log.deletes_session(exchange.options.notices, request.method, request.path, live=status.live)
    if status.live:
        app_session.keep_handle(request, status.credentials.handle)
    if exchange.registry.has_just_ended_one and app_session.starts(request):
        app_session.make_different(request)


# -- a login that ended meanwhile ----------------------------------------------------------------------------------


def drop_cookies_of_ended_login(exchange: Exchange, start: ResponseStart) -> ResponseStart:
    """Drop the session cookies of a response whose login ended while it was on its way.

    No deletion is added: it would hurt a newer login of the same browser, which this response knows nothing of.
    """
    return start.without_cookies(exchange.options.session_cookie.sets)


async def _ended_meanwhile(exchange: Exchange, *, writes_session: bool) -> bool:
    """Return whether a response must not write a session, because something of its request has ended meanwhile.

    It must not either if the request brings the logins of several users, because nobody can tell whose session goes on.
    Otherwise a thief could send a companion cookie of their own with a stolen session cookie, and the user's logout
    would not end what is issued for the stolen cookie.
    """
    status = exchange.status
    if not writes_session or not status.credentials.record_keys or exchange.registry.is_empty:
        return False
    now = await exchange.registry.status_at_response(status, exchange.budget)
    if now is not status and hides_session(exchange.request, now):
        app_session.replace(exchange.request)
    handle = status.handle
    several_users = handle is not None and any(tie.sub != handle.sub for tie in status.ties.values())
    return now is not status or several_users


def expire_dead(exchange: Exchange, start: ResponseStart) -> ResponseStart:
    """Expire the session cookies that are dead, but neither a living one of the same name nor one that is set anew."""
    status, cookies, own = exchange.status, exchange.options.session_cookie, exchange.request.own
    if status.ended is not None and status.ended.by == "replaced":
        return start  # by a login of this very browser, whose cookies have the same names
    if start.may_be_shared:
        return start  # others may get it from a cache, and must keep their cookies
    dead = {name for secret in status.dead_cookies for name, _ in secret.parts}
    living = [secret for secret in status.credentials.cookies if secret not in status.dead_cookies]
    gone = dead - {name for secret in living for name, _ in secret.parts}
    gone -= {name_set_by(line) for line in start.set_cookies if cookies.sets(line)}
    found = cookies.deletions(sorted(gone), secure=own.secure, host=exchange.request.host) if gone else []
    lines = [line for line in found if name_set_by(line) in gone]
    if status.credentials.has_companion and status.ended is not None:
        lines.append(own.deletion(own.login))
    return start.with_cookies(lines)


def deletes_session(exchange: Exchange, start: ResponseStart) -> bool:
    """Return whether a response deletes a session cookie and sets none, or empties the session around us."""
    request = exchange.request
    lines = [line for line in start.set_cookies if exchange.options.session_cookie.has(name_set_by(line))]
    deleted = all(map(is_deletion, lines)) if lines else start.clears_cookies
    return deleted or app_session.is_emptied(request.session, request.live_session())


# -- a session cookie is issued ------------------------------------------------------------------------------------


async def _issue(exchange: Exchange, issued: Sequence[Secret], start: ResponseStart) -> ResponseStart:
    """Tie the session cookies that a response sets to its login, or note that the application has issued them."""
    status, registry, own = exchange.status, exchange.registry, exchange.request.own
    credentials, handle = status.credentials, status.handle
    # A value that the request has brought may be somebody else's, and dead by now. Setting it again proves nothing.
    new = [one.digest for one in issued if one.digest and one.digest not in credentials.digests]
    if new and not status.hides and not registry.is_empty:
        # Session ids are random, but some applications derive theirs from the user: after a logout and a new login such
        # a user would be locked out for as long as a session lives.
        await registry.restore(new, exchange.budget)
    if not status.live or handle is None:
        registry.note_issued(issued)
        return start
    await registry.tie(handle, new, exchange.budget)
    if new and exchange.request.session is None:
        _warn_of_changes(exchange, issued)
    if credentials.has_companion and credentials.handle is not None and not status.by_cookie:
        return start.with_cookies([own.setting(own.login, credentials.handle.text, registry.lifetime)])
    return start


def _warn_of_changes(exchange: Exchange, issued: Sequence[Secret]) -> None:
    brought = {name for cookie in exchange.status.credentials.cookies if cookie.digest for name, _ in cookie.parts}
    names = sorted({name for one in issued for name, _ in one.parts} & brought)
    if names:
        log.changes_value(exchange.options.notices, names[0])


# -- remember and forget -------------------------------------------------------------------------------------------


def login_to_remember(exchange: Exchange, start: ResponseStart) -> Login | None:
    """Return the login that a response is to remember: the handler's, or one that was noticed and begins a session.

    An application may refuse the user after its client library has completed the login. It then begins no session.
    """
    if exchange.remembered is not None or exchange.noticed is None or exchange.forgotten:
        return exchange.remembered
    cookies, declared = exchange.options.session_cookie, exchange.options.session_declared
    begins = exchange.request.live_session() or any(
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


async def _remember(exchange: Exchange, login: Login, start: ResponseStart) -> ResponseStart:
    own, deferred_key = exchange.request.own, exchange.status.credentials.deferred_key
    lines = await remember(exchange, login, start)
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


async def remember(exchange: Exchange, login: Login, start: ResponseStart) -> list[bytes]:
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
    await registry.remember(handle, login, _without_foreign(status, now, handle, own), exchange.budget)
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


async def _forget(exchange: Exchange, start: ResponseStart) -> ResponseStart:
    """Drop what is remembered, without ending anything."""
    credentials, own = exchange.status.credentials, exchange.request.own
    if credentials.handle is not None:
        await exchange.registry.forget(credentials.handle, exchange.budget)
    app_session.forget_handle(exchange.request)
    return start.with_cookies([own.deletion(own.login)] if credentials.has_companion else [])
