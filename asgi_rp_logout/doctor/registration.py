"""What a provider answers to a logout of nobody: whether the client and the return address are registered.

The end-session endpoint is asked as a browser would ask it that nobody is signed in with: with the ``client_id`` and
the ``post_logout_redirect_uri``, and without cookies. Nothing ends. A redirect to that address means that it is
registered, and an error page that it is not. Any other page, such as a question, means that it is registered only if an
invented address gets an error page (RP-Initiated Logout 1.0, sections 2 and 3).

Redirects are followed at the provider's own origin only. Some providers refuse any request without an ID Token: they
say so on the page, or are known by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

from ..errors import ProviderError, RPLogoutError, without_query
from ..logout.silent_trip import silent_of
from ..protocol.end_session import checked_url
from ..protocol.return_target import origin_of
from ..providers.oidc import MetadataProvider
from ..providers.provider import Provider, ask, list_providers
from ..providers.standard import StandardProvider
from ..providers.transport import Answer, get
from .findings import Finding, found
from .metadata import is_unreached
from .setup import Setup
from .vendors import Vendor

MOST_REDIRECTS = 3

INVENTED = "https://not-registered.invalid/"
"""An address that nobody has registered: names in .invalid lead nowhere (RFC 2606, section 2)."""

TYPICAL_TOKEN = 1500
"""Bytes of a typical ID Token; those with groups and roles have more."""

_WANTS_HINT = re.compile(rb"id[ _-]?token", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Case:
    """Hold what is asked about: a provider of a set-up, its vendor, and its name in findings."""

    setup: Setup
    provider: Provider
    vendor: Vendor
    subject: str

    @property
    def client(self) -> Any:
        """The client_id, or None."""
        return getattr(self.provider, "client_id", None)

    def offered(self, uri: str | None, **more: str | None) -> dict[str, Any]:
        """Return the parameters of a logout that comes back to ``uri``."""
        return {"client_id": self.client, "post_logout_redirect_uri": uri, **more}

    def unknown(self, why: object) -> list[Finding]:
        """Return the finding that nothing can be known of the registration."""
        uri = self.setup.return_address or "the return address"
        return [found("registration.unknown", self.subject, uri=uri, why=why)]


async def check_registration(case: Case) -> tuple[bool, list[Finding]]:
    """Ask the provider about the client and the return address; return whether it knows both, and what is wrong."""
    uri = case.setup.return_address
    try:
        url = await _url_for(case, uri)
    except RPLogoutError as error:
        if error.code == "missing_parameter":
            return False, case.unknown(error)
        return False, [found("metadata.endpoint", case.subject, error=error)]
    if url is None:
        return False, [_why_no_url(case)]
    findings = await _check_length(case)
    if case.client is None and _takes_client_id(case.provider):
        findings.append(found("client.no_id", case.subject))
    if uri is None:
        return False, findings
    if case.client is None:
        return False, findings + case.unknown("the provider is not told which client asks")
    wrong = await _ask_provider(case, url, uri)
    return not wrong, findings + wrong


async def _url_for(case: Case, uri: str | None, **more: str | None) -> str | None:
    """Return the logout URL that comes back to ``uri``. Raises ``RPLogoutError``, whatever the provider raises."""
    try:
        return await ask(case.provider, case.offered(uri, **more))
    except RPLogoutError:
        raise
    except Exception as error:  # an object of the app may raise anything
        raise ProviderError(f"get_end_session_url() raised {type(error).__name__}", code="raised") from error


def _why_no_url(case: Case) -> Finding:
    """Return why a provider that has not declared it has no end-session URL."""
    if not isinstance(case.provider, MetadataProvider):
        return found("provider.no_url", case.subject)
    address = case.provider.metadata.address
    source = "Its registration with Authlib" if address is None else without_query(address)
    return found("metadata.no_end_session", case.subject, source=source)


def _takes_client_id(provider: Provider) -> bool:
    """Return whether a provider is sent the ``client_id``: not a preset without one, nor one that drops it."""
    if not isinstance(provider, StandardProvider) or hasattr(provider, "deviation"):
        return False
    return provider.rename.get("client_id", "client_id") is not None


async def check_silent_hint(case: Case) -> tuple[str | None, list[Finding]]:
    """Ask as ``silent_hint`` does before it sends a browser; return the address that works, and what is wrong.

    OpenID Connect Core 1.0, section 3.1.2.1.
    """
    silent, options = silent_of(case.provider), case.setup.options
    if silent is None:
        return None, []
    if options.why_not_silent is not None:
        return None, [found("silent.ignored", case.subject, why=options.why_not_silent)]
    if callable(options.providers):
        try:
            again = await list_providers(options.providers, options.http_client)
        except RPLogoutError as error:
            return None, [found("providers.none", case.subject, error=error)]
        if all(silent_of(one) is not silent for one in again):
            return None, [found("silent.forgotten", case.subject)]
    uri = case.setup.address(options.callback_path)
    if uri is None:
        return None, []
    try:
        answered, status = await silent.try_address(uri)
    except ProviderError as error:
        kind = "silent.unreachable" if is_unreached(error) else "silent.no_endpoint"
        return None, [found(kind, case.subject, error=error)]
    if answered is not None:
        return uri, []
    if status >= 500:
        return None, [found("silent.unreachable", case.subject, error=f"it answered {status}")]
    return None, [found("silent.refused", case.subject, uri=uri, status=status)]


async def _check_length(case: Case) -> list[Finding]:
    """Check that a logout URL with a typical ID Token is short enough."""
    options, provider = case.setup.options, case.provider
    state = "x" * 43 if options.callback_path else None
    try:
        hint = "x" * TYPICAL_TOKEN
        length = len(await _url_for(case, case.setup.return_address, id_token_hint=hint, state=state) or "")
    except RPLogoutError:  # a provider may want a real token
        return []
    if length <= options.max_url_length or getattr(provider, "post", False):
        return []
    facts = {"token": TYPICAL_TOKEN, "length": length, "limit": options.max_url_length}
    return [found("hint.too_long", case.subject, **facts)]


async def _ask_provider(case: Case, url: str, uri: str) -> list[Finding]:
    """Open a logout URL that comes back to ``uri``, and compare with what others are answered."""
    if uri not in dict(parse_qsl(urlsplit(url).query)).values():
        return case.unknown("without an ID Token this provider is sent no return address")
    try:
        answer = await _follow(url, uri, case.setup)
        if answer is not None and _is_refusal(answer):
            return await _explain_refusal(case, answer, uri)
        invented = await _url_for(case, INVENTED)
        other = await _follow(invented or url, INVENTED, case.setup)
    except RPLogoutError as error:
        if is_unreached(error):
            return [found("endpoint.unreachable", case.subject, error=error)]
        return case.unknown(error)
    if other is None:
        return [found("registration.anywhere", case.subject)]
    if answer is None or (answer.status < 400 and _is_refusal(other)):
        return []
    return case.unknown(f"the provider answers any logout of nobody with a page of its own (status {answer.status})")


async def _explain_refusal(case: Case, answer: Answer, uri: str) -> list[Finding]:
    """Return what a provider has refused: any logout without an ID Token, the client, or the return address."""
    if case.vendor.needs_hint or _WANTS_HINT.search(answer.body):
        return case.unknown("the provider takes no return address without an ID Token")
    bare = await _url_for(case, None)
    alone = await _follow(bare, uri, case.setup) if bare else None
    if alone is not None and _is_refusal(alone):
        return [found("registration.client", case.subject, client=case.client, status=alone.status)]
    facts = {"uri": uri, "client": case.client, "status": answer.status}
    return [found("registration.post_logout_uri", case.subject, **facts)]


def _is_refusal(answer: Answer) -> bool:
    return 400 <= answer.status < 500


async def _follow(url: str, uri: str, setup: Setup) -> Answer | None:
    """Return the page at the end of the provider's own redirects; None if they lead back to the app at ``uri``."""
    origin = origin_of(url)
    for _ in range(MOST_REDIRECTS):
        answer = await get(url, client=setup.options.http_client)
        location = answer.headers.get("location")
        if not 300 <= answer.status < 400 or location is None:
            return answer
        there = urljoin(url, location)
        if _leads_to(there, uri):
            return None
        if origin_of(there) != origin:
            return answer
        url = checked_url(there)
    return answer


def _leads_to(location: str, uri: str) -> bool:
    """Return whether a redirect leads to the return address, whatever was added to its query."""
    there, here = urlsplit(location), urlsplit(uri)
    same = (there.scheme, there.netloc, there.path or "/") == (here.scheme, here.netloc, here.path or "/")
    return same and set(parse_qsl(here.query)) <= set(parse_qsl(there.query))
