"""A logout button that is clicked twice: the browser drops one of two navigations, and nobody knows which."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from asgi_rp_logout import RPLogoutMiddleware, StaticProvider
from tests.conftest import _served

LEAVES = "fetch('/logout', {method: 'POST'}).then(() => location.assign('/login'))"
BUTTONS = {
    "form": "<form method=post action=/logout><button>Log out</button></form>",
    "fetch": f'<button onclick="{LEAVES}">Log out</button>',
}


@dataclass
class Shop:
    """An application with server-side sessions, whose logout refuses whoever is not signed in, and its provider."""

    rounds: int
    url: str = ""
    sessions: set[str] = field(default_factory=set)
    told: int = 0

    async def page(self, request: Request) -> Response:
        response = HTMLResponse(BUTTONS[request.path_params["how"]])
        self.sessions.add(session := secrets.token_hex(16))
        response.set_cookie("session", session, httponly=True)
        return response

    async def logout(self, request: Request) -> Response:
        if request.cookies.get("session") not in self.sessions:
            return PlainTextResponse("who are you?", 401)
        self.sessions.remove(request.cookies["session"])
        return RedirectResponse("/login", 303)

    async def text(self, request: Request) -> Response:
        return HTMLResponse(f"<title>{request.url.path}</title><a href=/login>Log in</a>")

    async def end_session(self, request: Request) -> Response:
        self.told += 1
        return RedirectResponse(request.query_params["post_logout_redirect_uri"], 302)


@pytest.fixture(scope="module", params=[(40, None), (10, "/back")], ids=["without callback path", "with one"])
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    rounds, callback_path = request.param
    here = Shop(rounds)
    routes = [
        Route("/to/{how}", here.page),
        Route("/logout", here.logout, methods=["POST"]),
        Route("/login", here.text),
        Route("/signed-out", here.text),
    ]
    with _served(Starlette(routes=[Route("/end", here.end_session)])) as provider:
        app = RPLogoutMiddleware(
            Starlette(routes=routes),
            providers=[StaticProvider(f"{provider}/end", client_id="shop")],
            post_logout_redirect_uri="/signed-out",
            callback_path=callback_path,
        )
        with _served(app, host="localhost") as here.url:
            yield here


@pytest.mark.parametrize("how", BUTTONS)
def test_the_provider_is_told_of_every_double_click_and_lets_the_browser_go(
    page: Page, shop: Shop, console_errors: list[str], how: str
) -> None:
    """The next click arrives at the application, and is not sent there once more."""
    lost = []
    for number in range(shop.rounds):
        page.goto(f"{shop.url}/to/{how}")
        before = shop.told
        page.get_by_role("button").dblclick(delay=number % 8)
        page.get_by_role("link").wait_for()  # a page of the application, once it is over
        page.wait_for_load_state()
        if shop.told == before:
            lost.append(number)
        told = shop.told
        page.get_by_role("link").click()
        page.wait_for_url(f"{shop.url}/login")
        assert shop.told == told, f"round {number}: the provider is told again, long after"
    assert lost == []
    console_errors[:] = [error for error in console_errors if "401" not in error]
