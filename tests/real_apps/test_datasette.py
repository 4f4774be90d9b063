"""Datasette with datasette-auth0, which keeps nothing of the login but the user's claims, in a signed cookie."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.conftest import Certificate
from tests.real_apps import steps
from tests.real_apps.running import RealApp, running


class Datasette(RealApp):
    name = "datasette"

    def start_login(self, page: Page) -> None:
        page.goto(f"{self.url}/")
        page.locator("details.nav-menu summary").click()
        page.get_by_role("link", name="Sign in with Auth0").click()

    def is_signed_in(self, page: Page) -> bool:
        page.goto(f"{self.url}/-/actor")
        return "alice" in page.content()

    def log_out(self, page: Page) -> None:
        page.goto(f"{self.url}/")
        page.locator("details.nav-menu summary").click()
        page.get_by_role("button", name="Log out").click()


def as_auth0(provider: ASGIApp) -> ASGIApp:
    """Put the token endpoint where Auth0 has it."""

    async def renamed(scope: Scope, receive: Receive, send: Send) -> None:
        await provider({**scope, "path": "/token"} if scope.get("path") == "/oauth/token" else scope, receive, send)

    return renamed


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Datasette]:
    folder = tmp_path_factory.mktemp("datasette")
    with running(Datasette, folder, certificate=certificate, provider_app=as_auth0) as app:
        yield app


def test_the_menus_logout_logs_out_at_the_provider(app: Datasette, page: Page) -> None:
    steps.log_out_at_the_provider(app, page)


def test_copied_cookies_are_worth_nothing_after_a_logout(app: Datasette, page: Page, new_page: steps.NewPage) -> None:
    steps.refuse_copied_cookies(app, page, new_page)


def test_a_logout_in_another_app_ends_the_session(app: Datasette, page: Page) -> None:
    steps.end_by_the_back_channel(app, page)
