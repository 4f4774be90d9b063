"""A provider in this process: discovery, keys, ID Tokens and logout tokens. Nothing goes over a network."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import httpx
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.responses import JSONResponse

from asgi_rp_logout import OIDCProvider

from .apps import PROVIDER, App, Scope

_EVENT = "http://schemas.openid.net/event/backchannel-logout"


class IdP:
    """Stand for an OpenID provider. Takes its private key as JSON, so that several processes can be one provider."""

    end_session = f"{PROVIDER}/end-session"

    def __init__(self, key: str | None = None, issuer: str = PROVIDER) -> None:
        self.issuer = issuer
        self.key = RSAKey.import_key(json.loads(key)) if key else RSAKey.generate_key(2048, {"kid": "k1"})
        self._documents: dict[str, Any] = {
            "/.well-known/openid-configuration": {
                "issuer": issuer,
                "authorization_endpoint": f"{issuer}/authorize",
                "token_endpoint": f"{issuer}/token",
                "end_session_endpoint": self.end_session,
                "jwks_uri": f"{issuer}/keys",
            },
            "/keys": {"keys": [{**self.key.as_dict(private=False), "alg": "RS256", "use": "sig"}]},
        }

    def secret(self) -> str:
        """Give the private key, for ``IdP(key)`` in another process."""
        return json.dumps(self.key.as_dict(private=True))

    def client(self) -> httpx.AsyncClient:
        """Give the client through which the provider is reached."""
        answer = httpx.MockTransport(lambda request: httpx.Response(200, json=self._documents[request.url.path]))
        return httpx.AsyncClient(transport=answer)

    def provider(self) -> OIDCProvider:
        """Give the provider as an application configures it."""
        return OIDCProvider(self.issuer, client_id="app")

    def app(self) -> App:
        """Give the provider as a server: its documents, and a token endpoint that takes any code."""

        async def served(scope: Scope, receive: Any, send: Any) -> None:
            if scope["path"] == "/token":
                tokens = {"access_token": "x", "token_type": "Bearer", "id_token": self.signed_id_token("alice", "s1")}
                await JSONResponse(tokens)(scope, receive, send)
            else:
                await JSONResponse(self._documents[scope["path"]])(scope, receive, send)

        return served

    def signed_id_token(self, sub: str, sid: str, padding: int = 0) -> str:
        """Sign an ID Token, longer by so many characters."""
        now = int(time.time())
        claims = {"iss": self.issuer, "sub": sub, "sid": sid, "aud": "app", "iat": now, "exp": now + 3600}
        return self._sign("JWT", {**claims, "more": "x" * padding} if padding else claims)

    def logout_token(self, sub: str, sid: str) -> str:
        """Sign a logout token (Back-Channel Logout 1.0, section 2.4)."""
        now = int(time.time())
        claims = {"iss": PROVIDER, "sub": sub, "sid": sid, "aud": "app", "iat": now, "exp": now + 120}
        return self._sign("logout+jwt", {**claims, "jti": uuid.uuid4().hex, "events": {_EVENT: {}}})

    def _sign(self, kind: str, claims: dict[str, Any]) -> str:
        return jwt.encode({"alg": "RS256", "kid": "k1", "typ": kind}, claims, self.key)
