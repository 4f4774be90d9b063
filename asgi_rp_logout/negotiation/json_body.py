"""The body of a response to a fetch: does it hold the URL to which the page will go by itself? Pure.

Many single-page applications answer their logout with the provider's end-session URL in JSON. The body comes after the
start message, so the start message waits for it: for one message of a stream, for ``MOST`` bytes where the length is
known, and not at all for anything but plain JSON.
"""

from __future__ import annotations

import json

from ..asgi.response import ResponseStart
from ..asgi.types import Message, header_values

MOST = 16 * 1024
"""Bytes of a body that are looked at."""


class JSONBody:
    """Collect the body of a response until there is enough of it; ``start`` and ``messages`` are what is held back."""

    def __init__(self, start: ResponseStart) -> None:
        self.start = start
        self.messages: list[Message] = []
        self._body = bytearray()
        self._length = _length_of(start)

    def add(self, message: Message) -> bool:
        """Take one more message; return whether that is enough."""
        self.messages.append(message)
        if message["type"] != "http.response.body":
            return True
        self._body += message.get("body", b"")
        if not message.get("more_body", False):
            return True
        # A body without a length is a stream: only its first part is waited for.
        return bool(self._body) if self._length is None else len(self._body) >= min(self._length, MOST)

    def urls(self) -> list[str]:
        """Return the absolute URLs among the strings of the body, if it is JSON and complete."""
        if len(self._body) > MOST:
            return []
        try:
            rest = [json.loads(self._body)]
        except (ValueError, RecursionError):
            return []
        urls = []
        while rest:
            value = rest.pop()
            if isinstance(value, str) and value.startswith(("https://", "http://")):
                urls.append(value)
            elif isinstance(value, dict | list):
                rest.extend(value.values() if isinstance(value, dict) else value)
        return urls


def may_hold_url(start: ResponseStart) -> bool:
    """Return whether a response is short, plain JSON, as far as its headers say."""
    headers = start.headers
    types = [value.partition(";")[0].strip().lower() for value in header_values(headers, b"content-type")]
    plain = all(value.strip().lower() == "identity" for value in header_values(headers, b"content-encoding"))
    return types == ["application/json"] and plain and (_length_of(start) or 0) <= MOST


def _length_of(start: ResponseStart) -> int | None:
    lengths = header_values(start.headers, b"content-length")
    return int(lengths[0]) if len(lengths) == 1 and lengths[0].isdecimal() else None
