"""How a form and a query string are read: application/x-www-form-urlencoded, from anybody. Pure."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from ..errors import LogoutTokenError

MAX_FIELDS = 100
"""Fields in one form. A real one has a few; splitting tens of thousands would be work done for an attacker."""


def read_fields(form: bytes, *names: str) -> dict[str, list[str]]:
    """Read the values of the fields with these names, in order; other fields are ignored.

    Takes an encoded form. Returns a list for each name, empty if it is not there. Raises ``LogoutTokenError`` with the
    code ``form`` if there are more than ``MAX_FIELDS`` fields, or a wanted value is not UTF-8.
    """
    found: dict[str, list[str]] = {name: [] for name in names}
    pairs = form.split(b"&", MAX_FIELDS)
    if len(pairs) > MAX_FIELDS:
        raise LogoutTokenError(f"there are more than {MAX_FIELDS} fields", code="form")
    for pair in pairs:
        encoded, _, value = pair.partition(b"=")
        name = _decode(encoded).decode(errors="replace")
        if name in found:
            try:
                found[name].append(_decode(value).decode())
            except UnicodeDecodeError:
                raise LogoutTokenError(f"the {name} is not UTF-8", code="form") from None
    return found


def _decode(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))
