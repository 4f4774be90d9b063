"""A single-page application whose logout is a fetch: the browser lets it follow no redirect to the provider."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from asgi_rp_logout import remember_login
from tests.interop.scene import Scene, eventually, page_at, provider_visits, scene

SPA = """<!doctype html><title>Single-page app</title><p id=user>USER</p><button>Log out</button>
<script>
document.querySelector('button').onclick = () =>
  fetch('/auth/logout', {method: 'POST'}).then(() => location.assign('/login'))
</script>"""
STAYS = SPA.replace("location.assign('/login')", "document.title = 'Logged out'")
WANTS_JSON = SPA.replace("() => location.assign('/login')", "a => a.json()).then(a => location.assign(a.logout_url)")
OWN_REDIRECT = SPA.replace("/auth/logout", "/redirecting-logout")
ELSEWHERE = SPA.replace("/login", "/login-page?tab=1&q=a%20b")
PAGES = [
    page_at(path, html)
    for path, html in {
        "/spa": SPA,
        "/stays": STAYS,
        "/json": WANTS_JSON,
        "/elsewhere": ELSEWHERE,
        "/login-page": "<!doctype html><title>Please log in</title><p id=user>USER</p>",
    }.items()
]


async def password_login(request: Request) -> Response:
    """Sign bob in without the provider's page."""
    request.session["user"] = "bob"
    remember_login(request, sub="bob")
    return RedirectResponse("/", 303)


@pytest.fixture(scope="module")
def app() -> Iterator[Scene]:
    with scene({}, *PAGES, Route("/password", password_login, methods=["POST"])) as here:
        yield here


@pytest.fixture(scope="module")
def with_callback() -> Iterator[Scene]:
    with scene({"callback_path": "/signed-out"}, *PAGES) as here:
        yield here


def log_out(page: Page) -> None:
    """Press the button of a page that stays where it is, and wait for the answer to its fetch."""
    page.get_by_role("button", name="Log out").click()
    page.wait_for_function("document.title === 'Logged out'")


def test_a_page_that_knows_nothing_of_it_logs_out_at_the_provider_too(page: Page, app: Scene) -> None:
    """The fixture of the tab sees to it that there is no word in the console."""
    app.sign_in(page, then="/spa")
    visits = provider_visits(page, app.issuer)

    page.get_by_role("button").click()
    page.wait_for_url(f"{app.url}/bye")
    expect(page.locator("#user")).to_have_text("nobody")
    assert len(visits) == 1
    assert not app.is_in_at_provider(page)
    assert app.next_login_asks(page)


def test_only_the_first_navigation_goes_by_way_of_the_provider(page: Page, app: Scene) -> None:
    app.sign_in(page, then="/stays")
    log_out(page)
    visits = provider_visits(page, app.issuer)

    page.goto(f"{app.url}/spa")
    assert page.url == f"{app.url}/bye"
    assert len(visits) == 1
    for _ in range(2):
        page.goto(f"{app.url}/spa")
        assert page.url == f"{app.url}/spa"
    assert len(visits) == 1


@pytest.fixture(scope="module")
def without_middleware() -> Iterator[Scene]:
    async def redirecting(request: Request) -> Response:
        request.session.clear()
        return RedirectResponse(f"{here.issuer}/end_session?client_id=rp&post_logout_redirect_uri={here.url}/", 303)

    routes = [Route("/redirecting-logout", redirecting, methods=["POST"]), page_at("/redirecting", OWN_REDIRECT)]
    with scene(None, *PAGES, *routes) as here:
        yield here


@pytest.mark.parametrize("name", ["spa", "redirecting"])
def test_without_the_middleware_the_same_page_is_signed_in_again_without_a_password(
    page: Page, without_middleware: Scene, console_errors: list[str], name: str
) -> None:
    """The control. An application that redirects to the provider by itself only adds an error in the console."""
    here = without_middleware
    here.sign_in(page, then=f"/{name}")

    page.get_by_role("button").click()
    if name == "redirecting":  # the promise fails, so that the page does not even go on
        here.await_answer(page, "/redirecting-logout")
        eventually(page, lambda: "blocked by CORS policy" in " ".join(console_errors) or None)
    else:
        page.wait_for_url(f"{here.url}/")
    assert here.is_in_at_provider(page)
    assert not here.next_login_asks(page)
    expect(page.locator("#user")).to_have_text("alice")
    if name == "redirecting":
        console_errors.clear()


def test_a_page_that_wants_json_is_told_where_to_go(page: Page) -> None:
    with scene({"for_fetch": "json"}, *PAGES) as app:
        app.sign_in(page, then="/json")
        with page.expect_response("**/auth/logout") as answered:
            page.get_by_role("button").click()
        assert answered.value.status == 200
        page.wait_for_url(f"{app.url}/bye")
        assert not app.is_in_at_provider(page)
        assert app.next_login_asks(page)


WAITING: dict[str, tuple[str, dict[str, Any]]] = {
    "a fetch": ("fetch('/seen')", {"sec-fetch-dest": "empty"}),
    "an image": ("new Image().src = '/seen'", {"sec-fetch-dest": "image"}),
    "a frame": ("document.body.append(Object.assign(document.createElement('iframe'), {src: '/seen'}))", {
        "sec-fetch-dest": "iframe"
    }),
    "a prefetch": (
        "document.head.append(Object.assign(document.createElement('link'), {rel: 'prefetch', href: '/seen'}))",
        {"sec-purpose": "prefetch"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WAITING)
def test_a_waiting_logout_is_not_used_up_by(page: Page, app: Scene, console_errors: list[str], what: str) -> None:
    """By none of what a page may do before the user goes on, and the navigation after it finds the logout waiting."""
    app.sign_in(page, then="/stays")
    log_out(page)

    script, headers = WAITING[what]
    page.evaluate(f"() => void ({script})")
    arrival = app.await_answer(page, "/seen")
    assert {name: arrival.headers.get(name) for name in headers} == headers
    assert "rp_later=" in arrival.headers["cookie"]
    assert arrival.status == 404
    assert app.is_in_at_provider(page)

    page.goto(f"{app.url}/spa")
    assert page.url.startswith(f"{app.url}/bye")
    assert not app.is_in_at_provider(page)
    console_errors[:] = [error for error in console_errors if "/seen" not in error]


def test_a_waiting_logout_survives_a_soft_navigation(page: Page, app: Scene) -> None:
    app.sign_in(page, then="/stays")
    log_out(page)

    page.evaluate("() => history.pushState({}, '', '/spa')")
    page.evaluate("() => fetch('/spa').then(answer => answer.text())")
    assert page.url == f"{app.url}/spa"
    assert app.is_in_at_provider(page)

    page.reload()
    assert page.url == f"{app.url}/bye"
    assert not app.is_in_at_provider(page)


def test_a_waiting_logout_is_cancelled_by_a_new_login(page: Page, app: Scene) -> None:
    """Without the login, the same navigation goes to the provider: see the tests above."""
    app.sign_in(page, then="/stays")
    log_out(page)

    assert page.evaluate("() => fetch('/password', {method: 'POST'}).then(answer => answer.status)") == 200
    page.goto(f"{app.url}/spa")
    assert page.url == f"{app.url}/spa"
    expect(page.locator("#user")).to_have_text("bob")
    assert app.is_in_at_provider(page)
    assert "rp_later" not in {cookie["name"] for cookie in page.context.cookies(app.url)}


def test_with_a_callback_path_the_user_comes_back_to_the_page_that_was_asked_for(
    page: Page, with_callback: Scene
) -> None:
    app = with_callback
    app.sign_in(page, then="/elsewhere")
    visits = provider_visits(page, app.issuer)

    page.get_by_role("button").click()
    page.wait_for_url(f"{app.url}/login-page?tab=1&q=a%20b")
    expect(page.locator("#user")).to_have_text("nobody")
    assert len(visits) == 1
    assert not app.is_in_at_provider(page)


def test_with_a_callback_path_a_login_that_was_on_its_way_asks_for_the_password(
    page: Page, with_callback: Scene
) -> None:
    """The navigation to /login comes back to /login, and from there to the provider's form."""
    with_callback.sign_in(page, then="/spa")
    page.get_by_role("button").click()
    expect(page.locator("input[type=password]")).to_be_visible()
    assert not with_callback.is_in_at_provider(page)
