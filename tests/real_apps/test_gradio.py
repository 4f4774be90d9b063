"""Gradio mounted in FastAPI, as its guide has it, with a login through Authlib."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.real_apps import steps
from tests.real_apps.running import RealApp, running


class Gradio(RealApp):
    name = "gradio"
    environment = {"GRADIO_ANALYTICS_ENABLED": "False"}

    def start_login(self, page: Page) -> None:
        page.goto(f"{self.url}/")
        page.get_by_role("link", name="Login").click()

    def is_signed_in(self, page: Page) -> bool:
        page.goto(f"{self.url}/")
        page.get_by_text("Welcome to Gradio, Alice").or_(page.get_by_text("Login")).wait_for()
        return page.get_by_text("Welcome to Gradio, Alice").count() > 0

    def log_out(self, page: Page) -> None:
        page.get_by_role("link", name="Logout").click()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gradio]:
    with running(Gradio, tmp_path_factory.mktemp("gradio")) as app:
        yield app


def test_the_pages_button_logs_out_at_the_provider(app: Gradio, page: Page) -> None:
    steps.log_out_at_the_provider(app, page)


def test_copied_cookies_are_worth_nothing_after_a_logout(app: Gradio, page: Page, new_page: steps.NewPage) -> None:
    steps.refuse_copied_cookies(app, page, new_page)


def test_a_logout_in_another_app_ends_the_session(app: Gradio, page: Page) -> None:
    steps.end_by_the_back_channel(app, page)


def test_a_logout_ends_the_stream_of_another_tab(app: Gradio, page: Page) -> None:
    """Gradio 6 has server-sent events, no WebSockets."""
    app.log_in(page)
    other = page.context.new_page()
    assert app.is_signed_in(other)
    other.get_by_role("button", name="Count").click()
    other.get_by_text("Counted to 1").wait_for()
    with other.expect_event("requestfinished", lambda ended: "/queue/data" in ended.url):
        app.log_out(page)
    counted = other.get_by_text("Counted to").text_content()
    other.wait_for_timeout(3000)
    assert other.get_by_text("Counted to").text_content() == counted
