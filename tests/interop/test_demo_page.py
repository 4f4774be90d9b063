"""The demo's pages in Chromium: what a tab shows when its login ends, and how it fits a small window."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from anyio.from_thread import start_blocking_portal
from playwright.sync_api import Page, Route, WebSocketRoute, expect

from demo.serving import serving
from demo.world import Member, World, build
from tests.interop.conftest import asks_for_password, sign_in

NARROW = {"width": 320, "height": 640}


@pytest.fixture
def world() -> Iterator[World]:
    """The whole demo, as `python -m demo` runs it, on free ports."""
    world = build(0)
    apps = [(member.app, member.listener) for member in world.members]
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving(apps)):
        yield world


def enter(page: Page, app: Member, provider: str = "acme-id") -> None:
    """Sign in, with the password where it is asked for, and wait until the page is connected."""
    page.goto(f"{app.url}/login/{provider}")
    if asks_for_password(page):
        sign_in(page)
    expect(page.locator("#live")).to_have_text("Live")


def press(page: Page, button: str) -> None:
    page.get_by_role("button", name=button, exact=True).click()


def expect_signed_out(page: Page, app: Member) -> None:
    """Look at a tab that shows nothing of its login any more, and has one way on."""
    expect(page.locator("#live")).to_have_text("Signed out")
    expect(page).to_have_title(re.compile("^Signed out "))
    expect(page.get_by_text("You have been signed out.")).to_be_visible()
    assert page.locator("button, form").count() == 0
    assert "password" not in page.locator("main").inner_text()
    page.get_by_role("link", name="Sign in again").click()
    page.wait_for_url(f"{app.url}/login")


def log_out_in_another_tab(page: Page, world: World) -> None:
    page.goto(world.dashboard.url)
    press(page, "Log out")


def log_out_of_the_app_only_in_another_tab(page: Page, world: World) -> None:
    page.goto(world.dashboard.url)
    press(page, "Log out of this app only")


def log_out_of_another_app(page: Page, world: World) -> None:
    enter(page, world.wiki)
    press(page, "Log out")


def sign_out_at_the_provider(page: Page, world: World) -> None:
    page.goto(world.acme.url)
    press(page, "Sign out everywhere")
    press(page, "Yes, sign me out")


@pytest.mark.parametrize(
    "elsewhere",
    [
        log_out_in_another_tab,
        log_out_of_the_app_only_in_another_tab,
        log_out_of_another_app,
        sign_out_at_the_provider,
    ],
)
def test_a_tab_whose_login_ends_elsewhere_has_no_button_of_it_any_more(
    world: World, page: Page, elsewhere: Callable[[Page, World], None]
) -> None:
    """No logout of a session that is gone, and no word about what the next login asks for."""
    enter(page, world.dashboard)
    assert page.locator("main button").count() == 2
    elsewhere(page.context.new_page(), world)
    expect_signed_out(page, world.dashboard)


def test_a_sign_out_at_the_provider_of_the_front_channel_reaches_the_tab_too(world: World, page: Page) -> None:
    enter(page, world.dashboard, "globex-login")
    other = page.context.new_page()
    other.goto(world.globex.url)
    press(other, "Sign out everywhere")
    press(other, "Yes, sign me out")
    expect_signed_out(page, world.dashboard)


def test_a_tab_that_connects_again_after_another_login_does_not_take_it_for_its_own(world: World, page: Page) -> None:
    """It was offline during a logout and the next login of the same browser."""
    sockets: list[WebSocketRoute] = []
    offline = False

    def connect(socket: WebSocketRoute) -> None:
        if offline:
            socket.close(code=1001)
            return
        socket.connect_to_server()
        sockets.append(socket)

    page.route_web_socket(re.compile("/live"), connect)
    enter(page, world.dashboard)
    offline = True
    sockets.pop().close(code=1001)
    expect(page.locator("#live")).to_have_text("Reconnecting")
    other = page.context.new_page()
    log_out_in_another_tab(other, world)
    other.wait_for_url(f"{world.dashboard.url}/login")
    enter(other, world.dashboard)
    offline = False
    expect(page.locator("#live")).to_have_text("Signed out")
    assert page.locator("button, form").count() == 0
    expect(other.locator("#live")).to_have_text("Live")
    assert other.locator("main button").count() == 2


def test_a_logout_whose_way_to_the_provider_is_stopped_leaves_no_button_behind(world: World, page: Page) -> None:
    """The app's session has ended by then, although the page of the login is still there."""

    def stop(route: Route) -> None:
        route.fetch(max_redirects=0)
        route.abort("aborted")

    enter(page, world.dashboard)
    page.route(f"{world.dashboard.url}/auth/logout", stop)
    press(page, "Log out")
    expect_signed_out(page, world.dashboard)


def test_no_page_scrolls_sideways_in_a_window_of_320_pixels(world: World, new_page: Callable[..., Page]) -> None:
    page = new_page(viewport=NARROW)

    def check() -> None:
        """Compare the page with its window."""
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], page.url

    def visit(url: str) -> None:
        page.goto(url)
        check()

    for app in (world.dashboard, world.wiki, world.plain):
        visit(f"{app.url}/login")
    visit(world.acme.url)
    visit(f"{world.dashboard.url}/login/acme-id")
    for app in (world.dashboard, world.wiki, world.plain):
        enter(page, app)
        check()
    visit(world.acme.url)
    visit(f"{world.acme.url}/end_session")
    for app in (world.plain, world.dashboard):
        page.goto(app.url)
        press(page, "Log out")
        page.wait_for_url(f"{app.url}/login")
        check()
    visit(world.wiki.url)
    enter(page, world.dashboard, "globex-login")
    log_out_in_another_tab(page.context.new_page(), world)
    expect(page.locator("#live")).to_have_text("Signed out")
    check()
    page.evaluate("document.body.style.width = '321px'")
    assert page.evaluate("document.documentElement.scrollWidth") > NARROW["width"]
