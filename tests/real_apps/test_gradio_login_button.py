"""Gradio's own login, as in a Space: its client is hidden in a closure, and its metadata URL leads to the relay."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.real_apps import steps
from tests.real_apps.running import RealApp, running


class LoginButton(RealApp):
    name = "gradio_login_button"
    environment = {"GRADIO_ANALYTICS_ENABLED": "False"}
    claims = {"preferred_username": "alice", "profile": "", "picture": ""}  # Gradio wants these

    def start_login(self, page: Page) -> None:
        page.goto(f"{self.url}/")
        page.get_by_role("button", name="Sign in").click()

    def is_signed_in(self, page: Page) -> bool:
        page.goto(f"{self.url}/")
        page.get_by_text("Hello Alice!").or_(page.get_by_text("Please sign in.")).wait_for()
        return page.get_by_text("Hello Alice!").count() > 0

    def log_out(self, page: Page) -> None:
        page.get_by_role("button", name="Logout (alice)").click()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoginButton]:
    with running(LoginButton, tmp_path_factory.mktemp("gradio")) as app:
        yield app


def test_the_button_logs_out_at_the_provider(app: LoginButton, page: Page) -> None:
    steps.log_out_at_the_provider(app, page)


def test_copied_cookies_are_worth_nothing_after_a_logout(app: LoginButton, page: Page, new_page: steps.NewPage) -> None:
    steps.refuse_copied_cookies(app, page, new_page)


def test_a_logout_in_another_app_ends_the_session(app: LoginButton, page: Page) -> None:
    steps.end_by_the_back_channel(app, page)
