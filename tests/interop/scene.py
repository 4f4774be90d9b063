"""A provider and an application that a whole module of browser tests shares: each test comes with a fresh profile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from time import monotonic
from typing import Any, TypeVar

from playwright.sync_api import Page, expect
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from asgi_rp_logout import OIDCProvider
from demo.provider import Client, create_provider
from demo.provider_state import Provider
from tests.conftest import Certificate, _free_port, _served
from tests.interop.apps import CLIENT, create_app
from tests.interop.conftest import PATIENCE, asks_for_password, sign_in

T = TypeVar("T")
LOGOUT_PATHS = ("/logout", "/auth/logout", "/sign-out")


@dataclass
class Arrival:
    """A request as it came to the application, and the status that it was answered with."""

    method: str
    path: str
    headers: Mapping[str, str]
    status: int | None = None


@dataclass
class Scene:
    """The application's URL, the provider's issuer and state, and what came to the application."""

    url: str
    issuer: str
    provider: Provider
    arrivals: list[Arrival] = field(default_factory=list)

    def sign_in(self, page: Page, then: str = "/") -> None:
        """Sign alice in with her password, forget what came until now, and open the page `then`."""
        page.goto(f"{self.url}/login")
        assert asks_for_password(page)
        sign_in(page)
        expect(page.locator("#user")).to_have_text("alice")
        self.arrivals.clear()
        self.provider.requests.clear()
        if then != "/":
            page.goto(f"{self.url}{then}")

    def is_in_at_provider(self, page: Page) -> bool:
        """Tell whether this browser has a session at the provider."""
        return any(cookie["value"] in self.provider.sessions for cookie in page.context.cookies(self.issuer))

    def next_login_asks(self, page: Page) -> bool:
        """Start another login, and tell whether it asks for a password."""
        page.goto(f"{self.url}/login")
        return asks_for_password(page)

    def at(self, path: str) -> list[Arrival]:
        """Give what came to one path."""
        return [arrival for arrival in self.arrivals if arrival.path == path]

    def await_answer(self, page: Page, path: str) -> Arrival:
        """Wait until a request has come to a path and was answered."""
        return eventually(page, lambda: next((a for a in self.at(path) if a.status is not None), None))


def eventually(page: Page, look: Callable[[], T | None]) -> T:
    """Wait until `look()` gives something, while the browser goes on."""
    end = monotonic() + PATIENCE
    while (found := look()) is None:
        assert monotonic() < end, "nothing came"
        page.wait_for_timeout(20)
    return found


@contextmanager
def scene(
    rp_logout: Mapping[str, Any] | None,
    *routes: BaseRoute,
    certificate: Certificate | None = None,
    oidc: Mapping[str, Any] | None = None,
    claims: Mapping[str, Any] | None = None,
    confirm: str = "without_hint",
    client: Mapping[str, Any] | None = None,
    signs_in_anywhere: bool = False,
    **options: Any,
) -> Iterator[Scene]:
    """Serve the demo's provider on 127.0.0.1 and the application on localhost, which is another site.

    `rp_logout`: the options of the middleware, None for none; `routes`: more pages; `certificate` puts the application
    on https; `oidc`: options of the OIDCProvider; `claims`: in the ID Token; `confirm`: when the provider asks;
    `client`: more of the registration, with paths of the application; `signs_in_anywhere`: the provider's cookies are
    SameSite=None; `options` as `create_app` has them.
    """
    url = f"{'https' if certificate else 'http'}://localhost:{(port := _free_port())}"
    issuer = f"http://127.0.0.1:{(provider_port := _free_port())}"
    more: dict[str, Any] = {n: f"{url}{one}" if isinstance(one, str) else one for n, one in (client or {}).items()}
    registered = Client(
        **CLIENT,
        redirect_uris=[f"{url}/callback"],
        post_logout_redirect_uris=[f"{url}{path}" for path in ("/", "/bye", "/signed-out")],
        **more,
    )
    provider = create_provider(issuer, [registered], {"alice": "wonderland"}, claims=claims, confirm=confirm)
    providers = [OIDCProvider(issuer, CLIENT["client_id"], CLIENT["client_secret"], **(oidc or {}))]
    if rp_logout is not None:
        rp_logout = {"providers": providers, "logout_path": LOGOUT_PATHS, "provider_timeout": PATIENCE, **rp_logout}
    own = [Route(path, log_out, methods=["GET", "POST", "DELETE"]) for path in LOGOUT_PATHS[1:]]
    application = create_app(
        issuer,
        rp_logout=rp_logout,
        https=certificate is not None,
        routes=[*own, page_at("/bye", BYE), WebSocketRoute("/live", live), *routes],
        **options,
    )
    here = Scene(url, issuer, provider.state.provider)
    with (
        _served(with_cookies_anywhere(provider) if signs_in_anywhere else provider, port=provider_port),
        _served(noting(application, here.arrivals), host="localhost", port=port, certificate=certificate),
    ):
        yield here


LIVE = """<!doctype html><title>Live</title><p id=user>USER</p><p id=state>connecting</p>
<form method=post action=/logout><button>Log out</button></form>
<script>
const socket = new WebSocket(location.origin.replace('http', 'ws') + '/live')
const say = text => { document.querySelector('#state').textContent = text }
socket.onopen = () => socket.send('hello')
socket.onmessage = event => say(event.data)
socket.onclose = event => say(`closed with ${event.code}`)
</script>"""
"""A page that holds a WebSocket open, and shows what became of it."""
BYE = "<!doctype html><title>Bye</title><p id=user>USER</p>"


async def log_out(request: Request) -> Response:
    """The application's own logout, which leads to a page with a query."""
    request.session.clear()
    return RedirectResponse("/bye?said=so%20long", 303)


async def live(websocket: WebSocket) -> None:
    """Stay open for as long as anybody wants."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


def page_at(path: str, html: str, headers: Mapping[str, str] | None = None) -> Route:
    """Make a page of the application; USER in it becomes the user's name."""

    async def endpoint(request: Request) -> Response:
        text = html.replace("USER", escape(request.session.get("user", "nobody")))
        return HTMLResponse(text, headers={"cache-control": "no-store", **(headers or {})})

    return Route(path, endpoint)


def noting(app: ASGIApp, arrivals: list[Arrival]) -> ASGIApp:
    """Wrap an application so that what comes to it is noted."""

    async def noted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        arrival = Arrival(scope.get("method", "WEBSOCKET"), scope["path"], headers)
        arrivals.append(arrival)

        async def send_and_note(message: Message) -> None:
            if message["type"] == "http.response.start":
                arrival.status = message["status"]
            await send(message)

        return await app(scope, receive, send_and_note)

    return noted


def with_cookies_anywhere(app: ASGIApp) -> ASGIApp:
    """Wrap a provider so that its cookies come with requests of other sites; browsers take Secure from loopback."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_lenient(message: Message) -> None:
            if message["type"] == "http.response.start":
                pairs = [(n, v.replace(b"SameSite=lax", b"SameSite=None; Secure")) for n, v in message["headers"]]
                message = {**message, "headers": pairs}
            await send(message)

        await app(scope, receive, send_lenient)

    return wrapped


def provider_visits(page: Page, issuer: str) -> Sequence[str]:
    """Note each document that this tab asks the provider's end-session endpoint for, from now on."""
    visits: list[str] = []

    def note(request: Any) -> None:
        if request.url.startswith(f"{issuer}/end_session") and request.is_navigation_request():
            visits.append(request.url)

    page.on("request", note)
    return visits
