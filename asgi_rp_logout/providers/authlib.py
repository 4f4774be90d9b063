"""A provider that the application has registered with Authlib already."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigurationError, ProviderError
from ..protocol.end_session import checked_url
from .base import StandardProvider, call, standard_values


class AuthlibProvider(StandardProvider):
    """Take issuer, endpoints and client id from a client registered with Authlib.

    Takes the client (``oauth.keycloak``), sync or async, and ``name`` (the client's own, if not given). The endpoint is
    the ``end_session_endpoint`` of its server metadata, loaded by Authlib. Raises ``ConfigurationError``.
    """

    def __init__(self, client: Any, *, name: str | None = None) -> None:
        if not callable(getattr(client, "load_server_metadata", None)):
            raise ConfigurationError(
                f"client={type(client).__name__}: expected a client registered with Authlib, such as oauth.keycloak"
            )
        self.client = client
        super().__init__(name=str(client.name) if name is None else name, client_id=client.client_id)

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
        try:
            metadata = await call(self.client.load_server_metadata, {})
        except Exception as error:
            raise ProviderError(f"Authlib has no metadata: {type(error).__name__}", code="fetch_failed") from error
        endpoint = metadata.get("end_session_endpoint")
        values = standard_values(id_token_hint, post_logout_redirect_uri, state, logout_hint)
        return self.url(checked_url(endpoint), values) if endpoint else None
