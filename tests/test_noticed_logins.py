"""`AuthlibProvider` notices the logins of its client: no line in the application's callback is needed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from authlib.deprecate import AuthlibDeprecationWarning
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from asgi_rp_logout import (
    AuthlibProvider,
    ConfigurationError,
    RPLogoutMiddleware,
    current_login,
    forget_login,
    remember_login,
)
from demo.provider import Client, create_provider
from tests.apps import signs_out
from tests.conftest import Log, Serve, UnusedPort
from tests.places import Browser, destination
from tests.test_demo import Browser as Navigator
from tests.test_demo import asks_for_password
from tests.tokens import id_token

with warnings.catch_warnings():
    warnings.simplefilter("ignore", AuthlibDeprecationWarning)
    from authlib.integrations.starlette_client import OAuth

END = "https://a.example/logout"


class Registered:
    """A client as Authlib makes it, whose provider answers at once."""

    def __init__(self, *, sync: bool = False, **token: Any) -> None:
        self.name, self.client_id, self.client_secret = "acme", "rp", None
        self.server_metadata = {"issuer": "https://a.example", "end_session_endpoint": END}
        self.token: Any = {"id_token": id_token(), "userinfo": {"sub": "alice"}, "refresh_token": "refresh", **token}
        if sync:
            self.authorize_access_token = self.authorize_in_a_thread  # type: ignore[method-assign]

    async def load_server_metadata(self) -> dict[str, Any]:
        return self.server_metadata

    async def authorize_access_token(self, request: Any = None) -> Any:
        return self.token

    def authorize_in_a_thread(self, request: Any = None) -> Any:
        return self.token


class Application:
    """An application that signs in by its client, and then does what `after` says."""

    def __init__(self, after: Callable[[Request], Response | None] | None = None, **options: Any) -> None:
        self.client = Registered(**options.pop("client", {}))
        self.after = after
        provider = AuthlibProvider(self.client, **options.pop("provider", {}))
        routes = [Route(f"/{name}", getattr(self, name or "home"), methods=["GET", "POST"]) for name in ("", "login")]
        routes.append(Route("/logout", self.logout, methods=["POST"]))
        sessions = Middleware(SessionMiddleware, secret_key="secret")
        self.app = Starlette(
            routes=routes, middleware=[sessions, Middleware(RPLogoutMiddleware, providers=[provider], **options)]
        )

    async def home(self, request: Request) -> Response:
        login = current_login(request)
        known = [login.provider, login.sub, login.known_by] if login else None
        return JSONResponse({"known": known, "refresh_token": login.refresh_token if login else None})

    async def login(self, request: Request) -> Response:
        found = self.client.authorize_access_token(request)
        if not isinstance(found, dict):
            await found
        request.session["user"] = "somebody"
        return (self.after(request) if self.after else None) or RedirectResponse("/", 303)

    async def logout(self, request: Request) -> Response:
        request.session.clear()
        return RedirectResponse("/bye", 303)

    async def signed_in(self) -> Browser:
        browser = Browser(self.app)
        await browser.get("/login")
        return browser


async def known_to(browser: Browser) -> Any:
    return json.loads((await browser.get("/")).body)["known"]


@pytest.mark.parametrize("sync", [False, True])
async def test_a_login_is_noticed_and_its_id_token_is_the_hint(sync: bool) -> None:
    app = Application(client={"sync": sync})
    browser = await app.signed_in()
    said = json.loads((await browser.get("/")).body)
    assert said == {"known": ["acme", "alice", "authlib"], "refresh_token": "refresh"}
    host, query = destination(await browser.post("/logout"))
    assert (host, query["id_token_hint"]) == ("a.example", app.client.token["id_token"])


@pytest.mark.parametrize("token", [{"userinfo": None}, {"userinfo": {}}, {"id_token": None}, {"id_token": 7}])
async def test_a_token_without_a_validated_id_token_is_no_login(token: dict[str, Any]) -> None:
    """Authlib puts the claims beside the token once it has validated it; other grants have none."""
    assert await known_to(await Application(client=token).signed_in()) is None


async def test_a_token_that_raises_fails_no_login(log: Log) -> None:
    class Hostile(dict[str, Any]):
        def get(self, *args: Any) -> Any:
            raise RuntimeError("no")

    app = Application()
    app.client.token = Hostile()
    browser = Browser(app.app)
    assert (await browser.get("/login")).status == 303
    assert await known_to(browser) is None
    assert log() == ["a login was not noticed: its token raised RuntimeError"]


def forgets(request: Request) -> None:
    forget_login(request)


def remembers_bob(request: Request) -> None:
    remember_login(request, sub="bob", iss="https://a.example")


def refuses(request: Request) -> Response:
    return PlainTextResponse("no", 403)


def refuses_by_redirect(request: Request) -> Response:
    request.session.clear()
    return RedirectResponse("/denied", 303)


@pytest.mark.parametrize(
    ("after", "known"),
    [
        (forgets, None),
        (remembers_bob, ["acme", "bob", "remember_login"]),
        (refuses, None),
        (refuses_by_redirect, None),
        (lambda request: StreamingResponse(iter(["a", "b"])), ["acme", "alice", "authlib"]),
    ],
)
async def test_what_the_application_says_and_does_goes_before_it(after: Any, known: Any) -> None:
    assert await known_to(await Application(after).signed_in()) == known


async def test_the_request_that_signs_in_knows_the_login_already() -> None:
    seen: list[Any] = []
    await Application(lambda request: seen.append(current_login(request))).signed_in()
    assert [login.known_by for login in seen] == ["authlib"]


async def test_it_can_be_switched_off_and_leaves_the_client_alone() -> None:
    client = Registered()
    before = client.authorize_access_token
    AuthlibProvider(client, notices_logins=False)
    assert client.authorize_access_token == before
    assert await known_to(await Application(provider={"notices_logins": False}).signed_in()) is None


async def test_two_providers_of_one_client_wrap_it_once() -> None:
    client = Registered()
    for name in ("one", "two"):
        AuthlibProvider(client, name=name)
    method: Any = client.authorize_access_token
    original = vars(method)["_asgi_rp_logout_notices"]
    assert not hasattr(original, "_asgi_rp_logout_notices")
    assert await method() == client.token  # outside of any request: nothing to note, and nothing fails


def test_a_wrong_value_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="notices_logins='yes': expected True or False"):
        AuthlibProvider(Registered(), notices_logins="yes")  # type: ignore[arg-type]


class OutOfReach:
    """What stands for a client of Flask until the application is there."""

    def __init__(self) -> None:
        self.client: Registered | None = None

    def __getattr__(self, name: str) -> Any:
        if self.client is None:
            raise RuntimeError("working outside of application context")
        return getattr(self.client, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "client":
            super().__setattr__(name, value)
        else:
            setattr(self.client, name, value)


async def test_a_client_that_comes_later_is_looked_up_later() -> None:
    """Flask's stands for nothing before `init_app`: the provider is made all the same, and found at its first use."""
    later = OutOfReach()
    provider = AuthlibProvider(later)
    assert provider.issuer is None
    wrapped = RPLogoutMiddleware(signs_out(), providers=[provider])
    later.client = Registered()
    answer = await Browser(wrapped, {"session": "0123456789abcdef"}).post("/logout")
    assert destination(answer)[0] == "a.example"
    assert (provider.name, provider.client_id) == ("acme", "rp")
    found: str | None = provider.issuer
    assert found == "https://a.example"


# Authlib itself, in each of its integrations, and a real provider

REGISTRATION: dict[str, Any] = {
    "client_id": "dashboard",
    "client_secret": "secret",
    "client_kwargs": {"scope": "openid", "code_challenge_method": "S256"},
}


def starlette_app(registration: dict[str, Any], address: str) -> ASGIApp:
    oauth = OAuth()
    oauth.register("acme", **registration)

    async def login(request: Request) -> Response:
        redirect: Response = await oauth.acme.authorize_redirect(request, f"{address}/callback")
        return redirect

    async def callback(request: Request) -> Response:
        request.session["user"] = (await oauth.acme.authorize_access_token(request))["userinfo"]["sub"]
        return RedirectResponse("/", 303)

    async def home(request: Request) -> Response:
        return PlainTextResponse(request.session.get("user", "nobody"))

    async def logout(request: Request) -> Response:
        request.session.clear()
        return RedirectResponse("/", 303)

    routes = [Route("/login", login), Route("/callback", callback), Route("/", home)]
    return Starlette(
        routes=[*routes, Route("/logout", logout, methods=["POST"])],
        middleware=[
            Middleware(SessionMiddleware, secret_key="secret"),
            Middleware(RPLogoutMiddleware, providers=[AuthlibProvider(oauth.acme)]),
        ],
    )


def flask_app(registration: dict[str, Any], address: str, *, early: bool = False) -> ASGIApp:
    """`early`: the client is registered, and the provider made, before there is an application."""
    from a2wsgi import WSGIMiddleware
    from authlib.integrations.flask_client import OAuth as FlaskOAuth
    from flask import Flask, redirect, session

    app = Flask(__name__)
    app.secret_key = "secret"
    oauth = FlaskOAuth(None if early else app)
    acme = oauth.register("acme", **registration)
    provider = AuthlibProvider(acme)
    if early:
        oauth.init_app(app)

    @app.get("/login")
    def login() -> Any:
        return oauth.acme.authorize_redirect(f"{address}/callback")

    @app.get("/callback")
    def callback() -> Any:
        session["user"] = oauth.acme.authorize_access_token()["userinfo"]["sub"]
        return redirect("/", 303)

    @app.get("/")
    def home() -> Any:
        return session.get("user", "nobody")

    @app.post("/logout")
    def logout() -> Any:
        session.clear()
        return redirect("/", 303)

    return RPLogoutMiddleware(WSGIMiddleware(app), providers=[provider])  # type: ignore[arg-type]


def early_flask_app(registration: dict[str, Any], address: str) -> ASGIApp:
    return flask_app(registration, address, early=True)


def django_app(registration: dict[str, Any], address: str) -> ASGIApp:
    from authlib.integrations.django_client import OAuth as DjangoOAuth
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import HttpResponse, HttpResponseRedirect
    from django.test.utils import override_settings
    from django.urls import path

    if not settings.configured:
        settings.configure(SECRET_KEY="secret", ALLOWED_HOSTS=["*"])
    oauth = DjangoOAuth()

    class SeeOther(HttpResponseRedirect):  # type: ignore[misc]
        status_code = 303

    def login(request: Any) -> Any:
        return oauth.acme.authorize_redirect(request, f"{address}/callback")

    def callback(request: Any) -> Any:
        request.session["user"] = oauth.acme.authorize_access_token(request)["userinfo"]["sub"]
        return SeeOther("/")

    def home(request: Any) -> Any:
        return HttpResponse(request.session.get("user", "nobody"))

    def logout(request: Any) -> Any:
        request.session.flush()
        return SeeOther("/")

    class Urls:
        urlpatterns = [
            path("login", login), path("callback", callback), path("", home), path("logout", logout),
        ]  # fmt: skip

    configured = override_settings(
        ROOT_URLCONF=Urls,
        ALLOWED_HOSTS=["*"],
        MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        SESSION_COOKIE_NAME="session",
    )
    with configured:
        oauth.register("acme", **registration)
        inner = get_asgi_application()
        provider = AuthlibProvider(oauth.acme)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            with configured:
                await inner(scope, receive, send)

    return RPLogoutMiddleware(app, providers=[provider])


@pytest.mark.parametrize("make", [starlette_app, flask_app, early_flask_app, django_app])
def test_with_authlib_itself_and_a_real_provider(
    make: Callable[[dict[str, Any], str], ASGIApp], serve: Serve, unused_port: UnusedPort
) -> None:
    """Log in, out and in again: the provider does not ask whether to log out, and asks for a password after it."""
    port, address = unused_port(), f"http://localhost:{unused_port()}"
    issuer = f"http://127.0.0.1:{port}"
    client = Client("dashboard", "secret", [f"{address}/callback"], [f"{address}/"])
    serve(create_provider(issuer, [client], {"alice": "wonderland"}), port=port)
    metadata_url = f"{issuer}/.well-known/openid-configuration"
    app = make({**REGISTRATION, "server_metadata_url": metadata_url}, address)
    serve(app, host="localhost", port=int(address.rpartition(":")[2]))
    browser = Navigator()
    assert browser.sign_in(browser.get(f"{address}/login")).text == "alice"
    assert browser.post(f"{address}/logout", {}).text == "nobody"
    (end_session,) = (url for url in browser.visited if url.startswith(f"{issuer}/end_session"))
    assert "id_token_hint=" in end_session
    assert asks_for_password(browser.get(f"{address}/login"))
