"""A provider that the application has registered with Authlib already."""

from __future__ import annotations

from typing import Any

import anyio

from ..errors import ConfigurationError, ProviderError
from ..protocol.discovery import endpoint_of
from ..protocol.logout_token import LogoutToken, read_logout_token
from .cached_document import Metadata
from .calling import call
from .standard import StandardProvider
from .token_verifier import TokenVerifier
from .transport import HTTPClient, fetch_json, time_left, why


class AuthlibMetadata(Metadata):
    """Keep what Authlib knows of its client's provider: loaded once, a failure remembered as that of discovery is."""

    def __init__(self, client: Any) -> None:
        super().__init__(str(client.name))
        self._client = client

    async def load(self) -> dict[str, Any]:
        """Return the server metadata of Authlib's client, fetched if need be. Raises ``ProviderError``.

        Authlib fetches with a client of its own, made from the ``client_kwargs`` of the registration. Where the
        middleware was given an ``http_client``, that one reaches the provider, and Authlib's need not.
        """
        known: dict[str, Any] = self._client.server_metadata
        url = getattr(self._client, "_server_metadata_url", None)
        if self.http_client is not None and isinstance(url, str) and "_loaded_at" not in known:
            return {**known, **await fetch_json(url, client=self.http_client)}
        seconds = time_left()
        try:
            with anyio.fail_after(seconds):
                metadata: dict[str, Any] = await call(self._client.load_server_metadata, {})
        except TimeoutError as error:
            raise ProviderError(f"Authlib had no metadata within {seconds:.1f} s", code="fetch_timeout") from error
        except Exception as error:
            raise ProviderError(f"Authlib has no metadata: {why(error)}", code="fetch_failed") from error
        return metadata


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
        self.metadata = AuthlibMetadata(client)
        self.verifier = TokenVerifier(algorithm="RS256", jwks_uri=self._jwks_uri)

    def use_http_client(self, client: HTTPClient) -> None:
        """Fetch the keys, and metadata that Authlib has not loaded, with ``client`` from now on."""
        self.metadata.http_client = self.verifier.keys.http_client = client

    @property
    def issuer(self) -> str | None:
        """The issuer, once the metadata has been loaded or was given at registration."""
        issuer = {**self.client.server_metadata, **(self.metadata.document or {})}.get("issuer")
        return issuer if isinstance(issuer, str) else None

    async def get_end_session_url(
        self,
        *,
        id_token_hint: str | None = None,
        post_logout_redirect_uri: str | None = None,
        state: str | None = None,
        logout_hint: str | None = None,
    ) -> str | None:
        """Return the URL of this logout, or None if the metadata has no end-session endpoint."""
        endpoint = endpoint_of(await self.metadata.get(), "end_session_endpoint")
        values = self.values(id_token_hint, post_logout_redirect_uri, state, logout_hint, None)
        return self.url(endpoint, values) if endpoint else None

    async def prefetch(self) -> None:
        """Load the metadata before it is needed. Raises ``ProviderError``."""
        await self.metadata.prefetch()

    async def learn_issuer(self) -> None:
        """Load the metadata, which names the issuer. Raises ``ProviderError``."""
        await self.metadata.get()

    async def verify_logout_token(self, token: str, now: float) -> LogoutToken:
        """Check a logout token (Back-Channel Logout 1.0, section 2.6); ``now`` in seconds since the epoch.

        Raises ``LogoutTokenError``.
        """
        header, claims = await self.verifier.verify(token)
        issuer, client_id = self.issuer or "", str(self.client_id)
        return read_logout_token(header, claims, issuer=issuer, client_id=client_id, algorithm="RS256", now=now)

    async def _jwks_uri(self) -> str:
        uri = endpoint_of(await self.metadata.get(), "jwks_uri")
        if uri is None:
            raise ProviderError(f"the metadata of {self.name} has no jwks_uri", code="no_jwks_uri")
        return uri
