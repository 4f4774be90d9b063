"""The start message of a response: read and amended, never rebuilt. It may lack its headers.

``take_header`` reads it first, and makes a list of pairs of bytes of its headers; the other functions rely on that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ._asgi import Headers, Message

_TARGETS = frozenset((b"location", b"hx-redirect", b"hx-location", b"x-inertia-location"))


def headers_of(start: Message) -> Headers:
    """Give the headers; an empty list if the message has none."""
    headers: Headers = start.get("headers", [])
    return headers


def status_of(start: Message) -> int:
    """Give the status in HTTP's words: Inertia says 303 by a 409 with the target in a header of its own."""
    status = int(start["status"])
    inertia = status == 409 and any(name.lower() == b"x-inertia-location" for name, _ in headers_of(start))
    return 303 if inertia else status


def target_of(start: Message) -> str | None:
    """Give the redirect target, HTTP's or that of a library in the page, decoded as latin-1."""
    return next((value.decode("latin-1") for name, value in headers_of(start) if name.lower() in _TARGETS), None)


def set_cookies_of(start: Message) -> list[bytes]:
    """Give the values of the Set-Cookie headers."""
    return [value for name, value in headers_of(start) if name.lower() == b"set-cookie"]


def with_cookies(start: Message, lines: Iterable[bytes]) -> Message:
    """Append Set-Cookie headers."""
    added = [(b"set-cookie", line) for line in lines]
    return {**start, "headers": [*headers_of(start), *added]} if added else start


def without_cookies(start: Message, dropped: Callable[[bytes], bool]) -> Message:
    """Leave out the Set-Cookie headers whose value ``dropped`` says yes to."""
    kept = [(name, value) for name, value in headers_of(start) if name.lower() != b"set-cookie" or not dropped(value)]
    return {**start, "headers": kept}


def take_header(start: Message, name: bytes | None) -> tuple[str | None, Message]:
    """Take every header called ``name`` out; give the first one's value, decoded as latin-1, and the rest."""
    if "headers" not in start:
        return None, start
    headers = [(bytes(key), bytes(value)) for key, value in start["headers"]]  # an iterable that is read once, maybe
    found = [value for key, value in headers if key.lower() == name]
    kept = [pair for pair in headers if pair[0].lower() != name] if found else headers
    return found[0].decode("latin-1") if found else None, {**start, "headers": kept}
