"""Firefox: what it sends differs from Chromium where a service worker passes pages on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tests.conftest import _served
from tests.interop.firefox import Firefox
from tests.interop.scene import Scene, page_at, scene
from tests.interop.test_service_worker import APP, PASS_ON, WITH_AN_INIT, script_at


@pytest.fixture(scope="module")
def app() -> Iterator[Scene]:
    routes = [script_at("/worker.js", PASS_ON), script_at("/init.js", WITH_AN_INIT)]
    pages = [page_at(f"/with-{name}", APP.replace("worker.js", f"{name}.js")) for name in ("worker", "init")]
    plain = page_at("/plain", APP.replace("navigator.serviceWorker.register('/worker.js')", ""))
    with scene({}, *routes, *pages, plain) as here:
        yield here


@pytest.fixture(scope="module", params=["plain", "with-worker", "with-init"])
def page(request: pytest.FixtureRequest) -> str:
    """The page that a browser is on; what registers a worker needs a browser of its own."""
    return str(request.param)


@pytest.fixture(scope="module")
def firefox(page: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    browser = Firefox(tmp_path_factory.mktemp("firefox"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    """A page of another site that posts a form by itself: `/?app=<URL>`."""

    async def page(request: Request) -> Response:
        form = f"<form method=post action={request.query_params['app']}/sign-out></form>"
        return HTMLResponse(f"<!doctype html>{form}<script>document.forms[0].submit()</script>")

    with _served(Starlette(routes=[Route("/", page)])) as url:
        yield url


def sign_in(firefox: Firefox, app: Scene) -> None:
    firefox.open(f"{app.url}/login")
    firefox.run(
        """const [name, password] = document.querySelectorAll('input[name=username], input[type=password]')
        name.value = 'alice'; password.value = 'wonderland'; name.form.requestSubmit()"""
    )
    firefox.wait(lambda: firefox.text("#user") == "alice" or None)
    app.arrivals.clear()
    app.provider.requests.clear()


def show(firefox: Firefox, app: Scene, page: str) -> None:
    """Open a page, and wait until its worker, if it has one, is at work."""
    firefox.open(f"{app.url}/{page}")
    if page != "plain":
        firefox.wait(lambda: firefox.run("return navigator.serviceWorker.controller !== null") or None)


@pytest.mark.parametrize("way", ["form button", "a", "#fetch"])
def test_a_logout_ends_at_the_provider(firefox: Firefox, app: Scene, page: str, way: str) -> None:
    """By a form, a link and a fetch; under a worker, pages come with the mode `same-origin` and no destination."""
    sign_in(firefox, app)
    show(firefox, app, page)
    firefox.click(way)
    firefox.wait_for_url(f"{app.url}/bye")
    assert firefox.text("#user") == "nobody"
    logout = app.at("/sign-out")[0]
    if way != "#fetch":
        expected = ("navigate", "document") if page == "plain" else ("same-origin", "empty")
        assert (logout.headers["sec-fetch-mode"], logout.headers["sec-fetch-dest"]) == expected
    assert len(app.provider.requests) == 1
    firefox.open(f"{app.url}/login")
    assert firefox.text("input[type=password]") is not None


def test_a_form_of_another_site_signs_nobody_out(firefox: Firefox, app: Scene, page: str, hostile: str) -> None:
    """It comes without the Lax cookie, and a worker passes it on as if it were the application's own."""
    sign_in(firefox, app)
    show(firefox, app, page)
    firefox.open(f"{hostile}/?app={app.url}")
    firefox.wait(lambda: firefox.url.startswith(f"{app.url}/bye") or None)
    (logout,) = app.at("/sign-out")
    assert "cookie" not in logout.headers
    expected = hostile if page == "plain" else app.url
    assert logout.headers["origin"] == expected
    firefox.open(f"{app.url}/plain")
    assert firefox.text("#user") == "alice"
    assert app.provider.requests == []
    firefox.click("form button")
    firefox.wait_for_url(f"{app.url}/bye")
