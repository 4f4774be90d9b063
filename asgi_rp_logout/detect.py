"""Step 1: was this response a successful logout? Pure."""

from __future__ import annotations

from .context import Mark

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_CHANGING = frozenset(("POST", "PUT", "PATCH", "DELETE"))


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


def _read_marker(value: str) -> Mark:
    value = value.strip()
    word = value.lower()
    if word in ("", "1", "true"):
        return Mark()
    return Mark(local=True) if word == "local" else Mark(provider=value)


def _is_logout_answer(status: int, method: str) -> bool:
    # A GET that answers 200 is a confirmation page, or the page of a single-page application that has every path.
    if method == "GET":
        return status in _REDIRECTS
    return method in _CHANGING and (200 <= status < 300 or status in _REDIRECTS)
