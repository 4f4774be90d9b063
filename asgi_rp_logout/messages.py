"""The start message of a response: read and amended, never rebuilt. It may lack its headers.

``take_header`` reads it first, and makes a list of pairs of bytes of its headers; the other functions rely on that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from .asgi.types import Headers, Message

HEADERS_AT_MOST = 4000
"""Bytes of the headers of an answer that we write or add to, the status line included.

nginx reads them into one page of memory, 4,096 bytes, unless ``proxy_buffer_size`` says otherwise. What is longer
becomes 502, and the browser gets neither the redirect nor the deletions. The rest of the page is for what the server
adds: Date, Server, Connection. Where not everything fits, this gives way, the first first:

1. the URL of a 303 goes into a page, which leads there by itself; nothing is lost (``answer_for``);
2. for htmx and Inertia, which read the URL in a header, it loses the hint, then all its parameters (``resolve``);
3. deletions of cookies that the request did not bring (``expire_cookies``);
4. deletions of cookies that it did bring, and the companion cookie of a login (``with_cookies``).

The application's own headers stay as they are.
"""

_PAGE = 4096
_STATUS_LINE = 30

_PUBLIC = frozenset((b"public", b"s-maxage", b"proxy-revalidate"))
_NOT_SHARED = frozenset((b"private", b"no-store"))
_TARGETS = frozenset((b"location", b"hx-redirect", b"hx-location", b"x-inertia-location"))


def headers_of(start: Message) -> Headers:
    """Return the headers; an empty list if the message has none."""
    headers: Headers = start.get("headers", [])
    return headers


def status_of(start: Message) -> int:
    """Return the status in HTTP's words: Inertia says 303 by a 409 with the target in a header of its own."""
    status = int(start["status"])
    inertia = status == 409 and any(name.lower() == b"x-inertia-location" for name, _ in headers_of(start))
    return 303 if inertia else status


def target_of(start: Message) -> str | None:
    """Return the redirect target, HTTP's or that of a library in the page, decoded as latin-1."""
    return next((value.decode("latin-1") for name, value in headers_of(start) if name.lower() in _TARGETS), None)


def set_cookies_of(start: Message) -> list[bytes]:
    """Return the values of the Set-Cookie headers."""
    return [value for name, value in headers_of(start) if name.lower() == b"set-cookie"]


def clears_cookies(start: Message) -> bool:
    """Return whether Clear-Site-Data deletes all cookies of the browser (Clear Site Data, section 3.1)."""
    values = [value for name, value in headers_of(start) if name.lower() == b"clear-site-data"]
    return any(word.strip() in (b'"cookies"', b'"*"') for value in values for word in value.split(b","))


def room_in(start: Message) -> int:
    """Return how many bytes of ``HEADERS_AT_MOST`` are left; below 0 if it is exceeded.

    An application whose headers alone are longer than a page has no reader in front that keeps this limit, and so there
    is room for anything.
    """
    size = _size_of(start)
    return HEADERS_AT_MOST - size if size <= _PAGE else sys.maxsize


def is_too_long(rewritten: Message, start: Message) -> bool:
    """Return whether an answer exceeds the limit because it was rewritten."""
    return room_in(start) != sys.maxsize and _size_of(rewritten) > max(HEADERS_AT_MOST, _size_of(start))


def _size_of(start: Message) -> int:
    size = _STATUS_LINE
    for name, value in headers_of(start):
        size += len(name) + len(value) + 4
    return size


def with_cookies(start: Message, lines: Iterable[bytes], *, keeping: int = 0) -> Message:
    """Append Set-Cookie headers, in their order, as far as the headers have room for them and ``keeping`` bytes more.

    A shared cache that kept such an answer would give its cookies to everybody, so it may not.
    """
    lines = list(lines)
    if not lines:
        return start
    private = _private(start)
    room, added = min(room_in(start), room_in(private)) - keeping, []
    for line in lines:
        room -= len(b"set-cookie") + len(line) + 4
        if room >= 0:
            added.append((b"set-cookie", line))
    return {**private, "headers": [*headers_of(private), *added]} if added else start


def may_be_shared(headers: Headers) -> bool:
    """Return whether a shared cache may keep an answer with these headers (RFC 9111, sections 3 and 4.2.2).

    An answer that says neither how long, nor how to ask again, is kept by no cache that is careful.
    """
    if any(is_for_shared_caches(name.lower()) for name, _ in headers):
        return True  # such a header outranks Cache-Control (RFC 9213, section 2.2)
    words = _words(b",".join(value for name, value in headers if name.lower() == b"cache-control"))
    lasting = any(name.lower() in (b"etag", b"last-modified", b"expires") for name, _ in headers)
    return words.isdisjoint(_NOT_SHARED) and (bool(words) or lasting)


def is_for_shared_caches(name: bytes) -> bool:
    """Return whether a header, in lower case, is a Cache-Control of some shared caches' own (RFC 9213)."""
    return name.endswith(b"cdn-cache-control") or name in (b"surrogate-control", b"edge-control", b"x-accel-expires")


_PRIVATE = (b"cache-control", b"private")


def _is_about_caching(name: bytes) -> bool:
    return name in (b"cache-control", b"expires", b"age") or is_for_shared_caches(name)


def _private(start: Message) -> Message:
    """Keep an answer out of every shared cache; the browser's own may still keep it."""
    headers = headers_of(start)
    caching = [pair for pair in headers if _is_about_caching(pair[0].lower())]
    if not caching:
        return {**start, "headers": [*headers, _PRIVATE]}
    if caching == [_PRIVATE]:
        return start
    said = [value for name, value in caching if name.lower() == b"cache-control"]
    directives = [one.strip() for one in b",".join(said).split(b",") if one.strip()]
    kept = [one for one in directives if _words(one).isdisjoint(_PUBLIC)]
    if _words(b",".join(kept)).isdisjoint(_NOT_SHARED):
        kept.append(b"private")
    others = [pair for pair in headers if pair not in caching]
    return {**start, "headers": [*others, (b"cache-control", b", ".join(kept))]}


def _words(value: bytes) -> set[bytes]:
    """Return the directives of a Cache-Control header, without their arguments."""
    return {one.partition(b"=")[0].strip().lower() for one in value.split(b",") if one.strip()}


def without_cookies(start: Message, dropped: Callable[[bytes], bool]) -> Message:
    """Leave out the Set-Cookie headers whose value ``dropped`` says yes to."""
    kept = [(name, value) for name, value in headers_of(start) if name.lower() != b"set-cookie" or not dropped(value)]
    return {**start, "headers": kept}


def take_header(start: Message, name: bytes | None) -> tuple[str | None, Message]:
    """Take every header called ``name`` out; return the first one's value, decoded as latin-1, and the rest."""
    if "headers" not in start:
        return None, start
    headers = [(bytes(key), bytes(value)) for key, value in start["headers"]]  # an iterable that is read once, maybe
    found = [value for key, value in headers if key.lower() == name]
    kept = [pair for pair in headers if pair[0].lower() != name] if found else headers
    return found[0].decode("latin-1") if found else None, {**start, "headers": kept}
