"""A small app that people sign in to, with and without the middleware.

Its own logout is the common one: it clears the session and redirects to the login page. The middleware makes a complete
logout of it; without the middleware the provider's session lives on, and the next sign-in asks for no password.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import httpx
from authlib.integrations.starlette_client import OAuth, OAuthError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from asgi_rp_logout import OIDCProvider, RPLogoutMiddleware, current_login, local_logout_only, remember_login
from demo.dashboard_pages import Pages
from demo.look import assets, reply
from demo.provider_pages import origin

ProviderEntry = tuple[str, str, str, str | None]  # name, issuer, client_id, client_secret
SIGNED_OUT_ELSEWHERE = 4401  # what the middleware closes a WebSocket with when its login has ended


def create_dashboard(
    public_url: str,
    providers: Sequence[ProviderEntry],
    *,
    with_middleware: bool = True,
    store: Any = None,
    name: str = "Dashboard",
    accent: str = "indigo",
    tabs: Sequence[tuple[str, str]] = (),
    intro: str = "Use the account you already have.",
    notes: Mapping[str, str] = MappingProxyType({}),
) -> Starlette:
    """Return the app, which lives at `public_url` (an origin) and signs people in with `providers`.

    `providers` are (name, issuer, client_id, client_secret). `with_middleware=False` makes the same app without the
    middleware. `store` is the middleware's store. `tabs` are (label, URL) of the apps to switch between. `intro` stands
    on the login page, and `notes` maps a provider's name to a line below its button there.
    """
    public_url = public_url.rstrip("/")
    pages = Pages(
        name,
        accent,
        public_url,
        tabs,
        [(slug(label), label, notes.get(label, "")) for label, *_ in providers],
        with_middleware,
        intro,
    )
    app = Dashboard(public_url, providers, pages, with_middleware=with_middleware)
    cookie = f"{slug(name).replace('-', '_')}_session"  # browsers send cookies to every port of localhost
    middleware = [
        Middleware(SessionMiddleware, secret_key=secrets.token_urlsafe(32), session_cookie=cookie),
    ]
    if with_middleware:
        middleware.append(
            Middleware(
                RPLogoutMiddleware,
                providers=[
                    OIDCProvider(issuer, client_id, secret, name=slug(label))
                    for label, issuer, client_id, secret in providers
                ],
                logout_path=("/auth/logout",),
                session_cookie=cookie,
                post_logout_redirect_uri="/login",
                public_url=public_url,
                callback_path="/auth/signed-out",
                backchannel_path="/auth/backchannel",
                frontchannel_path="/auth/frontchannel",
                store=store,
            )
        )
    return Starlette(routes=app.routes() + assets(accent, name[:1]), middleware=middleware)


class Dashboard:
    """The app's routes."""

    def __init__(
        self, public_url: str, providers: Sequence[ProviderEntry], pages: Pages, *, with_middleware: bool
    ) -> None:
        self.public_url = public_url
        self.pages = pages
        self.with_middleware = with_middleware
        self.labels = {slug(label): label for label, *_ in providers}
        self.provider_origins = sorted({origin(issuer) for _, issuer, *_ in providers})
        self.oauth = OAuth()
        for label, issuer, client_id, secret in providers:
            self.oauth.register(
                slug(label),
                client_id=client_id,
                client_secret=secret,
                server_metadata_url=f"{issuer.rstrip('/')}/.well-known/openid-configuration",
                client_kwargs={"scope": "openid profile email", "code_challenge_method": "S256"},
            )

    def routes(self) -> list[BaseRoute]:
        routes: list[BaseRoute] = [
            Route("/", self.home),
            Route("/login", self.login),
            Route("/login/{provider}", self.start),
            Route("/callback/{provider}", self.callback),
            Route("/auth/logout", self.logout, methods=["POST"]),
            WebSocketRoute("/live", self.live),
        ]
        if self.with_middleware:
            routes.append(Route("/auth/logout/here", self.logout_here, methods=["POST"]))
        return routes

    async def home(self, request: Request) -> Response:
        remembered = current_login(request) if self.with_middleware else None
        user = request.session.get("user")
        if user is None:
            if remembered is not None and remembered.ended in ("back-channel", "front-channel"):
                request.session["message"] = "elsewhere", ""
            return RedirectResponse("/login", 303, {"Cache-Control": "no-store"})
        return self._reply(self.pages.home(user, self.labels[user["provider"]], remembered))

    async def login(self, request: Request) -> Response:
        if "user" in request.session:
            return RedirectResponse("/", 303, {"Cache-Control": "no-store"})
        return self._reply(self.pages.login(*request.session.pop("message", ())))

    async def start(self, request: Request) -> Response:
        provider = request.path_params["provider"]
        if provider not in self.labels:
            return self._reply(self.pages.login("unknown"), 404)
        request.session.pop("message", None)
        request.session["started"] = int(time.time())
        try:
            client = self.oauth.create_client(provider)
            response: Response = await client.authorize_redirect(request, f"{self.public_url}/callback/{provider}")
            return response
        except httpx.HTTPError:
            return self._reply(self.pages.login("unreachable"), 502)

    async def callback(self, request: Request) -> Response:
        provider = request.path_params["provider"]
        if provider not in self.labels:
            return self._reply(self.pages.login("unknown"), 404)
        try:
            token = await self.oauth.create_client(provider).authorize_access_token(request)
        except (OAuthError, httpx.HTTPError):
            return self._reply(self.pages.login("failed"), 400)
        claims = token["userinfo"]
        request.session["user"] = {
            "name": claims.get("name") or claims["sub"],
            "email": claims.get("email", ""),
            "provider": provider,
            "login": secrets.token_urlsafe(8),  # which pages belong to this login
            # The password was typed for this sign-in if it was typed after this sign-in had begun.
            "asked": claims.get("auth_time", 0) >= request.session.pop("started", 0),
        }
        if self.with_middleware:
            remember_login(request, token, provider=provider)
        return RedirectResponse("/", 303)

    async def logout(self, request: Request) -> Response:
        """The app's own logout, the same with and without the middleware."""
        return self._clear(request, "signed-out")

    @local_logout_only
    async def logout_here(self, request: Request) -> Response:
        """The same, out of this app only: the provider's session is left alone."""
        return self._clear(request, "signed-out-here")

    def _clear(self, request: Request, message: str) -> Response:
        """Clear the session; a page that was open since before an earlier logout has none to clear."""
        user = request.session.get("user")
        request.session.clear()
        request.session["message"] = (message, self.labels[user["provider"]]) if user else ("already", "")
        return RedirectResponse("/login", 303)

    async def live(self, websocket: WebSocket) -> None:
        """Stay open for as long as the page's login lives: the middleware closes it when the login ends.

        A page that connects again may belong to an earlier login than the one that the browser has now.
        """
        await websocket.accept()
        user = websocket.session.get("user")
        if user is None or user["login"] != websocket.query_params.get("login"):
            await websocket.close(SIGNED_OUT_ELSEWHERE)
            return
        try:
            while True:
                await websocket.receive_text()
        except WebSocketDisconnect:
            pass

    def _reply(self, html: str, status: int = 200) -> Response:
        return reply(html, status, form_action=self.provider_origins, referrer="same-origin")


def slug(label: str) -> str:
    """Return a provider's name for URLs and the middleware: "Acme ID" becomes "acme-id"."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
