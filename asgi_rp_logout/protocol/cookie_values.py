r"""The values of session cookies: how applications read them, and the digests by which they are blocked.

A session that has ended is blocked by a digest of its cookie's value. Applications accept more than one spelling of a
value, and whoever has copied a cookie may choose the spelling. So the value is first brought into one form, the way
that applications themselves decode it:

1. Quotes, backslash escapes (``http.cookies``, WebOb) and percent-encoding are resolved, up to four times.
2. A UUID is read as Python's ``uuid.UUID`` reads it: upper case, with or without dashes, braces or ``urn:uuid:``.
   Hex digits, 32 or more, are read in lower case.
3. Base64 is read as Python's ``base64`` reads it, which ignores the spare bits of the last character, everything after
   the padding, and characters that are not base64 at all, and takes ``+/`` for ``-_``. This is done to a signature
   after a dot (of the length of a MAC or an RSA signature), to the five parts of an encrypted JWT, and to a value of 64
   characters or more as a whole, in which a dot may be a character to ignore. Shorter values are looked up as text, and
   two of them may differ in nothing but the spare bits, such as two ULIDs of one millisecond.

What remains different is different: two values have one digest only if they decode to the same bytes.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
from dataclasses import dataclass
from urllib.parse import unquote

SHORTEST_SECRET = 16
"""Characters of a value that may identify one browser. ``logged_in=1`` is shared by many, and must never be blocked."""

_EDGES = '";\\ \t\n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0'
"""What parsers take off the ends of a value, or leave there."""
_ESCAPE = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))", re.DOTALL)
_HEX = re.compile(r"[0-9A-Fa-f]{32,}")
_UUID_DIGITS = 32
_MAC_LENGTHS = frozenset((16, 20, 28, 32, 48))
_PAIRS = frozenset((64, 96, 132))
"""Lengths of ECDSA signatures in a JWT (RFC 7518, section 3.4): anybody can make a valid (r, -s) of (r, s)."""
_ENCODED = 48
"""Bytes from which a value is certainly encoded: no id that is counted up is that long."""


@dataclass(frozen=True, slots=True)
class Secret:
    """What identifies one session: a digest, and the cookies that it was read from.

    ``digest`` is None for a value too short to be one browser's own. ``parts`` are the names and raw values, one for a
    cookie in one piece and several for one in chunks.
    """

    digest: str | None
    parts: tuple[tuple[str, str], ...]


def secret_digests(value: str) -> list[str]:
    """Return the digests by which a session cookie's value is blocked: none for one too short to be one browser's own.

    The name does not count: the same value under another name, or as a bearer token, is the same secret. There are two
    digests if a dot in the value may be a separator, or else a character that base64 ignores.
    """
    for _ in range(4):
        plain = unquote(unquoted(value), encoding="latin-1")
        if plain == value:
            break
        value = plain
    value = value.strip(_EDGES)
    if len(value) < SHORTEST_SECRET:
        return []
    return [hashlib.sha256(form.encode("utf-8", "surrogatepass")).hexdigest()[:43] for form in _forms(value)]


def secret_digest(value: str) -> str | None:
    """Return the first digest, by which the value is known as it was issued, or None."""
    return next(iter(secret_digests(value)), None)


def bearer_digests(authorization: str) -> list[str]:
    """Return the digests that the token of an Authorization header may be blocked by (RFC 6750, section 2.1).

    An application may take the rest of the header for the token, or its first or last word only.
    """
    scheme, *words = authorization.split() or [""]
    if scheme.lower() != "bearer" or not words:
        return []
    tokens = (authorization.strip()[len(scheme) :].strip(), words[0], words[-1])
    return list(dict.fromkeys(digest for token in tokens for digest in secret_digests(token)))


def unquoted(value: str) -> str:
    """Return the value without its quotes, and without backslash escapes, which WebOb resolves outside quotes too."""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
    if "\\" not in value:
        return value
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)) if match[1] else match[2], value)


def _forms(value: str) -> list[str]:
    bare = value.replace("urn:", "").replace("uuid:", "").strip("{}").replace("-", "")
    if len(bare) == _UUID_DIGITS:
        with contextlib.suppress(ValueError):
            return [f"{int(bare, 16):032x}"]
    if _HEX.fullmatch(value):
        return [value.lower()]
    whole = _decoded(value).hex() if len(value) >= _ENCODED else ""
    head, dot, last = value.rpartition(".")
    if not dot:
        return [whole if len(whole) >= 2 * _ENCODED else value]
    is_json = value.startswith("eyJ")
    if is_json and value.count(".") == 4:  # RFC 7516, section 7.1
        return [".".join(_decoded(part).hex() or part for part in value.split("."))]
    found = _decoded(last)
    if is_json and len(found) in _PAIRS:
        found = found[: len(found) // 2]
    signed = f"{head}.{found.hex()}" if len(found) in _MAC_LENGTHS or len(found) >= 64 else value
    return [signed, whole] if len(whole) >= 2 * _ENCODED and not is_json else [signed]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("latin-1") + b"==", altchars=b"-_")
    except ValueError:
        return b""
