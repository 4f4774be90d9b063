"""Django with allauth, its sessions in the database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.real_apps import steps
from tests.real_apps.running import USER, RealApp, running


class Allauth(RealApp):
    name = "allauth"

    def start_login(self, page: Page) -> None:
        page.goto(f"{self.url}/accounts/login/")
        page.get_by_role("link", name="Acme").click()
        page.get_by_role("button", name="Continue").click()

    def is_signed_in(self, page: Page) -> bool:
        page.goto(f"{self.url}/")
        return page.locator("#user").text_content() == USER

    def log_out(self, page: Page) -> None:
        page.get_by_role("link", name="Sign out").click()
        page.get_by_role("button", name="Sign Out").click()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Allauth]:
    with running(Allauth, tmp_path_factory.mktemp("allauth")) as app:
        yield app


def test_the_logout_page_logs_out_at_the_provider(app: Allauth, page: Page) -> None:
    steps.log_out_at_the_provider(app, page)


def test_copied_cookies_are_worth_nothing_after_a_logout(app: Allauth, page: Page, new_page: steps.NewPage) -> None:
    steps.refuse_copied_cookies(app, page, new_page)


def test_a_logout_in_another_app_ends_the_session(app: Allauth, page: Page) -> None:
    steps.end_by_the_back_channel(app, page)
