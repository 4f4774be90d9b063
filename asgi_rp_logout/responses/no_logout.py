"""A response that is no logout: its login is kept up, and the session cookies that it sets are noted."""

from __future__ import annotations

from collections.abc import Sequence

from .. import log
from ..asgi.response import ResponseStart
from ..exchange import Exchange
from ..logins import app_session
from ..protocol.cookie_values import Secret
from ..protocol.cookies import is_deletion, name_set_by
from .ended_meanwhile import drop_cookies_of_ended_login, expire_dead, has_ended_meanwhile
from .remember_login import forget, is_accepted, login_to_remember, remember
from .unseen_login import is_refused, refuse


async def apply_to_response(exchange: Exchange, start: ResponseStart) -> ResponseStart:
    """Return the start message as it goes out, for a response that is no logout."""
    status, registry = exchange.status, exchange.registry
    login = login_to_remember(exchange, start)
    if await is_refused(exchange, login):
        start = await refuse(exchange, login, start)
        return expire_dead(exchange, start) if status.hides else start
    if login is not None and is_accepted(exchange, start):
        return await remember(exchange, login, start)
    if login is not None:
        log.not_remembered(start.status)
    issued = exchange.options.session_cookie.issued(start.set_cookies)
    if exchange.forgotten:
        registry.note_issued(issued)
        return await forget(exchange, start)
    if status.ended is not None or status.credentials.excess:
        registry.note_issued(issued)
        return expire_dead(exchange, start)
    registry.anonymous_keys.note_new_session(exchange.request)
    sets_session = any(exchange.options.session_cookie.sets(line) for line in start.set_cookies)
    if await has_ended_meanwhile(
        exchange, writes_session=sets_session or app_session.will_be_written(exchange.request)
    ):
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


def deletes_session(exchange: Exchange, start: ResponseStart) -> bool:
    """Return whether a response deletes a session cookie and sets none, or empties the session around us."""
    request = exchange.request
    lines = [line for line in start.set_cookies if exchange.options.session_cookie.has(name_set_by(line))]
    deleted = all(map(is_deletion, lines)) if lines else start.clears_cookies
    return deleted or app_session.is_emptied(request.session, request.live_session())


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
