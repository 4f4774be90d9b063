"""Step 3: the login ends, the cookies expire, the session is emptied. Nothing after this can undo it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ..asgi.response import ResponseStart
from ..errors import StoreError
from ..exchange import Exchange
from ..login import Login, LogoutIntent
from ..logins import app_session
from ..logins.registry import EndedSessions
from ..negotiation.request_kind import may_be_cross_site
from ..option_checks import DIRECTIVES
from ..protocol.cookies import deletions, name_set_by
from ..store import UNKNOWN, Record

_OWN_COOKIE = 250
"""Bytes that deletions leave free for one cookie and the headers of our own answer; see ``HEADERS_AT_MOST``."""
_SHORT_URL = 700
"""Bytes left free for the provider's URL without its hint, by deletions of cookies that the request did not bring."""


async def end(
    exchange: Exchange, login: Login | None, intent: LogoutIntent, also: Mapping[str, Record] | None = None
) -> None:
    """End the login behind the request, and empty the application's session.

    ``also`` are records to write at the same time, and to keep for two minutes.
    """
    ended = await exchange.registry.end_login_of(exchange, login, intent, also=also)
    exchange.kept_return_to = ended.intent.return_to if ended is not None else None
    app_session.empty(exchange.request)


async def end_all_logins(exchange: Exchange, login: Login | None) -> None:
    """End all logins of the user that were made up to now, on all devices; of a user who is known by iss and sub."""
    if login is None or login.iss is None or login.sub is None:
        exchange.options.notices.limited(
            "everywhere",
            "a logout was to end all logins of its user, and has ended only one: the user's iss and sub are not known. "
            "Call remember_login() at login",
        )
        return
    ended = EndedSessions(login.iss, None, login.sub, None, time.time(), "logout")
    try:
        await exchange.registry.end_sessions(ended, exchange.budget)
    except StoreError as error:
        exchange.registry.warn("other workers do not know yet that all logins of a user have ended", error)


def stranger_tombstone(exchange: Exchange, login: Login | None) -> str | None:
    """Return the digest of the session cookie whose tombstone holds all that is known of an anonymous logout.

    Anybody can send such a logout, so nothing more is written for it. None if the login is known, and for a logout that
    ended nothing.
    """
    if login is not None or exchange.ended_login is None or exchange.status.ended is not None:
        return None
    return next(iter(exchange.registry.revocable(exchange.status, UNKNOWN)), None)


def expire(exchange: Exchange, start: ResponseStart, *, waits: bool = False) -> ResponseStart:
    """Expire every declared cookie and our own, and drop the application's lines that would set one again.

    ``waits`` says that the response sets the cookie of a deferred logout, which Clear-Site-Data must not delete.

    Nothing is expired for a request that brings no session and that another site may have sent. A form on another site
    is sent without Lax cookies, but the browser would still obey the deletions, and delete those cookies.
    """
    request, options, credentials = exchange.request, exchange.options, exchange.status.credentials
    brings_session = credentials.cookies or credentials.has_companion or request.session
    if not brings_session and may_be_cross_site(request.method, request.headers, exchange.origins):
        return start
    in_session = [name for secret in credentials.cookies for name, _ in secret.parts]
    seen = [*in_session, *(name for name, _ in request.cookies)]
    declared = (options.session_cookie, options.clear_cookies)
    lines = [request.own.deletion(request.own.login)] if credentials.has_companion else []
    lines += deletions(declared, seen, secure=request.own.secure, host=request.host)
    brought = [line for line in lines if name_set_by(line) in seen]
    others = [line for line in lines if name_set_by(line) not in seen]
    start = start.without_cookies(lambda line: any(cookies.sets(line) for cookies in declared))
    to_come = app_session.bytes_to_come(request) + _OWN_COOKIE
    start = start.with_cookies(brought, keeping=to_come)
    start = _with_clear_site_data(options.clear_site_data, start, to_come, waits=waits)
    return start.with_cookies(others, keeping=to_come + _SHORT_URL)


def _with_clear_site_data(names: tuple[str, ...], start: ResponseStart, keeping: int, *, waits: bool) -> ResponseStart:
    if waits:  # browsers obey it after Set-Cookie, and "cookies" deletes them all
        names = tuple(name for name in (DIRECTIVES if "*" in names else names) if name not in ("cookies", "*"))
    header = (b"clear-site-data", ", ".join(f'"{name}"' for name in names).encode("ascii"))
    if not names or sum(map(len, header)) + 4 > start.room - keeping:
        return start
    return start.with_headers([*start.headers, header])
