"""Step 1: was this response a successful logout? Pure."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from .context import Mark

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
CHANGING = frozenset(("POST", "PUT", "PATCH", "DELETE"))
MOVED = frozenset((301, 307, 308, 409))
"""What sends the same request elsewhere; 409 is Inertia's, after a new version of the page's scripts.

Frameworks and proxies answer so before the application has seen anything: to get to https, or to the path with or
without its last slash.
"""


def detect(
    status: int, method: str, *, on_logout_path: bool, marker: str | None, mark: Mark | None, ends_session: bool = False
) -> Mark | None:
    """Return whether a response was a logout, and of what kind; None if it was not.

    Takes the response's status, the request's method, whether the path is a logout path, the marker header's value, the
    decorator's mark, and whether the response deletes the session cookie or leaves the session empty. What was said for
    this one response goes first: the header, then the decorator, then the path.
    """
    if method not in ("HEAD", "OPTIONS") and status < 400:
        if marker is not None:
            return _read_marker(marker)
        if mark is not None:
            return mark
    if on_logout_path and _is_logout_answer(status, method, ends_session):
        return Mark()
    return None


def _read_marker(value: str) -> Mark | None:
    """Read the marker header's value: None if it says that this is no logout."""
    value = value.strip()
    word = value.lower()
    if word in ("", "1", "true"):
        return Mark()
    if word in ("0", "false"):
        return None
    return Mark(local=True) if word == "local" else Mark(provider=value)


def _is_logout_answer(status: int, method: str, ends_session: bool) -> bool:
    if method != "GET" and method not in CHANGING:
        return False
    if status in _REDIRECTS or (ends_session and status < 400):
        return True
    # A GET that answers 200 and keeps the session is a confirmation page, or that of a single-page application.
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
