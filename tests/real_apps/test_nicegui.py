"""NiceGUI, with a login through Authlib."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.real_apps import steps
from tests.real_apps.running import RealApp, running


class NiceGUI(RealApp):
    name = "nicegui"

    def start_login(self, page: Page) -> None:
        page.goto(f"{self.url}/")

    def is_signed_in(self, page: Page) -> bool:
        page.goto(f"{self.url}/")
        return page.get_by_text("Welcome Alice!").count() > 0

    def log_out(self, page: Page) -> None:
        page.get_by_role("button", name="Logout").click()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NiceGUI]:
    with running(NiceGUI, tmp_path_factory.mktemp("nicegui")) as app:
        yield app


def test_the_pages_logout_button_logs_out_at_the_provider(app: NiceGUI, page: Page) -> None:
    steps.log_out_at_the_provider(app, page)


def test_copied_cookies_are_worth_nothing_after_a_logout(app: NiceGUI, page: Page, new_page: steps.NewPage) -> None:
    steps.refuse_copied_cookies(app, page, new_page)


def test_a_logout_in_another_app_ends_the_session(app: NiceGUI, page: Page) -> None:
    steps.end_by_the_back_channel(app, page)


def test_a_logout_closes_the_websocket_of_another_tab(app: NiceGUI, page: Page) -> None:
    steps.close_the_websocket(app, page)


def test_a_page_that_is_still_open_leaves_when_its_login_ends(app: NiceGUI, page: Page) -> None:
    """It would connect its WebSocket again, and its buttons would work."""
    app.log_in(page)
    other = page.context.new_page()
    app.log_in_to_the_wiki(other)
    app.log_out_of_the_wiki(other)
    page.wait_for_url(f"{app.issuer}/authorize**")


def test_there_is_no_connection_by_long_polling(app: NiceGUI) -> None:
    steps.refuse_long_polling(app, "/_nicegui_ws/socket.io/")
