"""The application of the interop tests: Starlette, signed-cookie sessions, a login through Authlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal

from authlib.integrations.starlette_client import OAuth
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from asgi_rp_logout import RPLogoutMiddleware, local_logout_only, remember_login

CLIENT: dict[str, Any] = {"client_id": "rp", "client_secret": "interop-secret"}
HERE = Path(__file__).parent


def client_metadata(app_url: str, **more: Any) -> dict[str, Any]:
    """Give the registration of the application at `app_url`, in the words of OpenID Connect Registration 1.0."""
    return {
        **CLIENT,
        "redirect_uris": [f"{app_url}/callback"],
        "post_logout_redirect_uris": [f"{app_url}/"],
        **more,
    }


def registered_client(issuer: str, client: Mapping[str, str] = CLIENT) -> OAuth:
    """Make an OAuth with the application's client, `.idp`."""
    oauth = OAuth()
    oauth.register(
        "idp",
        client_id=client["client_id"],
        client_secret=client["client_secret"],
        server_metadata_url=f"{issuer}/.well-known/openid-configuration",
        client_kwargs={"scope": "openid email", "code_challenge_method": "S256"},
    )
    return oauth


def create_app(
    issuer: str,
    *,
    session_cookie: str = "session",
    https: bool = False,
    same_site: Literal["lax", "none"] = "lax",
    more_cookies: Sequence[str] = (),
    rp_logout: dict[str, Any] | None = None,
    inside: bool = True,
    client: Mapping[str, str] = CLIENT,
    routes: Sequence[BaseRoute] = (),
    oauth: OAuth | None = None,
) -> ASGIApp:
    """Make the application; `rp_logout`: the options of an RPLogoutMiddleware, inside the sessions or outside.

    A login sets `more_cookies` too, and a logout deletes them with Starlette's defaults: without Secure, so that
    browsers ignore the deletion of those with a prefix. `client`: its client_id and client_secret; `routes`: more of
    its own; `oauth`: what `registered_client` has made, if an AuthlibProvider needs it as well.
    """
    oauth = oauth or registered_client(issuer, client)

    async def page(request: Request) -> Response:
        html = (HERE / "pages" / f"{request.path_params.get('name', 'home')}.html").read_text()
        html = html.replace("USER", escape(request.session.get("user", "nobody")))
        return HTMLResponse(html, headers={"cache-control": "no-store"})

    async def login(request: Request) -> Response:
        answer: Response = await oauth.idp.authorize_redirect(request, str(request.url_for("callback")))
        return answer

    async def callback(request: Request) -> Response:
        token = await oauth.idp.authorize_access_token(request)
        request.session["user"] = token["userinfo"]["sub"]
        if rp_logout is not None:
            remember_login(request, token)
        response = RedirectResponse("/", 303)
        for name in more_cookies:
            response.set_cookie(name, "of alice", secure=https)
        return response

    async def logout(request: Request) -> Response:
        request.session.clear()
        response = RedirectResponse("/", 303)
        for name in more_cookies:
            response.delete_cookie(name)
        return response

    @local_logout_only
    async def logout_here(request: Request) -> Response:
        return await logout(request)

    session: dict[str, Any] = {"session_cookie": session_cookie, "https_only": https, "same_site": same_site}
    middleware = [Middleware(SessionMiddleware, "interop", **session)]
    if rp_logout is not None:
        ours = Middleware(RPLogoutMiddleware, **{"session_cookie": session_cookie, **rp_logout})
        middleware.insert(1 if inside else 0, ours)
    return Starlette(
        routes=[
            Route("/", page),
            Route("/login", login),
            Route("/callback", callback, name="callback"),
            Route("/logout", logout, methods=["POST"]),
            Route("/logout-here", logout_here, methods=["POST"]),
            Route("/pages/{name}", page),
            Mount("/npm", StaticFiles(directory=HERE / "node_modules", check_dir=False)),
            *routes,
        ],
        middleware=middleware,
    )
