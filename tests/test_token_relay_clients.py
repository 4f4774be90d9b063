"""The token relay and client libraries of others, with a real provider: only the application's settings change."""

from __future__ import annotations

import asyncio
import concurrent.futures
import secrets
import warnings
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from authlib.deprecate import AuthlibDeprecationWarning
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from asgi_rp_logout import OIDCProvider, RPLogoutMiddleware, TokenRelay
from demo.provider import Client, create_provider
from tests.conftest import Serve, UnusedPort
from tests.test_demo import Browser as Navigator
from tests.test_demo import asks_for_password, asks_to_confirm

with warnings.catch_warnings():
    warnings.simplefilter("ignore", AuthlibDeprecationWarning)
    from authlib.integrations.starlette_client import OAuth

CLIENT_ID, SECRET = "dashboard", "secret"
Make = Callable[[TokenRelay, str], ASGIApp]
Redeem = Callable[[str, dict[str, str]], Awaitable[dict[str, Any]]]


def starlette_app(relay: TokenRelay, start: Any, finish: Any) -> ASGIApp:
    async def callback(request: Request) -> Response:
        await finish(request)
        request.session["user"] = "alice"
        return RedirectResponse("/", 303)

    async def home(request: Request) -> Response:
        return PlainTextResponse(request.session.get("user", "nobody"))

    async def logout(request: Request) -> Response:
        request.session.clear()
        return RedirectResponse("/", 303)

    routes = [Route("/login", start), Route("/callback", callback), Route("/", home)]
    return Starlette(
        routes=[*routes, Route("/logout", logout, methods=["POST"])],
        middleware=[
            Middleware(SessionMiddleware, secret_key="secret"),
            Middleware(RPLogoutMiddleware, providers=[relay.provider], token_relay=relay),
        ],
    )


def by_hand(redeem: Redeem) -> Make:
    """Make an application that writes its own requests, and posts its form with some HTTP library."""

    def make(relay: TokenRelay, address: str) -> ASGIApp:
        async def login(request: Request) -> Response:
            request.session["state"] = secrets.token_urlsafe()
            query = {"response_type": "code", "client_id": CLIENT_ID, "scope": "openid"}
            query |= {"redirect_uri": f"{address}/callback", "state": request.session["state"]}
            return RedirectResponse(f"{relay.provider.issuer}/authorize?{urlencode(query)}", 303)

        async def finish(request: Request) -> None:
            assert request.query_params["state"] == request.session.pop("state")
            form = {"grant_type": "authorization_code", "code": request.query_params["code"]}
            form |= {"redirect_uri": f"{address}/callback", "client_id": CLIENT_ID, "client_secret": SECRET}
            assert "id_token" in await redeem(relay.token_url, form)

        return starlette_app(relay, login, finish)

    return make


def post(url: str, form: dict[str, str]) -> dict[str, Any]:
    tokens: dict[str, Any] = requests.post(url, data=form, timeout=60).json()
    return tokens


async def in_an_executor(url: str, form: dict[str, str]) -> dict[str, Any]:
    """In a thread that knows nothing of the request: its context variables are not copied."""
    with concurrent.futures.ThreadPoolExecutor() as threads:
        return await asyncio.get_running_loop().run_in_executor(threads, post, url, form)


async def blocking_its_event_loop(url: str, form: dict[str, str]) -> dict[str, Any]:
    return post(url, form)


async def with_aiohttp(url: str, form: dict[str, str]) -> dict[str, Any]:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.post(url, data=form) as answer:
        tokens: dict[str, Any] = await answer.json()
        return tokens


def with_authlib(relay: TokenRelay, address: str) -> ASGIApp:
    """By its metadata URL; the middleware does not know its client."""
    oauth = OAuth()
    oauth.register(
        "acme",
        client_id=CLIENT_ID,
        client_secret=SECRET,
        server_metadata_url=relay.metadata_url,
        client_kwargs={"scope": "openid", "code_challenge_method": "S256"},
    )

    async def login(request: Request) -> Response:
        redirect: Response = await oauth.acme.authorize_redirect(request, f"{address}/callback")
        return redirect

    return starlette_app(relay, login, oauth.acme.authorize_access_token)


def with_requests_oauthlib(relay: TokenRelay, address: str) -> ASGIApp:
    """In Flask, under a2wsgi. It insists on https, unless OAUTHLIB_INSECURE_TRANSPORT is set."""
    from a2wsgi import WSGIMiddleware
    from flask import Flask, redirect, request, session
    from requests_oauthlib import OAuth2Session

    app = Flask(__name__)
    app.secret_key = "secret"

    def client() -> Any:
        return OAuth2Session(CLIENT_ID, redirect_uri=f"{address}/callback", scope=["openid"])

    @app.get("/login")
    def login() -> Any:
        url, session["state"] = client().authorization_url(f"{relay.provider.issuer}/authorize")
        return redirect(url, 303)

    @app.get("/callback")
    def callback() -> Any:
        assert request.args["state"] == session["state"]
        client().fetch_token(relay.token_url, code=request.args["code"], client_secret=SECRET, timeout=60)
        session["user"] = "alice"
        return redirect("/", 303)

    @app.get("/")
    def home() -> Any:
        return session.get("user", "nobody")

    @app.post("/logout")
    def logout() -> Any:
        session.clear()
        return redirect("/", 303)

    return RPLogoutMiddleware(WSGIMiddleware(app), providers=[relay.provider], token_relay=relay)  # type: ignore[arg-type]


STACKS: dict[str, Make] = {
    "requests in an executor": by_hand(in_an_executor),
    "requests, blocking the event loop": by_hand(blocking_its_event_loop),
    "aiohttp": by_hand(with_aiohttp),
    "Authlib": with_authlib,
    "requests-oauthlib": with_requests_oauthlib,
}


class Scene:
    """A provider and an application, and the browser of alice."""

    def __init__(self, make: Make, serve: Serve, unused_port: UnusedPort) -> None:
        port = unused_port()
        self.address, self.issuer = f"http://localhost:{unused_port()}", f"http://127.0.0.1:{port}"
        client = Client(CLIENT_ID, SECRET, [f"{self.address}/callback"], [f"{self.address}/"])
        serve(create_provider(self.issuer, [client], {"alice": "wonderland"}), port=port)
        relay = TokenRelay(OIDCProvider(self.issuer, CLIENT_ID, SECRET), unused_port())
        serve(make(relay, self.address), host="localhost", port=int(self.address.rpartition(":")[2]))
        self.browser = Navigator()

    def sign_in(self) -> str:
        return self.browser.sign_in(self.browser.get(f"{self.address}/login")).text


@pytest.mark.parametrize("stack", STACKS)
def test_any_client_library_is_noticed(
    stack: str, serve: Serve, unused_port: UnusedPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log in, out and in again: the provider does not ask whether to log out, and asks for a password after it."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    here = Scene(STACKS[stack], serve, unused_port)
    assert here.sign_in() == "alice"
    assert here.browser.post(f"{here.address}/logout", {}).text == "nobody"
    (end_session,) = (url for url in here.browser.visited if url.startswith(f"{here.issuer}/end_session"))
    assert "id_token_hint=" in end_session
    assert asks_for_password(here.browser.get(f"{here.address}/login"))


def test_a_client_that_asks_the_provider_itself_is_not(serve: Serve, unused_port: UnusedPort) -> None:
    """The control: nothing else notices it, and the provider asks whether to log out."""

    async def past_the_relay(url: str, form: dict[str, str]) -> dict[str, Any]:
        return await in_an_executor(f"{here.issuer}/token", form)

    here = Scene(by_hand(past_the_relay), serve, unused_port)
    assert here.sign_in() == "alice"
    assert asks_to_confirm(here.browser.post(f"{here.address}/logout", {}))
