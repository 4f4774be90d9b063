"""Chainlit, whose session is a JWT in a cookie, and whose page logs out with a fetch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.real_apps import steps
from tests.real_apps.running import RealApp, running


class Chainlit(RealApp):
    name = "chainlit"

    def start_login(self, page: Page) -> None:
        page.goto(f"{self.url}/login")
        page.get_by_role("button", name="Generic").click()

    def is_signed_in(self, page: Page) -> bool:
        page.goto(f"{self.url}/")
        page.locator("#user-nav-button, button:has-text('Generic')").first.wait_for()
        return page.locator("#user-nav-button").count() > 0

    def log_out(self, page: Page) -> None:
        page.locator("#user-nav-button").click()
        page.get_by_role("menuitem", name="Logout").click()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chainlit]:
    with running(Chainlit, tmp_path_factory.mktemp("chainlit")) as app:
        yield app


def test_the_pages_logout_logs_out_at_the_provider(app: Chainlit, page: Page) -> None:
    steps.log_out_at_the_provider(app, page)


def test_copied_cookies_are_worth_nothing_after_a_logout(app: Chainlit, page: Page, new_page: steps.NewPage) -> None:
    steps.refuse_copied_cookies(app, page, new_page)


def test_a_logout_in_another_app_ends_the_session(app: Chainlit, page: Page) -> None:
    steps.end_by_the_back_channel(app, page)


def test_a_logout_closes_the_websocket_of_another_tab(app: Chainlit, page: Page) -> None:
    steps.close_the_websocket(app, page)


def test_there_is_no_connection_by_long_polling(app: Chainlit) -> None:
    steps.refuse_long_polling(app, "/ws/socket.io/")
