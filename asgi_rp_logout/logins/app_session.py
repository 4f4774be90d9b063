"""The application's own session, if a session middleware is around this one: read, emptied and replaced.

The login handle is kept in that session. It is more reliable there than in a cookie: it goes wherever the session goes.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, MutableMapping
from typing import Any

from ..asgi.request import Request
from .handle import LoginHandle, digest

SESSION_KEY = "_rp_login"
"""Where a session holds the login handle."""

SESSION_NONCE_KEY = "_rp_apart"
"""Where a session holds a random value that makes it different from one that was just revoked."""

ANONYMOUS_KEY = "_rp_anonymous"
"""Where a session lists those of its keys that are not its user's."""

_OWN_KEYS = frozenset((SESSION_KEY, ANONYMOUS_KEY, SESSION_NONCE_KEY))

MOST_ANONYMOUS_KEYS = 8
"""Keys of a session that may be listed as not its user's; few keys are in every session."""


def handle_in(session: Mapping[str, Any] | None) -> str | None:
    """Return the text of the login handle in a session."""
    text = session.get(SESSION_KEY) if session else None
    return text if isinstance(text, str) else None


def has_handle(request: Request) -> bool:
    """Return whether the request came with a session that holds a login handle."""
    return SESSION_KEY in (request.session or ())


def keep_handle(request: Request, handle: LoginHandle | None) -> None:
    """Put the login handle back into a session that was cleared and filled again.

    Applications renew their sessions this way for another tenant or role, and against session fixation.
    """
    session = request.live_session()
    if session and handle is not None and has_handle(request):
        session.setdefault(SESSION_KEY, handle.text)


def forget_handle(request: Request) -> None:
    """Remove the login handle from the session."""
    session = request.live_session()
    if session is not None:
        session.pop(SESSION_KEY, None)
        session.pop(ANONYMOUS_KEY, None)


def empty(request: Request) -> None:
    """Remove from the session what it held when the request came in; what the handler has put there since stays."""
    session = request.live_session()
    if session is not None and request.session is not None:
        for key in (*request.session, SESSION_KEY, ANONYMOUS_KEY):
            session.pop(key, None)


def make_anonymous(request: Request) -> None:
    """Remove from the session what belongs to its user, before the application sees it."""
    session = request.live_session()
    if session is not None:
        kept = anonymous_part(session)
        session.clear()
        session.update(kept)
        request.session = {}


def hide(request: Request) -> None:
    """Put a new session in place of the one that the application must not see, and note that it is empty."""
    if request.live_session() is not None:
        replace(request)
        request.session = {}


def replace(request: Request) -> None:
    """Put a new session in place of one whose login has ended, so that nothing of the old one is written back."""
    session = request.live_session()
    if session is None:
        return
    try:
        request.scope["session"] = type(session)()
    except TypeError:
        session.clear()


def restore(request: Request) -> None:
    """Put back what the session held when the request came in, if the handler has changed it."""
    session = request.live_session()
    if session is not None and request.session is not None and has_changed(request):
        session.clear()
        session.update(request.session)


def anonymous_part(session: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a session that is unchanged from before its login, and that every session has.

    Middlewares around this one put it there, and the application may rely on it.
    """
    noted = session.get(ANONYMOUS_KEY)
    if not isinstance(noted, dict):
        return {}
    return {key: session[key] for key, mark in noted.items() if key in session and _mark(session[key]) == mark}


def is_emptied(before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> bool:
    """Return whether a session has lost everything that was its user's; this package's own keys do not count."""
    if not before or not now:
        return bool(before)
    everybodys = anonymous_part(before)
    users = [
        {key for key, value in session.items() if key not in _OWN_KEYS and everybodys.get(key) != value}
        for session in (before, now)
    ]
    return bool(users[0] and not users[1])


def will_be_written(request: Request) -> bool:
    """Return whether the session middleware around this one is about to set its cookie."""
    session = request.live_session()
    return session is not None and may_be_modified(session)


def may_be_modified(session: object) -> bool:
    """Return whether a session may have been modified. Starlette's sessions say so since 1.0, others may have been."""
    return bool(getattr(session, "modified", True))


def has_changed(request: Request) -> bool:
    """Return whether the session around this middleware has any content, and is another than the request came with."""
    session = request.live_session()
    if not session:
        return False
    return bool(getattr(session, "modified", False)) or dict(session) != request.session


def starts(request: Request) -> bool:
    """Return whether a session without a login handle is about to be written."""
    session = request.live_session()
    return bool(session and SESSION_KEY not in session) and will_be_written(request)


def make_different(request: Request) -> None:
    """Put a random value into the session.

    A signed cookie has the same value if the same content is signed within the same second. It would then be as dead as
    the one that a logout has just revoked.
    """
    request.scope["session"][SESSION_NONCE_KEY] = secrets.token_urlsafe(9)


def bytes_to_come(request: Request) -> int:
    """Return how many bytes a session middleware may still add to the headers: its cookie, and Vary."""
    session = request.live_session()
    # What is signed is written in base64, a third longer; quotes and escapes make it longer still.
    # A session of a thousand characters is kept on the server, or is not what a logout leaves behind.
    return 200 + min(2 * len(repr(dict(session))), 1000) if session is not None else 0


class AnonymousKeys:
    """Learn which keys are in every session that has just begun, because middlewares around this one put them there.

    Such keys are kept when a session is made anonymous. Other keys may say who is signed in.
    """

    def __init__(self) -> None:
        self._in_every_session: frozenset[str] | None = None

    def note_new_session(self, request: Request) -> None:
        """Note the keys of a session, if it has just begun."""
        if request.session is not None and not any(n in (b"cookie", b"authorization") for n, _ in request.headers):
            names = frozenset(request.session)
            known = self._in_every_session
            self._in_every_session = names if known is None else known & names

    def mark_in(self, request: Request, session: MutableMapping[str, Any]) -> None:
        """List, in a session that gets a login, the keys that every session has and that the login has not changed."""
        self.note_new_session(request)
        before = request.session or {}
        names = [key for key in before if key in session and key in (self._in_every_session or ())]
        same = {key: mark for key in names if (mark := _mark(before[key])) == _mark(session[key]) is not None}
        if same and len(same) <= MOST_ANONYMOUS_KEYS:
            session[ANONYMOUS_KEY] = same
        else:
            session.pop(ANONYMOUS_KEY, None)


def _mark(value: object) -> str | None:
    try:
        return digest(json.dumps(value, sort_keys=True))[:8]
    except (TypeError, ValueError):
        return None
