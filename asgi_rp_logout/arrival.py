"""Before the application: who comes in, and what of it must not be believed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from . import journal
from ._asgi import Headers, Scope, Send, header_values, respond
from .ledger import Deadline, Ledger
from .logins import renew_session
from .protocol.cookies import CookieSet
from .request import HANDLE_IN_SESSION, OwnCookies, Request, claim_of
from .settings import Settings
from .verdict import Claim, Handle, Verdict


class Arrivals:
    """Recognise requests: by the handle in their session, or else by their cookies."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._own: dict[tuple[str, bool], OwnCookies] = {}
        self._public_https = (settings.public_url or "").startswith("https")

    def own_cookies(self, scope: Scope, root_path: str) -> OwnCookies:
        """Give the names of our own cookies at this mount; ``__Host-`` ones where the browser sees https."""
        key = (root_path, self._public_https or scope.get("scheme") in ("https", "wss"))
        own = self._own.get(key)
        if own is None:
            # A root_path may come from a header; no client fills this table.
            if len(self._own) >= 256:
                self._own.clear()
            own = self._own[key] = OwnCookies.of(key[0], secure=key[1])
        return own

    def key(self, scope: Scope, session: dict[str, Any] | None) -> object | None:
        """Give what the verdict about a request without a ``root_path`` is kept under; None if it has none."""
        if session is not None:
            text = session.get(HANDLE_IN_SESSION)
            if isinstance(text, str):
                return text
        raw = raw_cookies(scope["headers"])
        return (raw, "", scope.get("scheme")) if raw else None

    async def verdict(self, request: Request, deadline: Deadline) -> Verdict | None:
        """Give the verdict about a request, at most ``freshness`` old; None if there is nothing to judge."""
        text = request.session.get(HANDLE_IN_SESSION) if request.session else None
        if isinstance(text, str):
            verdict = self._ledger.cached(text)
            if verdict is not None:
                return verdict
            handle = Handle.parse(text)
            if handle is not None:
                return await self._ledger.look_up(text, Claim.of(handle, ()), deadline)
        raw = raw_cookies(request.headers)
        if not raw:
            return None
        key = _cookie_key(request, raw)
        verdict = self._ledger.cached(key)
        if verdict is not None:
            return verdict
        claim = claim_of(request, self._settings.session_cookies)
        return await self._ledger.look_up(key, claim, deadline)

    async def fresh_verdict(self, request: Request, deadline: Deadline) -> Verdict:
        """Read the store about everything in a request: what a logout is about must not be a second old."""
        claim = request.claim(self._settings.session_cookies)
        text = (request.session or {}).get(HANDLE_IN_SESSION)
        raw = raw_cookies(request.headers)
        verdict = await self._ledger.look_up(("logout", text, raw), claim, deadline)
        if verdict.known:
            return verdict
        # The store is down, but an earlier request may have learned whose login this is, and where it has to end.
        last = self._ledger.verdicts.get(text) or self._ledger.verdicts.get(_cookie_key(request, raw))
        return replace(last, claim=claim, known=False) if last is not None else verdict


def _cookie_key(request: Request, raw: bytes) -> object:
    return raw, request.root_path, request.scope.get("scheme")


def raw_cookies(headers: Headers) -> bytes:
    """Give what all Cookie headers say, as one."""
    found = b""
    for name, value in headers:
        if name == b"cookie":
            found = found + b"; " + value if found else value
    return found


def make_anonymous(session_cookies: CookieSet, request: Request, verdict: Verdict) -> None:
    """Take out of a request what is dead, so that the application sees somebody who is not signed in."""
    if verdict.ended is not None or verdict.dead:
        journal.is_anonymous(request, verdict)
    session = request.live_session() if verdict.ended is not None else None
    if session is not None:
        if verdict.ended == "replaced":
            renew_session(request)  # a session that was cleared would be expired, and the newer one with it
        else:
            session.clear()
        request.session = {}
    if not verdict.dead:
        return
    headers = [(name, value) for name, value in request.headers if name.lower() != b"cookie"]
    left = session_cookies.without("; ".join(header_values(request.headers, b"cookie")), verdict.dead)
    request.scope["headers"] = [*headers, (b"cookie", left.encode("latin-1"))] if left else headers


def is_recognisable(verdict: Verdict) -> bool:
    """Tell whether a request carries anything that could be a login."""
    return bool(verdict.claim.handle or verdict.claim.cookies or verdict.claim.carried)


async def refuse_for_now(send: Send) -> None:
    """Answer that nobody can be told apart from the signed-out right now; nothing is expired."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"), (b"retry-after", b"1")]
    await respond(send, 503, headers, b"The session cannot be checked right now. Please try again.\n")
