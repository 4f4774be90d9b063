"""A provider that the application has registered with Authlib already."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigurationError, ProviderError
from ..jose import TokenVerifier
from ..protocol.end_session import checked_url
from ..protocol.logout_token import LogoutToken, read_logout_token
from .base import StandardProvider, call, standard_values


class AuthlibProvider(StandardProvider):
    """Take issuer, endpoints and client id from a client registered with Authlib.

    Takes the client (``oauth.keycloak``), sync or async, and ``name`` (the client's own, if not given). The endpoint is
    the ``end_session_endpoint`` of its server metadata, loaded by Authlib. Logout tokens are expected to be signed with
    RS256. Raises ``ConfigurationError``.
    """

    def __init__(self, client: Any, *, name: str | None = None) -> None:
        if not callable(getattr(client, "load_server_metadata", None)):
            raise ConfigurationError(
                f"client={type(client).__name__}: expected a client registered with Authlib, such as oauth.keycloak"
            )
        self.client = client
        super().__init__(name=str(client.name) if name is None else name, client_id=client.client_id)
        self._verifier = TokenVerifier(algorithm="RS256", jwks_uri=self._jwks_uri)

    @property
    def issuer(self) -> str | None:
        """The issuer, once Authlib has loaded the metadata or was given it at registration."""
        issuer = self.client.server_metadata.get("issuer")
        return issuer if isinstance(issuer, str) else None

    async def get_end_session_url(
        self,
        *,
        id_token_hint: str | None = None,
        post_logout_redirect_uri: str | None = None,
        state: str | None = None,
        logout_hint: str | None = None,
    ) -> str | None:
        """Give the URL of this logout, or None if the metadata has no end-session endpoint."""
        endpoint = (await self._metadata()).get("end_session_endpoint")
        values = standard_values(id_token_hint, post_logout_redirect_uri, state, logout_hint)
        return self.url(checked_url(endpoint), values) if endpoint else None

    async def warm(self) -> None:
        """Let Authlib load the metadata before it is needed. Raises ``ProviderError``."""
        await self._metadata()

    async def verify_logout_token(self, token: str, now: float) -> LogoutToken:
        """Check a logout token (Back-Channel Logout 1.0, section 2.6); ``now`` in seconds since the epoch.

        Raises ``LogoutTokenError``.
        """
        header, claims = await self._verifier.verify(token)
        issuer, client_id = self.issuer or "", str(self.client_id)
        return read_logout_token(header, claims, issuer=issuer, client_id=client_id, algorithm="RS256", now=now)

    async def _metadata(self) -> dict[str, Any]:
        try:
            metadata: dict[str, Any] = await call(self.client.load_server_metadata, {})
        except Exception as error:
            raise ProviderError(f"Authlib has no metadata: {type(error).__name__}", code="fetch_failed") from error
        return metadata

    async def _jwks_uri(self) -> str:
        return checked_url((await self._metadata()).get("jwks_uri"), "jwks_uri")
