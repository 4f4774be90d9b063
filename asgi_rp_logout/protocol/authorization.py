"""What comes back from an authorization request with ``prompt=none``. Pure.

OpenID Connect Core 1.0, sections 3.1.2.5 to 3.1.2.7. The request is made at logout only, to learn for whom the provider
has a session. Nobody is signed in with its answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs


@dataclass(frozen=True, slots=True)
class AuthorizationResponse:
    """An authorization response: its ``state``, either a ``code`` or an ``error``, and the ``iss`` if it names one."""

    state: str
    code: str | None = None
    error: str | None = None
    iss: str | None = None


def read_authorization_response(query: str) -> AuthorizationResponse | None:
    """Read an authorization response; None if a query is something else, or names a parameter twice.

    RFC 6749, sections 3.1, 4.1.2 and 4.1.2.1.
    """
    try:
        fields = parse_qs(query, max_num_fields=50)
    except ValueError:
        return None
    given = {name: fields[name] for name in ("state", "code", "error", "iss") if name in fields}
    if any(len(values) > 1 for values in given.values()) or ("code" in given) == ("error" in given):
        return None
    return AuthorizationResponse(**{name: values[0] for name, values in given.items()}) if "state" in given else None


def is_from_issuer(response: AuthorizationResponse, metadata: Mapping[str, Any]) -> bool:
    """Return whether a response comes from the provider with this metadata, as far as it says (RFC 9207, section 2.4).

    A provider that announces ``iss`` must send it with a code. Some leave it out of errors.
    """
    if response.iss is not None:
        return response.iss == metadata.get("issuer")
    return response.code is None or metadata.get("authorization_response_iss_parameter_supported") is not True


def error_at(location: str, redirect_uri: str, state: str) -> str | None:
    """Return the error that a redirect brings to ``redirect_uri``, in answer to the request with this ``state``."""
    address, _, query = location.partition("?")
    response = read_authorization_response(query)
    return response.error if address == redirect_uri and response is not None and response.state == state else None
