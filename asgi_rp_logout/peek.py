"""A look into the body of an answer to a fetch: does it hold the address to which the page will go by itself?

Many single-page applications answer their logout with the provider's end-session URL in JSON. The body comes after the
start message, so the start message waits for it: for one message of a stream, for ``MOST`` bytes where the length is
known, and not at all for anything but plain JSON.
"""

from __future__ import annotations

import json

from .asgi.types import Message, header_values
from .messages import headers_of

MOST = 16 * 1024
"""Bytes of a body that are looked at."""


class Peek:
    """Hold an answer back until enough of its body is there."""

    def __init__(self, start: Message) -> None:
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
        # A body without a length is a stream: what comes first is all that is waited for.
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


def is_worth_a_look(start: Message) -> bool:
    """Return whether an answer is short, plain JSON, as far as its headers say."""
    headers = headers_of(start)
    types = [value.partition(";")[0].strip().lower() for value in header_values(headers, b"content-type")]
    plain = all(value.strip().lower() == "identity" for value in header_values(headers, b"content-encoding"))
    return types == ["application/json"] and plain and (_length_of(start) or 0) <= MOST


def _length_of(start: Message) -> int | None:
    lengths = header_values(headers_of(start), b"content-length")
    return int(lengths[0]) if len(lengths) == 1 and lengths[0].isdecimal() else None
