"""An application at a provider that was started elsewhere: on localhost, which is another site than 127.0.0.1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from authlib.integrations.starlette_client import OAuth
from playwright.sync_api import Page, expect
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from asgi_rp_logout import current_login
from asgi_rp_logout.login import unverified_claims
from tests.conftest import _served
from tests.interop.apps import create_app
from tests.interop.conftest import asks_for_password, give_consent, sign_in
from tests.interop.scene import LIVE, Arrival, live, noting, page_at


@dataclass
class RelyingParty:
    """The application's URL, its registration at the provider, and what came to it."""

    url: str
    issuer: str
    client: Mapping[str, Any]
    arrivals: list[Arrival] = field(default_factory=list)

    def sign_in(self, page: Page, then: str = "/", user: str = "alice") -> None:
        """Sign a user in, with the password if the provider asks for one, and open the page `then`."""
        page.goto(f"{self.url}/login")
        if asks_for_password(page):
            sign_in(page, user)
        else:
            give_consent(page)
        page.wait_for_url(f"{self.url}/")
        expect(page.locator("#user")).not_to_have_text("nobody")
        if then != "/":
            page.goto(f"{self.url}{then}")

    def log_out(self, page: Page) -> None:
        page.get_by_role("button", name="/logout", exact=True).click()

    def expect_nobody(self, page: Page) -> None:
        """Expect the browser to be back at the front page, and nobody to be signed in."""
        page.wait_for_url(f"{self.url}/")
        expect(page.locator("#user")).to_have_text("nobody")

    def next_login_asks(self, page: Page) -> bool:
        """Start another login, and tell whether it asks for a password."""
        page.goto(f"{self.url}/login")
        return asks_for_password(page)

    def at(self, path: str) -> list[Arrival]:
        """Return what came to one path."""
        return [arrival for arrival in self.arrivals if arrival.path == path]

    def claims(self, page: Page) -> dict[str, Any]:
        """Return the claims of the ID Token of this browser's login."""
        claims: dict[str, Any] = page.request.get(f"{self.url}/claims").json()
        return claims


@contextmanager
def relying_party(
    issuer: str,
    client: Mapping[str, Any],
    *routes: BaseRoute,
    rp_logout: dict[str, Any],
    oauth: OAuth | None = None,
) -> Iterator[RelyingParty]:
    """Serve the application that `client` is the registration of; `rp_logout`: the options of the middleware."""
    address = urlsplit(client["redirect_uris"][0])
    here = RelyingParty(f"http://{address.netloc}", issuer, client)
    application = create_app(
        issuer,
        client=client,
        session_cookie=f"session_{address.port}",  # cookies do not tell ports apart
        rp_logout=rp_logout,
        routes=[page_at("/page", LIVE), WebSocketRoute("/live", live), Route("/claims", claims), *routes],
        oauth=oauth,
    )
    with _served(noting(application, here.arrivals), host="localhost", port=address.port or 0):
        yield here


async def claims(request: Request) -> Response:
    login = current_login(request)
    return JSONResponse(unverified_claims(login.id_token) if login and login.id_token else {})
