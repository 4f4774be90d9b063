"""mlflow-oidc-auth, which redirects to the provider by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.real_apps import steps
from tests.real_apps.running import RealApp, running


class MLflow(RealApp):
    name = "mlflow_oidc_auth"
    claims = {"groups": ["mlflow"]}
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}

    def start_login(self, page: Page) -> None:
        page.goto(f"{self.url}/oidc/ui/auth")
        page.get_by_role("link", name="Login with OIDC").click()

    def is_signed_in(self, page: Page) -> bool:
        page.goto(f"{self.url}/oidc/ui/user")
        expect(self.log_out_link(page).or_(page.get_by_role("link", name="Login with OIDC"))).to_be_visible()
        return self.log_out_link(page).count() > 0

    def log_out(self, page: Page) -> None:
        self.log_out_link(page).click()

    def log_out_link(self, page: Page) -> Locator:
        return page.get_by_role("link", name="Logout").first


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflow]:
    with running(MLflow, tmp_path_factory.mktemp("mlflow")) as app:
        yield app


def test_the_pages_logout_link_logs_out_at_the_provider(app: MLflow, page: Page) -> None:
    steps.log_out_at_the_provider(app, page)


def test_copied_cookies_are_worth_nothing_after_a_logout(app: MLflow, page: Page, new_page: steps.NewPage) -> None:
    steps.refuse_copied_cookies(app, page, new_page)


def test_a_logout_in_another_app_ends_the_session(app: MLflow, page: Page) -> None:
    steps.end_by_the_back_channel(app, page)
