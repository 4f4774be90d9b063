"""A login that ended while a response of it was on its way.

The application was still handling a request when somebody logged out. The slow response may now set a session cookie,
which would bring the session back: see ``drop_cookies_of_ended_login``. Cookies that were dead before the request are
expired: see ``expire_dead``.
"""

from __future__ import annotations

from ..asgi.response import ResponseStart
from ..exchange import Exchange
from ..logins import app_session
from ..logins.recognise import hides_session
from ..protocol.cookies import name_set_by


def drop_cookies_of_ended_login(exchange: Exchange, start: ResponseStart) -> ResponseStart:
    """Drop the session cookies of a response whose login ended while it was on its way.

    No deletion is added: it would hurt a newer login of the same browser, which this response knows nothing of.
    """
    return start.without_cookies(exchange.options.session_cookie.sets)


async def has_ended_meanwhile(exchange: Exchange, *, writes_session: bool) -> bool:
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
