"""Open WebUI, whose page goes to the provider by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.real_apps import steps
from tests.real_apps.running import EMAIL, RealApp, running


class OpenWebUI(RealApp):
    name = "open_webui"
    environment = {  # nothing is downloaded, and no model is asked
        "OFFLINE_MODE": "true",
        "RAG_EMBEDDING_ENGINE": "openai",
        "ENABLE_OLLAMA_API": "false",
        "ENABLE_OPENAI_API": "false",
        "DEFAULT_USER_ROLE": "user",
        "DATA_DIR": "data",
    }

    def start_login(self, page: Page) -> None:
        page.goto(f"{self.url}/auth")
        self.login_button(page).click()

    def is_signed_in(self, page: Page) -> bool:
        page.goto(f"{self.url}/")
        expect(self.user_menu(page).or_(self.login_button(page))).to_be_visible()
        return self.user_menu(page).count() > 0

    def log_out(self, page: Page) -> None:
        self.user_menu(page).click()
        page.get_by_role("menuitem", name="Sign Out").click()

    def login_button(self, page: Page) -> Locator:
        return page.get_by_role("button", name="Continue with")

    def user_menu(self, page: Page) -> Locator:
        return page.get_by_role("button", name="User menu").last


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenWebUI]:
    folder = tmp_path_factory.mktemp("open-webui")
    (folder / "data").mkdir()
    with running(OpenWebUI, folder) as app:
        # The first user is the administrator, who is shown what is new. Alice is the second.
        admin = {"name": "Admin", "email": "admin@example.com", "password": "a password of the app's own"}
        httpx.post(f"{app.url}/api/v1/auths/signup", json=admin).raise_for_status()
        yield app


def test_the_pages_sign_out_logs_out_at_the_provider(app: OpenWebUI, page: Page) -> None:
    steps.log_out_at_the_provider(app, page)


def test_copied_cookies_and_bearer_tokens_are_worth_nothing_after_a_logout(app: OpenWebUI, page: Page) -> None:
    app.log_in(page)
    cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies(app.url)}
    session_alone = {name: value for name, value in cookies.items() if name != "rp_login"}
    token = page.evaluate("localStorage.token")  # the page sends it as a bearer token, and no cookie would do
    copies = [headers(cookies), headers(session_alone), {"Authorization": f"Bearer {token}"}]
    for copy in copies:
        assert httpx.get(f"{app.url}/api/v1/auths/", headers=copy).json()["email"] == EMAIL
    app.log_out_and_await_the_provider(page)
    for copy in copies:
        assert httpx.get(f"{app.url}/api/v1/auths/", headers=copy).status_code == 401


def headers(cookies: Mapping[str, str]) -> Mapping[str, str]:
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}


def test_a_logout_in_another_app_ends_the_session(app: OpenWebUI, page: Page) -> None:
    steps.end_by_the_back_channel(app, page)


def test_a_logout_closes_the_websocket_of_another_tab(app: OpenWebUI, page: Page) -> None:
    steps.close_the_websocket(app, page)


def test_nobody_connects_by_long_polling_which_would_outlive_the_logout(app: OpenWebUI) -> None:
    steps.refuse_long_polling(app, "/ws/socket.io/")
