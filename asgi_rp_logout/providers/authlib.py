"""A provider that the application has registered with Authlib already."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import anyio

from ..errors import ConfigurationError, ProviderError
from .cached_document import Metadata
from .calling import call
from .noticing import notice_logins_of
from .oidc import MetadataProvider
from .transport import fetch_json, time_left, why


class AuthlibMetadata(Metadata):
    """Keep the server metadata of a client that is registered with Authlib."""

    def __init__(self, client: Any, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(str(client.name), clock)
        self._client = client

    @property
    def address(self) -> str | None:
        """The URL that the client was registered with, or None if it was registered with its endpoints."""
        url = getattr(self._client, "_server_metadata_url", None)
        return url if isinstance(url, str) else None

    async def load(self) -> dict[str, Any]:
        """Return the server metadata of Authlib's client, fetched if need be. Raises ``ProviderError``.

        Authlib fetches with a client of its own, made from the ``client_kwargs`` of the registration. If the middleware
        has an ``http_client``, it fetches what Authlib has not loaded: that client reaches the provider, and Authlib's
        may not.
        """
        known: dict[str, Any] = self._client.server_metadata
        url = self.address
        if self.http_client is not None and url is not None and "_loaded_at" not in known:
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


class AuthlibProvider(MetadataProvider):
    """Take the issuer, the endpoints and the credentials of a client that is registered with Authlib.

    - ``client``: the registered client, such as ``oauth.keycloak``, sync or async. Its ``client_secret`` is used for
      revocation, and for logout tokens that are signed with HS256, HS384 or HS512.
    - ``name``: what a marker, a decorator or a login calls this provider; the client's own name if not given.
    - ``parameters``, ``extra``, ``post``: as ``StaticProvider`` has them.
    - ``algorithm``, ``require_exp``, ``revoke``: as ``OIDCProvider`` has them.
    - ``notices_logins``: remember the logins that this client completes, as if ``remember_login`` was called with the
      token that ``authorize_access_token()`` returns. ``remember_login`` and ``forget_login`` take precedence.
    - ``silent_hint``: as ``OIDCProvider`` has it, with the client's own ``client_id`` and ``client_secret``.

    Authlib loads the metadata, which names the endpoints. Raises ``ConfigurationError``.
    """

    def __init__(
        self,
        client: Any,
        *,
        name: str | None = None,
        parameters: Mapping[str, str | None] | None = None,
        extra: Mapping[str, str] | None = None,
        algorithm: str = "RS256",
        require_exp: bool = False,
        revoke: object = None,
        post: bool = False,
        notices_logins: bool = True,
        silent_hint: bool = False,
    ) -> None:
        for option, given in (("notices_logins", notices_logins), ("silent_hint", silent_hint)):
            if not isinstance(given, bool):
                raise ConfigurationError(f"{option}={given!r}: expected True or False")
        self.client = client
        self.silent_hint = silent_hint

        def connect() -> None:
            if not callable(getattr(client, "load_server_metadata", None)):
                raise ConfigurationError(
                    f"client={type(client).__name__}: expected a client registered with Authlib, such as oauth.keycloak"
                )
            MetadataProvider.__init__(
                self,
                metadata=AuthlibMetadata(client),
                name=str(client.name) if name is None else name,
                client_id=client.client_id,
                client_secret=_secret_of(client, revoke, silent_hint=silent_hint),
                token_auth=_method_of(client),
                silent_hint=silent_hint,
                rename=parameters or {},
                extra=extra or {},
                post=post,
                algorithm=algorithm,
                require_exp=require_exp,
                revoke=revoke,
            )
            if notices_logins:
                notice_logins_of(client, self.name)

        self._connect: Callable[[], None] | None = connect
        self.look_up_client()

    def look_up_client(self) -> None:
        """Read the registration of the client, as soon as it can be read.

        A client that is registered with Authlib for Flask exists only once ``oauth.init_app(app)`` was called, which is
        often later than this provider is made. Raises ``ConfigurationError``.
        """
        connect = self._connect
        if connect is not None and not _is_out_of_reach(self.client):
            self._connect = None
            connect()

    @property
    def issuer(self) -> str | None:
        """The issuer, if the registration gives it or the metadata has been loaded."""
        if self._connect is not None:
            return None
        issuer = {**self.client.server_metadata, **(self.metadata.document or {})}.get("issuer")
        return issuer if isinstance(issuer, str) else None


def _is_out_of_reach(client: Any) -> bool:
    """Return whether a client is a proxy for one that does not exist yet."""
    try:
        client.name  # noqa: B018
    except RuntimeError:  # raised by werkzeug's LocalProxy, or by Flask outside of an application context
        return True
    except Exception:
        return False
    return False


def _registered_method(client: Any) -> object:
    """Return the method with which the client authenticates at the token endpoint, as the application gave it."""
    return (getattr(client, "client_kwargs", None) or {}).get("token_endpoint_auth_method")


def _method_of(client: Any) -> str | None:
    """Return how the client is registered to authenticate at the token endpoint, None if it does not say."""
    method = _registered_method(client)
    return str(method) if method in ("client_secret_basic", "client_secret_post", "none") else None


def _secret_of(client: Any, revoke: object, *, silent_hint: bool) -> str | None:
    """Return the secret that the client shares with its provider, or None if it has none.

    With ``private_key_jwt`` Authlib keeps a private key in ``client_secret``, which must not be sent to anybody.
    """
    secret = getattr(client, "client_secret", None)
    method = _registered_method(client)
    if method is None or str(method).startswith("client_secret_"):
        return None if secret is None else str(secret)
    shown = repr(method) if isinstance(method, str) else type(method).__name__
    expected = f"with token_endpoint_auth_method={shown}: expected a client that authenticates with its client_secret"
    if isinstance(revoke, str) and method != "none":
        raise ConfigurationError(f"revoke={revoke!r} {expected}, or an object with revoke_session()")
    if silent_hint and method != "none":
        raise ConfigurationError(f"silent_hint=True {expected}")
    return None
