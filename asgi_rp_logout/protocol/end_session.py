"""The end-session URL (OpenID Connect RP-Initiated Logout 1.0, sections 2 and 2.1).

Two rules hold for every URL that a browser is sent to, whoever wrote it:

1. It is https, or http on a loopback host, without userinfo, and made of visible ASCII only. A provider's answer ends
   up in a Location header; a line break in it would write headers of its own.
2. No parameter is empty and none is given twice. Keycloak answers 400 to ``id_token_hint=``, node-oidc-provider to a
   parameter given twice; and an endpoint may have a query of its own, which must stay (section 2.1).
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from ..errors import ProviderError

STANDARD_PARAMETERS = (
    "id_token_hint",
    "logout_hint",
    "client_id",
    "post_logout_redirect_uri",
    "state",
    "ui_locales",
)
"""The parameters of a logout request, in the order in which they are sent (section 2)."""

_VISIBLE_ASCII = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class FormPost:
    """Hold a logout request in form serialization: the action, and the fields to post to it."""

    action: str
    fields: tuple[tuple[str, str], ...]


def is_loopback(host: str) -> bool:
    """Return whether ``host`` never leaves this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def checked_url(url: object, what: str = "the end-session URL") -> str:
    """Return ``url`` back if a browser may be sent there, without its fragment.

    Raises ``ProviderError`` with code ``url`` otherwise; the message shows nothing of the URL.
    """
    if not isinstance(url, str) or not _VISIBLE_ASCII.fullmatch(url) or "\\" in url:
        raise ProviderError(f"{what} is not an absolute URL of visible ASCII characters", code="url")
    endpoint, mark, query = url.partition("#")[0].partition("?")
    return _checked_endpoint(endpoint, what) + (mark + query if query else "")


@functools.lru_cache(maxsize=64)  # the same few, at every logout
def _checked_endpoint(url: str, what: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ProviderError(f"{what} has a malformed host or port", code="url") from error
    if not host or "@" in parts.netloc:
        raise ProviderError(f"{what} has no host, or names a user", code="url")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ProviderError(f"{what} is neither https nor http on a loopback host", code="url")
    return urlunsplit(parts)


def end_session_url(
    endpoint: str,
    values: Mapping[str, str | None],
    *,
    rename: Mapping[str, str | None] | None = None,
    extra: Mapping[str, str] | None = None,
) -> str:
    """Build the URL of a logout request in query serialization.

    Takes the provider's endpoint, the values by their standard names, ``rename`` (standard name to the provider's own,
    or None to leave it out) and ``extra`` parameters (an empty value is sent as the bare name). What is empty is left
    out, and so is what the endpoint's own query has already. Raises ``ProviderError`` for an endpoint no browser may be
    sent to. RP-Initiated Logout 1.0, section 2.
    """
    rename = rename or {}
    pairs = [
        (name, value)
        for standard in (*STANDARD_PARAMETERS, *(name for name in values if name not in STANDARD_PARAMETERS))
        if (value := values.get(standard)) and (name := rename.get(standard, standard))
    ]
    # A state without an address to bring it back to means nothing, and is an error at Ory Hydra.
    return_name = rename.get("post_logout_redirect_uri", "post_logout_redirect_uri")
    if not values.get("post_logout_redirect_uri") or return_name is None:
        pairs = [pair for pair in pairs if pair[0] != rename.get("state", "state")]
    return _appended(*_known_endpoint(endpoint), [*pairs, *(extra or {}).items()])


def append_parameters(url: str, pairs: list[tuple[str, str]]) -> str:
    """Append to the query of ``url`` the pairs whose names are not in it yet, each name once."""
    return _appended(*_read_endpoint(url), pairs)


def _read_endpoint(url: str) -> tuple[str, frozenset[str]]:
    url = checked_url(url)
    return url, frozenset(name for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True))


_known_endpoint = functools.lru_cache(maxsize=64)(_read_endpoint)  # the same few, at every logout


def _appended(url: str, present: frozenset[str], pairs: list[tuple[str, str]]) -> str:
    added: dict[str, str] = {}
    for name, value in pairs:
        if name not in present:
            added.setdefault(name, _encode(name, value))
    glue = "" if not added or url.endswith("&") else "&" if "?" in url else "?"
    return url + glue + "&".join(added.values())


def _encode(name: str, value: str) -> str:
    # %20 and not "+": some providers read a query as a path is read. An unpaired surrogate becomes "?".
    encoded = _encoded_name(name)
    return f"{encoded}={quote(value, safe='', errors='replace')}" if value else encoded


@functools.lru_cache(maxsize=64)
def _encoded_name(name: str) -> str:
    return quote(name, safe="", errors="replace")


def same_endpoint(url: str, other: str) -> bool:
    """Return whether two URLs lead to the same endpoint, whatever their queries."""
    if url[:1] == "/":
        return False  # it names no scheme
    try:
        return _place_of(url) == _place_of(other)
    except ValueError:
        return False


def _place_of(url: str) -> tuple[str, str | None, int | None, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme), parts.path


def as_form(url: str, names: frozenset[str]) -> FormPost:
    """Turn a logout request from query into form serialization (section 2).

    The parameters called ``names`` become fields; whatever else the endpoint's query had stays in the action.
    """
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    kept = "&".join(piece for piece in parts.query.split("&") if _name_of(piece) not in names)
    fields = tuple((name, value) for name, value in pairs if name in names)
    return FormPost(urlunsplit(parts._replace(query=kept)), fields)


def _name_of(piece: str) -> str:
    pair = parse_qsl(piece, keep_blank_values=True)
    return pair[0][0] if pair else ""
