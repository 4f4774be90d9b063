"""How vendors deviate from RP-Initiated Logout 1.0, as data, and the one place that applies it.

A vendor may answer a request with an error page, from which the browser does not come back. Such a request is not made:
``ProviderError`` keeps the logout a local one, and a local logout always completes.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

from ..errors import ProviderError
from ..login import Login, unverified_claims
from ..protocol.end_session import STANDARD_PARAMETERS
from .calling import only_computes
from .oidc import OIDCProvider
from .standard import StandardProvider, StaticProvider, Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """Describe how one vendor deviates. Each field is one deviation, and its default is the specification.

    - ``vendor``: whose deviation it is, by the name that the doctor has for its console.
    - ``endpoint``: the end-session endpoint, where it is known without discovery.
    - ``only``: the only standard parameters that are sent, with the vendor's name for each.
    - ``without``: standard parameters that are never sent.
    - ``extra``: parameters that are always sent; an empty value is sent as the bare name.
    - ``needs``: parameters without which the vendor refuses the request. If ``state`` is missing, a random one is sent.
    - ``bare_without_hint``: without an ID Token the vendor answers 400 to a return address or a state. It asks the user
      at its own page if nothing is sent at all.
    - ``shortest_state``: characters; a shorter state is refused, so it is left out.
    - ``sid_as_logout_hint``: without an ID Token, ``logout_hint`` is the ``sid`` of the login.
    - ``login_hint_claim``: ``logout_hint`` is the ID Token's ``login_hint`` claim, which spares an account picker.
    - ``sid_parameter``: the parameter that names the session by the ``sid`` of the login.
    """

    vendor: str = ""
    endpoint: str = ""
    only: Mapping[str, str] | None = None
    without: tuple[str, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    bare_without_hint: bool = False
    shortest_state: int = 0
    sid_as_logout_hint: bool = False
    login_hint_claim: bool = False
    sid_parameter: str | None = None

    @property
    def parameters(self) -> dict[str, str | None]:
        """Return which standard parameters are renamed or left out, as ``StaticProvider(parameters=)`` takes them."""
        if self.only is None:
            return dict.fromkeys(self.without)
        return {name: self.only.get(name) for name in STANDARD_PARAMETERS}

    def adapted(self, values: Values, login: Login | None) -> Values:
        """Return the parameters as the vendor wants them. Raises ``ProviderError`` if it would refuse the request."""
        if self.bare_without_hint and not values.get("id_token_hint"):
            return {}
        adapted = {**values, "logout_hint": self._logout_hint(values, login), "state": self._state(values)}
        if self.sid_parameter is not None:
            adapted[self.sid_parameter] = login.sid if login is not None else None
        for name in self.needs:
            if not adapted.get(name):
                raise ProviderError(f"this provider takes no logout request without {name}", code="missing_parameter")
        return adapted

    def _logout_hint(self, values: Values, login: Login | None) -> str | None:
        given, token = values.get("logout_hint"), values.get("id_token_hint")
        if given:
            return given
        if self.sid_as_logout_hint and not token and login is not None:
            return login.sid
        claim = unverified_claims(token).get("login_hint") if self.login_hint_claim and token else None
        return claim if isinstance(claim, str) else None

    def _state(self, values: Values) -> str | None:
        state = values.get("state")
        if not state and "state" in self.needs:
            return secrets.token_urlsafe(24)
        return state if state and len(state) >= self.shortest_state else None


class Options(TypedDict, total=False):
    """Name the options that a preset passes on to ``OIDCProvider``."""

    client_secret: str | None
    name: str | None
    algorithm: str
    require_exp: bool
    revoke: object
    decryption_key: Any
    silent_hint: bool


class DiscoveredVendor(OIDCProvider):
    """Apply a deviation to a provider that has a discovery document."""

    def __init__(self, issuer: str, client_id: str, deviation: Deviation, **options: Unpack[Options]) -> None:
        super().__init__(issuer, client_id, parameters=deviation.parameters, extra=deviation.extra, **options)
        self.deviation = deviation

    def adapted(self, values: Values, login: Login | None) -> Values:
        """Return the parameters as the vendor wants them."""
        return self.deviation.adapted(values, login)

    async def end_session_endpoint(self) -> str | None:
        """Return the endpoint that is known, or else the discovered one."""
        return self.deviation.endpoint or await super().end_session_endpoint()


class StaticVendor(StaticProvider):
    """Apply a deviation to a provider whose endpoint is known."""

    def __init__(
        self, deviation: Deviation, *, client_id: str | None = None, issuer: str | None = None, name: str | None = None
    ) -> None:
        super().__init__(
            deviation.endpoint,
            client_id=client_id,
            name=name,
            parameters=deviation.parameters,
            extra=deviation.extra,
            issuer=issuer,
        )
        self.deviation = deviation

    def adapted(self, values: Values, login: Login | None) -> Values:
        """Return the parameters as the vendor wants them."""
        return self.deviation.adapted(values, login)


class LocalOnly(StandardProvider):
    """Stand for a provider without an end-session endpoint: a logout ends the login here, and not at the provider."""

    local_only = True
    """This is wanted, so no warning is logged."""

    def __init__(self, *, name: str, issuer: str | None = None) -> None:
        super().__init__(name=name)
        self.issuer = issuer

    @only_computes
    def get_end_session_url(self) -> None:
        """Return None, always."""
