"""What a handler calls: ``remember_login``, ``forget_login`` and ``current_login``, and the context behind them.

One object per request is kept in the scope, where copies of the scope carry it along, and in a ContextVar, where
threadpools and tasks carry it along. Applications reach it either way.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from .errors import RPLogoutError
from .login import Login, LogoutIntent

SCOPE_KEY = "asgi_rp_logout"

_NOTHING = (
    "there is nothing to remember: expected remember_login(request, token) with an id_token in the token, as there is "
    "where the scope has 'openid', or parts such as sub= and iss="
)


class Phase(enum.Enum):
    """How far a response is."""

    OPEN = "open"
    """It has not started: cookies can still be set."""
    STARTED = "started"
    """It has started, or can carry no cookies, as a WebSocket."""
    HELD_BACK = "held back"
    """The application's response is held back until its body shows whether the page goes to the provider by itself."""
    REPLACED = "replaced"
    """An answer of our own was sent; what the application sends is dropped."""


class RequestContext:
    """What the handler of one request has said, and what it can ask.

    This is the part of an ``Exchange`` that handlers reach. The defaults are on the class, because most handlers say
    nothing.
    """

    phase = Phase.OPEN
    called = False
    """Whether the handler has said anything."""
    intent: LogoutIntent | None = None
    """That this is a logout, and what it is to do."""
    remembered: Login | None = None
    """A login to remember."""
    noticed: Login | None = None
    """A login that a client library has just completed; ``remember_login`` and ``forget_login`` take precedence."""
    forgotten = False
    """Whether the remembered login is to be forgotten."""
    current: Login | None = None
    """The login that is known of the request."""
    handled_inside = False
    """Whether a middleware nearer to the application has dealt with this logout."""
    outer: RequestContext | None = None
    """The context of the next middleware further out, for the same request."""

    def tell_outer(self) -> None:
        """Mark this logout as handled, for the middlewares further out."""
        context = self.outer
        while context is not None:
            context.handled_inside = True
            context = context.outer


current: ContextVar[RequestContext | None] = ContextVar("asgi_rp_logout", default=None)


def find_context(request_or_scope: object = None) -> RequestContext | None:
    """Return the context of a request, of a scope, or of whatever is being handled right now."""
    scope = getattr(request_or_scope, "scope", request_or_scope)
    if isinstance(scope, Mapping):
        context = scope.get(SCOPE_KEY)
        if isinstance(context, RequestContext):
            return context
    elif scope is not None:
        raise RPLogoutError(
            f"{type(request_or_scope).__name__}: expected a request, an ASGI scope, or nothing", code="not_a_request"
        )
    return current.get()


def remember_login(
    request_or_scope: Any = None,
    token: Mapping[str, Any] | None = None,
    *,
    provider: str | None = None,
    id_token: str | None = None,
    sub: str | None = None,
    sid: str | None = None,
    iss: str | None = None,
    refresh_token: str | None = None,
) -> None:
    """Remember that this browser has just signed in; call it where the login is complete, in the callback.

    Takes the request or scope, if one is at hand; the token dict that Authlib's ``authorize_access_token()`` gives,
    or its parts by keyword; and the provider's name. Call it again after a token refresh: the same iss, sub and sid
    update the login in place. Any other login that was remembered for this browser ends. A login is not remembered if
    the answer is an error, or if there is no session. Only what the provider answered at its token endpoint belongs
    here: the ID Token is read, not verified again.

    Raises ``RPLogoutError`` outside of ``RPLogoutMiddleware``, after the response has started, in a WebSocket, and if
    there is nothing to remember. RP-Initiated Logout 1.0, section 2 (``id_token_hint``).
    """
    context = _writable_context(request_or_scope)
    token = _mapping("token", token)
    claims = _mapping("userinfo", token.get("userinfo"))
    parts = {
        "provider": provider,
        "id_token": id_token or token.get("id_token"),
        "sub": sub or claims.get("sub"),
        "sid": sid or claims.get("sid"),
        "iss": iss or claims.get("iss"),
        "refresh_token": refresh_token or token.get("refresh_token"),
    }
    for name, value in parts.items():
        if not isinstance(value, str | None):
            raise RPLogoutError(f"{name} is a {type(value).__name__}: expected text", code="token")
    login = Login(**parts, known_by="remember_login")
    if login == Login():
        raise RPLogoutError(_NOTHING, code="token")
    context.remembered, context.forgotten, context.called = login, False, True


def _mapping(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping | None):
        raise RPLogoutError(f"{name} is a {type(value).__name__}: expected Authlib's token dict", code="token")
    return value or {}


def notice_login(login: Login) -> None:
    """Note a login that a client library has completed in the request that is being handled right now, if there is one.

    It is remembered if the handler says nothing of logins itself, and if the response begins a session.
    """
    context = current.get()
    if context is not None and context.phase is Phase.OPEN:
        context.noticed, context.called = login, True


def forget_login(request_or_scope: Any = None) -> None:
    """Drop what is remembered of this browser's login, without ending anything.

    For an application that signs in somebody else in the same session by a way that has no provider, such as a
    password. Takes the request or scope, if one is at hand. Raises ``RPLogoutError`` as ``remember_login`` does.
    """
    context = _writable_context(request_or_scope)
    context.remembered, context.forgotten, context.called = None, True, True


def current_login(request_or_scope: Any = None) -> Login | None:
    """Return the login that is remembered for this request.

    Takes the request or scope, if one is at hand. Returns None if no login is remembered. A login that has ended is
    returned with ``ended`` set, and is falsy, so that a page can say "you have been signed out".
    """
    context = find_context(request_or_scope)
    if context is None or context.forgotten:
        return None
    return context.remembered or context.noticed or context.current


def _writable_context(request_or_scope: object) -> RequestContext:
    context = find_context(request_or_scope)
    if context is None:
        raise RPLogoutError(
            "this request did not come through RPLogoutMiddleware: add it around this application", code="no_middleware"
        )
    if context.phase is not Phase.OPEN:
        raise RPLogoutError(
            "no cookie can be set any more: call this before the response starts, and not in a WebSocket",
            code="too_late",
        )
    return context
