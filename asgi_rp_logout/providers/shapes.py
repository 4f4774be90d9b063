"""The ways in which vendors deviate from the specification: the classes behind ``presets``.

Each stands for one deviation, whoever has it. A request that a vendor would answer with an error page, from which no
way leads back, is not made: ``ProviderError`` then leaves the logout a local one, which always completes.
"""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import quote

from ..errors import ConfigurationError, ProviderError
from ..login import Login, unverified_claims
from ..protocol.end_session import STANDARD_PARAMETERS, checked_url
from ..protocol.return_to import origin_of
from .calling import only_computes
from .oidc import OIDCProvider
from .standard import StandardProvider, StaticProvider, Values


def demand(values: Values, names: tuple[str, ...]) -> None:
    """Raise ``ProviderError`` if the vendor would refuse a request for lack of one of ``names``."""
    for name in names:
        if not values.get(name):
            raise ProviderError(f"this provider takes no logout request without {name}", code="missing_parameter")


class ReturnOnlyWithHint(OIDCProvider):
    """Send the standard request with an ID Token, and without one the bare endpoint.

    These vendors answer 400 to a return address or a state that no ID Token vouches for, but ask the user at their own
    page if nothing is sent at all.
    """

    def url(self, endpoint: str, values: Values) -> str:
        """Build the URL of a logout request at ``endpoint``."""
        return super().url(endpoint, values) if values.get("id_token_hint") else endpoint


class AtEndpoint(OIDCProvider):
    """Send the request to an endpoint that is known without discovery, if ``endpoint`` is given."""

    def __init__(self, issuer: str, client_id: str, *, endpoint: str | None = None, **options: Any) -> None:
        super().__init__(issuer, client_id, **options)
        self.endpoint = endpoint

    async def end_session_endpoint(self) -> str | None:
        """Return the endpoint."""
        return self.endpoint or await super().end_session_endpoint()


class AllOrNothing(AtEndpoint):
    """Send the standard request to an endpoint that refuses it if anything in ``needs`` is missing.

    A state that is needed is invented if there is none to return.
    """

    def __init__(self, issuer: str, client_id: str, *, needs: tuple[str, ...] = (), **options: Any) -> None:
        super().__init__(issuer, client_id, **options)
        self.needs = needs

    def adapted(self, values: Values, login: Login | None) -> Values:
        """Invent a state if need be. Raises ``ProviderError`` if something is missing."""
        if "state" in self.needs:
            values = {**values, "state": values.get("state") or secrets.token_urlsafe(24)}
        demand(values, self.needs)
        return values


class SessionHint(AtEndpoint):
    """Name the session by its ``sid`` in ``logout_hint`` where there is no ID Token to hint with."""

    def adapted(self, values: Values, login: Login | None) -> Values:
        """Add the hint."""
        if values.get("id_token_hint") or values.get("logout_hint") or login is None:
            return values
        return {**values, "logout_hint": login.sid}


class Demanding(StaticProvider):
    """Send a request that must have a return address, and whose state, if any, must be long enough."""

    def __init__(self, end_session_endpoint: str, *, shortest_state: int = 0, **options: Any) -> None:
        super().__init__(end_session_endpoint, **options)
        self.shortest_state = shortest_state

    def adapted(self, values: Values, login: Login | None) -> Values:
        """Leave a short state out. Raises ``ProviderError`` without a return address."""
        demand(values, ("post_logout_redirect_uri",))
        return values if len(values.get("state") or "") >= self.shortest_state else {**values, "state": None}


class LoginHintClaim(StaticProvider):
    """Name the user by the ID Token's ``login_hint`` claim in ``logout_hint``, which spares them an account picker."""

    def adapted(self, values: Values, login: Login | None) -> Values:
        """Add the hint."""
        token = values.get("id_token_hint")
        if values.get("logout_hint") or not token:
            return values
        claim = unverified_claims(token).get("login_hint")
        return {**values, "logout_hint": claim if isinstance(claim, str) else None}


class SessionId(StaticProvider):
    """Name the session by its ``sid`` in ``session_id``, which must be there."""

    def adapted(self, values: Values, login: Login | None) -> Values:
        """Add the session's id. Raises ``ProviderError`` for a login without one."""
        named = {"session_id": login.sid if login is not None else None, **values}
        demand(named, ("session_id",))
        return named


class LocalOnly(StandardProvider):
    """Have no end-session endpoint: a logout ends the login here, and the provider's own session lives on."""

    local_only = True
    """Says that this is wanted, and no reason for a warning."""

    def __init__(self, *, name: str, issuer: str | None = None) -> None:
        super().__init__(name=name)
        self.issuer = issuer

    @only_computes
    def get_end_session_url(self) -> None:
        """Return None, always."""


def only(**kept: str) -> dict[str, str | None]:
    """Return ``parameters`` that send the standard ones named here, as these names, and no other."""
    return {name: kept.get(name) for name in STANDARD_PARAMETERS}


def origin_at(host: str, what: str = "domain") -> str:
    """Return ``https://host``; raise ``ConfigurationError`` if ``host`` is more or less than a host with its port."""
    origin = origin_of(f"https://{host}")
    if origin is None or str(origin) != f"https://{host}".lower():
        raise ConfigurationError(f"{what}={host!r}: expected a host such as 'login.example.com', without https://")
    return str(origin)


def base_url(url: str, what: str) -> str:
    """Return an https URL without the slash at its end, or raise ``ConfigurationError``."""
    try:
        checked = checked_url(url)
    except ProviderError as error:
        raise ConfigurationError(f"{what}={url!r}: expected an https URL (http on a loopback host)") from error
    if "?" in url or "#" in url:
        raise ConfigurationError(f"{what}={url!r}: expected a URL without query and fragment")
    return checked.rstrip("/")


def text(value: str, what: str) -> str:
    """Return a value that is there and can stand in a query, or raise ``ConfigurationError``."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ConfigurationError(f"{what}={value!r}: expected printable text")
    return value


def segment(value: str, what: str) -> str:
    """Return a name encoded as one segment of a path, or raise ``ConfigurationError``."""
    if "/" in text(value, what) or "\\" in value or value in (".", ".."):
        raise ConfigurationError(f"{what}={value!r}: expected a name, not a path")
    return quote(value, safe="")
