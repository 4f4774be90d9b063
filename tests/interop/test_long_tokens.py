"""ID Tokens that make a URL too long for somebody on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from asgi_rp_logout import OIDCProvider
from tests.conftest import Serve, UnusedPort
from tests.interop.apps import CLIENT, client_metadata, create_app
from tests.interop.conftest import NewPage, NodeProvider, StartNode, asks_for_password, confirm_logout, sign_in
from tests.interop.scene import Scene, eventually, log_out, page_at, scene

GROUPS = [f"/departments/{number}/members" for number in range(160)]


@pytest.fixture(scope="module")
def posting() -> Iterator[Scene]:
    with scene({}, claims={"groups": GROUPS}, oidc={"post": True}) as here:
        yield here


def only_request(app: Scene) -> tuple[str, dict[str, str]]:
    """Give the method and the parameters of the one request that the end-session endpoint got."""
    (request,) = app.provider.requests
    return request.method, dict(request.params)


@pytest.mark.parametrize("scripts", [True, False], ids=["by itself", "by its button"])
def test_a_long_hint_is_posted_by_a_form(new_page: NewPage, posting: Scene, scripts: bool) -> None:
    page: Page = new_page(java_script_enabled=scripts)
    posting.sign_in(page)
    page.get_by_role("button", name="/logout", exact=True).click()
    if not scripts:
        expect(page.get_by_text("You are being signed out.")).to_be_visible()
        assert posting.is_in_at_provider(page)
        page.get_by_role("button", name="Continue").click()
    page.wait_for_url(f"{posting.url}/")
    expect(page.locator("#user")).to_have_text("nobody")

    method, parameters = only_request(posting)
    assert method == "POST"
    assert len(parameters["id_token_hint"]) > 6000
    assert parameters["post_logout_redirect_uri"] == f"{posting.url}/"
    assert not posting.is_in_at_provider(page)
    assert posting.next_login_asks(page)


def test_without_post_a_long_hint_is_left_out_and_the_provider_asks(page: Page) -> None:
    with scene({}, claims={"groups": GROUPS}) as app:
        app.sign_in(page)
        page.get_by_role("button", name="/logout", exact=True).click()
        page.get_by_role("button", name="Yes, sign me out").click()
        page.wait_for_url(f"{app.url}/")
        assert only_request(app) == (
            "GET",
            {"client_id": CLIENT["client_id"], "post_logout_redirect_uri": f"{app.url}/"},
        )
        assert not app.is_in_at_provider(page)
        assert app.next_login_asks(page)


async def wordy(request: Request) -> Response:
    """A logout whose own headers leave little room."""
    response = await log_out(request)
    response.headers["x"] = "x" * 2500
    response.headers["content-security-policy"] = "default-src 'self'; sandbox"
    return response


WORDY_PAGE = "<!doctype html><title>App</title><form method=post action=/wordy><button>Log out</button></form>"


@pytest.fixture(scope="module")
def crowded() -> Iterator[Scene]:
    routes = [Route("/wordy", wordy, methods=["POST"]), page_at("/form", WORDY_PAGE)]
    with scene({"logout_path": ("/wordy", "/logout")}, *routes, claims={"groups": GROUPS[:30]}) as here:
        yield here


def only_hint(app: Scene) -> str:
    method, parameters = only_request(app)
    assert method == "GET"
    return parameters["id_token_hint"]


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_a_url_for_which_the_headers_have_no_room_is_followed_from_a_page(
    new_page: NewPage, crowded: Scene, scripts: bool
) -> None:
    page: Page = new_page(java_script_enabled=scripts)
    crowded.sign_in(page, then="/form")
    with page.expect_response(f"{crowded.url}/wordy") as answered:
        page.get_by_role("button").click()
    page.wait_for_url(f"{crowded.url}/bye")
    assert answered.value.status == 200
    expect(page.locator("#user")).to_have_text("nobody")
    assert len(only_hint(crowded)) > 1500
    assert not crowded.is_in_at_provider(page)

    page.go_back()  # the page has replaced itself
    page.wait_for_url(f"{crowded.url}/form")


StartApp = Callable[..., tuple[str, NodeProvider]]


@pytest.fixture
def node(serve: Serve, oidc_provider: StartNode, unused_port: UnusedPort) -> StartApp:
    """Serve an application that uses a node-oidc-provider with ID Tokens of more than 16 KB, the limit of Node."""

    def start(post: bool, **options: Any) -> tuple[str, NodeProvider]:
        url = f"http://localhost:{(port := unused_port())}"
        provider = oidc_provider(
            [client_metadata(url)],
            post=post,
            claims={"openid": ["sub", "sid", "groups"], "email": ["email"]},
            account={"groups": GROUPS * 3},
        )
        providers = [OIDCProvider(provider.issuer, CLIENT["client_id"], CLIENT["client_secret"], post=post)]
        application = create_app(provider.issuer, rp_logout={"providers": providers, **options})
        return serve(application, host="localhost", port=port), provider

    return start


def log_in_and_out(page: Page, url: str) -> None:
    page.goto(f"{url}/login")
    sign_in(page)
    expect(page.locator("#user")).to_have_text("alice")
    page.get_by_role("button", name="/logout", exact=True).click()


@pytest.mark.parametrize("post", [True, False], ids=["posted", "left out"])
def test_node_oidc_provider_never_gets_a_url_that_is_too_long(page: Page, node: StartApp, post: bool) -> None:
    url, provider = node(post)
    with page.expect_request(lambda request: request.url.startswith(f"{provider.issuer}/session/end")) as sent:
        log_in_and_out(page, url)
    confirm_logout(page)
    page.wait_for_url(f"{url}/")
    assert sent.value.method == ("POST" if post else "GET")
    assert ("id_token_hint" in (sent.value.post_data or "")) is post
    assert "id_token_hint" not in sent.value.url

    page.goto(f"{url}/login")
    assert asks_for_password(page)


def test_node_oidc_provider_answers_431_to_such_a_url(page: Page, node: StartApp, console_errors: list[str]) -> None:
    """The control: the limit is lifted."""
    url, provider = node(False, max_url_length=1_000_000)
    with page.expect_response(lambda response: response.url.startswith(f"{provider.issuer}/session/end")) as answered:
        log_in_and_out(page, url)
    assert answered.value.status == 431
    eventually(page, lambda: "431" in " ".join(console_errors) or None)
    page.goto(url)
    console_errors.clear()
