"""A login that the user does not see, while a logout waits for the next page.

Until that page is opened, the browser is still signed in at the provider. Any page can then send it through a login: an
image, a script or a hidden frame follows the redirects to the provider and back. If this counted as a login, it would
sign the user in again, and cancel the logout. So a login counts only where the user sees it, or a script of the
application's own has sent it: see ``is_unseen``.
"""

from __future__ import annotations

from .. import log
from ..asgi.response import ResponseStart
from ..exchange import Exchange
from ..login import Login
from ..logins import app_session
from ..logout.deferred import is_login_response, still_waits
from ..negotiation.request_kind import is_unseen


async def is_refused(exchange: Exchange, login: Login | None) -> bool:
    """Return whether a response completes a login that must not count.

    ``login`` is the one to remember, if the application or its client library has named one. A request of a live login
    is not refused: the user has signed in since the logout.
    """
    waiting, request = exchange.status.credentials.deferred_key, exchange.request
    if waiting is None or (login is None and not is_login_response(request.scope)):
        return False
    if not is_unseen(request.method, request.headers):
        return False
    now = await exchange.registry.status_at_response(exchange.status, exchange.budget)
    return not now.live and await still_waits(exchange.registry, waiting, exchange.budget)


async def refuse(exchange: Exchange, login: Login | None, start: ResponseStart) -> ResponseStart:
    """Remember no login, and return the start message without the session that it begins.

    An application may also have put the user into the session that the request came with, so this session ends. It does
    not if only the query says that this is a login: anybody can write such an address, and the session may be a living
    one. So it may be if the store did not answer.
    """
    request, cookies = exchange.request, exchange.options.session_cookie
    log.unseen_login(request.path)
    if login is None:
        app_session.restore(request)
    else:
        app_session.replace(request)
        if request.session is None and exchange.status.known:
            await exchange.registry.end_anonymous_session(exchange)
    return start.without_cookies(cookies.sets)
