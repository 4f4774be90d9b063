"""Sign in, log out, sign in again: over real connections, with the demo's provider, in apps of several kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
from authlib.integrations.starlette_client import OAuth
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from asgi_rp_logout import (
    AuthlibProvider,
    Login,
    OIDCProvider,
    RPLogoutMiddleware,
    StaticProvider,
    local_logout_only,
    remember_login,
    rp_logout,
)
from demo.provider import Client, create_provider
from tests.conftest import Serve, UnusedPort
from tests.test_demo import Browser, asks_for_password, asks_to_confirm

FETCH = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin", "Accept": "*/*"}


class App:
    """A small application: its session is signed, and it keeps ID Tokens on its side."""

    def __init__(self, url: str, issuer: str, *, remembers: bool) -> None:
        self.url, self.remembers = url, remembers
        self.id_tokens: dict[str, str] = {}
        self.client: Any = OAuth().register(
            "idp",
            client_id="rp",
            client_secret="secret",
            server_metadata_url=f"{issuer}/.well-known/openid-configuration",
            client_kwargs={"scope": "openid", "code_challenge_method": "S256"},
        )

    def routes(self) -> list[Route]:
        return [
            Route("/", self.home),
            Route("/login", self.login),
            Route("/callback", self.callback),
            Route("/logout", self.logout, methods=["POST"]),
            Route("/bye", rp_logout(self.logout), methods=["POST"]),
            Route("/leave", local_logout_only(self.logout), methods=["POST"]),
            Route("/signed-out", self.home),
        ]

    async def home(self, request: Request) -> Response:
        return PlainTextResponse(request.session.get("user", "nobody"))

    async def login(self, request: Request) -> Response:
        answer: Response = await self.client.authorize_redirect(request, f"{self.url}/callback")
        return answer

    async def callback(self, request: Request) -> Response:
        token = await self.client.authorize_access_token(request)
        # The nonce keeps two logins of one second from having the same signed cookie, which the logout has revoked.
        request.session.update(user=token["userinfo"]["sub"], nonce=token["userinfo"]["nonce"])
        self.id_tokens[token["userinfo"]["sub"]] = token["id_token"]
        if self.remembers:
            remember_login(request, token, provider="idp")
        return RedirectResponse(f"{self.url}/", 303)

    async def logout(self, request: Request) -> Response:
        request.session.clear()
        return RedirectResponse(f"{self.url}/signed-out", 303)

    def knows(self, connection: HTTPConnection) -> Login | None:
        """Say who is signed in, as a `login_source`."""
        token = self.id_tokens.get(connection.session.get("user", ""))
        return Login("idp", id_token=token) if token else None


class DashboardAuthProvider:
    """A provider of an application's own, with a sync method."""

    name = "idp"

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    def get_end_session_url(self, *, id_token_hint: str | None = None, post_logout_redirect_uri: str = "") -> str:
        query = {"id_token_hint": id_token_hint, "post_logout_redirect_uri": post_logout_redirect_uri}
        return f"{self.issuer}/end_session?{urlencode(query)}"


@dataclass(frozen=True)
class Kind:
    """How an application uses the middleware."""

    provider: Callable[[str, App], Any]
    options: Callable[[App], dict[str, Any]] = lambda app: {}
    remembers: bool = True
    inside: bool = True
    prefix: str = ""


def discovered(issuer: str, app: App) -> Any:
    return OIDCProvider(issuer, "rp", name="idp")


KINDS = {
    "remembered, inside the session": Kind(discovered),
    "remembered, outside of everything": Kind(discovered, inside=False),
    "Authlib's client": Kind(lambda issuer, app: AuthlibProvider(app.client)),
    "a known endpoint": Kind(lambda issuer, app: StaticProvider(f"{issuer}/end_session", client_id="rp", name="idp")),
    "a provider of its own": Kind(lambda issuer, app: DashboardAuthProvider(issuer)),
    "a login source": Kind(discovered, lambda app: {"login_source": app.knows}, remembers=False),
    "below a prefix": Kind(discovered, prefix="/prefix"),
    "with a callback path": Kind(discovered, lambda app: {"callback_path": "/back"}),
}


@dataclass
class Rig:
    """A provider, an application, and a browser that is signed in."""

    url: str
    issuer: str
    browser: Browser

    def sign_in(self) -> Any:
        """Go to the login page; give the page that comes of it: the provider's form, or the application's home."""
        return self.browser.get(f"{self.url}/login")

    def log_out(self, path: str = "/logout") -> Any:
        return self.browser.post(f"{self.url}{path}", {})

    @property
    def at_provider(self) -> list[str]:
        """The addresses at the provider that the last navigation came through, without their queries."""
        return [url.partition("?")[0] for url in self.browser.visited if url.startswith(self.issuer)]


MakeRig = Callable[..., Rig]


@pytest.fixture
def rig(serve: Serve, unused_port: UnusedPort) -> MakeRig:
    def make(kind: Kind, *, guard: bool = True) -> Rig:
        issuer, origin = f"http://127.0.0.1:{unused_port()}", f"http://localhost:{unused_port()}"
        url = origin + kind.prefix
        client = Client("rp", "secret", [f"{url}/callback"], [f"{url}/signed-out", f"{url}/back"])
        serve(create_provider(issuer, [client], {"alice": "wonderland"}), port=int(issuer.rpartition(":")[2]))
        app = App(url, issuer, remembers=kind.remembers and guard)
        sessions = Middleware(SessionMiddleware, secret_key="secret")
        ours = Middleware(RPLogoutMiddleware, providers=[kind.provider(issuer, app)], **kind.options(app))
        middleware = [sessions, ours] if kind.inside else [ours, sessions]
        served = Starlette(routes=app.routes(), middleware=middleware if guard else [sessions])
        if kind.prefix:
            served = Starlette(routes=[Mount(kind.prefix, app=served)])
        serve(served, host="localhost", port=int(origin.rpartition(":")[2]))
        made = Rig(url, issuer, Browser())
        home = made.browser.sign_in(made.sign_in())
        assert (str(home.url), home.text) == (f"{url}/", "alice")
        return made

    return make


@pytest.mark.parametrize(("name", "path"), [*((name, "/logout") for name in KINDS), ("a login source", "/bye")])
def test_after_a_logout_the_provider_asks_for_the_password(name: str, path: str, rig: MakeRig) -> None:
    """By the path and by the decorator; nobody is asked to confirm, since the provider knows its own hint."""
    made = rig(KINDS[name])
    end = made.log_out(path)
    assert made.at_provider == [f"{made.issuer}/end_session"]
    assert (str(end.url), end.text) == (f"{made.url}/signed-out", "nobody")
    assert asks_for_password(made.sign_in())


def test_the_control_without_the_middleware_nobody_is_asked(rig: MakeRig) -> None:
    made = rig(KINDS["a known endpoint"], guard=False)
    end = made.log_out()
    assert (str(end.url), end.text, made.at_provider) == (f"{made.url}/signed-out", "nobody", [])
    assert made.sign_in().text == "alice"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_after_a_logout_of_this_application_only_nobody_is_asked(kind: Kind, rig: MakeRig) -> None:
    made = rig(kind)
    end = made.log_out("/leave")
    assert (str(end.url), end.text, made.at_provider) == (f"{made.url}/signed-out", "nobody", [])
    assert made.sign_in().text == "alice"


def test_with_a_session_cookie_as_the_only_evidence_the_provider_asks_to_confirm(rig: MakeRig) -> None:
    """There is no hint, so that it cannot know that the user meant it (RP-Initiated Logout 1.0, section 2)."""
    made = rig(Kind(discovered, remembers=False, inside=False))
    page = made.log_out()
    assert asks_to_confirm(page)
    assert made.browser.get(f"{made.url}/").text == "nobody"
    end = made.browser.submit(page, answer="yes")
    assert str(end.url) == f"{made.url}/signed-out"
    assert asks_for_password(made.sign_in())


def test_a_logout_by_fetch_is_completed_by_the_next_page(rig: MakeRig) -> None:
    made = rig(KINDS["remembered, outside of everything"])
    answer = made.browser.http.post(f"{made.url}/logout", headers=FETCH)
    assert answer.headers["location"] == f"{made.url}/signed-out"
    end = made.browser.http.get(f"{made.url}/signed-out", headers={"Sec-Fetch-Site": "same-origin"})
    assert end.headers["location"].startswith(f"{made.issuer}/end_session?id_token_hint=")
    assert made.browser.get(end.headers["location"]).text == "nobody"
    assert asks_for_password(made.sign_in())


def test_a_form_of_another_site_ends_nobodys_session(rig: MakeRig) -> None:
    """The browser leaves the Lax session cookie at home, so there is no evidence of a session."""
    made = rig(KINDS["remembered, inside the session"])
    end = made.browser.post_from_elsewhere(f"{made.url}/logout", {})
    assert made.at_provider == []
    assert end.text == "alice"
    assert made.sign_in().text == "alice"
