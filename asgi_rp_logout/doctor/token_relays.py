"""Whether each token relay can have its port, and whether its provider is among those of the middleware."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ProviderError
from ..providers.provider import Provider, issuer_of, name_of
from ..providers.transport import certificates, client_for_many_users, fetch_json
from ..relay.token_relay import TokenRelay, identity_of
from .findings import Finding, found
from .setup import Setup


async def check_relay(setup: Setup, relay: TokenRelay, providers: Sequence[Provider]) -> list[Finding]:
    """Check one relay. If it listens already, or its port is free, nothing is wrong."""
    findings: list[Finding] = []
    known = {name_of(one) for one in providers} | {issuer_of(one) for one in providers}
    if relay.provider.name not in known and relay.provider.issuer not in known:
        findings.append(found("relay.unlisted", setup.name, provider=relay.provider.name))
    who = await _stranger_on(relay)
    if who is not None:
        findings.append(found("relay.port_taken", setup.name, port=relay.port, who=who))
    return findings


async def _stranger_on(relay: TokenRelay) -> str | None:
    """Return who has the port, None if it is free or belongs to a relay of the same provider and client."""
    try:
        async with client_for_many_users(certificates()) as client:  # which asks no proxy about this machine
            answer = await fetch_json(f"http://127.0.0.1:{relay.port}/", client=client)
    except ProviderError as error:
        nobody = type(error.__cause__).__name__ == "ConnectError"  # of httpx
        return None if nobody else "another program"
    if answer.get("relay") == identity_of(relay.provider):
        return None
    return "the relay of another provider or client" if "relay" in answer else "another program"
