"""The dashboard of Hermes Agent, with a user plugin."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.real_apps import steps
from tests.real_apps.running import RealApp, running


class Hermes(RealApp):
    name = "hermes"
    host = "127.0.0.2"

    def start_login(self, page: Page) -> None:
        page.goto(f"{self.url}/login")
        page.get_by_role("link", name="Self-Hosted OIDC").click()

    def is_signed_in(self, page: Page) -> bool:
        page.goto(f"{self.url}/sessions")  # without a session Hermes goes to the provider by itself, but not twice
        elsewhere = page.locator("input[type=password]").or_(page.get_by_role("link", name="Self-Hosted OIDC"))
        expect(self.button(page).or_(elsewhere)).to_be_visible()
        return self.button(page).count() > 0

    def log_out(self, page: Page) -> None:
        self.button(page).click()

    def button(self, page: Page) -> Locator:
        return page.get_by_role("button", name="Log out")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hermes]:
    with running(Hermes, tmp_path_factory.mktemp("hermes")) as app:
        yield app


def test_the_pages_logout_button_logs_out_at_the_provider(app: Hermes, page: Page) -> None:
    steps.log_out_at_the_provider(app, page)


def test_copied_cookies_are_worth_nothing_after_a_logout(app: Hermes, page: Page, new_page: steps.NewPage) -> None:
    steps.refuse_copied_cookies(app, page, new_page)


def test_a_logout_in_another_app_ends_the_session(app: Hermes, page: Page) -> None:
    steps.end_by_the_back_channel(app, page)


def test_a_logout_closes_the_websocket_of_another_tab(app: Hermes, page: Page) -> None:
    steps.close_the_websocket(app, page)
