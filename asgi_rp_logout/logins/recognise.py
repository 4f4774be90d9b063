"""Find the login of a request by what the request carries, and remove from it what belongs to an ended login."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from .. import log
from ..asgi.own_cookies import OwnCookies
from ..asgi.request import Request, session_as_it_is
from ..asgi.types import Headers, Scope, route_path
from ..options import Options
from . import app_session
from .app_session import handle_in, has_handle
from .credentials import Credentials
from .guarded_store import StoreBudget
from .handle import LoginHandle
from .registry import LoginRegistry
from .status import LoginStatus

WHOLE = 4096
"""Bytes up to which a request's cookies are kept in memory as they are; of longer ones a digest is kept."""

LONG = object()
"""The key of a request whose cookies are too long to be looked up without a digest; nothing is kept under it."""

_MOST_MOUNTS = 256


class Recogniser:
    """Recognise requests: by the handle in their session, or else by their cookies."""

    def __init__(self, options: Options, registry: LoginRegistry) -> None:
        self._cookies = options.session_cookie
        self._registry = registry
        self._own: dict[tuple[str, bool], OwnCookies] = {}
        self._declared = options.session_declared
        self._travels = any(cookie.samesite == "none" for cookie in options.session_cookie.cookies)
        self._public_https = (options.public_url or "").startswith("https")

    def snapshot(self, scope: Scope) -> Request:
        """Return a request as it comes in."""
        return self.make_request(scope, route_path(scope), scope.get("root_path", ""), session_as_it_is(scope))

    def make_request(self, scope: Scope, path: str, root_path: str, session: dict[str, Any] | None) -> Request:
        """Return a request that came in with this path, ``root_path`` and session."""
        return Request(scope, path, root_path, scope["headers"], session, self._own_cookies(scope, root_path))

    def _own_cookies(self, scope: Scope, root_path: str) -> OwnCookies:
        """Return the names of our own cookies at this mount; ``__Host-`` ones where the browser sees https."""
        key = (root_path, self._public_https or scope.get("scheme") in ("https", "wss"))
        own = self._own.get(key)
        if own is None:
            if len(self._own) >= _MOST_MOUNTS:  # a root_path may come from a header; no client fills this table
                self._own.clear()
            own = self._own[key] = OwnCookies.of(key[0], secure=key[1], travels=self._travels)
        return own

    def key(self, scope: Scope, session: dict[str, Any] | None) -> object | None:
        """Return what the status of a request without a ``root_path`` is cached under; None if it carries nothing.

        The hot path has no time for the digest of long cookies: they get ``LONG``, under which nothing is kept.
        """
        text = handle_in(session)
        if text and not self._declared:
            return text
        carried = carried_by(scope["headers"], whole=True)
        if len(carried) > WHOLE:
            return LONG
        return (carried, "", scope.get("scheme"), text) if carried or text else None

    async def status(self, request: Request, budget: StoreBudget) -> LoginStatus | None:
        """Return the status of a request's login, at most ``freshness`` old; None if the request carries nothing.

        The handle in a session decides for the whole request, unless ``session_cookie`` was given. Then somebody else's
        cookie, or a bearer token, may have come with it, and these are looked up too.
        """
        text = handle_in(request.session)
        if text and not self._declared:
            entry = self._registry.cached(text)
            if entry is not None:
                return entry.status
            handle = LoginHandle.parse(text)
            if handle is not None:
                return await self._registry.look_up(text, Credentials(handle), budget)
        key = _key(request, text)
        if key is None:
            return None
        entry = self._registry.cached(key)
        if entry is not None:
            return entry.status
        status = await self._registry.look_up(key, Credentials.of(request, self._cookies), budget)
        if text:
            self._registry.keep_last(text, status)  # cookies change, and the handle stays
        return self._or_last_known(status, text) if text and not status.hides else status

    async def status_for_logout(self, request: Request, budget: StoreBudget) -> LoginStatus:
        """Return the status of a request for a logout path, from the store: what it knows must not be a second old."""
        text = handle_in(request.session)
        key = _key(request, text)
        status = await self._registry.look_up(("logout", key), Credentials.of(request, self._cookies), budget)
        # An earlier request may have learned whose login this is, and where it has to end.
        return self._or_last_known(status, text, key)

    def _or_last_known(self, status: LoginStatus, *keys: object) -> LoginStatus:
        """Return the status that an earlier request has learned, if the store did not answer."""
        last = self._registry.last_known(*keys) if not status.known else None
        return replace(last, credentials=status.credentials, known=False) if last is not None else status

    def make_anonymous(self, request: Request, status: LoginStatus) -> None:
        """Remove from a request what is dead, so that the application sees a user who is not signed in."""
        if not status.hides:
            return
        credentials, ended = status.credentials, status.ended
        log.handled_as_anonymous(request.path, ended=ended.by if ended else None, excess=credentials.excess)
        if hides_session(request, status):
            if ended is None or ended.by == "replaced":
                app_session.hide(request)  # a cleared session would expire its cookie, and with it a living one
            else:
                app_session.make_anonymous(request)
        if not (status.dead_cookies or credentials.excess or status.dead_bearer):
            return
        cookies, before = self._cookies, request.cookie_header
        left = cookies.without_any(before) if credentials.excess else cookies.without(before, status.dead_cookies)
        gone = (b"cookie", b"authorization") if status.dead_bearer or credentials.excess else (b"cookie",)
        headers = [pair for pair in request.headers if pair[0].lower() not in gone]
        request.scope["headers"] = [*headers, (b"cookie", left.encode("latin-1"))] if left else headers


def hides_session(request: Request, status: LoginStatus) -> bool:
    """Return whether the session around us must be hidden from the application.

    A session without a handle may have been read from any of the request's cookies. If one of them is dead, it is
    hidden.
    """
    unsure = bool(status.dead_cookies) or status.credentials.excess
    return status.ended is not None or (unsure and not has_handle(request))


def _key(request: Request, text: str | None) -> tuple[object, ...] | None:
    """Return what the status of a request is cached under, None if it carries nothing."""
    carried = carried_by(request.headers)
    return (carried, request.root_path, request.scope.get("scheme"), text) if carried or text else None


def carried_by(headers: Headers, *, whole: bool = False) -> bytes:
    """Return all Cookie headers and bearer tokens as one, or a digest if it is long and not wanted ``whole``."""
    found = bearer = b""
    more: list[bytes] | None = None
    for name, value in headers:
        if name == b"cookie":
            if found:
                more = more or [found]
                more.append(value)
            found = value
        elif name == b"authorization" and value.lstrip()[:6].lower() == b"bearer":
            bearer += b"\n" + value
    if more is not None:
        found = b"; ".join(more)
    found += bearer
    return found if whole or len(found) <= WHOLE else hashlib.sha256(found).digest()
