"""What a provider says of itself, its keys, and its clock (OpenID Connect Discovery 1.0, sections 3 and 4).

The document is fetched here as it is, and not by the provider, which keeps only what a logout needs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from ..errors import ProviderError, RPLogoutError, without_query
from ..protocol.discovery import endpoint_of
from ..protocol.logout_token import LEEWAY
from ..providers.oidc import MetadataProvider
from ..providers.provider import Provider, issuer_of
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
    except ProviderError as error:
        return None, [found(_cause_of(error), subject, error=error, so=without_document(provider))]
    try:
        document = read_json(answer, without_query(address))
    except ProviderError as error:
        kind = "discovery.unreachable" if answer.status >= 500 else "discovery.not_found"
        return None, [found(kind, subject, error=error, so=without_document(provider))]
    findings = list(_check_clock(answer, subject))
    expected, named = issuer_of(provider), document.get("issuer")
    if expected is not None and named != expected:  # an Authlib client need not say which issuer it expects
        facts = {"configured": expected, "named": repr(named)[:200], "so": without_document(provider)}
        return None, [*findings, found("discovery.issuer", subject, **facts)]
    return document, findings


def without_document(provider: Provider) -> str:
    """Return what it means that a provider's document cannot be read: some presets know the end-session endpoint."""
    knows_endpoint = getattr(getattr(provider, "deviation", None), "endpoint", "")
    return "its logout tokens are refused" if knows_endpoint else "a logout ends the session here and not there"


def _cause_of(error: ProviderError) -> str:
    if not is_unreached(error):
        return "discovery.not_found"
    return "discovery.tls" if "CERTIFICATE_VERIFY_FAILED" in str(error) else "discovery.unreachable"


def is_unreached(error: RPLogoutError) -> bool:
    """Return whether an error means that there was no answer at all, or not in time."""
    return error.code in ("fetch_failed", "fetch_timeout")


def _check_clock(answer: Answer, subject: str) -> Iterator[Finding]:
    """Compare the Date of an answer that comes from the provider itself, and not from a cache, with our clock."""
    try:
        theirs = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return
    apart = abs(theirs - time.time())
    if apart > LEEWAY and answer.headers.get("age", "0") == "0":
        yield found("clock.skew", subject, seconds=round(apart))


async def check_metadata(
    setup: Setup, provider: MetadataProvider, document: Mapping[str, Any], subject: str
) -> list[Finding]:
    """Compare what the provider offers with what is configured. What it lacks is a note: others may have it."""
    options, findings = setup.options, []
    if options.backchannel_path is not None and not _sends_tokens(document):
        findings.append(found("metadata.no_back_channel", subject))
    if options.backchannel_path is None and _sends_tokens(document) and setup.place is not None:
        findings.append(found("metadata.back_channel_unused", subject))
    if options.frontchannel_path is not None and not _shows_frames(document, options.frontchannel_session_required):
        shows_any = _shows_frames(document, with_session=False)
        lacks = "metadata.front_channel_without_session" if shows_any else "metadata.no_front_channel"
        findings.append(found(lacks, subject))
    if provider.revoke == "refresh_token" and not await _has_revocation(provider):
        findings.append(found("metadata.no_revocation", subject))
    return findings


def _sends_tokens(document: Mapping[str, Any]) -> bool:
    """Return whether a provider says that it sends logout tokens (Back-Channel Logout 1.0, section 2.1)."""
    return document.get("backchannel_logout_supported") is True


def _shows_frames(document: Mapping[str, Any], with_session: bool) -> bool:
    """Return whether a provider says that it shows logout frames, which name the session if they have to.

    Front-Channel Logout 1.0, section 3.
    """
    names_session = document.get("frontchannel_logout_session_supported") is True
    return document.get("frontchannel_logout_supported") is True and (names_session or not with_session)


def check_callers(setup: Setup, documents: Iterable[tuple[Provider, Mapping[str, Any] | None]]) -> Iterator[Finding]:
    """Check that a provider calls each endpoint that is set. One whose metadata is not known may do so."""
    options, listed = setup.options, list(documents)
    if options.backchannel_path is not None and listed and not any(_may_send_tokens(*one) for one in listed):
        yield found("backchannel.no_caller", setup.name)
    required = options.frontchannel_session_required
    if options.frontchannel_path is not None and listed and not any(_may_end(*one, required) for one in listed):
        yield found("frontchannel.no_caller", setup.name)


def _may_send_tokens(provider: Provider, document: Mapping[str, Any] | None) -> bool:
    if not isinstance(provider, MetadataProvider):
        return hasattr(provider, "verify_logout_token")
    return document is None or _sends_tokens(document)


def _may_end(provider: Provider, document: Mapping[str, Any] | None, with_session: bool) -> bool:
    """Return whether a frame of this provider may end a session here."""
    if not isinstance(provider, MetadataProvider):
        return issuer_of(provider) is not None and not getattr(provider, "local_only", False)
    return document is None or _shows_frames(document, with_session)


async def _has_revocation(provider: MetadataProvider) -> bool:
    """Return whether a logout would find an endpoint to revoke tokens at, in either of the two documents."""
    try:
        return await provider.revocation_endpoint() is not None
    except ProviderError:
        return False


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
        return [found("keys.unreachable" if is_unreached(error) else "keys.unreadable", subject, error=error)]
    return []
