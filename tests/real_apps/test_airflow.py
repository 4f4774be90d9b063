"""Airflow 3, with a login through its FAB auth manager."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.real_apps import steps
from tests.real_apps.running import RealApp, running


class Airflow(RealApp):
    name = "airflow"

    def start_login(self, page: Page) -> None:
        page.goto(f"{self.url}/")
        self.login_button(page).click()

    def is_signed_in(self, page: Page) -> bool:
        page.goto(f"{self.url}/")
        expect(self.user_menu(page).or_(self.login_button(page))).to_be_visible()
        return self.user_menu(page).count() > 0

    def log_out(self, page: Page) -> None:
        self.user_menu(page).click()
        page.get_by_role("menuitem", name="Logout").click()
        page.get_by_role("button", name="Confirm").click()

    def login_button(self, page: Page) -> Locator:
        return page.get_by_text("Sign In with acme")

    def user_menu(self, page: Page) -> Locator:
        return page.get_by_role("button", name="User", exact=True)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    with running(Airflow, tmp_path_factory.mktemp("airflow")) as app:
        yield app


def test_the_pages_logout_logs_out_at_the_provider(app: Airflow, page: Page) -> None:
    steps.log_out_at_the_provider(app, page)


def test_copied_cookies_are_worth_nothing_after_a_logout(app: Airflow, page: Page, new_page: steps.NewPage) -> None:
    steps.refuse_copied_cookies(app, page, new_page)


def test_a_logout_in_another_app_ends_the_session(app: Airflow, page: Page, new_page: steps.NewPage) -> None:
    steps.end_by_the_back_channel(app, page)
