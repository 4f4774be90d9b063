"""Content-Security-Policy: Chromium holds a page's form-action against the redirect that follows its form."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tests.interop.scene import Scene, eventually, provider_visits, scene

PAGE = "<!doctype html><title>App</title><form method=post action=/sign-out><button>Log out</button></form>"


@pytest.fixture(scope="module")
def app() -> Iterator[Scene]:
    async def strict(request: Request) -> Response:
        more = [here.issuer] if "provider" in request.query_params else []
        return HTMLResponse(PAGE, headers={"content-security-policy": " ".join(["form-action 'self'", *more])})

    with scene({}, Route("/strict", strict)) as here:
        yield here


def test_form_action_self_keeps_a_logout_from_the_provider(page: Page, app: Scene, console_errors: list[str]) -> None:
    app.sign_in(page, then="/strict")
    page.get_by_role("button").click()
    eventually(page, lambda: "form-action" in " ".join(console_errors) or None)
    assert app.await_answer(page, "/sign-out").status == 303
    assert app.provider.requests == []
    assert app.is_in_at_provider(page)

    page.goto(app.url)
    expect(page.locator("#user")).to_have_text("nobody")
    console_errors.clear()


def test_form_action_with_the_origin_of_the_provider_lets_it_through(page: Page, app: Scene) -> None:
    app.sign_in(page, then="/strict?provider")
    visits = provider_visits(page, app.issuer)
    page.get_by_role("button").click()
    page.wait_for_url(f"{app.url}/bye")
    assert len(visits) == 1
    assert not app.is_in_at_provider(page)
