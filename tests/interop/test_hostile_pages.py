"""Pages of another site that want the user logged out: the provider's session is not theirs to end.

127.0.0.1 and localhost are two sites; the cookies of localhost go to 127.0.0.1 in no case.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tests.conftest import Certificate, _served
from tests.interop.scene import Scene, eventually, scene

FORM = "<form method=post action=APP/sign-out TARGET></form><script>document.forms[0].submit()</script>"
ATTACKS = {
    "an image": "<img src=APP/sign-out>",
    "a frame": "<iframe src=APP/sign-out></iframe>",
    "a form": FORM.replace("TARGET", ""),
    "a form into a frame": "<iframe name=frame></iframe>" + FORM.replace("TARGET", "target=frame"),
    "a no-cors fetch": "<script>"
    "fetch('APP/sign-out', {method: 'POST', mode: 'no-cors', credentials: 'include'})</script>",
    "a fetch": "<script>fetch('APP/sign-out', {method: 'POST', credentials: 'include'}).catch(() => 0)</script>",
    "a beacon": "<script>navigator.sendBeacon('APP/sign-out')</script>",
}


@pytest.fixture(scope="module")
def lax() -> Iterator[Scene]:
    with scene({}) as here:
        yield here


@pytest.fixture(scope="module")
def cross_site(certificate: Certificate) -> Iterator[Scene]:
    """An application with SameSite=None cookies, which browsers take on https only."""
    with scene({}, certificate=certificate, same_site="none") as here:
        yield here


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    """A page for each attack: `/?app=<URL>&attack=<name>`."""

    async def page(request: Request) -> Response:
        html = ATTACKS[request.query_params["attack"]].replace("APP", request.query_params["app"])
        return HTMLResponse(f"<!doctype html><title>Win a prize</title>{html}")

    with _served(Starlette(routes=[Route("/", page)])) as url:
        yield url


def attacked(page: Page, hostile: str, app: Scene, attack: str) -> str:
    """Open the hostile page, wait until its request was answered, and give the Cookie header that it came with."""
    page.goto(f"{hostile}/?app={app.url}&attack={attack}", wait_until="commit")
    arrival = app.await_answer(page, "/sign-out")
    assert arrival.headers["sec-fetch-site"] == "cross-site"
    if "form" in attack or attack == "a frame":  # the application's own answer is on its way
        eventually(page, lambda: app.at("/bye") or None)
    page.wait_for_load_state()
    return arrival.headers.get("cookie", "")


@pytest.mark.parametrize("attack", ATTACKS)
def test_with_lax_cookies_both_sessions_survive(
    page: Page, hostile: str, lax: Scene, console_errors: list[str], attack: str
) -> None:
    lax.sign_in(page)
    assert attacked(page, hostile, lax, attack) == ""
    assert lax.provider.requests == []

    page.goto(lax.url)
    assert page.url == f"{lax.url}/"
    expect(page.locator("#user")).to_have_text("alice")
    assert lax.is_in_at_provider(page)
    console_errors[:] = [error for error in console_errors if "CORS" not in error and "ERR_FAILED" not in error]


@pytest.mark.parametrize("attack", ATTACKS)
def test_with_cookies_for_all_sites_the_session_at_the_provider_survives(
    lenient_page: Page, hostile: str, cross_site: Scene, attack: str
) -> None:
    """The cookie came along, and this application has no other guard: its own session ends, and no more."""
    page, app = lenient_page, cross_site
    app.sign_in(page)
    assert "session=" in attacked(page, hostile, app, attack)
    assert app.provider.requests == []

    page.goto(app.url)
    assert page.url == f"{app.url}/"  # nothing was left behind that would go to the provider now
    expect(page.locator("#user")).to_have_text("nobody")
    assert app.is_in_at_provider(page)


@pytest.mark.parametrize("cookies", ["lax", "cross_site"])
def test_the_applications_own_button_ends_both_sessions(
    page: Page, request: pytest.FixtureRequest, cookies: str
) -> None:
    """The control."""
    app: Scene = request.getfixturevalue(cookies)
    app.sign_in(page)
    page.get_by_role("button", name="/logout", exact=True).click()
    page.wait_for_url(f"{app.url}/")
    expect(page.locator("#user")).to_have_text("nobody")
    assert len(app.provider.requests) == 1
    assert not app.is_in_at_provider(page)
