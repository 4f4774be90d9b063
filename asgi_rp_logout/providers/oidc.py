"""A provider that is found by its issuer, through discovery."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ConfigurationError, ProviderError
from ..login import Login
from ..protocol.discovery import (
    checked_document,
    checked_issuer,
    endpoint_of,
    well_known_url,
)
from ..protocol.logout_token import LogoutToken, read_logout_token
from .cached_document import Metadata
from .standard import StandardProvider
from .token_verifier import TokenVerifier
from .transport import HTTPClient, fetch_json


class Discovery(Metadata):
    """Keep the discovery document of one issuer."""

    def __init__(self, issuer: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(issuer, clock)
        self.issuer = issuer

    async def load(self) -> dict[str, Any]:
        """Fetch the document from the provider. Raises ``ProviderError``."""
        document = await fetch_json(well_known_url(self.issuer), client=self.http_client)
        return checked_document(document, self.issuer)


class OIDCProvider(StandardProvider):
    """Find a provider's endpoints by its issuer (OpenID Connect Discovery 1.0, section 4).

    Takes the issuer, exactly as in its ID Tokens, a trailing slash included; ``client_id``; ``client_secret``, for
    revocation and HS256; ``name`` (the issuer, if not given); ``parameters`` and ``extra`` as ``StaticProvider`` has
    them. ``algorithm`` is the one algorithm of its logout tokens and ``require_exp`` whether they must expire;
    ``decryption_key`` (a JWK) is for a provider that encrypts its tokens. ``revoke`` is ``"refresh_token"`` to revoke
    that at logout (RFC 7009), or an object with a ``revoke_session()`` of its own. ``post`` says that its end-session
    endpoint takes a POST, for requests too long for a URL. Raises ``ConfigurationError``.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: str | None = None,
        *,
        name: str | None = None,
        parameters: Mapping[str, str | None] | None = None,
        extra: Mapping[str, str] | None = None,
        algorithm: str = "RS256",
        require_exp: bool = False,
        revoke: object = None,
        post: bool = False,
        decryption_key: Any = None,
    ) -> None:
        self.issuer = checked_issuer(issuer)
        if not isinstance(client_id, str) or not client_id:
            raise ConfigurationError(f"client_id={client_id!r}: expected the id under which the app is registered")
        if not (revoke is None or revoke == "refresh_token" or hasattr(revoke, "revoke_session")):
            raise ConfigurationError(
                f"revoke={revoke!r}: expected 'refresh_token', an object with revoke_session(), or None"
            )
        for option, given, kind in (("client_secret", client_secret, str | None), ("require_exp", require_exp, bool)):
            if not isinstance(given, kind):
                raise ConfigurationError(f"{option} of type {type(given).__name__}: expected {kind}")
        super().__init__(
            name=issuer if name is None else name,
            client_id=client_id,
            rename=parameters or {},
            extra=extra or {},
            post=post,
        )
        self.client_secret = client_secret
        self.algorithm = algorithm
        self.require_exp = require_exp
        self.revoke = revoke
        self.metadata = Discovery(self.issuer)
        self.verifier = TokenVerifier(
            algorithm=algorithm, client_secret=client_secret, decryption_key=decryption_key, jwks_uri=self._jwks_uri
        )

    def use_http_client(self, client: HTTPClient) -> None:
        """Fetch documents with ``client`` from now on."""
        self.metadata.http_client = self.verifier.keys.http_client = client

    async def get_end_session_url(
        self,
        *,
        id_token_hint: str | None = None,
        post_logout_redirect_uri: str | None = None,
        state: str | None = None,
        logout_hint: str | None = None,
        login: Login | None = None,
    ) -> str | None:
        """Return the URL of this logout, or None if the provider has no end-session endpoint."""
        values = self.values(id_token_hint, post_logout_redirect_uri, state, logout_hint, login)
        endpoint = await self.end_session_endpoint()
        return self.url(endpoint, values) if endpoint else None

    async def end_session_endpoint(self) -> str | None:
        """Return the provider's end-session endpoint, or None if it has none."""
        return endpoint_of(await self.metadata.get(), "end_session_endpoint")

    async def revocation_endpoint(self) -> str | None:
        """Return the provider's revocation endpoint, or None if it has none."""
        return endpoint_of(await self.metadata.get(), "revocation_endpoint")

    @property
    def stale(self) -> bool:
        """Return whether there is something to refresh."""
        return self.metadata.stale

    async def prefetch(self) -> None:
        """Fetch the discovery document before it is needed. Raises ``ProviderError``."""
        await self.metadata.prefetch()

    async def refresh(self) -> None:
        """Fetch the discovery document anew if it is stale."""
        await self.metadata.refresh()

    def decrypted(self, id_token: str) -> str | None:
        """Return the signed ID Token inside an encrypted one, or None without its key."""
        return self.verifier.decrypted(id_token)

    async def verify_logout_token(self, token: str, now: float) -> LogoutToken:
        """Check a logout token (Back-Channel Logout 1.0, section 2.6); ``now`` in seconds since the epoch.

        Raises ``LogoutTokenError``.
        """
        header, claims = await self.verifier.verify(token)
        return read_logout_token(
            header,
            claims,
            issuer=self.issuer,
            client_id=str(self.client_id),
            algorithm=self.algorithm,
            now=now,
            require_exp=self.require_exp,
        )

    async def _jwks_uri(self) -> str:
        uri = endpoint_of(await self.metadata.get(), "jwks_uri")
        if uri is None:
            raise ProviderError(f"the discovery document of {self.issuer} has no jwks_uri", code="no_jwks_uri")
        return uri
