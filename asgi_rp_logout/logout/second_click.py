"""A second click on "Log out": the browser shows the answer to the last click only, so it must lead there as well.

The first click has ended the login, and the application's own guard would refuse the second. If the first response has
taken the session cookie away already, the cookie of a deferred logout tells what the click is about.
"""

from __future__ import annotations

import time

from ..asgi.response import ResponseStart
from ..exchange import Exchange
from ..negotiation.request_kind import RequestKind, comes_from_own_page
from .deferred import take
from .detect import CHANGING
from .end_and_expire import expire
from .evidence import login_to_end
from .flow import LOCAL_KINDS, Logout, finish_deferred, try_to_send


def is_second_click(exchange: Exchange) -> bool:
    """Return whether an earlier click has just ended this login, by a logout that was not a local one."""
    status, method = exchange.status, exchange.request.method
    if status.ended is None or method in ("GET", "HEAD", "OPTIONS", "TRACE", "CONNECT"):
        return False
    return status.just_ended(time.time()) and not status.ended.intent.local


async def answer_second_click(exchange: Exchange) -> bool:
    """Send a browser to the provider whose first click has just ended the login; return whether it was answered.

    The application is not called. Its login check would refuse a user who is no longer signed in, and the browser shows
    the answer to the last click only.
    """
    ended, kind = exchange.status.ended, exchange.kind
    waits = kind is RequestKind.FETCH and exchange.options.for_fetch != "json"
    if ended is None or waits or kind in (*LOCAL_KINDS, RequestKind.TURBO_VISIT):
        return False
    start = expire(exchange, ResponseStart.of(303, []))
    return await try_to_send(Logout(exchange, ended.intent, await login_to_end(exchange)), start)


async def answer_repeated_request(exchange: Exchange) -> bool:
    """Answer a second click on a logout whose first response has already deleted the session.

    Return whether it was one: the same request, from a page of this origin, within seconds.
    """
    value, request = exchange.status.credentials.deferred_key, exchange.request
    if value is None or request.method not in CHANGING or not comes_from_own_page(request.headers):
        return False
    deferred = await take(exchange.registry, value, exchange.budget, again=True, repeats=request)
    return deferred is not None and await finish_deferred(exchange, value, deferred)
