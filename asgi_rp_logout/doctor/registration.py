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
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

from ..errors import ProviderError, RPLogoutError
from ..protocol.end_session import checked_url
from ..protocol.return_target import origin_of
from ..providers.provider import Provider, ask
from ..providers.standard import StandardProvider
from ..providers.transport import Answer, get
from .findings import Finding, found
from .setup import Setup
from .vendors import Vendor

MOST_REDIRECTS = 3

INVENTED = "https://not-registered.invalid/"
"""An address that nobody has registered: names in .invalid lead nowhere (RFC 2606, section 2)."""

TYPICAL_TOKEN = 1500
"""Bytes of a typical ID Token; those with groups and roles have more."""

_WANTS_HINT = re.compile(rb"id[ _-]?token", re.IGNORECASE)


async def check_registration(
    setup: Setup, provider: Provider, vendor: Vendor, subject: str
) -> tuple[bool, list[Finding]]:
    """Ask the provider about the client and the return address; return whether it knows both, and what is wrong."""
    uri, client = setup.return_address, getattr(provider, "client_id", None)
    try:
        url = await ask(provider, {"client_id": client, "post_logout_redirect_uri": uri})
    except RPLogoutError as error:
        if error.code == "missing_parameter":
            return False, [found("registration.unknown", subject, uri=uri or "the return address", why=error)]
        return False, [found("metadata.endpoint", subject, error=error)]
    except Exception as error:  # an object of the app may raise anything
        return False, [
            found("metadata.endpoint", subject, error=f"get_end_session_url() raised {type(error).__name__}")
        ]
    if url is None:
        return False, [] if getattr(provider, "local_only", False) else [found("metadata.no_end_session", subject)]
    findings = await _check_length(setup, provider, subject)
    if client is None and isinstance(provider, StandardProvider) and not hasattr(provider, "deviation"):
        findings.append(found("client.no_id", subject))
    if client is None or uri is None:
        return False, findings
    wrong = await _asked(setup, provider, (url, uri, client), (vendor, subject))
    return not wrong, findings + wrong


async def _check_length(setup: Setup, provider: Provider, subject: str) -> list[Finding]:
    """Check that a logout URL with a typical ID Token is short enough."""
    offered = {
        "id_token_hint": "x" * TYPICAL_TOKEN,
        "client_id": getattr(provider, "client_id", None),
        "post_logout_redirect_uri": setup.return_address,
        "state": "x" * 43 if setup.options.callback_path else None,
    }
    try:
        length, limit = len(await ask(provider, offered) or ""), setup.options.max_url_length
    except Exception:  # a provider may want a real token
        return []
    if length <= limit or getattr(provider, "post", False):
        return []
    return [found("hint.too_long", subject, token=TYPICAL_TOKEN, length=length, limit=limit)]


async def _asked(
    setup: Setup, provider: Provider, request: tuple[str, str, Any], about: tuple[Vendor, str]
) -> list[Finding]:
    """Ask with the ``request``'s URL, return address and client, and compare with what others are answered."""
    url, uri, client = request
    vendor, subject = about
    if uri not in dict(parse_qsl(urlsplit(url).query)).values():
        why = "without an ID Token this provider is sent no return address"
        return [found("registration.unknown", subject, uri=uri, why=why)]
    try:
        answer = await _follow(url, uri, setup)
        if answer is not None and _is_refusal(answer):
            if vendor.needs_hint or _WANTS_HINT.search(answer.body):
                why = "the provider takes no return address without an ID Token"
                return [found("registration.unknown", subject, uri=uri, why=why)]
            bare = await ask(provider, {"client_id": client})
            alone = await _follow(bare, uri, setup) if bare else None
            if alone is not None and _is_refusal(alone):
                return [found("registration.client", subject, client=client, status=alone.status)]
            return [found("registration.post_logout_uri", subject, uri=uri, client=client, status=answer.status)]
        invented = await ask(provider, {"client_id": client, "post_logout_redirect_uri": INVENTED})
        other = await _follow(invented or url, INVENTED, setup)
    except ProviderError as error:
        return [found("endpoint.unreachable", subject, error=error)]
    if other is None:
        return [found("registration.anywhere", subject)]
    if answer is None or (answer.status < 400 and _is_refusal(other)):
        return []
    why = f"the provider answers any logout of nobody with a page of its own (status {answer.status})"
    return [found("registration.unknown", subject, uri=uri, why=why)]


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
