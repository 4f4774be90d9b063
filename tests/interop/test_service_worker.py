"""An installed application: a service worker passes on whatever its pages ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.interop.scene import Scene, page_at, provider_visits, scene

PASS_ON = """addEventListener('install', () => skipWaiting())
addEventListener('activate', event => event.waitUntil(clients.claim()))
addEventListener('fetch', event => event.respondWith(fetch(event.request)))"""
WITH_AN_INIT = PASS_ON.replace("event.request))", "event.request, {cache: 'no-store'}))")
APP = """<!doctype html><title>Installed</title><p id=user>USER</p>
<form method=post action=/sign-out><button>by a form</button></form>
<a href=/sign-out>by a link</a>
<button id=fetch>by a fetch</button>
<script>
navigator.serviceWorker.register('/worker.js')
document.querySelector('#fetch').onclick = () =>
  fetch('/sign-out', {method: 'POST'}).then(() => location.assign('/installed'))
</script>"""


def script_at(path: str, text: str) -> Route:
    """Make a script of the application."""

    async def endpoint(request: Request) -> Response:
        return Response(text, media_type="text/javascript")

    return Route(path, endpoint)


@pytest.fixture(scope="module", params=[PASS_ON, WITH_AN_INIT], ids=["as they are", "with an init"])
def app(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with scene({}, script_at("/worker.js", request.param), page_at("/installed", APP)) as here:
        yield here


@pytest.mark.parametrize("way", ["a form", "a link", "a fetch"])
def test_a_logout_under_a_service_worker_ends_at_the_provider(page: Page, app: Scene, way: str) -> None:
    app.sign_in(page, then="/installed")
    page.wait_for_function("navigator.serviceWorker.controller !== null")
    visits = provider_visits(page, app.issuer)

    page.get_by_text(f"by {way}").click()
    page.wait_for_url(f"{app.url}/bye")
    expect(page.locator("#user")).to_have_text("nobody")
    logout = app.at("/sign-out")[0]
    assert logout.headers["sec-fetch-dest"] == "empty"  # the worker's mark: without one it would be "document"
    assert len(visits) == 1
    assert not app.is_in_at_provider(page)
    assert app.next_login_asks(page)
