"""The application of the interop tests: Starlette, signed-cookie sessions, a login through Authlib."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from authlib.integrations.starlette_client import OAuth
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

CLIENT = {"client_id": "rp", "client_secret": "interop-secret"}
HERE = Path(__file__).parent


def client_metadata(app_url: str, **more: Any) -> dict[str, Any]:
    """Give the registration of the application at `app_url`, in the words of OpenID Connect Registration 1.0."""
    return {
        **CLIENT,
        "redirect_uris": [f"{app_url}/callback"],
        "post_logout_redirect_uris": [f"{app_url}/"],
        **more,
    }


def create_app(
    issuer: str,
    *,
    session_cookie: str = "session",
    https: bool = False,
    rp_logout: dict[str, Any] | None = None,
    inside: bool = True,
) -> ASGIApp:
    """Make the application; `rp_logout`: the options of an RPLogoutMiddleware, inside the sessions or outside."""
    oauth = OAuth()
    oauth.register(
        "idp",
        **CLIENT,
        server_metadata_url=f"{issuer}/.well-known/openid-configuration",
        client_kwargs={"scope": "openid email"},
    )

    async def home(request: Request) -> Response:
        user = request.session.get("user")
        actions = ["/logout", "/logout-here"] if user else []
        forms = "".join(f'<form method="post" action="{path}"><button>{path}</button></form>' for path in actions)
        login = '<a href="/login" data-turbo="false">Log in</a>'  # Turbo would fetch it, and run into CORS
        return _page(f'<p id="user">{escape(user or "nobody")}</p>{login}{forms}')

    async def scripted(request: Request) -> Response:
        html = (HERE / "pages" / f"{request.path_params['name']}.html").read_text()
        return HTMLResponse(html.replace("USER", escape(request.session.get("user", "nobody"))))

    async def login(request: Request) -> Response:
        return await oauth.idp.authorize_redirect(request, str(request.url_for("callback")))

    async def callback(request: Request) -> Response:
        token = await oauth.idp.authorize_access_token(request)
        request.session["user"] = token["userinfo"]["sub"]
        if rp_logout is not None:
            from asgi_rp_logout import remember_login

            remember_login(request, token)
        return RedirectResponse("/", 303)

    async def logout(request: Request) -> Response:
        request.session.clear()
        return RedirectResponse("/", 303)

    async def logout_here(request: Request) -> Response:
        return await logout(request)

    if rp_logout is not None:
        from asgi_rp_logout import local_logout_only

        logout_here = local_logout_only(logout_here)

    middleware = [Middleware(SessionMiddleware, "interop", session_cookie=session_cookie, https_only=https)]
    if rp_logout is not None:
        from asgi_rp_logout import RPLogoutMiddleware

        ours = Middleware(RPLogoutMiddleware, session_cookie=session_cookie, **rp_logout)
        middleware.insert(1 if inside else 0, ours)
    return Starlette(
        routes=[
            Route("/", home),
            Route("/login", login),
            Route("/callback", callback, name="callback"),
            Route("/logout", logout, methods=["POST"]),
            Route("/logout-here", logout_here, methods=["POST"]),
            Route("/pages/{name}", scripted),
            Mount("/npm", StaticFiles(directory=HERE / "node_modules", check_dir=False)),
        ],
        middleware=middleware,
    )


def _page(body: str) -> Response:
    head = '<meta charset="utf-8"><title>App</title>'
    html = f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'
    return HTMLResponse(html, headers={"cache-control": "no-store"})
