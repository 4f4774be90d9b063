"""What a user at a shared computer sees, in Chromium, against two providers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from asgi_rp_logout import OIDCProvider
from demo.provider import Client, create_provider
from tests.conftest import Certificate, Serve, UnusedPort
from tests.interop.apps import CLIENT, client_metadata, create_app
from tests.interop.conftest import StartNode, asks_for_password, confirm_logout, sign_in

Issuer = Callable[[str], str]
Start = Callable[..., str]


@pytest.fixture
def demo_issuer(serve: Serve, unused_port: UnusedPort) -> Issuer:
    """Start the demo's provider for the application at a URL, and give its issuer."""

    def start(app_url: str) -> str:
        port = unused_port()
        client = Client(**CLIENT, redirect_uris=[f"{app_url}/callback"], post_logout_redirect_uris=[f"{app_url}/"])
        return serve(create_provider(f"http://127.0.0.1:{port}", [client], {"alice": "wonderland"}), port=port)

    return start


@pytest.fixture(params=["demo", "node"])
def issuer(request: pytest.FixtureRequest, oidc_provider: StartNode) -> Issuer:
    """As demo_issuer, for the demo's provider and for node-oidc-provider."""
    if request.param == "demo":
        demo_issuer: Issuer = request.getfixturevalue("demo_issuer")
        return demo_issuer
    return lambda app_url: oidc_provider([client_metadata(app_url)]).issuer


@pytest.fixture
def app(serve: Serve, unused_port: UnusedPort, certificate: Certificate) -> Start:
    """Start the application with the middleware, and give its URL."""

    def start(issuer: Issuer, rp_logout: dict[str, Any] | None = None, *, https: bool = False, **options: Any) -> str:
        port = unused_port()
        url = f"{'https' if https else 'http'}://localhost:{port}"
        provider = issuer(url)
        providers = [OIDCProvider(provider, CLIENT["client_id"], CLIENT["client_secret"])]
        rp_logout = {"providers": providers, **(rp_logout or {})}
        application = create_app(provider, https=https, rp_logout=rp_logout, **options)
        return serve(application, host="localhost", port=port, certificate=certificate if https else None)

    return start


def log_in(page: Page, url: str, *, then: str = "/") -> None:
    page.goto(f"{url}/login")
    assert asks_for_password(page)
    sign_in(page, "alice")
    expect(page.locator("#user")).to_have_text("alice")
    if then != "/":
        page.goto(f"{url}{then}")
        expect(page.locator("#user")).to_have_text("alice")


def cookie_names(page: Page, url: str) -> set[str]:
    return {cookie["name"] for cookie in page.context.cookies(url)}


def confirm_if_asked(page: Page, url: str) -> None:
    """Come back to the application's front page, by way of the provider's question if it has one."""
    page.wait_for_url(lambda now: now == f"{url}/" or "127.0.0.1" in now)
    if page.url != f"{url}/":
        confirm_logout(page)
    page.wait_for_url(f"{url}/")


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "outside"])
def test_after_a_logout_the_next_login_asks_for_a_password(
    page: Page, issuer: Issuer, app: Start, inside: bool
) -> None:
    url = app(issuer, inside=inside)
    log_in(page, url)

    page.get_by_role("button", name="/logout", exact=True).click()
    confirm_if_asked(page, url)
    expect(page.locator("#user")).to_have_text("nobody")

    page.goto(f"{url}/login")
    assert asks_for_password(page)


def test_after_a_logout_on_an_opted_out_route_the_next_login_asks_for_none(
    page: Page, issuer: Issuer, app: Start
) -> None:
    url = app(issuer)
    log_in(page, url)

    page.get_by_role("button", name="/logout-here").click()
    assert page.url == f"{url}/"
    expect(page.locator("#user")).to_have_text("nobody")

    page.goto(f"{url}/login")
    assert page.url == f"{url}/"
    expect(page.locator("#user")).to_have_text("alice")


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "outside"])
@pytest.mark.parametrize("session_cookie", ["__Host-session", "__Secure-session"])
def test_prefixed_cookies_are_gone_from_the_browser(
    page: Page, demo_issuer: Issuer, app: Start, session_cookie: str, inside: bool
) -> None:
    more = ["__Host-access", "__Secure-refresh"]
    url = app(
        demo_issuer,
        {"clear_cookies": more},
        https=True,
        session_cookie=session_cookie,
        more_cookies=more,
        inside=inside,
    )
    log_in(page, url)
    companion = set() if inside else {"__Host-rp_login"}
    assert cookie_names(page, url) == {session_cookie, *more} | companion

    page.get_by_role("button", name="/logout", exact=True).click()
    confirm_if_asked(page, url)
    assert cookie_names(page, url) <= {"__Host-rp_later"}  # of the middleware's own, for a second click

    page.goto(f"{url}/login")
    assert asks_for_password(page)


def test_without_the_middleware_prefixed_cookies_survive_a_logout(
    page: Page, serve: Serve, demo_issuer: Issuer, unused_port: UnusedPort, certificate: Certificate
) -> None:
    port, more = unused_port(), ["__Host-access", "__Secure-refresh"]
    url = f"https://localhost:{port}"
    serve(create_app(demo_issuer(url), https=True, more_cookies=more), port=port, certificate=certificate)
    log_in(page, url)

    page.get_by_role("button", name="/logout", exact=True).click()
    expect(page.locator("#user")).to_have_text("nobody")
    assert cookie_names(page, url) == set(more)


@pytest.mark.parametrize("name", ["htmx2", "htmx4", "inertia"])
def test_a_client_that_can_leave_the_page_goes_to_the_provider_at_once(
    page: Page, demo_issuer: Issuer, app: Start, console_errors: list[str], name: str
) -> None:
    url = app(demo_issuer)
    log_in(page, url, then=f"/pages/{name}")

    with page.expect_request(lambda request: "/end_session" in request.url and request.is_navigation_request()):
        page.get_by_role("button").click()
    confirm_if_asked(page, url)
    if name == "inertia":
        assert "409 (Conflict)" in console_errors.pop(), (
            "Chromium remarks on the status that Inertia's protocol asks for"
        )
    expect(page.locator("#user")).to_have_text("nobody")

    page.goto(f"{url}/login")
    assert asks_for_password(page)


@pytest.mark.parametrize("name", ["fetch", "turbo"])
def test_after_a_logout_by_fetch_the_next_navigation_goes_to_the_provider(
    page: Page, demo_issuer: Issuer, app: Start, name: str
) -> None:
    url = app(demo_issuer)
    log_in(page, url, then=f"/pages/{name}")

    page.get_by_role("button").click()
    page.wait_for_url(f"{url}/")
    expect(page.locator("#user")).to_have_text("nobody")
    page.goto(f"{url}/")
    page.wait_for_url(f"{url}/")

    page.goto(f"{url}/login")
    assert asks_for_password(page)
