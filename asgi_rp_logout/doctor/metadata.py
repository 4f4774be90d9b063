"""What a provider says of itself, its keys, and its clock (OpenID Connect Discovery 1.0, sections 3 and 4).

The document is fetched here as it is, and not by the provider, which keeps only what a logout needs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from ..errors import ProviderError, without_query
from ..protocol.discovery import endpoint_of
from ..protocol.logout_token import LEEWAY
from ..providers.oidc import MetadataProvider
from ..providers.provider import issuer_of
from ..providers.token_verifier import HMAC
from ..providers.transport import Answer, get, read_json
from .findings import Finding, found
from .setup import Setup


async def fetch_document(
    setup: Setup, provider: MetadataProvider, subject: str
) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Fetch the discovery document; return it with what is wrong with it, or None with why there is none."""
    address = provider.metadata.address
    if address is None:  # a client that is registered with its endpoints
        return await provider.metadata.get(), []
    try:
        answer = await get(address, client=setup.options.http_client)
        document = read_json(answer, without_query(address))
    except ProviderError as error:
        return None, [found(_cause_of(error), subject, error=error)]
    findings = list(_check_clock(answer, subject))
    expected, named = issuer_of(provider), document.get("issuer")
    if expected is not None and named != expected:  # an Authlib client need not say which issuer it expects
        return None, [*findings, found("discovery.issuer", subject, configured=expected, named=repr(named)[:200])]
    return document, findings


def _cause_of(error: ProviderError) -> str:
    if error.code in ("fetch_status", "fetch_not_json", "fetch_too_large"):
        return "discovery.not_found"
    return "discovery.tls" if "CERTIFICATE_VERIFY_FAILED" in str(error) else "discovery.unreachable"


def _check_clock(answer: Answer, subject: str) -> Iterator[Finding]:
    """Compare the Date of an answer that comes from the provider itself, and not from a cache, with our clock."""
    try:
        theirs = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return
    apart = abs(theirs - time.time())
    if apart > LEEWAY and answer.headers.get("age", "0") == "0":
        yield found("clock.skew", subject, seconds=round(apart))


def check_metadata(
    setup: Setup, provider: MetadataProvider, document: Mapping[str, Any], subject: str
) -> Iterator[Finding]:
    """Compare what the provider offers with what is configured."""
    options = setup.options
    sends_tokens = document.get("backchannel_logout_supported") is True
    if options.backchannel_path is not None and not sends_tokens:
        yield found("metadata.no_back_channel", subject)
    if options.backchannel_path is None and sends_tokens and setup.place is not None:
        yield found("metadata.back_channel_unused", subject)
    if options.frontchannel_path is not None:
        names_session = document.get("frontchannel_logout_session_supported") is True
        if document.get("frontchannel_logout_supported") is not True:
            yield found("metadata.no_front_channel", subject)
        elif options.frontchannel_session_required and not names_session:
            yield found("metadata.front_channel_without_session", subject)
    if provider.revoke == "refresh_token" and not document.get("revocation_endpoint"):
        yield found("metadata.no_revocation", subject)


async def check_keys(provider: MetadataProvider, document: Mapping[str, Any], subject: str) -> list[Finding]:
    """Check that there is a key for the algorithm of the logout tokens."""
    algorithm, offered = provider.algorithm, document.get("id_token_signing_alg_values_supported")
    if isinstance(offered, list) and offered and algorithm not in offered:
        supported = ", ".join(str(one)[:20] for one in offered[:12])
        return [found("keys.algorithm", subject, algorithm=algorithm, supported=supported)]
    if algorithm in HMAC:
        return []
    try:
        endpoint_of(document, "jwks_uri")
        await provider.verifier.keys.load()
    except ProviderError as error:
        if error.code == "jwks":
            return [found("keys.none", subject, algorithm=algorithm)]
        return [found("keys.unreadable", subject, error=error)]
    return []
