"""An OpenID provider with real single-sign-on sessions, small enough to read in one go.

It keeps to OpenID Connect Core, Discovery, RP-Initiated, Back-Channel and Front-Channel Logout 1.0, PKCE (S256) and
RFC 7009, for the code flow. It is for demonstrations and tests: users, sessions and keys live in memory.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit, urlunsplit

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from demo.look import assets, reply
from demo.provider_pages import Pages, origin
from demo.provider_state import TOKEN_TTL, Client, Delivery, EndSessionRequest, Grant, Provider, Session

__all__ = ["Client", "Provider", "create_provider"]

PROMPTS = {"", "none", "login", "consent", "select_account"}
NOTHING = "There was nothing left to sign out of, or the page was open for too long."


class RefusedError(Exception):
    """A request that cannot be answered by a redirect: title and text for the user."""


class DeniedError(Exception):
    """An authorization request that goes back to the client with this error code."""


def create_provider(
    issuer: str,
    clients: Sequence[Client],
    users: Mapping[str, str],
    name: str = "Acme ID",
    claims: Mapping[str, Any] | None = None,
    accept_post: bool = True,
    http_client: httpx.AsyncClient | None = None,
    *,
    confirm: str = "without_hint",
    accent: str = "orange",
    note: str | None = None,
) -> Starlette:
    """Return a provider as an ASGI app; its state is at `app.state.provider`.

    `users` maps names to passwords, `claims` are added to every ID token. `accept_post=False` makes the end-session
    endpoint refuse POST, as many providers do. `confirm` says when the user is asked before a logout: "always", or
    "without_hint", that is unless the id_token_hint belongs to the browser's own session. `note` stands under the
    sign-in form. Raises ValueError for another `confirm`.
    """
    if confirm not in ("always", "without_hint"):
        raise ValueError(f'confirm must be "always" or "without_hint", not {confirm!r}')
    provider = Provider(issuer, clients, users, name=name, claims=claims or {})
    base = urlsplit(issuer).path.rstrip("/")
    pages = Pages(name, accent, base, note)
    endpoints = Endpoints(provider, pages, http_client=http_client, always_confirm=confirm == "always")
    end_session_methods = ["GET", "POST"] if accept_post else ["GET"]
    routes: list[BaseRoute] = [
        Route("/.well-known/openid-configuration", endpoints.discovery),
        Route("/jwks", endpoints.jwks),
        Route("/authorize", endpoints.authorize, methods=["GET", "POST"]),
        Route("/token", endpoints.token, methods=["POST"]),
        Route("/userinfo", endpoints.userinfo, methods=["GET", "POST"]),
        Route("/revoke", endpoints.revoke, methods=["POST"]),
        Route("/end_session", endpoints.end_session, methods=end_session_methods),
        Route("/end_session/confirm", endpoints.confirm, methods=["GET", "POST"]),
        Route("/", endpoints.home),
        *assets(accent, name[:1]),
    ]
    app = Starlette(
        routes=[Mount(base, routes=routes)] if base else routes,
        exception_handlers={RefusedError: endpoints.refused, 404: endpoints.not_found},
    )
    app.state.provider = provider
    return app


class Endpoints:
    """The provider's endpoints over its state."""

    def __init__(
        self, provider: Provider, pages: Pages, *, http_client: httpx.AsyncClient | None, always_confirm: bool
    ) -> None:
        self.provider = provider
        self.pages = pages
        self.http_client = http_client
        self.always_confirm = always_confirm
        # A form's answer redirects back to an app, and a Content-Security-Policy holds for redirects too.
        uris = [
            uri
            for client in provider.clients.values()
            for uri in (*client.redirect_uris, *client.post_logout_redirect_uris)
        ]
        self.app_origins = sorted({origin(uri) for uri in uris})
        self.frame_origins = sorted(
            {origin(c.frontchannel_logout_uri) for c in provider.clients.values() if c.frontchannel_logout_uri}
        )

    # Metadata

    async def discovery(self, request: Request) -> Response:
        issuer = self.provider.issuer
        base = issuer.rstrip("/")
        return JSONResponse(
            {
                "issuer": issuer,
                "authorization_endpoint": f"{base}/authorize",
                "token_endpoint": f"{base}/token",
                "userinfo_endpoint": f"{base}/userinfo",
                "jwks_uri": f"{base}/jwks",
                "end_session_endpoint": f"{base}/end_session",
                "revocation_endpoint": f"{base}/revoke",
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
                "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
                "code_challenge_methods_supported": ["S256"],
                "scopes_supported": ["openid", "profile", "email", "offline_access"],
                "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "sid", "name", "email"],
                "prompt_values_supported": ["none", "login", "consent", "select_account"],
                "authorization_response_iss_parameter_supported": True,
                "backchannel_logout_supported": True,
                "backchannel_logout_session_supported": True,
                "frontchannel_logout_supported": True,
                "frontchannel_logout_session_supported": True,
            }
        )

    async def jwks(self, request: Request) -> Response:
        return JSONResponse({"keys": [self.provider.key.as_dict(private=False)]})

    # Signing in

    async def authorize(self, request: Request) -> Response:
        """Answer with a code, or with the sign-in form, which posts to this same URL."""
        params = _once(parse_qsl(request.url.query, keep_blank_values=True))
        client = self.provider.clients.get(params.get("client_id", ""))
        redirect_uri = params.get("redirect_uri", "")
        if client is None or redirect_uri not in client.redirect_uris:
            raise RefusedError("Unknown app", "The app that sent you here is not registered with this return address.")
        try:
            _check_authorization(params, client)
            if request.method == "POST":
                return await self._check_sign_in(request, params, client)
            session = self._session(request)
            reason = _must_sign_in(params, session)
            if session is not None and reason is None:
                return self._with_code(params, client, session)
            if params.get("prompt") == "none":
                raise DeniedError("login_required")
        except DeniedError as denied:
            return self._back(redirect_uri, {"error": str(denied), "state": params.get("state")})
        return self._form(request, client, user=session.user if session else "", why=reason or "")

    async def _check_sign_in(self, request: Request, params: Mapping[str, str], client: Client) -> Response:
        form = _once(await _form_pairs(request))
        user, password = form.get("username", ""), form.get("password", "")
        if not self._is_our_form(request, form):
            return self._form(request, client, user=user, error="The form was too old. Please try again.", status=403)
        if not self.provider.check_password(user, password):
            return self._form(request, client, user=user, error="Wrong username or password.", status=401)
        before = self._session(request)
        if before is not None and before.user != user:
            await self._sign_out(before)
        value = self.provider.sign_in(user, request.cookies.get(self.provider.cookie))
        response = self._with_code(params, client, self.provider.sessions[value])
        self._set_cookie(response, self.provider.cookie, value)
        return response

    def _with_code(self, params: Mapping[str, str], client: Client, session: Session) -> Response:
        grant = Grant(client, session, params["scope"], params.get("nonce"))
        redirect_uri = params["redirect_uri"]
        code = self.provider.issue_code(grant, redirect_uri, params.get("code_challenge"))
        return self._back(redirect_uri, {"code": code, "state": params.get("state")})

    def _form(
        self, request: Request, client: Client, *, user: str, why: str = "", error: str = "", status: int = 200
    ) -> Response:
        browser, csrf = self._form_token(request)
        action = f"{request.url.path}?{request.url.query}"
        html = self.pages.sign_in(action, csrf, app=_title(client), user=user, why=why, error=error)
        return self._with_browser(reply(html, status, form_action=self.app_origins), browser)

    def _back(self, uri: str, params: Mapping[str, str | None]) -> Response:
        """Send the browser back to a client. 303, because 307 would send the password along (RFC 9700 §4.12)."""
        return RedirectResponse(_extend(uri, {**params, "iss": self.provider.issuer}), 303, NO_STORE)

    # Tokens

    async def token(self, request: Request) -> Response:
        """Trade a code or a refresh token for tokens (RFC 6749 §4.1.3 and §6)."""
        try:
            form = _once(await _form_pairs(request))
        except RefusedError:
            return _error("invalid_request")
        client = self._client(request, form)
        if client is None:
            return _error("invalid_client", 401)
        kind = form.get("grant_type")
        if kind == "authorization_code":
            grant = self.provider.redeem_code(
                form.get("code", ""), client, form.get("redirect_uri", ""), form.get("code_verifier", "")
            )
            if grant is None:
                return _error("invalid_grant")
            return self._tokens(grant, self.provider.issue_token(grant, "refresh"))
        if kind == "refresh_token":
            refresh_token = form.get("refresh_token", "")
            token = self.provider.live_token(refresh_token, "refresh")
            if token is None or token.grant.client is not client:
                return _error("invalid_grant")
            return self._tokens(token.grant, refresh_token)
        return _error("unsupported_grant_type")

    def _tokens(self, grant: Grant, refresh_token: str) -> Response:
        content = {
            "access_token": self.provider.issue_token(grant, "access"),
            "token_type": "Bearer",
            "expires_in": TOKEN_TTL,
            "refresh_token": refresh_token,
            "id_token": self.provider.id_token(grant),
            "scope": grant.scope,
        }
        return JSONResponse(content, headers=NO_STORE)

    async def userinfo(self, request: Request) -> Response:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        token = self.provider.live_token(value.strip(), "access") if scheme.lower() == "bearer" else None
        if token is None:
            return Response(status_code=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"', **NO_STORE})
        return JSONResponse(self.provider.person(token.grant.session.user), headers=NO_STORE)

    async def revoke(self, request: Request) -> Response:
        """Revoke a token; one that is unknown is as good as revoked (RFC 7009 §2.2)."""
        try:
            form = _once(await _form_pairs(request))
        except RefusedError:
            return _error("invalid_request")
        client = self._client(request, form)
        if client is None:
            return _error("invalid_client", 401)
        if not form.get("token"):
            return _error("invalid_request")
        token = self.provider.tokens.get(form["token"])
        if token is not None:
            if token.grant.client is not client:
                return _error("invalid_grant")
            self.provider.revoke(form["token"])
        return Response(headers=NO_STORE)

    def _client(self, request: Request, form: Mapping[str, str]) -> Client | None:
        """Return the client that proved itself by client_secret_basic or client_secret_post, or a public one."""
        client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                decoded = base64.b64decode(credentials, validate=True).decode()
            except (binascii.Error, ValueError):
                return None
            client_id, _, secret = (unquote_plus(part) for part in decoded.partition(":"))
        client = self.provider.clients.get(client_id)
        if client is None:
            return None
        return client if hmac.compare_digest((client.client_secret or "").encode(), secret.encode()) else None

    # Signing out

    async def end_session(self, request: Request) -> Response:
        """Check a logout request, then end the session or ask first (RP-Initiated Logout 1.0 §2)."""
        pairs = await _form_pairs(request) if request.method == "POST" else _query_pairs(request)
        self.provider.requests.append(EndSessionRequest(request.method, dict(pairs)))
        params = _once(pairs)
        client, sid = self._who_asks(params)
        return_to = params.get("post_logout_redirect_uri") or None
        if return_to is not None and (client is None or return_to not in client.post_logout_redirect_uris):
            raise RefusedError(
                "Unknown return address", "This address to return to after signing out is not registered."
            )
        key = self.provider.remember_logout(client, return_to, params.get("state") or None, sid)
        if request.method == "POST":
            # The session cookie is SameSite=Lax: it does not come along with a POST from another site, but it does
            # with the GET that this redirect makes of it.
            return RedirectResponse(f"{self.pages.base}/end_session/confirm?request={key}", 303, NO_STORE)
        return await self._ask_or_end(request, key)

    def _who_asks(self, params: Mapping[str, str]) -> tuple[Client | None, str | None]:
        """Return the client and the sid that a logout request speaks for."""
        client_id, sid = params.get("client_id") or None, None
        if hint := params.get("id_token_hint"):
            claims = self.provider.read_hint(hint)
            if claims is None:
                raise RefusedError("Sign-out failed", "The app sent an ID token that is not ours.")
            if client_id not in (None, claims["aud"]):
                raise RefusedError("Sign-out failed", "The app sent an ID token that belongs to another app.")
            client_id, sid = claims["aud"], claims.get("sid")
        if client_id is not None and client_id not in self.provider.clients:
            raise RefusedError("Unknown app", "The app that sent you here is not registered.")
        return self.provider.clients.get(client_id or ""), sid

    async def _ask_or_end(self, request: Request, key: str) -> Response:
        waiting = self.provider.waiting_logout(key)
        session = self._session(request)
        if waiting is None:
            raise RefusedError("Nothing to sign out of", NOTHING)
        if session is not None and (self.always_confirm or waiting.sid != session.sid):
            browser, csrf = self._form_token(request)
            app = _title(waiting.client) if waiting.client is not None else None
            html = self.pages.confirm(key, csrf, user=session.user, app=app)
            return self._with_browser(reply(html, form_action=self.app_origins), browser)
        return await self._finish(key, session)

    async def confirm(self, request: Request) -> Response:
        """Take the user's answer, or show the question after a POST to the end-session endpoint."""
        if request.method == "GET":
            return await self._ask_or_end(request, request.query_params.get("request", ""))
        form = _once(await _form_pairs(request))
        key = form.get("request", "")
        waiting = self.provider.waiting_logout(key)
        if waiting is None:
            raise RefusedError("Nothing to sign out of", NOTHING)
        if not self._is_our_form(request, form):
            return reply(self.pages.message("Please try again", "The form was not ours, so nothing was done."), 403)
        if form.get("answer") == "yes":
            return await self._finish(key, self._session(request))
        del self.provider.pending[key]
        if waiting.return_to is not None:
            return self._return(waiting.return_to, waiting.state)
        return reply(self.pages.message("Still signed in", f"You are still signed in to {self.provider.name}."))

    async def _finish(self, key: str, session: Session | None) -> Response:
        """End the session, notify its clients, and send the browser on."""
        waiting = self.provider.pending.pop(key)
        frames = await self._sign_out(session) if session is not None else []
        target = waiting.return_to and _extend(waiting.return_to, {"state": waiting.state})
        if frames:
            response: Response = reply(self.pages.signing_out(frames, target), frames=self.frame_origins)
        elif waiting.return_to is not None:
            response = self._return(waiting.return_to, waiting.state)
        else:
            text = f"You are signed out of {self.provider.name}." + (" It has notified your apps." if session else "")
            response = reply(self.pages.message("You are signed out", text))
        response.delete_cookie(self.provider.cookie, **self._cookie_attributes())
        return response

    def _return(self, uri: str, state: str | None) -> Response:
        return RedirectResponse(_extend(uri, {"state": state}), 303, NO_STORE)

    async def _sign_out(self, session: Session) -> list[str]:
        """End a session, send the back-channel logout tokens, and give the front-channel URLs to frame."""
        self.provider.end(session)
        clients = [client for name, client in self.provider.clients.items() if name in session.clients]
        async with AsyncExitStack() as stack:
            http = self.http_client
            if http is None:
                http = await stack.enter_async_context(httpx.AsyncClient(timeout=3, trust_env=False))
            await asyncio.gather(*[self._notify(http, client, session) for client in clients])
        named = {"iss": self.provider.issuer, "sid": session.sid}
        return [
            _extend(client.frontchannel_logout_uri, named if client.frontchannel_logout_session_required else {})
            for client in clients
            if client.frontchannel_logout_uri
        ]

    async def _notify(self, http: httpx.AsyncClient, client: Client, session: Session) -> None:
        uri = client.backchannel_logout_uri
        if uri is None:
            return
        token = self.provider.logout_token(client, session)
        status: int | None = None
        try:
            status = (await http.post(uri, data={"logout_token": token}, follow_redirects=False)).status_code
        except httpx.HTTPError:
            pass  # a client that is down must not keep the user signed in at the others
        self.provider.deliveries.append(Delivery(client.client_id, uri, token, status))

    # The provider's own pages

    async def home(self, request: Request) -> Response:
        session = self._session(request)
        if session is None:
            text = "Nobody is signed in here in this browser. Open one of your apps to sign in."
            return reply(self.pages.message(f"Welcome to {self.provider.name}", text))
        clients = [client for name, client in self.provider.clients.items() if name in session.clients]
        apps = {_title(client): origin(client.redirect_uris[0]) if client.redirect_uris else None for client in clients}
        return reply(self.pages.home(session.user, apps))

    async def refused(self, request: Request, error: Exception) -> HTMLResponse:
        title, text = error.args
        return reply(self.pages.message(title, text), 400)

    async def not_found(self, request: Request, error: Exception) -> HTMLResponse:
        return reply(self.pages.message("Page not found", "There is nothing at this address."), 404)

    # Cookies

    def _session(self, request: Request) -> Session | None:
        return self.provider.sessions.get(request.cookies.get(self.provider.cookie, ""))

    def _form_token(self, request: Request) -> tuple[str, str]:
        browser = request.cookies.get(f"{self.provider.cookie}_form") or secrets.token_urlsafe(16)
        return browser, self.provider.form_token(browser)

    def _is_our_form(self, request: Request, form: Mapping[str, str]) -> bool:
        browser = request.cookies.get(f"{self.provider.cookie}_form", "")
        return hmac.compare_digest(self.provider.form_token(browser).encode(), form.get("csrf", "").encode())

    def _with_browser(self, response: Response, browser: str) -> Response:
        self._set_cookie(response, f"{self.provider.cookie}_form", browser)
        return response

    def _set_cookie(self, response: Response, name: str, value: str) -> None:
        response.set_cookie(name, value, **self._cookie_attributes())

    def _cookie_attributes(self) -> dict[str, Any]:
        secure = self.provider.issuer.startswith("https:")
        return {"path": self.pages.base or "/", "httponly": True, "samesite": "lax", "secure": secure}


NO_STORE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


def _check_authorization(params: Mapping[str, str], client: Client) -> None:
    """Refuse what this provider does not do (OpenID Connect Core §3.1.2.1, RFC 7636 §4.3)."""
    if params.get("response_type") != "code":
        raise DeniedError("unsupported_response_type")
    if "openid" not in params.get("scope", "").split():
        raise DeniedError("invalid_scope")
    if not set(params.get("prompt", "").split()) <= PROMPTS:
        raise DeniedError("invalid_request")
    if not params.get("max_age", "0").isdigit():
        raise DeniedError("invalid_request")
    if "code_challenge" in params:
        if params.get("code_challenge_method") != "S256":
            raise DeniedError("invalid_request")
    elif client.client_secret is None:
        raise DeniedError("invalid_request")


def _must_sign_in(params: Mapping[str, str], session: Session | None) -> str | None:
    """Return why the password is needed now, or None if the session will do."""
    if session is None:
        return ""
    if "login" in params.get("prompt", "").split():
        return "The app asks you to enter your password again."
    max_age = params.get("max_age")
    if max_age is not None and time.time() - session.auth_time > int(max_age):
        return "It has been a while: please enter your password again."
    return None


def _query_pairs(request: Request) -> list[tuple[str, str]]:
    return parse_qsl(request.url.query, keep_blank_values=True)


async def _form_pairs(request: Request) -> list[tuple[str, str]]:
    """Read a posted form, up to 64 KiB of it."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > 65536:
            raise RefusedError("Too much", "The form is too large.")
    try:
        return parse_qsl(body.decode("ascii"), keep_blank_values=True)
    except UnicodeDecodeError:
        raise RefusedError("Not a form", "The request could not be read.") from None


def _once(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Refuse parameters that are there twice (RFC 6749 §3.1)."""
    params = dict(pairs)
    if len(params) != len(pairs):
        raise RefusedError("Ambiguous request", "The app sent the same parameter twice.")
    return params


def _extend(uri: str, params: Mapping[str, str | None]) -> str:
    """Add parameters to a URL, keeping its own query."""
    parts = urlsplit(uri)
    added = urlencode({name: value for name, value in params.items() if value is not None})
    return urlunsplit(parts._replace(query="&".join(filter(None, [parts.query, added]))))


def _title(client: Client) -> str:
    return client.client_id.replace("-", " ").capitalize()


def _error(code: str, status: int = 400) -> Response:
    headers = {**NO_STORE, "WWW-Authenticate": 'Basic realm="provider"'} if status == 401 else NO_STORE
    return JSONResponse({"error": code}, status, headers)
