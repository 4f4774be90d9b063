r"""The values of session cookies: how applications read them, and what they are blocked by.

A session that has ended is blocked by a digest of its cookie's value. Applications accept more than one spelling of a
value, and whoever has copied a cookie may choose the spelling. So the value is first brought into one form, the way
that applications themselves decode it:

1. Quotes, backslash escapes (``http.cookies``, WebOb) and percent-encoding are resolved, up to four times.
2. A UUID is read as Python's ``uuid.UUID`` reads it: upper case, with or without dashes, braces or ``urn:uuid:``.
   Hex digits, 32 or more, are read in lower case.
3. Base64 is read as Python's ``base64`` reads it, which ignores the spare bits of the last character, everything after
   the padding, and characters that are not base64 at all, and takes ``+/`` for ``-_``. This is done to a signature
   after a dot (of the length of a MAC or an RSA signature), to the five parts of an encrypted JWT, and to a value of 64
   characters or more as a whole. Shorter values are looked up as text by the applications that issue them, and
   two of them may differ in nothing but the spare bits, such as two ULIDs of one millisecond.

What remains different is different: two values have one digest only if they decode to the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from dataclasses import dataclass
from urllib.parse import unquote

SHORTEST_SECRET = 16
"""Characters of a value that may identify one browser. ``logged_in=1`` is everybody's, and must never be blocked."""

_ESCAPE = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))", re.DOTALL)
_HEX = re.compile(r"[0-9A-Fa-f]{32,}")
_UUID_LENGTH = range(32, 80)
_MAC_LENGTHS = frozenset((16, 20, 28, 32, 48))
_ENCODED = 48
"""Bytes from which a value is certainly encoded: no id that is counted up is that long."""


@dataclass(frozen=True, slots=True)
class Secret:
    """Hold what identifies one session: a digest, and the cookies that it was read from.

    ``digest`` is None for a value too short to be one browser's own. ``parts`` are the names and raw values, one for a
    cookie in one piece and several for one in chunks.
    """

    digest: str | None
    parts: tuple[tuple[str, str], ...]


def secret_digest(value: str) -> str | None:
    """Return what a session cookie's value is blocked by, or None for a value too short to be one browser's own.

    The name does not count: the same value under another name, or as a bearer token, is the same secret.
    """
    for _ in range(4):
        plain = unquote(unquoted(value), encoding="latin-1")
        if plain == value:
            break
        value = plain
    value = value.strip('"')
    if len(value) < SHORTEST_SECRET:
        return None
    return hashlib.sha256(_one_form(value).encode("utf-8", "surrogatepass")).hexdigest()[:43]


def bearer_digests(authorization: str) -> list[str]:
    """Return the digests that the token of an Authorization header may be blocked by (RFC 6750, section 2.1).

    An application may take the rest of the header for the token, or its first or last word only.
    """
    scheme, _, rest = authorization.strip().partition(" ")
    words = rest.split()
    if scheme.lower() != "bearer" or not words:
        return []
    found = [secret_digest(token) for token in (rest.strip(), words[0], words[-1])]
    return list(dict.fromkeys(digest for digest in found if digest is not None))


def unquoted(value: str) -> str:
    """Return the value without its quotes, and without backslash escapes, which WebOb resolves outside quotes too."""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)) if match[1] else match[2], value)


def _one_form(value: str) -> str:
    if len(value) in _UUID_LENGTH:
        try:
            return uuid.UUID(value).hex
        except ValueError:
            pass
    if _HEX.fullmatch(value):
        return value.lower()
    segments = value.split(".")
    if len(segments) == 1:
        whole = _decoded(value)
        return value if len(whole) < _ENCODED else whole.hex()
    return ".".join(_segment(segment, encrypted=len(segments) == 5) for segment in segments)


def _segment(segment: str, *, encrypted: bool) -> str:
    found = _decoded(segment)
    return found.hex() if encrypted or len(found) in _MAC_LENGTHS or len(found) >= 64 else segment


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("latin-1") + b"==", altchars=b"-_")
    except ValueError:
        return b""
