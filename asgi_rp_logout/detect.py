"""Step 1: was this response a successful logout? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urljoin, urlsplit

from .context import Mark

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_CHANGING = frozenset(("POST", "PUT", "PATCH", "DELETE"))
MOVED = frozenset((301, 307, 308, 409))
"""What sends the same request elsewhere; 409 is Inertia's, after a new version of the page's scripts."""


def detect(status: int, method: str, *, on_logout_path: bool, marker: str | None, mark: Mark | None) -> Mark | None:
    """Tell whether a response was a logout, and of what kind.

    Takes the response's status, the request's method, whether the path is a logout path, the marker header's value and
    the decorator's mark. Gives None if it was none. What was said for this one response goes first: the header, then
    the decorator, then the path.
    """
    if method not in ("HEAD", "OPTIONS") and status < 400:
        if marker is not None:
            return _read_marker(marker)
        if mark is not None:
            return mark
    if on_logout_path and _is_logout_answer(status, method):
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


def _is_logout_answer(status: int, method: str) -> bool:
    # A GET that answers 200 is a confirmation page, or the page of a single-page application that has every path.
    if method == "GET":
        return status in _REDIRECTS
    return method in _CHANGING and (200 <= status < 300 or status in _REDIRECTS)


def only_moves(location: str, *, host: str | None, paths: Sequence[str]) -> bool:
    """Tell whether a redirect only moves the request: to https, or to its path with or without the last slash.

    Takes the target of an answer whose status is one of ``MOVED``, the request's Host header, and the paths by which
    browsers may know its own. Frameworks and proxies answer so before the application has seen anything.
    """
    try:
        ours, there = urlsplit(f"//{host}").hostname, urlsplit(urljoin(paths[0], location))
        same_host = there.hostname in (None, ours)
    except ValueError:
        return False
    return same_host and there.path.rstrip("/") in {path.rstrip("/") for path in paths}
