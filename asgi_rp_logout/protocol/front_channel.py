"""What a front-channel logout request says, and how its page may be framed: Front-Channel Logout 1.0. Pure.

The request is unsigned: an image on any page can make it. So it is believed only as far as it names a session that is
known here, by the issuer and a ``sid`` that only the provider and this application know, and it never revokes tokens.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from ..errors import LogoutTokenError
from .form import read_fields

MAX_QUERY = 4096
"""Bytes of a query string. An issuer and a session identifier take about 150."""

# What may stand in a Content-Security-Policy source without ending the directive.
_HOST = re.compile(r"[a-z0-9.-]+|\[[0-9a-f:.]+\]")
_NOBODY = "'none'"


def read_front_channel(query: bytes) -> tuple[str, str] | None:
    """Read ``iss`` and ``sid`` out of a query string (Front-Channel Logout 1.0, section 2).

    Takes the raw query string. Returns ``(iss, sid)``, or None if neither is there. Raises ``LogoutTokenError`` with
    the code ``too_large``, ``form``, ``duplicate`` or ``iss_and_sid``: "if either is included, both MUST be".
    """
    if len(query) > MAX_QUERY:
        raise LogoutTokenError(f"the query is longer than {MAX_QUERY} bytes", code="too_large")
    fields = read_fields(query, "iss", "sid")
    if not fields["iss"] and not fields["sid"]:
        return None
    if len(fields["iss"]) > 1 or len(fields["sid"]) > 1:
        raise LogoutTokenError("iss or sid is given more than once", code="duplicate")
    iss, sid = "".join(fields["iss"]), "".join(fields["sid"])
    if not iss or not sid:
        raise LogoutTokenError("iss and sid belong together, and one of them is missing", code="iss_and_sid")
    return iss, sid


def frame_headers(*issuers: str | None) -> list[tuple[bytes, bytes]]:
    """Return the headers of the page that the provider shows in a frame.

    Takes the issuers that may frame it; if none has an origin, nobody may. Never stored (Front-Channel Logout 1.0,
    section 2), loads nothing, and has no ``X-Frame-Options``, which could not name the provider.
    """
    origins = dict.fromkeys(origin for issuer in issuers if (origin := _origin(issuer)) is not None)
    policy = f"default-src 'none'; frame-ancestors {' '.join(origins) or _NOBODY}"
    return [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"content-security-policy", policy.encode("ascii")),
    ]


def _origin(issuer: str | None) -> str | None:
    try:
        parts = urlsplit(issuer or "")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    host = f"[{host}]" if ":" in host else host
    if parts.scheme not in ("https", "http") or not _HOST.fullmatch(host):
        return None
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
