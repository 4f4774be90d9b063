"""The way back from the provider, by the one address that the middleware owns."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.interop.conftest import NewPage
from tests.interop.scene import Scene, page_at, scene

PAGE = "<!doctype html><title>App</title><form method=post action=/sign-out><button>Log out</button></form>"


@pytest.fixture(scope="module")
def app() -> Iterator[Scene]:
    with scene({"callback_path": "/signed-out"}, page_at("/page", PAGE)) as here:
        yield here


def test_a_logout_ends_on_the_page_that_the_application_wanted(page: Page, app: Scene) -> None:
    app.sign_in(page, then="/page")
    page.get_by_role("button").click()
    page.wait_for_url(f"{app.url}/bye?said=so%20long")
    expect(page.locator("#user")).to_have_text("nobody")
    assert app.provider.requests[0].params["post_logout_redirect_uri"] == f"{app.url}/signed-out"
    (kept,) = (cookie for cookie in page.context.cookies(app.url) if cookie["name"] == "rp_return")
    assert kept["expires"] < time.time() + 11  # for an answer that the browser drops, and no longer


def test_a_way_back_is_good_for_one_browser(new_page: NewPage) -> None:
    """The provider asks, and while it waits, another browser on its own way back uses the address of this one."""
    page, elsewhere = new_page(), new_page()
    with scene({"callback_path": "/signed-out"}, page_at("/page", PAGE), confirm="always") as app:
        for tab in (elsewhere, page):
            app.sign_in(tab, then="/page")
            tab.get_by_role("button").click()
            expect(tab.get_by_role("button", name="Yes, sign me out")).to_be_visible()
        way_back = f"{app.url}/signed-out?state={app.provider.requests[0].params['state']}"
        elsewhere.goto(way_back)
        assert elsewhere.url == f"{app.url}/"
        with page.expect_request(way_back):
            page.get_by_role("button", name="Yes, sign me out").click()
        page.wait_for_url(f"{app.url}/bye?said=so%20long")
