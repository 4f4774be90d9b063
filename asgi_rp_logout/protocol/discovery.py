"""A provider's metadata (OpenID Connect Discovery 1.0, sections 3 and 4; OAuth 2.0 Authorization Server Metadata)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigurationError, ProviderError
from .end_session import checked_url

FRESH_FOR = 3600.0
"""Seconds for which a document is used as it is."""

FAILURE_REMEMBERED_FOR = 30.0
"""Seconds after a failed fetch in which none is tried: otherwise each logout would wait for the same time-out."""

_USED = (
    *("end_session_endpoint", "revocation_endpoint", "jwks_uri", "authorization_endpoint", "token_endpoint"),
    *("token_endpoint_auth_methods_supported", "authorization_response_iss_parameter_supported"),
)
"""What is used of a discovery document, beside the issuer."""


def checked_issuer(issuer: str) -> str:
    """Return the issuer unchanged; raise ``ConfigurationError`` if it cannot be one (section 2: https, no query)."""
    try:
        checked_url(issuer)
    except ProviderError as error:
        raise ConfigurationError(
            f"issuer={issuer!r}: expected an https URL (http on a loopback host) without user, query and fragment"
        ) from error
    if "/.well-known/" in issuer:
        raise ConfigurationError(f"issuer={issuer!r}: expected the issuer itself, which its discovery document names")
    if urlsplit(issuer).query or "?" in issuer or "#" in issuer:
        raise ConfigurationError(f"issuer={issuer!r}: expected a URL without query and fragment")
    return issuer


def well_known_url(issuer: str) -> str:
    """Return the address of the discovery document: one terminating slash of the issuer is left out (section 4.1)."""
    return issuer.removesuffix("/") + "/.well-known/openid-configuration"


def oauth_metadata_url(issuer: str) -> str:
    """Return the address of the OAuth metadata: it goes between the host and the path (RFC 8414, section 3.1)."""
    parts = urlsplit(issuer)
    path = "/.well-known/oauth-authorization-server" + parts.path.removesuffix("/")
    return parts._replace(path=path).geturl()


def check_issuer(document: Mapping[str, Any], issuer: str) -> None:
    """Check that a discovery document names the issuer asked for, code point by code point (section 4.3).

    Another one could send our users, and their ID Tokens, anywhere. Raises ``ProviderError``.
    """
    if document.get("issuer") != issuer:
        named = repr(document.get("issuer"))[:200]
        raise ProviderError(f"the discovery document of {issuer} names another issuer, {named}", code="issuer_mismatch")


def checked_document(document: Mapping[str, Any], issuer: str) -> dict[str, Any]:
    """Return what a logout needs out of a discovery document, the endpoints above all.

    Raises ``ProviderError`` if it names another issuer. The endpoints are returned as they are, absent ones left out:
    each is checked when it is used (``endpoint_of``), because a provider in a container
    network may mix public addresses with internal ones, and a bad one must not make the others unusable.
    """
    check_issuer(document, issuer)
    return {"issuer": issuer, **{name: document[name] for name in _USED if document.get(name)}}


def endpoint_of(metadata: Mapping[str, Any], name: str) -> str | None:
    """Return one endpoint, or None if the metadata has none. Raises ``ProviderError`` for a URL that cannot be used."""
    url = metadata.get(name)
    return checked_url(url, f"{name} of {metadata.get('issuer')}") if url else None


def required_endpoint(metadata: Mapping[str, Any], name: str, source: str, *, code: str) -> str:
    """Return one endpoint of the provider ``source``; raise ``ProviderError`` with this code if there is none."""
    url = endpoint_of(metadata, name)
    if url is None:
        raise ProviderError(f"the metadata of {source} has no {name}", code=code)
    return url
