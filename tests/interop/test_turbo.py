"""Hotwire Turbo: it sends forms and follows links by fetch, and redirects with them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tests.interop.scene import Scene, eventually, page_at, provider_visits, scene

TURBO = """<!doctype html><title>Turbo</title>
<script type=module src=/npm/@hotwired/turbo/dist/turbo.es2017-esm.js></script>
<p id=user>USER</p>"""
FORM = "<form method={} action=/sign-out><button>Log out</button></form>"
WAYS = {
    "a form": ("POST", FORM.format("post")),
    "a form that says delete": ("DELETE", FORM.format("delete")),
    "a form in a frame": ("POST", f"<turbo-frame id=menu>{FORM.format('post')}</turbo-frame>"),
    "a link with data-turbo-method=delete": ("DELETE", "<a href=/sign-out data-turbo-method=delete>Log out</a>"),
    "a link with data-turbo-method=post": ("POST", "<a href=/sign-out data-turbo-method=post>Log out</a>"),
    "a link": ("GET", "<a href=/sign-out data-turbo-prefetch=false>Log out</a>"),
    "a link out of a frame": (
        "GET",
        "<turbo-frame id=menu target=_top><a href=/sign-out data-turbo-prefetch=false>Log out</a></turbo-frame>",
    ),
}
PAGES = {way: f"/turbo{number}" for number, way in enumerate(WAYS)}


@pytest.fixture(scope="module")
def app() -> Iterator[Scene]:
    with scene({}, *(page_at(PAGES[way], TURBO + html) for way, (_, html) in WAYS.items())) as here:
        yield here


@pytest.mark.parametrize("way", WAYS)
def test_turbo_leaves_for_the_provider_at_once(page: Page, app: Scene, way: str) -> None:
    app.sign_in(page, then=PAGES[way])
    page.wait_for_function("window.Turbo !== undefined")
    visits = provider_visits(page, app.issuer)

    page.get_by_text("Log out").click()
    page.wait_for_url(f"{app.url}/bye")
    expect(page.locator("#user")).to_have_text("nobody")
    first = app.at("/sign-out")[0]
    assert first.method == WAYS[way][0]
    assert "x-turbo-request-id" in first.headers
    assert len(visits) == 1
    assert not app.is_in_at_provider(page)
    assert app.next_login_asks(page)


def test_without_the_middleware_turbo_cannot_follow_a_redirect_to_the_provider(
    page: Page, console_errors: list[str]
) -> None:
    """The control: an application that redirects to the provider by itself."""

    async def redirecting(request: Request) -> Response:
        request.session.clear()
        return RedirectResponse(f"{here.issuer}/end_session?client_id=rp", 303)

    form = "<form method=post action=/redirecting><button>Log out</button></form>"
    route = Route("/redirecting", redirecting, methods=["POST"])
    with scene(None, route, page_at("/turbo", TURBO + form)) as here:
        here.sign_in(page, then="/turbo")
        page.wait_for_function("window.Turbo !== undefined")
        page.get_by_text("Log out").click()
        eventually(page, lambda: "blocked by CORS policy" in " ".join(console_errors) or None)
        assert page.url == f"{here.url}/turbo"
        assert here.is_in_at_provider(page)
        assert not here.next_login_asks(page)
        console_errors.clear()
