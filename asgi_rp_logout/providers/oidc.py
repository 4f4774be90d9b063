"""A provider that is known by its metadata, and the one whose metadata is its discovery document."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass
from typing import Any

from ..errors import ConfigurationError, ProviderError
from ..login import Login
from ..protocol.discovery import (
    checked_document,
    checked_issuer,
    endpoint_of,
    oauth_metadata_url,
    required_endpoint,
    well_known_url,
)
from ..protocol.end_session import checked_url
from ..protocol.logout_token import Expected, LogoutToken, read_logout_token
from .cached_document import Metadata
from .provider import issuer_of
from .silent_hint import SilentHint
from .standard import StandardProvider
from .token_verifier import TokenVerifier
from .transport import Credentials, HTTPClient, fetch_json


@dataclass(kw_only=True, eq=False, repr=False)
class MetadataProvider(StandardProvider):
    """Log out at a provider by its metadata: ``OIDCProvider`` and ``AuthlibProvider``, which say where it comes from.

    The metadata names the end-session endpoint, the revocation endpoint and the keys. ``OIDCProvider`` documents the
    other fields. Raises ``ConfigurationError``.
    """

    metadata: Metadata
    client_secret: str | None = None
    algorithm: str = "RS256"
    require_exp: bool = False
    revoke: object = None
    silent_hint: bool = False
    token_auth: str | None = None
    decryption_key: InitVar[Any] = None

    def __post_init__(self, decryption_key: Any) -> None:
        super().__post_init__()
        self._oauth_metadata: Metadata | None = None
        self._check_revoke()
        for option, kind in (("client_secret", str | None), ("require_exp", bool), ("silent_hint", bool)):
            given = getattr(self, option)
            if not isinstance(given, kind):
                raise ConfigurationError(f"{option} of type {type(given).__name__}: expected {kind}")
        self.verifier = TokenVerifier(
            jwks_uri=self.jwks_uri,
            algorithm=self.algorithm,
            client_secret=self.client_secret,
            decryption_key=decryption_key,
        )
        self.silent: SilentHint | None = self._silent() if self.silent_hint else None

    def _silent(self) -> SilentHint:
        if self.rename.get("id_token_hint", "") is None:
            raise ConfigurationError("silent_hint=True: expected a provider that takes an id_token_hint")
        credentials = Credentials(str(self.client_id), self.client_secret, self.token_auth)
        return SilentHint(self.name, credentials, self.metadata, self.verifier, self.revocation_endpoint)

    def _check_revoke(self) -> None:
        revoke = self.revoke
        if revoke is None or revoke == "refresh_token" or hasattr(revoke, "revoke_session"):
            return
        try:
            checked_url(revoke if isinstance(revoke, str) else "")
        except ProviderError as error:
            raise ConfigurationError(
                f"revoke={revoke!r}: expected 'refresh_token', the https URL of the revocation endpoint, an object "
                "with revoke_session(), or None"
            ) from error

    def use_http_client(self, client: HTTPClient) -> None:
        """Fetch the metadata and the keys with ``client`` from now on."""
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
        """Return the URL of this logout, or None without an end-session endpoint. Raises ``ProviderError``."""
        values = self.values(id_token_hint, post_logout_redirect_uri, state, logout_hint, login)
        endpoint = await self.end_session_endpoint()
        return self.url(endpoint, values) if endpoint else None

    async def end_session_endpoint(self) -> str | None:
        """Return the provider's end-session endpoint, or None if it has none. Raises ``ProviderError``."""
        return endpoint_of(await self.metadata.get(), "end_session_endpoint")

    async def revocation_endpoint(self) -> str | None:
        """Return the provider's revocation endpoint, or None if it has none. Raises ``ProviderError``.

        It is the one given as ``revoke``. Or else the metadata names it, or the OAuth metadata (RFC 8414, section 2):
        OpenID Connect Discovery does not know it, so some providers name it only there.
        """
        if isinstance(self.revoke, str) and self.revoke != "refresh_token":
            return self.revoke
        endpoint, issuer = endpoint_of(await self.metadata.get(), "revocation_endpoint"), issuer_of(self)
        if endpoint is not None or issuer is None:
            return endpoint
        if self._oauth_metadata is None:
            self._oauth_metadata = Discovery(issuer, url=oauth_metadata_url(issuer))
        self._oauth_metadata.http_client = self.metadata.http_client
        await self._oauth_metadata.refresh()  # nobody waits for a revocation
        try:
            return endpoint_of(await self._oauth_metadata.get(), "revocation_endpoint")
        except ProviderError:  # few providers have such a document
            return None

    async def jwks_uri(self) -> str:
        """Return the address of the provider's keys. Raises ``ProviderError`` if there is none."""
        return required_endpoint(await self.metadata.get(), "jwks_uri", self.name, code="no_jwks_uri")

    async def learn_issuer(self) -> None:
        """Fetch the metadata, which names the issuer. Raises ``ProviderError``."""
        await self.metadata.get()

    async def prefetch(self) -> None:
        """Fetch the metadata before it is needed. Raises ``ProviderError``."""
        await self.metadata.prefetch()

    @property
    def stale(self) -> bool:
        """Return whether the metadata is old, so that ``refresh()`` would fetch it."""
        return self.metadata.stale

    async def refresh(self) -> None:
        """Fetch the metadata again if it is stale."""
        await self.metadata.refresh()

    def decrypted(self, id_token: str) -> str | None:
        """Return the signed ID Token inside an encrypted one, or None without its key."""
        return self.verifier.decrypted(id_token)

    async def verify_logout_token(self, token: str, now: float) -> LogoutToken:
        """Check a logout token (Back-Channel Logout 1.0, section 2.6); ``now`` is in seconds since 1970.

        Raises ``LogoutTokenError``.
        """
        header, claims = await self.verifier.verify(token)
        expected = Expected(issuer_of(self) or "", str(self.client_id), self.algorithm, self.require_exp)
        return read_logout_token(header, claims, expected, now=now)


class Discovery(Metadata):
    """Keep the discovery document of one issuer (OpenID Connect Discovery 1.0, section 4), or the one at ``url``."""

    def __init__(self, issuer: str, clock: Callable[[], float] = time.monotonic, *, url: str | None = None) -> None:
        super().__init__(issuer, clock)
        self.issuer = issuer
        self._url = well_known_url(issuer) if url is None else url

    @property
    def address(self) -> str:
        """The URL of the document."""
        return self._url

    async def load(self) -> dict[str, Any]:
        """Fetch the document from the provider. Raises ``ProviderError``."""
        document = await fetch_json(self.address, client=self.http_client)
        return checked_document(document, self.issuer)


class OIDCProvider(MetadataProvider):
    """Find a provider's endpoints by its issuer (OpenID Connect Discovery 1.0, section 4).

    - ``issuer``: exactly as in its ID Tokens, including a slash at its end.
    - ``client_id``: the id under which the application is registered.
    - ``client_secret``: for revocation, and for logout tokens that are signed with HS256, HS384 or HS512.
    - ``name``: what a marker, a decorator or a login calls this provider; the issuer if not given.
    - ``parameters``, ``extra``: rename, drop or add parameters of the logout request, as ``StaticProvider`` does.
    - ``algorithm``: the one algorithm with which its logout tokens are signed.
    - ``require_exp``: True refuses logout tokens without ``exp``.
    - ``revoke``: ``"refresh_token"`` revokes the refresh token after a logout (RFC 7009). The URL of the revocation
      endpoint does so too, if the metadata does not name it. An object with a ``revoke_session()`` does it in its own
      way.
    - ``post``: True if the end-session endpoint takes a POST from another site, for requests too long for a URL.
    - ``decryption_key``: a JWK, for a provider that encrypts its tokens.
    - ``silent_hint``: True asks the provider at logout for an ID Token, where none is known, by a redirect with
      ``prompt=none``. It needs a ``callback_path``, whose address is registered as a redirect URI as well.

    Raises ``ConfigurationError``.
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
        silent_hint: bool = False,
    ) -> None:
        self.issuer = checked_issuer(issuer)
        if not isinstance(client_id, str) or not client_id:
            raise ConfigurationError(f"client_id={client_id!r}: expected the id under which the app is registered")
        super().__init__(
            metadata=Discovery(self.issuer),
            name=issuer if name is None else name,
            client_id=client_id,
            client_secret=client_secret,
            rename=parameters or {},
            extra=extra or {},
            post=post,
            algorithm=algorithm,
            require_exp=require_exp,
            revoke=revoke,
            silent_hint=silent_hint,
            decryption_key=decryption_key,
        )
