"""``FakeProvider``: an OpenID provider in memory, for the tests of applications. It opens no socket.

Nothing of the package imports this module. Test suites do: ``from asgi_rp_logout.testing import FakeProvider``.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Protocol
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749.errors import InvalidClientError, InvalidGrantError, UnsupportedGrantTypeError
from authlib.oauth2.rfc6749.util import extract_basic_authorization
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from .asgi.types import Receive, Scope, Send
from .protocol.logout_token import EVENT
from .providers.oidc import OIDCProvider

__all__ = ["EndSessionRequest", "FakeProvider"]

_REDIRECTS = ("location", "hx-redirect", "x-inertia-location")


class HasHeaders(Protocol):
    """The response of a test client, such as httpx's, Starlette's, Django's or Werkzeug's."""

    @property
    def headers(self) -> Any:
        """Return the headers, whose ``get()`` ignores case."""


@dataclass(frozen=True, slots=True)
class EndSessionRequest:
    """Describe a logout request that the provider has accepted (RP-Initiated Logout 1.0, section 2).

    ``sub``, ``sid``: whose session it ended, by the ``id_token_hint``. ``parameters``: all of its parameters.
    ``return_url``: the URL to which the provider sends the browser back, with the ``state``, or None.
    """

    sub: str
    sid: str | None
    parameters: Mapping[str, str]
    return_url: str | None


@dataclass(frozen=True, slots=True)
class _Code:
    """What an authorization code stands for, and what the token request must bring along with it."""

    grant: Mapping[str, Any]
    redirect_uri: str
    challenge: str | None


class FakeProvider:
    """Stand in for an OpenID provider in tests: an ASGI app that signs everybody in without asking.

    - ``issuer``: its issuer; nothing is ever sent there.
    - ``client_id``: the one application that it knows.
    - ``client_secret``: its secret, without which there are no tokens; None accepts any.
    - ``post_logout_redirect_uris``: the registered addresses to return to after a logout; None accepts any.

    ``sessions`` has the ``sub`` of each session that ``sign_in()`` began and no logout has ended, by its ``sid``.
    ``revoked`` has the tokens that were revoked.
    """

    def __init__(
        self,
        issuer: str = "https://id.example.com",
        *,
        client_id: str = "app",
        client_secret: str | None = None,
        post_logout_redirect_uris: Sequence[str] | None = None,
    ) -> None:
        self.issuer = issuer
        self.client_id = client_id
        self.client_secret = client_secret
        self.post_logout_redirect_uris = post_logout_redirect_uris
        self.sessions: dict[str, str] = {}
        self.revoked: list[str] = []
        self._codes: dict[str, _Code] = {}
        self._refresh_tokens: dict[str, Mapping[str, Any]] = {}
        self._access_tokens: dict[str, Mapping[str, Any]] = {}
        base = urlsplit(issuer).path.rstrip("/")
        self._app = Starlette(
            routes=[
                Route(f"{base}/.well-known/openid-configuration", self._discovery),
                Route(f"{base}/jwks", self._jwks),
                Route(f"{base}/authorize", self._authorize),
                Route(f"{base}/token", self._token, methods=["POST"]),
                Route(f"{base}/userinfo", self._userinfo),
                Route(f"{base}/revoke", self._revoke, methods=["POST"]),
                Route(f"{base}/logout", self._logout, methods=["GET", "POST"]),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request to the provider."""
        await self._app(scope, receive, send)

    @property
    def transport(self) -> httpx.AsyncBaseTransport:
        """A transport for httpx and httpx2 that reaches this provider only: Authlib takes it in ``client_kwargs``."""
        return _Transport(self)

    @cached_property
    def http_client(self) -> httpx.AsyncClient:
        """An HTTP client that reaches this provider only, for ``RPLogoutMiddleware(http_client=...)``."""
        return httpx.AsyncClient(transport=self.transport)

    def oidc_provider(self, **options: Any) -> OIDCProvider:
        """Return this provider for ``RPLogoutMiddleware(providers=[...])``; takes the options of ``OIDCProvider``."""
        return OIDCProvider(self.issuer, self.client_id, self.client_secret, **options)

    # What a browser does here

    def sign_in(self, response: HasHeaders | str, sub: str = "alice") -> str:
        """Sign a user in, as a browser that the application sends here to log in.

        Takes the application's response with the redirect, or its URL. Returns the URL of the application's callback,
        with ``code`` and ``state``: request it next. Raises ``AssertionError`` if the application sends the browser
        elsewhere or as another client, or with a code challenge of another kind than S256. OpenID Connect Core 1.0,
        section 3.1.2; RFC 7636, section 4.3.
        """
        query = self._query(response, "/authorize")
        client_id = query.get("client_id")
        _check(client_id == self.client_id, f"client_id={client_id!r}: expected {self.client_id!r}")
        _check("redirect_uri" in query, "the authorization request has no redirect_uri")
        challenge, method = query.get("code_challenge"), query.get("code_challenge_method", "plain")
        _check(challenge is None or method == "S256", f"code_challenge_method={method!r}: expected 'S256'")
        sid, code = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        self.sessions[sid] = sub
        grant = {"sub": sub, "sid": sid, "nonce": query.get("nonce")}
        self._codes[code] = _Code(grant, query["redirect_uri"], challenge)
        return _extended(query["redirect_uri"], {"code": code, "state": query.get("state")})

    def assert_logged_out(self, response: HasHeaders | str, *, sub: str | None = None) -> EndSessionRequest:
        """Check that a logout goes on to this provider, and end the session there, as the browser's visit would.

        Takes the application's response to the logout, or the URL that it gave: the redirect of a navigation, or the
        ``HX-Redirect`` or ``X-Inertia-Location`` header. ``sub``: the user who must be meant. Raises
        ``AssertionError`` if the browser goes elsewhere, or if a real provider would refuse the request or would have
        to ask the user: no ID Token, one of another client, or a return address that is not registered.
        RP-Initiated Logout 1.0, section 2.
        """
        request = self._end(self._query(response, "/logout"))
        _check(sub in (None, request.sub), f"the session of {request.sub!r} has ended: expected that of {sub!r}")
        return request

    # What the provider signs

    def token(self, sub: str = "alice", sid: str | None = "session-1", **claims: Any) -> dict[str, Any]:
        """Return the answer of the token endpoint, as ``remember_login(request, token)`` takes it."""
        grant = {"sub": sub, "sid": sid, **claims}
        access, refresh = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        self._access_tokens[access] = self._refresh_tokens[refresh] = grant
        return {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": 3600,
            "refresh_token": refresh,
            "id_token": self.id_token(**grant),
        }

    def id_token(self, sub: str = "alice", sid: str | None = "session-1", **claims: Any) -> str:
        """Return a signed ID Token, five minutes valid; ``claims`` are added, and None leaves a claim out."""
        now = int(time.time())
        return self._signed("JWT", {"iat": now, "exp": now + 300, "sub": sub, "sid": sid, **claims})

    def logout_token(self, *, sub: str | None = None, sid: str | None = None, **claims: Any) -> str:
        """Return a signed logout token; post it to the ``backchannel_path`` as ``{"logout_token": token}``.

        ``sid`` ends one session, ``sub`` alone all sessions of a user. ``claims`` are added, and None leaves a claim
        out, for tokens that must be refused. Back-Channel Logout 1.0, section 2.4.
        """
        now = int(time.time())
        own = {"iat": now, "exp": now + 120, "jti": secrets.token_urlsafe(16), "events": {EVENT: {}}}
        return self._signed("logout+jwt", {**own, "sub": sub, "sid": sid, **claims})

    def _signed(self, typ: str, claims: Mapping[str, Any]) -> str:
        whole = {"iss": self.issuer, "aud": self.client_id, **claims}
        present = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode({"alg": "RS256", "typ": typ, "kid": _key().kid}, present, _key())

    # The endpoints

    async def _discovery(self, request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.issuer,
                "authorization_endpoint": self._url("/authorize"),
                "token_endpoint": self._url("/token"),
                "userinfo_endpoint": self._url("/userinfo"),
                "jwks_uri": self._url("/jwks"),
                "revocation_endpoint": self._url("/revoke"),
                "end_session_endpoint": self._url("/logout"),
                "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
                "backchannel_logout_supported": True,
                "backchannel_logout_session_supported": True,
            }
        )

    async def _jwks(self, request: Request) -> Response:
        return JSONResponse({"keys": [_key().as_dict(private=False)]})

    async def _authorize(self, request: Request) -> Response:
        query = request.query_params
        # sign_in() plays a browser that has a session here. A request without it has none.
        if query.get("prompt") == "none" and "redirect_uri" in query:
            error = {"error": "login_required", "state": query.get("state")}
            return RedirectResponse(_extended(query["redirect_uri"], error), 303)
        try:
            return RedirectResponse(self.sign_in(self._url(f"/authorize?{request.url.query}")), 303)
        except AssertionError as error:
            return PlainTextResponse(str(error), 400)

    async def _token(self, request: Request) -> Response:
        form = _form(await request.body())
        try:
            self._check_client(request, form)
            return JSONResponse(self.token(**self._granted(form)))
        except OAuth2Error as error:
            return _refusal(error)

    def _check_client(self, request: Request, form: Mapping[str, str]) -> None:
        """Check who asks, by either way to send a secret (RFC 6749, section 2.3.1)."""
        if "client_assertion" in form:  # signed with a key that is not known here
            return
        client_id, secret = extract_basic_authorization(request.headers)
        if client_id is None:
            client_id, secret = form.get("client_id"), form.get("client_secret")
        if client_id != self.client_id:
            raise InvalidClientError("the client_id is missing, or is that of another client", status_code=401)
        if self.client_secret not in (None, secret):
            raise InvalidClientError("the client_secret is missing, or is another one", status_code=401)

    def _granted(self, form: Mapping[str, str]) -> Mapping[str, Any]:
        """Return what a code or a refresh token stands for; each works once (RFC 6749, sections 4.1.3 and 6)."""
        grant_type = form.get("grant_type")
        if grant_type == "authorization_code":
            return self._redeemed(form)
        if grant_type != "refresh_token":
            raise UnsupportedGrantTypeError(grant_type)
        grant = self._refresh_tokens.pop(form.get("refresh_token", ""), None)
        if grant is None:
            raise InvalidGrantError("the refresh token is not known, or was used before")
        return grant

    def _redeemed(self, form: Mapping[str, str]) -> Mapping[str, Any]:
        code, verifier = self._codes.pop(form.get("code", ""), None), form.get("code_verifier")
        if code is None:
            raise InvalidGrantError("the code is not known, or was used before")
        if form.get("redirect_uri") != code.redirect_uri:
            raise InvalidGrantError("the redirect_uri is not that of the authorization request")
        # RFC 7636, section 4.6. A verifier without a challenge is refused too: RFC 9700, section 2.1.1.
        if code.challenge != (None if verifier is None else create_s256_code_challenge(verifier)):
            raise InvalidGrantError("the code_verifier does not belong to the code_challenge")
        return code.grant

    async def _userinfo(self, request: Request) -> Response:
        grant = self._access_tokens.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        return Response(status_code=401) if grant is None else JSONResponse({"sub": grant["sub"]})

    async def _revoke(self, request: Request) -> Response:
        form = _form(await request.body())
        try:
            self._check_client(request, form)
        except OAuth2Error as error:
            return _refusal(error)
        self.revoked.append(form.get("token", ""))
        return Response()

    async def _logout(self, request: Request) -> Response:
        try:
            back = self._end(_form(await request.body()) if request.method == "POST" else dict(request.query_params))
        except AssertionError as error:
            return PlainTextResponse(str(error), 400)
        return RedirectResponse(back.return_url, 303) if back.return_url else PlainTextResponse("Logged out")

    def _end(self, query: Mapping[str, str]) -> EndSessionRequest:
        _check("id_token_hint" in query, "the logout has no ID Token as a hint: is the login remembered?")
        try:
            claims = jwt.decode(query["id_token_hint"], _key(), algorithms=["RS256"]).claims
        except (JoseError, ValueError) as error:
            raise AssertionError("the id_token_hint is not an ID Token of this provider") from error
        for who in (claims.get("aud"), query.get("client_id", self.client_id)):
            _check(who == self.client_id, f"the logout is for the client {who!r}: expected {self.client_id!r}")
        back = query.get("post_logout_redirect_uri")
        registered = self.post_logout_redirect_uris
        known = back is None or registered is None or back in registered
        _check(known, f"post_logout_redirect_uri={back!r}: expected one of {registered}")
        self.sessions.pop(claims.get("sid", ""), None)
        return_url = back and _extended(back, {"state": query.get("state")})
        return EndSessionRequest(claims["sub"], claims.get("sid"), dict(query), return_url)

    def _query(self, response: HasHeaders | str, path: str) -> dict[str, str]:
        """Return the query of the URL that a response sends the browser to, which must be this endpoint."""
        url = response if isinstance(response, str) else _destination(response)
        expected = self._url(path)
        _check(url.partition("?")[0] == expected, f"the browser goes to {url.partition('?')[0]!r}: expected {expected}")
        query = parse_qs(urlsplit(url).query)
        _check(all(len(values) == 1 for values in query.values()), f"a parameter is given twice: {sorted(query)}")
        return {name: values[0] for name, values in query.items()}

    def _url(self, path: str) -> str:
        return self.issuer.rstrip("/") + path


class _Transport(httpx.AsyncBaseTransport):
    """Answer requests of httpx and of httpx2: each takes only responses of its own classes."""

    def __init__(self, provider: FakeProvider) -> None:
        self._provider = provider

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        library: Any = sys.modules[type(request).__module__.partition(".")[0]]
        response: httpx.Response = await library.ASGITransport(app=self._provider).handle_async_request(request)
        return response


@cache
def _key() -> RSAKey:
    """Return the key that all fake providers of a test run sign with: making one takes a while."""
    return RSAKey.generate_key(2048, parameters={"use": "sig", "alg": "RS256"}, auto_kid=True)


def _check(fits: bool, sentence: str) -> None:
    if not fits:
        raise AssertionError(sentence)


def _destination(response: HasHeaders) -> str:
    return next((str(response.headers.get(name)) for name in _REDIRECTS if response.headers.get(name)), "")


def _refusal(error: OAuth2Error) -> Response:
    """Return the answer to a request that is refused (RFC 6749, section 5.2)."""
    status, body, headers = error()
    return JSONResponse(body, status, dict(headers))


def _form(body: bytes) -> dict[str, str]:
    return dict(parse_qsl(body.decode()))


def _extended(url: str, parameters: Mapping[str, str | None]) -> str:
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    return url + ("&" if "?" in url else "?") * bool(query) + query
