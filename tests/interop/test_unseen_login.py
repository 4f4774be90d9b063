"""A logout by fetch waits for the next page, and meanwhile some page sends the browser through a login, unseen.

The provider's cookies are SameSite=None here, and the profile allows third-party cookies: otherwise a browser that is
not on its way to a document is nobody at the provider.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from asgi_rp_logout import Cookie
from tests.conftest import Certificate, _served
from tests.interop.scene import Arrival, Scene, page_at, scene
from tests.interop.test_fetch_logout import STAYS, log_out

FRAME = "const f = document.createElement('iframe'); f.src = URL; document.body.append(f)"
ATTACKS = {
    "image": "new Image().src = URL",
    "script": "const s = document.createElement('script'); s.src = URL; document.head.append(s)",
    "fetch": "fetch(URL, {mode: 'no-cors', credentials: 'include'})",
    "prefetch": "document.head.append(Object.assign(document.createElement('link'), {rel: 'prefetch', href: URL}))",
    "frame": FRAME,
    "nested-frame": FRAME.replace("f.src = URL", "f.srcdoc = `<iframe src=${URL}></iframe>`"),
    "object": "document.body.append(Object.assign(document.createElement('object'), {data: URL}))",
}
# A script that Playwright evaluates counts as clicked. So the pages do it by themselves.
ATTACKED = """<!doctype html><title>Comments</title><body><script>
fetch('/auth/logout', {method: 'POST'}).then(() => { ATTACK })</script>"""
HOSTILE = "<!doctype html><title>Win a prize</title><body><button>Play</button><script>ATTACK</script>"
FRAMED = STAYS + f'<button onclick="{FRAME.replace("URL", repr("/login"))}">Log in</button>'
OWN_PAGES = [
    page_at(f"/comments/{name}", ATTACKED.replace("ATTACK", script.replace("URL", "'/login'")))
    for name, script in ATTACKS.items()
]
PAGES = [page_at("/spa", STAYS), page_at("/framed", FRAMED), *OWN_PAGES]


@pytest.fixture(scope="module")
def lax() -> Iterator[Scene]:
    with scene({}, *PAGES, signs_in_anywhere=True) as here:
        yield here


@pytest.fixture(scope="module")
def cross_site(certificate: Certificate) -> Iterator[Scene]:
    """An application whose session cookie comes with requests of other sites, and is declared so."""
    options = {"session_cookie": Cookie("session", samesite="none")}
    with scene(
        options, *PAGES, certificate=certificate, same_site="none", signs_in_anywhere=True, inside=False
    ) as here:
        yield here


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    """A page for each attack: `/?app=<URL>&attack=<name>`."""

    async def page(request: Request) -> Response:
        script = ATTACKS[request.query_params["attack"]].replace("URL", f"'{request.query_params['app']}/login'")
        return HTMLResponse(HOSTILE.replace("ATTACK", script))

    with _served(Starlette(routes=[Route("/", page)])) as url:
        yield url


def log_out_and_be_attacked(page: Page, app: Scene, hostile: str, what: str) -> None:
    """Log out by fetch, and open a page of another site before the next page of the application."""
    app.sign_in(page, then="/spa")
    log_out(page)
    page.goto(f"{hostile}/?app={app.url}&attack={what}")


def expect_no_login(page: Page, app: Scene) -> None:
    """Expect that the login went through, that it has changed nothing, and that the next page finishes the logout."""
    arrival = app.await_answer(page, "/callback")
    assert signed_in(arrival)
    assert app.is_in_at_provider(page)

    page.goto(f"{app.url}/spa")
    page.wait_for_url(f"{app.url}/bye")
    expect(page.locator("#user")).to_have_text("nobody")
    assert not app.is_in_at_provider(page)


def signed_in(callback: Arrival) -> bool:
    """Tell whether the application has taken a callback for a login, that came while a logout was waiting."""
    return "rp_later=" in callback.headers["cookie"] and callback.status == 303


@pytest.mark.parametrize("what", ATTACKS)
def test_on_a_page_of_the_application_it_is_no_login(lenient_page: Page, lax: Scene, what: str) -> None:
    """What somebody else has put there, such as the address of an image in a comment."""
    lax.sign_in(lenient_page, then=f"/comments/{what}")
    expect_no_login(lenient_page, lax)


@pytest.mark.parametrize("what", ATTACKS)
def test_on_a_page_of_another_site_it_is_no_login(
    lenient_page: Page, hostile: str, cross_site: Scene, what: str
) -> None:
    log_out_and_be_attacked(lenient_page, cross_site, hostile, what)
    expect_no_login(lenient_page, cross_site)


@pytest.mark.parametrize("what", ["image", "frame"])
def test_with_lax_cookies_another_site_completes_no_login(
    lenient_page: Page, hostile: str, lax: Scene, what: str
) -> None:
    """The application has no state for the callback, whatever this package does."""
    log_out_and_be_attacked(lenient_page, lax, hostile, what)
    arrival = lax.await_answer(lenient_page, "/callback")
    assert (arrival.headers.get("cookie"), arrival.status) == (None, 500)


def test_the_control_a_frame_that_is_opened_by_a_click_signs_in(lenient_page: Page, lax: Scene) -> None:
    page = lenient_page
    lax.sign_in(page, then="/framed")
    log_out(page)
    page.get_by_role("button", name="Log in").click()
    arrival = lax.await_answer(page, "/callback")
    assert arrival.headers["sec-fetch-dest"] == "iframe"
    assert signed_in(arrival)
    page.goto(f"{lax.url}/spa")
    expect(page.locator("#user")).to_have_text("alice")
    assert lax.is_in_at_provider(page)
