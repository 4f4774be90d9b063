"""All checks, in their order: the middlewares of an app, then each of their providers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import ProviderError, RPLogoutError
from ..logout.silent_trip import silent_of
from ..middleware import RPLogoutMiddleware
from ..providers.oidc import MetadataProvider
from ..providers.provider import Provider, WithoutEndpoint, issuer_of, list_providers, name_of
from ..providers.standard import StandardProvider
from .configuration import check_addresses, check_cookies, check_place, check_store
from .findings import LEVELS, UNREACHABLE, Finding, found
from .metadata import check_callers, check_keys, check_metadata, fetch_document, without_document
from .registration import Case, check_registration, check_silent_hint
from .search import middlewares_of, nothing
from .setup import Setup
from .token_relays import check_relay
from .vendors import Vendor, vendor_of


@dataclass(frozen=True, slots=True)
class Address:
    """Name an address to register: its kind, its URL or else what is known of it, and the vendor."""

    kind: str
    url: str | None
    description: str
    vendor: Vendor


@dataclass(slots=True)
class Report:
    """Collect what was looked at, what was found right or wrong, and which addresses to register."""

    examined: list[str] = field(default_factory=list)
    confirmed: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    addresses: list[tuple[str, list[Address]]] = field(default_factory=list)

    @property
    def status(self) -> int:
        """The exit status: 2 with an error, 3 if all of them are that something was not reached, 1 with a warning."""
        errors = [finding.id for finding in self.findings if finding.level == "error"]
        if errors:
            return 3 if all(one.endswith(UNREACHABLE) for one in errors) else 2
        return 1 if any(finding.level == "warning" for finding in self.findings) else 0

    def in_order(self) -> list[Finding]:
        """Return the findings, the worst first."""
        return sorted(self.findings, key=lambda finding: LEVELS.index(finding.level))


async def examine_app(app: object, url: str | None = None) -> Report:
    """Look at every middleware of an app. ``url`` is the app's address as browsers see it."""
    report = Report()
    located = middlewares_of(app)
    if not located:
        report.findings.append(found("app.no_middleware", type(app).__name__))
    for number, one in enumerate(located, 1):
        name = "RPLogoutMiddleware" if len(located) == 1 else f"RPLogoutMiddleware {number}"
        if one.options is None:
            report.findings.append(found("app.configuration", name, error=one.error))
        else:
            await _examine(Setup(name, one.options, one.place, url), report)
    return report


async def examine_provider(provider: Provider, url: str | None = None, return_address: str | None = None) -> Report:
    """Look at one provider without an app; ``return_address`` is the post-logout redirect URI, a URL or a path."""
    report = Report()
    middleware = RPLogoutMiddleware(nothing, providers=[provider], post_logout_redirect_uri=return_address)
    await _examine_providers(Setup("without an app", middleware._options, None, url), report)
    return report


async def _examine(setup: Setup, report: Report) -> None:
    for check in (check_addresses, check_place, check_cookies):
        report.findings += check(setup)
    report.findings += await check_store(setup)
    await _examine_providers(setup, report)


async def _examine_providers(setup: Setup, report: Report) -> None:
    options = setup.options
    try:
        providers = await list_providers(options.providers, options.http_client)
    except RPLogoutError as error:
        report.findings.append(found("providers.none", setup.name, error=error))
        return
    if not providers:
        report.findings.append(found("providers.none", setup.name, error="an empty list"))
    await _examine_relays(setup, providers, report)
    documents: list[tuple[Provider, Mapping[str, Any] | None]] = []
    for provider in providers:
        subject = f"provider {name_of(provider) or type(getattr(provider, 'entry', provider)).__name__}"
        report.examined.append(subject if setup.place is None else f"{setup.name}, {subject}")
        if isinstance(provider, WithoutEndpoint):
            documents.append((provider, {}))
            report.findings.append(_why_unusable(provider, subject))
            continue
        document, findings = await _examine_metadata(setup, provider, subject)
        documents.append((provider, document))
        report.findings += findings
        report.findings += await _examine_provider(setup, provider, subject, document, report)
    report.findings += check_callers(setup, documents)


async def _examine_relays(setup: Setup, providers: Sequence[Provider], report: Report) -> None:
    for relay in setup.options.token_relay:
        wrong = await check_relay(setup, relay, providers)
        report.findings += wrong
        if not wrong:
            urls = f"{relay.token_url} and {relay.metadata_url}"
            report.confirmed.append(f"The token relay of provider {relay.provider.name} has its port: {urls}")


def _why_unusable(provider: WithoutEndpoint, subject: str) -> Finding:
    """Return why an entry of a function's list is no provider. It may raise anything when it is looked at."""
    if inspect.getattr_static(provider.entry, "get_end_session_url", None) is None:
        return found("provider.other_kind", subject)
    return found("provider.unusable", subject, why=provider.reason)


async def _examine_provider(
    setup: Setup, provider: Provider, subject: str, document: Mapping[str, Any] | None, report: Report
) -> list[Finding]:
    """Look at how a logout there would go. ``document`` is its metadata, None if that cannot be read."""
    named = getattr(getattr(provider, "deviation", None), "vendor", "")
    vendor = vendor_of(*_addresses_of(provider, document or {}), named=named)
    shown = f"{subject[0].upper()}{subject[1:]}"
    report.addresses.append((subject, _addresses(setup, provider, vendor)))
    if getattr(provider, "local_only", False):
        report.confirmed.append(f"{shown} has no logout, as is declared (local_only): its logins end here only")
        return []
    if document is None:
        return []
    if vendor.preset and _is_standard(provider):
        return [found("provider.deviates", subject, vendor=vendor.name, preset=vendor.preset)]
    case = Case(setup, provider, vendor, subject)
    registered, wrong = await check_registration(case)
    if registered:
        report.confirmed.append(f"{shown} knows the client, and comes back to {setup.return_address}")
    silent_uri, silent_wrong = await check_silent_hint(case)
    if silent_uri is not None:
        report.confirmed.append(f"{shown} answers prompt=none at {silent_uri}")
    return wrong + silent_wrong


def _is_standard(provider: Provider) -> bool:
    """Return whether a provider of ours is sent the standard parameters by their standard names."""
    return isinstance(provider, StandardProvider) and not provider.rename and not hasattr(provider, "deviation")


def _addresses_of(provider: Any, document: Mapping[str, Any]) -> list[object]:
    """Return the addresses by which the vendor of a provider may be known."""
    metadata = getattr(provider, "metadata", None)
    own = [issuer_of(provider), getattr(provider, "endpoint", None), getattr(metadata, "address", None)]
    return [*own, document.get("issuer"), document.get("end_session_endpoint")]


async def _examine_metadata(
    setup: Setup, provider: Provider, subject: str
) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Return what a provider says of itself: nothing if it has no metadata, None if that cannot be read."""
    findings: list[Finding] = []
    if not isinstance(provider, MetadataProvider):
        expected = getattr(provider, "local_only", False) or hasattr(provider, "deviation")
        return {}, [] if expected else [found("provider.opaque", subject)]
    if not hasattr(provider, "metadata"):
        return None, [found("provider.late", subject)]
    scope = (getattr(getattr(provider, "client", None), "client_kwargs", None) or {}).get("scope", "openid")
    if isinstance(scope, str) and "openid" not in scope.split():
        findings.append(found("client.no_openid", subject))
    try:
        document, wrong = await fetch_document(setup, provider, subject)
    except ProviderError as error:
        document, wrong = None, [found("discovery.unreachable", subject, error=error, so=without_document(provider))]
    findings += wrong
    if document is not None:
        findings += await check_metadata(setup, provider, document, subject)
        if setup.options.backchannel_path is not None:
            findings += await check_keys(provider, document, subject)
    return document, findings


def _addresses(setup: Setup, provider: Provider, vendor: Vendor) -> list[Address]:
    """Return the addresses to register for a provider; those that are not known are described."""
    options, base = setup.options, "" if setup.base else "<address of the app>"
    target = options.callback_path or options.post_logout_redirect_uri
    returns_to = f"{base}{target}" if target else "where the app's own logout redirects to, without its query"
    login = Address("redirect", None, "the address of the app's login callback, which is not known here", vendor)
    if getattr(provider, "local_only", False):
        return [login]
    addresses = [login, Address("post_logout", setup.return_address, returns_to, vendor)]
    if silent_of(provider) is not None and options.callback_path is not None:  # registered twice
        own = Address("redirect", setup.address(options.callback_path), f"{base}{options.callback_path}", vendor)
        addresses.insert(1, own)
    paths = {"back_channel": options.backchannel_path, "front_channel": options.frontchannel_path}
    for kind, path in paths.items():
        if path is not None:
            addresses.append(Address(kind, setup.address(path), f"{base}{path}", vendor))
    return addresses
