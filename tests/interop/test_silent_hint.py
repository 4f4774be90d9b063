"""Hint on demand in Chromium, at providers of different makes: an application that remembers nobody.

A further provider is one more entry of `PROVIDERS`: a function that starts it with the registration of the application,
and says whether it asks for a yes even if it gets a hint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from asgi_rp_logout import OIDCProvider, RPLogoutMiddleware
from asgi_rp_logout.providers.silent_hint import MOST_FAILURES
from demo.provider import Client, create_provider
from tests.conftest import Serve, UnusedPort
from tests.interop.apps import CLIENT, client_metadata, create_app
from tests.interop.conftest import PATIENCE, NewPage, StartNode, asks_for_password, confirm_logout, sign_in
from tests.interop.keycloak import Realm


@dataclass(frozen=True)
class Installation:
    """A provider with its users: where it is, how it is logged out of, and whether it asks although it has a hint."""

    issuer: str
    asks_with_hint: bool
    say_yes: Callable[[Page], None] = confirm_logout


Start = Callable[[dict[str, Any]], Installation]


@pytest.fixture
def node(oidc_provider: StartNode) -> Start:
    """node-oidc-provider: it always asks, as its default is."""
    return lambda metadata: Installation(oidc_provider([metadata]).issuer, asks_with_hint=True)


@pytest.fixture
def demo(serve: Serve, unused_port: UnusedPort) -> Start:
    """The demo's provider: it asks where it gets no hint for the browser's own session."""

    def start(metadata: dict[str, Any]) -> Installation:
        registered = {name: metadata[name] for name in ("redirect_uris", "post_logout_redirect_uris")}
        issuer = f"http://127.0.0.1:{(port := unused_port())}"
        serve(create_provider(issuer, [Client(**CLIENT, **registered)], {"alice": "wonderland"}), port=port)
        return Installation(
            issuer,
            asks_with_hint=False,
            say_yes=lambda page: page.get_by_role("button", name="Yes, sign me out").click(),
        )

    return start


@pytest.fixture
def in_keycloak(realm: Realm) -> Start:
    """A client of Keycloak, which the next test replaces: it asks where it gets no hint."""

    def start(metadata: dict[str, Any]) -> Installation:
        realm.unregister(metadata["client_id"])
        realm.register(metadata)
        return Installation(realm.issuer, asks_with_hint=False)

    return start


PROVIDERS = ["node", "demo", "in_keycloak"]


@dataclass
class Scene:
    """The application, its provider, and the documents that a tab has asked the provider for."""

    url: str
    provider: Installation

    def wait_until_asked(self) -> None:
        """Log out until the provider is asked first: a slow one may not have answered while the application started."""
        end = monotonic() + PATIENCE
        while (
            "prompt=none"
            not in httpx.post(f"{self.url}/logout", cookies={"session": "invented-" * 4}).headers["location"]
        ):
            assert monotonic() < end, "the provider is never asked"

    def sign_in(self, page: Page) -> list[str]:
        """Sign alice in; return the list to which the provider's documents are added from now on."""
        page.goto(f"{self.url}/login")
        assert asks_for_password(page)
        sign_in(page)
        expect(page.locator("#user")).not_to_have_text("nobody")
        visits: list[str] = []
        page.on("request", lambda request: visits.append(request.url) if request.is_navigation_request() else None)
        return visits

    def log_out(self, page: Page, *, asks: bool) -> None:
        page.get_by_role("button", name="/logout", exact=True).click()
        if asks:
            self.provider.say_yes(page)
        page.wait_for_url(f"{self.url}/")
        expect(page.locator("#user")).to_have_text("nobody")

    def next_login_asks(self, page: Page) -> bool:
        page.goto(f"{self.url}/login")
        return asks_for_password(page)


@pytest.fixture(params=PROVIDERS)
def make_scene(request: pytest.FixtureRequest, serve: Serve, unused_port: UnusedPort) -> Callable[..., Scene]:
    def make(*, registered: bool = True, **options: Any) -> Scene:
        url = f"http://localhost:{(port := unused_port())}"
        back = f"{url}/signed-out"
        addresses = [f"{url}/callback", *([back] if registered else [])]
        start: Start = request.getfixturevalue(request.param)
        provider = start(client_metadata(url, redirect_uris=addresses, post_logout_redirect_uris=[back]))
        oidc = OIDCProvider(provider.issuer, CLIENT["client_id"], CLIENT["client_secret"], silent_hint=True)
        app = RPLogoutMiddleware(
            create_app(provider.issuer), providers=[oidc], callback_path="/signed-out", public_url=url, **options
        )
        serve(app, host="localhost", port=port)
        scene = Scene(url, provider)
        if registered:
            scene.wait_until_asked()
        return scene

    return make


def test_the_provider_gets_a_hint_that_the_application_never_had(page: Page, make_scene: Callable[..., Scene]) -> None:
    scene = make_scene()
    visits = scene.sign_in(page)
    scene.log_out(page, asks=scene.provider.asks_with_hint)
    _, asked, came_back, end_session, *_ = visits
    assert asked.startswith(f"{scene.provider.issuer}/")
    assert "prompt=none" in asked
    assert came_back.startswith(f"{scene.url}/signed-out?")
    assert "code=" in came_back
    assert end_session.startswith(f"{scene.provider.issuer}/")
    assert "id_token_hint=" in end_session
    assert {cookie["name"] for cookie in page.context.cookies(scene.url)} <= {"rp_return", "rp_later"}
    assert scene.next_login_asks(page)


def test_nobody_signed_in_there_goes_on_without_a_hint(page: Page, make_scene: Callable[..., Scene]) -> None:
    scene = make_scene()
    visits = scene.sign_in(page)
    page.context.clear_cookies(domain="127.0.0.1")
    page.get_by_role("button", name="/logout", exact=True).click()
    page.wait_for_url(lambda url: "error=login_required" not in url and "prompt=none" not in url)
    came_back, end_session = visits[2:4]
    assert came_back.startswith(f"{scene.url}/signed-out?")
    assert "error=login_required" in came_back
    assert end_session.startswith(f"{scene.provider.issuer}/")
    assert "id_token_hint=" not in end_session


def test_where_the_address_is_not_registered_no_browser_is_sent(page: Page, make_scene: Callable[..., Scene]) -> None:
    """It would end on an error page of the provider, still signed in there."""
    scene = make_scene(registered=False)
    visits = scene.sign_in(page)
    scene.log_out(page, asks=True)
    assert not [url for url in visits if "prompt=none" in url]
    assert scene.next_login_asks(page)


def test_a_double_click_ends_there_too(page: Page, make_scene: Callable[..., Scene]) -> None:
    scene = make_scene()
    scene.sign_in(page)
    page.evaluate(
        "() => { const form = document.querySelector('form'); form.submit(); setTimeout(() => form.submit()) }"
    )
    if scene.provider.asks_with_hint:
        scene.provider.say_yes(page)
    page.wait_for_url(f"{scene.url}/")
    expect(page.locator("#user")).to_have_text("nobody")
    assert scene.next_login_asks(page)


def test_a_fetch_is_finished_by_way_of_the_trip(page: Page, make_scene: Callable[..., Scene]) -> None:
    scene = make_scene()
    visits = scene.sign_in(page)
    page.evaluate("() => fetch('/logout', {method: 'POST'})")
    assert not [url for url in visits if "prompt=none" in url]
    page.goto(f"{scene.url}/pages/home", wait_until="commit")
    if scene.provider.asks_with_hint:
        scene.provider.say_yes(page)
    page.wait_for_url(f"{scene.url}/pages/home")
    assert [url for url in visits if "id_token_hint=" in url]
    assert scene.next_login_asks(page)


def test_invented_errors_switch_nothing_off_and_invented_codes_do_so_for_a_while(
    make_scene: Callable[..., Scene],
) -> None:
    """Each provider has answered the probe with `login_required`, and refuses a code that it has not issued."""
    scene = make_scene()
    errors, codes = [("error", "interaction_required")] * (MOST_FAILURES + 1), [("code", "invented")] * MOST_FAILURES
    for name, value in errors + codes:
        with httpx.Client(base_url=scene.url, cookies={"session": "invented-" * 4}) as stranger:
            asked = httpx.URL(stranger.post("/logout").headers["location"])
            assert asked.params["prompt"] == "none"
            back = {"state": asked.params["state"], "iss": scene.provider.issuer, name: value}
            assert "prompt=none" not in stranger.get("/signed-out", params=back).headers["location"]
    location = httpx.post(f"{scene.url}/logout", cookies={"session": "invented-" * 4}).headers["location"]
    assert location.startswith(f"{scene.provider.issuer}/")
    assert "prompt=none" not in location


def test_the_back_button_logs_nobody_out_again(new_page: NewPage, make_scene: Callable[..., Scene]) -> None:
    page = new_page()
    scene = make_scene()
    visits = scene.sign_in(page)
    scene.log_out(page, asks=scene.provider.asks_with_hint)
    before = len([url for url in visits if "prompt=none" in url])
    page.go_back()
    page.wait_for_load_state()
    assert len([url for url in visits if "prompt=none" in url]) == before == 1
