"""Step 5: where the browser comes back to after the provider (RP-Initiated Logout 1.0, section 3)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ..asgi.request import Request
from ..asgi.response import ResponseStart
from ..log import logger, shown
from ..negotiation.answers import http_status, redirect_target
from ..options import Options
from ..protocol.return_target import absolute_url, local_path, local_reference, origin_of, without_query
from .detect import MOVED, path_on_host

REFERENCE = "~"
LONGEST_REFERENCE = 160

RETURN_LIFETIME = 600.0
"""Seconds in which a browser may come back from the provider to the page it wanted."""


@dataclass(frozen=True, slots=True)
class ReturnPlan:
    """The return address for the provider, and what is kept for the way back.

    ``uri`` is the post_logout_redirect_uri, None to send none. With a callback path, ``state`` and ``browser`` are
    random and ``target`` is where the browser goes from there: a path with query and fragment on this origin.
    """

    uri: str | None
    target: str | None = None
    state: str | None = None
    browser: str | None = None


def return_trip_key(state: str) -> str:
    """Return the key under which the target of a return trip is stored."""
    return f"return_trip:{browser_digest(state)}"


def browser_digest(value: str) -> str:
    """Return the digest by which a browser's binding cookie is compared."""
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()[:43]


def return_reference(end: str, state: str) -> str:
    """Return the binding cookie of a return trip whose target is in a tombstone; ``end`` is the tombstone's digest."""
    return f"{REFERENCE}{end}.{browser_digest(state)}"


def read_return_reference(value: str, state: str) -> str | None:
    """Return the digest of the tombstone that holds the target, if a binding cookie is for this state."""
    end, _, bound = value.removeprefix(REFERENCE).rpartition(".")
    known = value.startswith(REFERENCE) and len(value) <= LONGEST_REFERENCE
    return end if known and hmac.compare_digest(bound, browser_digest(state)) else None


def plan_return(options: Options, request: Request, target: str | None) -> ReturnPlan:
    """Plan the way back. ``target`` is the path that the application's own answer, or a navigation, leads to."""
    base = request.base(options.public_url)
    if options.callback_path is not None:
        if base is None:
            return ReturnPlan(None)
        uri = absolute_url(options.callback_path, base)
        wanted = target or fallback_target(options, request)
        return ReturnPlan(uri, wanted, secrets.token_urlsafe(32), secrets.token_urlsafe(32))
    configured = options.post_logout_redirect_uri
    if configured is not None and not configured.startswith("/"):
        return ReturnPlan(configured)
    if base is None:
        return ReturnPlan(None)
    if configured is not None:
        return ReturnPlan(absolute_url(configured, base))
    origin = origin_of(base)
    # Providers compare the whole string, so what changes from one logout to the next is left out.
    return ReturnPlan(absolute_url(without_query(target), str(origin))) if target and origin else ReturnPlan(None)


def same_origin_target(options: Options, request: Request, location: str | None) -> str | None:
    """Return the application's own redirect target as a path on this origin, with its fragment; None if it has none."""
    if location is None:
        return None
    if location[:1] == "/" != location[1:2]:
        return local_reference(location, own=())  # no origin in it to compare
    bases = (request.base(options.public_url), request.base(None))
    origins = {origin for base in bases if base is not None and (origin := origin_of(base)) is not None}
    return local_reference(location, own=origins, current_path=request.full_path)


def is_canonical_redirect(options: Options, request: Request, start: ResponseStart, *, ends_session: bool) -> bool:
    """Return whether a response on a logout path only redirects to another form of the same address.

    Two redirects do. One, of any status, leads to another logout path: the response there counts, be it the logout or a
    page that asks first. If ``ends_session``, the session is gone already, and this redirect is the logout. The other
    has a status of ``MOVED``, and leads to https, or to the path with or without its trailing slash. A warning is
    logged if that form is not a logout path.
    """
    location = redirect_target(start)
    paths = request.paths(options.public_url)
    there = path_on_host(location, host=request.host, current_path=paths[0]) if location is not None else None
    if location is None or there is None:
        return False
    if not ends_session and http_status(start) < 400 and _is_another_logout_path(options, request, there):
        return True
    if start.status not in MOVED or there.rstrip("/") not in {path.rstrip("/") for path in paths}:
        return False
    target = request.path.rstrip("/") + ("/" if location.partition("?")[0].endswith("/") else "")
    if target not in options.logout_path:
        options.notices.limited(
            "moved",
            "a logout path redirects to itself with or without the trailing slash, and that form is not in "
            "logout_path, so users stay signed in at the provider: add it (logged at DEBUG) to logout_path",
        )
        logger.debug("%s is redirected to %s", shown(paths[0]), shown(target))
    return True


def _is_another_logout_path(options: Options, request: Request, there: str) -> bool:
    prefixes = (request.root_path.rstrip("/"), urlsplit(options.public_url or "").path)
    routes = {unquote(there.removeprefix(prefix)) for prefix in prefixes if there.startswith(prefix)}
    return request.path not in routes and any(route in options.logout_path for route in routes)


def fallback_target(options: Options, request: Request) -> str:
    """Return where a browser goes that comes back without a usable state; it never gets an error page."""
    prefix = urlsplit(options.public_url).path if options.public_url else request.root_path
    configured = options.post_logout_redirect_uri
    path = configured if configured is not None and configured.startswith("/") else "/"
    return local_path(prefix.rstrip("/") + path, own=()) or "/"
