"""Step 1: was this response a successful logout? Pure."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urljoin, urlsplit

from ..login import LogoutIntent

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
CHANGING = frozenset(("POST", "PUT", "PATCH", "DELETE"))
MOVED = frozenset((301, 307, 308, 409))
"""Statuses that only move a request. Inertia sends 409 if the page's scripts are out of date.

Frameworks and proxies send them before the application has seen the request, to switch to https, or to add or remove
the trailing slash.
"""


NO_LOGOUT: Literal["no logout"] = "no logout"
"""What a marker header of ``0`` or ``false`` means."""

Said = LogoutIntent | Literal["no logout"]


def detect(
    status: int, method: str, *, on_logout_path: bool, said: Said | None, ends_session: bool = False
) -> LogoutIntent | None:
    """Return what the logout is to do; None if the response was not a logout.

    Takes the response's status, the request's method, whether the path is a logout path, what the application ``said``
    for this one response by the marker header or else by a decorator, and whether the response deletes the session
    cookie or leaves the session empty. ``said`` outranks the path.
    """
    if said is not None and method not in ("HEAD", "OPTIONS") and status < 400:
        return said if said != NO_LOGOUT else None
    if on_logout_path and _is_logout_answer(status, method, ends_session):
        return LogoutIntent()
    return None


def read_marker(value: str) -> Said:
    """Read the marker header: ``1``, ``true`` or nothing, ``local``, ``everywhere``, ``0``, ``false`` or a provider."""
    value = value.strip()
    word = value.lower()
    if word in ("", "1", "true"):
        return LogoutIntent()
    if word in ("0", "false"):
        return NO_LOGOUT
    if word == "local":
        return LogoutIntent(local=True)
    return LogoutIntent(everywhere=True) if word == "everywhere" else LogoutIntent(provider=value)


def _is_logout_answer(status: int, method: str, ends_session: bool) -> bool:
    if method != "GET" and method not in CHANGING:
        return False
    if status in _REDIRECTS or (ends_session and status < 400):
        return True
    # A GET that answers 200 and keeps the session is a page that asks first, or the page of a single-page application.
    return method in CHANGING and 200 <= status < 300


def path_on_host(location: str, *, host: str | None, current_path: str) -> str | None:
    """Return the path that a redirect leads to on this host, under any scheme and port; None for another host.

    Takes the redirect's target, the request's Host header and the request's own path, as browsers know it.
    """
    try:
        ours, there = urlsplit(f"//{host}").hostname, urlsplit(urljoin(current_path, location))
        return there.path if there.hostname in (None, ours) else None
    except ValueError:
        return None
