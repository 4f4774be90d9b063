"""The start of a response: read and amended, never rebuilt. It may lack its headers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .types import Headers, Message

HEADERS_AT_MOST = 4000
"""Bytes of the headers of a response that we write or add to, the status line included.

nginx reads them into one page of memory, 4,096 bytes, unless ``proxy_buffer_size`` says otherwise. What is longer
becomes 502, and the browser gets neither the redirect nor the deletions. The rest of the page is for what the server
adds: Date, Server, Connection. Where not everything fits, this is left out, in this order:

1. the URL of a 303 goes into a page, which leads there by itself; nothing is lost (``negotiation.answers``);
2. for htmx and Inertia, which read the URL in a header, it loses the hint, then all its parameters
   (``logout.choose_provider``);
3. deletions of cookies that the request did not bring (``logout.end_and_expire``);
4. deletions of cookies that it did bring, and the companion cookie of a login (``with_cookies``).

The application's own headers stay as they are.
"""

NO_LIMIT = 1 << 30
"""The room in headers that have no limit."""

_PAGE = 4096
_STATUS_LINE = 30

_PUBLIC = frozenset((b"public", b"s-maxage", b"proxy-revalidate"))
_NOT_SHARED = frozenset((b"private", b"no-store"))
_PRIVATE = (b"cache-control", b"private")

_ABOUT_ANOTHER_BODY = frozenset(
    (
        *(b"content-length", b"content-type", b"content-encoding", b"transfer-encoding", b"content-disposition"),
        *(b"etag", b"last-modified", b"cache-control", b"expires", b"age"),
    )
)
"""Headers that describe a body, and go when it is replaced."""


@dataclass(frozen=True, slots=True)
class ResponseStart:
    """The start message of a response. Methods return another one with a change; everything else in it stays."""

    message: Message

    @classmethod
    def of(cls, status: int, headers: Headers) -> ResponseStart:
        """Return the start of a response of our own."""
        return cls({"type": "http.response.start", "status": status, "headers": headers})

    @classmethod
    def read(cls, message: Message) -> ResponseStart:
        """Read a start message of the application; its headers may be an iterable that can be read only once."""
        if "headers" not in message:
            return cls(message)
        return cls({**message, "headers": [(bytes(name), bytes(value)) for name, value in message["headers"]]})

    @property
    def status(self) -> int:
        """The status."""
        return int(self.message["status"])

    @property
    def headers(self) -> Headers:
        """The headers; an empty list if the message has none."""
        headers: Headers = self.message.get("headers", [])
        return headers

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a header, named in lower case."""
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def set_cookies(self) -> list[bytes]:
        """The values of the Set-Cookie headers."""
        return self.values(b"set-cookie")

    @property
    def clears_cookies(self) -> bool:
        """Whether Clear-Site-Data deletes all cookies of the browser (Clear Site Data, section 3.1)."""
        words = (word for value in self.values(b"clear-site-data") for word in value.split(b","))
        return any(word.strip() in (b'"cookies"', b'"*"') for word in words)

    @property
    def size(self) -> int:
        """The bytes of the headers with the status line, about."""
        size = _STATUS_LINE
        for name, value in self.headers:
            size += len(name) + len(value) + 4
        return size

    @property
    def room(self) -> int:
        """The bytes of ``HEADERS_AT_MOST`` that are left; below 0 if it is exceeded.

        If the application's headers alone are longer than a page, no proxy with this limit can be in front of it, and
        there is room for anything.
        """
        size = self.size
        return HEADERS_AT_MOST - size if size <= _PAGE else NO_LIMIT

    def is_too_long_for(self, original: ResponseStart) -> bool:
        """Return whether this exceeds the limit because it was made from ``original``."""
        return original.room != NO_LIMIT and self.size > max(HEADERS_AT_MOST, original.size)

    def with_headers(self, headers: Headers) -> ResponseStart:
        """Return one with these headers and no others."""
        return ResponseStart({**self.message, "headers": headers})

    def without_header(self, name: bytes | None) -> ResponseStart:
        """Return one without a header, named in lower case."""
        kept = [pair for pair in self.headers if pair[0].lower() != name]
        return self.with_headers(kept) if len(kept) < len(self.headers) else self

    def with_cookies(self, lines: Iterable[bytes], *, keeping: int = 0) -> ResponseStart:
        """Append Set-Cookie headers, in their order, as far as there is room for them and ``keeping`` bytes more.

        The response becomes private, because a shared cache would hand its cookies to everybody.
        """
        lines = list(lines)
        if not lines:
            return self
        private = self._private()
        room, added = min(self.room, private.room) - keeping, []
        for line in lines:
            room -= len(b"set-cookie") + len(line) + 4
            if room >= 0:
                added.append((b"set-cookie", line))
        return private.with_headers([*private.headers, *added]) if added else self

    def without_cookies(self, dropped: Callable[[bytes], bool]) -> ResponseStart:
        """Return one without the Set-Cookie headers for whose value ``dropped`` returns True."""
        return self.with_headers(
            [(name, value) for name, value in self.headers if name.lower() != b"set-cookie" or not dropped(value)]
        )

    def replaced(self, status: int, added: Headers, *, without: frozenset[bytes], length: int = 0) -> ResponseStart:
        """Return one for another status and a body of ``length`` bytes; every Set-Cookie stays.

        Headers that describe the old body are removed, and those in ``without``.
        """
        kept = [
            (name, value)
            for name, value in self.headers
            if (lower := name.lower()) not in _ABOUT_ANOTHER_BODY
            and lower not in without
            and not is_for_shared_caches(lower)
        ]
        headers = [
            *kept,
            *added,
            (b"cache-control", b"no-store"),
            (b"referrer-policy", b"no-referrer"),
            (b"content-length", str(length).encode("ascii")),
        ]
        message = {**self.message, "status": status, "headers": headers}
        message.pop("trailers", None)
        return ResponseStart(message)

    def _private(self) -> ResponseStart:
        """Keep a response out of every shared cache; the browser's own may still keep it."""
        headers = self.headers
        caching = [pair for pair in headers if _is_about_caching(pair[0].lower())]
        if not caching:
            return self.with_headers([*headers, _PRIVATE])
        if caching == [_PRIVATE]:
            return self
        directives = [one.strip() for one in b",".join(self.values(b"cache-control")).split(b",") if one.strip()]
        kept = [one for one in directives if _words(one).isdisjoint(_PUBLIC)]
        if _words(b",".join(kept)).isdisjoint(_NOT_SHARED):
            kept.append(b"private")
        others = [pair for pair in headers if pair not in caching]
        return self.with_headers([*others, (b"cache-control", b", ".join(kept))])

    @property
    def may_be_shared(self) -> bool:
        """Whether a shared cache may keep this response (RFC 9111, sections 3 and 4.2.2).

        A careful cache does not keep a response without a lifetime and without a validator.
        """
        names = [name.lower() for name, _ in self.headers]
        if any(map(is_for_shared_caches, names)):
            return True  # such a header outranks Cache-Control (RFC 9213, section 2.2)
        words = _words(b",".join(self.values(b"cache-control")))
        lasting = not {b"etag", b"last-modified", b"expires"}.isdisjoint(names)
        return words.isdisjoint(_NOT_SHARED) and (bool(words) or lasting)


def is_for_shared_caches(name: bytes) -> bool:
    """Return whether a header, in lower case, is a Cache-Control for certain shared caches only (RFC 9213)."""
    return name.endswith(b"cdn-cache-control") or name in (b"surrogate-control", b"edge-control", b"x-accel-expires")


def _is_about_caching(name: bytes) -> bool:
    return name in (b"cache-control", b"expires", b"age") or is_for_shared_caches(name)


def _words(value: bytes) -> set[bytes]:
    """Return the directives of a Cache-Control header, without their arguments."""
    return {one.partition(b"=")[0].strip().lower() for one in value.split(b",") if one.strip()}
