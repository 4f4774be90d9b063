"""Where the browser returns to after the provider (RP-Initiated Logout 1.0, section 3)."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from ._asgi import Message, logger
from .detect import MOVED, only_moves
from .messages import target_of
from .protocol.return_to import absolute_url, local_path, origin_of, without_query
from .request import Request
from .settings import Settings

TRIP_LIFETIME = 600.0
"""Seconds in which a browser may come back from the provider to the page it wanted."""


@dataclass(frozen=True, slots=True)
class Return:
    """Say what the provider is told and what is kept for the way back.

    ``uri`` is the post_logout_redirect_uri, None to send none. With a callback path, ``state`` and ``browser`` are
    random and ``target`` is where the browser goes from there: a path with query on this origin.
    """

    uri: str | None
    target: str | None = None
    state: str | None = None
    browser: str | None = None

    @property
    def trip_key(self) -> str:
        """The store's key of this round trip."""
        return trip_key(self.state or "")

    @property
    def record(self) -> dict[str, str]:
        """What is stored for this round trip."""
        return {"to": self.target or "/", "browser": browser_digest(self.browser or "")}


def trip_key(state: str) -> str:
    """Give the key under which the target of a round trip is stored."""
    return "trip:" + hashlib.sha256(state.encode("utf-8", "replace")).hexdigest()[:43]


def browser_digest(value: str) -> str:
    """Give what a browser's binding cookie is compared by."""
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()[:43]


def plan_return(settings: Settings, request: Request, target: str | None) -> Return:
    """Plan the way back. ``target`` is the path that the application's own answer, or a navigation, leads to."""
    base = request.base(settings.public_url)
    if settings.callback_path is not None:
        if base is None:
            return Return(None)
        uri = absolute_url(settings.callback_path, base)
        wanted = target or default_target(settings, request)
        return Return(uri, wanted, secrets.token_urlsafe(32), secrets.token_urlsafe(32))
    configured = settings.post_logout_redirect_uri
    if configured is not None and not configured.startswith("/"):
        return Return(configured)
    if base is None:
        return Return(None)
    if configured is not None:
        return Return(absolute_url(configured, base))
    origin = origin_of(base)
    # Providers compare the whole string, so what changes from one logout to the next is left out.
    return Return(absolute_url(without_query(target), str(origin))) if target and origin else Return(None)


def own_target(settings: Settings, request: Request, location: str | None) -> str | None:
    """Give the application's own redirect target as a path on this origin; None if it is none."""
    if location is None:
        return None
    if location[:1] == "/" != location[1:2]:
        return local_path(location, own=())  # no origin in it to compare
    bases = (request.base(settings.public_url), request.base(None))
    origins = {origin for base in bases if base is not None and (origin := origin_of(base)) is not None}
    return local_path(location, own=origins, current_path=request.full_path)


def is_moved(settings: Settings, request: Request, start: Message) -> bool:
    """Tell whether an answer only moves the request, and warn if that leads off the logout paths."""
    location = target_of(start) if int(start["status"]) in MOVED else None
    if location is None:
        return False
    paths = request.paths(settings.public_url)
    if not only_moves(location, host=request.host, paths=paths):
        return False
    target = request.path.rstrip("/") + ("/" if location.partition("?")[0].endswith("/") else "")
    if target not in settings.logout_paths:
        logger.warning(
            "%s is only sent on to %s, which is no logout_path, so that it logs nobody out", paths[0], target
        )
    return True


def default_target(settings: Settings, request: Request) -> str:
    """Give where a browser goes that came back without a usable state: never an error page."""
    prefix = urlsplit(settings.public_url).path if settings.public_url else request.root_path
    configured = settings.post_logout_redirect_uri
    path = configured if configured is not None and configured.startswith("/") else "/"
    return local_path(prefix.rstrip("/") + path, own=()) or "/"
