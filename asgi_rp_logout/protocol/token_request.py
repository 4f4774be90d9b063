"""A login's way from the callback to its tokens: the code, the token request and the token response. Pure.

RFC 6749, sections 4.1.2 to 4.1.4, and RFC 9110, section 7.6.1, for what a proxy leaves out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote_plus

from ..errors import LogoutTokenError
from .form import read_fields

Headers = list[tuple[bytes, bytes]]

LONGEST_CODE = 8192
"""Characters. The codes of Microsoft's providers have up to two thousand."""

_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization"}
    | {b"te", b"trailer", b"transfer-encoding", b"upgrade", b"content-length"}
)
_OWN = frozenset({b"host", b"accept-encoding", b"expect"})

_CODE = re.compile(rb"(?:^|&)(?:c|%63)(?:o|%6[fF])(?:d|%64)(?:e|%65)=([^&]+)")


def codes_in(fields: bytes | bytearray) -> list[str]:
    """Return every ``code`` in a query or form, however it is spelled; a login's callback has one (section 4.1.2).

    An application may take the first or the last of several, and its parser has other limits than ours.
    """
    codes = [unquote_plus(value.decode("latin-1")) for value in _CODE.findall(fields)]
    return [code for code in codes if len(code) <= LONGEST_CODE]


def redeemed_code(content_type: bytes, body: bytes) -> str | None:
    """Return the code that a token request redeems, or None for any other grant (section 4.1.3)."""
    if content_type.partition(b";")[0].strip().lower() != b"application/x-www-form-urlencoded":
        return None
    fields = _single(body, "grant_type", "code")
    return fields.get("code") if fields.get("grant_type") == "authorization_code" else None


def _single(fields: bytes, *names: str) -> dict[str, str]:
    """Return the fields of these names that are there once, and not empty."""
    try:
        found = read_fields(fields, *names)
    except LogoutTokenError:
        return {}
    return {name: v[0] for name, v in found.items() if len(v) == 1 and 0 < len(v[0]) <= LONGEST_CODE}


def tokens_in(status: int, body: bytes) -> Mapping[str, Any] | None:
    """Return a token response that holds an ID Token, or None for any other (section 5.1)."""
    if status != 200 or b'"id_token"' not in body:
        return None
    try:
        tokens = json.loads(body)
    except (ValueError, RecursionError):
        return None
    is_login = isinstance(tokens, dict) and isinstance(tokens.get("id_token"), str)
    return tokens if is_login and tokens["id_token"] else None


def passed_on(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the headers of a message that a proxy passes on, in either direction, with their names in lower case.

    ``Accept-Encoding`` is left out, so that the answer can be read, and so is what each connection says for itself.
    """
    pairs = [(name.lower(), value) for name, value in headers]
    named = {one.strip().lower() for name, value in pairs if name == b"connection" for one in value.split(b",")}
    return [pair for pair in pairs if pair[0] not in _HOP_BY_HOP | _OWN | named]
