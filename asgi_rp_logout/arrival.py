"""Before the application: who comes in, and what of it must not be believed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from . import journal
from .asgi.types import Headers, Scope, Send, respond
from .ledger import Deadline, Ledger
from .logins import anonymous_part, hides_session, renew_session
from .request import HANDLE_IN_SESSION, OwnCookies, Request
from .settings import Settings
from .verdict import Claim, Handle, Verdict


class Arrivals:
    """Recognise requests: by the handle in their session, or else by their cookies."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._own: dict[tuple[str, bool], OwnCookies] = {}
        self._declared = settings.session_declared
        self._public_https = (settings.public_url or "").startswith("https")

    def own_cookies(self, scope: Scope, root_path: str) -> OwnCookies:
        """Return the names of our own cookies at this mount; ``__Host-`` ones where the browser sees https."""
        key = (root_path, self._public_https or scope.get("scheme") in ("https", "wss"))
        own = self._own.get(key)
        if own is None:
            # A root_path may come from a header; no client fills this table.
            if len(self._own) >= 256:
                self._own.clear()
            own = self._own[key] = OwnCookies.of(key[0], secure=key[1])
        return own

    def key(self, scope: Scope, session: dict[str, Any] | None) -> object | None:
        """Return what the verdict about a request without a ``root_path`` is kept under; None if it has none.

        A glance has no time for the digest of a long one: it gets ``LONG``, under which nothing is kept.
        """
        text = _handle_in(session)
        if text and not self._declared:
            return text
        said = secrets_said(scope["headers"], whole=True)
        if len(said) > WHOLE:
            return LONG
        return (said, "", scope.get("scheme"), text) if said or text else None

    async def verdict(self, request: Request, deadline: Deadline) -> Verdict | None:
        """Return the verdict about a request, at most ``freshness`` old; None if there is nothing to judge.

        The handle in a session speaks for the whole request, unless session cookies were declared: one of somebody
        else's, or a bearer token, may then have come with it.
        """
        text = _handle_in(request.session)
        if text and not self._declared:
            verdict = self._ledger.cached(text)
            if verdict is not None:
                return verdict
            handle = Handle.parse(text)
            if handle is not None:
                return await self._ledger.look_up(text, Claim(handle), deadline)
        key = _key(request, text)
        if key is None:
            return None
        verdict = self._ledger.cached(key)
        if verdict is not None:
            return verdict
        verdict = await self._ledger.look_up(key, request.claim(self._settings.session_cookies), deadline)
        # Cookies change, and the handle stays: under it the verdict is found during an outage.
        if text and verdict.login is not None:
            self._ledger.keep_last(text, verdict)
        elif text and not verdict.known and not verdict.hides and (last := self._ledger.last_known(text)) is not None:
            return replace(last, claim=verdict.claim, known=False)
        return verdict

    async def fresh_verdict(self, request: Request, deadline: Deadline) -> Verdict:
        """Read the store about everything in a request: what a logout is about must not be a second old."""
        claim = request.claim(self._settings.session_cookies)
        text = _handle_in(request.session)
        key = _key(request, text)
        verdict = await self._ledger.look_up(("logout", key), claim, deadline)
        if verdict.known:
            return verdict
        # The store is down, but an earlier request may have learned whose login this is, and where it has to end.
        last = self._ledger.last_known(text) or self._ledger.last_known(key)
        return replace(last, claim=claim, known=False) if last is not None else verdict


def _handle_in(session: Mapping[str, Any] | None) -> str | None:
    text = session.get(HANDLE_IN_SESSION) if session else None
    return text if isinstance(text, str) else None


def _key(request: Request, text: str | None) -> tuple[object, ...] | None:
    """Return what the verdict about all of a request is kept under, None if it says nothing; takes its handle."""
    said = secrets_said(request.headers)
    return (said, request.root_path, request.scope.get("scheme"), text) if said or text else None


WHOLE = 4096
"""Bytes up to which a request's cookies stand in memory as they are; of more there is a digest."""

LONG = object()


def secrets_said(headers: Headers, *, whole: bool = False) -> bytes:
    """Return what all Cookie headers and a bearer token say, as one, and nothing if there are none.

    A digest of it, if it is long and not wanted ``whole``.
    """
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


def make_anonymous(settings: Settings, request: Request, verdict: Verdict) -> None:
    """Take out of a request what is dead, so that the application sees somebody who is not signed in."""
    if not verdict.hides:
        return
    journal.is_anonymous(request, verdict)
    session = request.live_session() if hides_session(request, verdict) else None
    if session is not None:
        if verdict.ended in ("replaced", None):
            renew_session(request)  # a session that was cleared would be expired, and a living one with it
        else:
            kept = anonymous_part(session)
            session.clear()
            session.update(kept)
        request.session = {}
    cookies, claim = settings.session_cookies, verdict.claim
    if not (verdict.dead or claim.excess or verdict.dead_bearer):
        return
    before = request.cookie_header
    left = cookies.without_any(before) if claim.excess else cookies.without(before, verdict.dead)
    gone = (b"cookie", b"authorization") if verdict.dead_bearer or claim.excess else (b"cookie",)
    headers = [pair for pair in request.headers if pair[0].lower() not in gone]
    request.scope["headers"] = [*headers, (b"cookie", left.encode("latin-1"))] if left else headers


def is_recognisable(verdict: Verdict) -> bool:
    """Return whether a request carries anything that could be a login."""
    claim = verdict.claim
    return bool(claim.handle or claim.cookies or claim.carried or claim.bearers)


async def refuse_for_now(send: Send) -> None:
    """Answer that nobody can be told apart from the signed-out right now; nothing is expired."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"), (b"retry-after", b"1")]
    await respond(send, 503, headers, b"The session cannot be checked right now. Please try again.\n")
