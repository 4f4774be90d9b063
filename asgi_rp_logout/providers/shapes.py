"""The ways in which vendors deviate from the specification: the classes behind ``presets``.

Each stands for one deviation, whoever has it. A request that a vendor would answer with an error page, from which no
way leads back, is not made: ``ProviderError`` then leaves the logout a local one, which always completes.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ..errors import ConfigurationError, ProviderError
from ..login import Login, unverified_claims
from ..protocol.end_session import STANDARD_PARAMETERS, checked_url
from ..protocol.return_to import origin_of
from .base import StandardProvider, standard_values
from .oidc import OIDCProvider
from .static import StaticProvider


def demand(values: Mapping[str, str | None], names: tuple[str, ...]) -> None:
    """Raise ``ProviderError`` if the vendor would refuse a request for lack of one of ``names``."""
    for name in names:
        if not values.get(name):
            raise ProviderError(f"this provider takes no logout request without {name}", code="missing_parameter")


class ReturnOnlyWithHint(OIDCProvider):
    """Send the standard request with an ID Token, and without one the bare endpoint.

    These vendors answer 400 to a return address or a state that no ID Token vouches for, but ask the user at their own
    page if nothing is sent at all.
    """

    async def get_end_session_url(
        self,
        *,
        id_token_hint: str | None = None,
        post_logout_redirect_uri: str | None = None,
        state: str | None = None,
        logout_hint: str | None = None,
    ) -> str | None:
        """Give the URL of this logout, or None if the provider has no end-session endpoint."""
        if id_token_hint:
            return await super().get_end_session_url(
                id_token_hint=id_token_hint,
                post_logout_redirect_uri=post_logout_redirect_uri,
                state=state,
                logout_hint=logout_hint,
            )
        return (await self.discovery.metadata()).get("end_session_endpoint")


class AllOrNothing(OIDCProvider):
    """Send the standard request to an endpoint that refuses it if anything in ``needs`` is missing.

    ``endpoint``: where it is known without discovery. A state that is needed is invented if there is none to return.
    """

    def __init__(
        self, issuer: str, client_id: str, *, needs: tuple[str, ...] = (), endpoint: str | None = None, **options: Any
    ) -> None:
        super().__init__(issuer, client_id, **options)
        self.needs = needs
        self.endpoint = endpoint

    async def get_end_session_url(
        self,
        *,
        id_token_hint: str | None = None,
        post_logout_redirect_uri: str | None = None,
        state: str | None = None,
        logout_hint: str | None = None,
    ) -> str | None:
        """Give the URL of this logout. Raises ``ProviderError`` if something is missing."""
        if "state" in self.needs:
            state = state or secrets.token_urlsafe(24)
        values = standard_values(id_token_hint, post_logout_redirect_uri, state, logout_hint)
        demand(values, self.needs)
        endpoint = self.endpoint or (await self.discovery.metadata()).get("end_session_endpoint")
        return self.url(endpoint, values) if endpoint else None


class SessionHint(OIDCProvider):
    """Name the session by its ``sid`` in ``logout_hint`` where there is no ID Token to hint with."""

    def __init__(self, issuer: str, client_id: str, *, endpoint: str, **options: Any) -> None:
        super().__init__(issuer, client_id, **options)
        self.endpoint = endpoint

    async def get_end_session_url(
        self,
        *,
        id_token_hint: str | None = None,
        post_logout_redirect_uri: str | None = None,
        state: str | None = None,
        logout_hint: str | None = None,
        login: Login | None = None,
    ) -> str:
        """Give the URL of this logout."""
        if not id_token_hint and login is not None:
            logout_hint = logout_hint or login.sid
        return self.url(self.endpoint, standard_values(id_token_hint, post_logout_redirect_uri, state, logout_hint))


class Demanding(StaticProvider):
    """Send a request that must have a return address, and whose state, if any, must be long enough."""

    def __init__(self, end_session_endpoint: str, *, shortest_state: int = 0, **options: Any) -> None:
        super().__init__(end_session_endpoint, **options)
        self.shortest_state = shortest_state

    def get_end_session_url(
        self,
        *,
        id_token_hint: str | None = None,
        post_logout_redirect_uri: str | None = None,
        state: str | None = None,
        logout_hint: str | None = None,
    ) -> str:
        """Give the URL of this logout. Raises ``ProviderError`` without a return address."""
        if state and len(state) < self.shortest_state:
            state = None
        values = standard_values(id_token_hint, post_logout_redirect_uri, state, logout_hint)
        demand(values, ("post_logout_redirect_uri",))
        return self.url(self.endpoint, values)


class LoginHintClaim(StaticProvider):
    """Name the user by the ID Token's ``login_hint`` claim in ``logout_hint``, which spares them an account picker."""

    def get_end_session_url(
        self,
        *,
        id_token_hint: str | None = None,
        post_logout_redirect_uri: str | None = None,
        state: str | None = None,
        logout_hint: str | None = None,
    ) -> str:
        """Give the URL of this logout."""
        if not logout_hint and id_token_hint:
            claim = unverified_claims(id_token_hint).get("login_hint")
            logout_hint = claim if isinstance(claim, str) else None
        return self.url(self.endpoint, standard_values(id_token_hint, post_logout_redirect_uri, state, logout_hint))


class SessionId(StaticProvider):
    """Name the session by its ``sid`` in ``session_id``, which must be there."""

    def get_end_session_url(
        self,
        *,
        id_token_hint: str | None = None,
        post_logout_redirect_uri: str | None = None,
        state: str | None = None,
        logout_hint: str | None = None,
        login: Login | None = None,
    ) -> str:
        """Give the URL of this logout. Raises ``ProviderError`` for a login without ``sid``."""
        values = standard_values(id_token_hint, post_logout_redirect_uri, state, logout_hint)
        named = {"session_id": login.sid if login is not None else None, **values}
        demand(named, ("session_id",))
        return self.url(self.endpoint, named)


class LocalOnly(StandardProvider):
    """Have no end-session endpoint: a logout ends the login here, and the provider's own session lives on."""

    local_only = True
    """Says that this is wanted, and no reason for a warning."""

    def __init__(self, *, name: str, issuer: str | None = None) -> None:
        super().__init__(name=name)
        self.issuer = issuer

    def get_end_session_url(self) -> None:
        """Give None, always."""


def only(**kept: str) -> dict[str, str | None]:
    """Give ``parameters`` that send the standard ones named here, as these names, and no other."""
    return {name: kept.get(name) for name in STANDARD_PARAMETERS}


def origin_at(host: str, what: str = "domain") -> str:
    """Give ``https://host``, or raise ``ConfigurationError`` if ``host`` is more or less than a host, with its port."""
    origin = origin_of(f"https://{host}")
    if origin is None or str(origin) != f"https://{host}".lower():
        raise ConfigurationError(f"{what}={host!r}: expected a host such as 'login.example.com', without https://")
    return str(origin)


def base_url(url: str, what: str) -> str:
    """Give an https URL without the slash at its end, or raise ``ConfigurationError``."""
    try:
        checked = checked_url(url)
    except ProviderError as error:
        raise ConfigurationError(f"{what}={url!r}: expected an https URL (http on a loopback host)") from error
    if "?" in url or "#" in url:
        raise ConfigurationError(f"{what}={url!r}: expected a URL without query and fragment")
    return checked.rstrip("/")


def text(value: str, what: str) -> str:
    """Give a value that is there and can stand in a query, or raise ``ConfigurationError``."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ConfigurationError(f"{what}={value!r}: expected printable text")
    return value


def segment(value: str, what: str) -> str:
    """Give a name encoded as one segment of a path, or raise ``ConfigurationError``."""
    if "/" in text(value, what) or "\\" in value or value in (".", ".."):
        raise ConfigurationError(f"{what}={value!r}: expected a name, not a path")
    return quote(value, safe="")
