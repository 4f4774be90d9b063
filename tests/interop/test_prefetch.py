"""A logout behind a link, and browsers and scripts that guess the next click."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.interop.scene import Scene, page_at, provider_visits, scene

LINK = "<!doctype html><title>App</title><p id=user>USER</p><a href=/sign-out>Log out</a>"
RULES = '<script type=speculationrules>{"%s": [{"urls": ["/sign-out"], "eagerness": "immediate"}]}</script>'
TURBO = "<script type=module src=/npm/@hotwired/turbo/dist/turbo.es2017-esm.js></script>"
GUESSES = {
    "link": ("prefetch", "<link rel=prefetch href=/sign-out>"),
    "rules-prefetch": ("prefetch", RULES % "prefetch"),
    "rules-prerender": ("prefetch;prerender", RULES % "prerender"),
}
PAGES = [page_at("/turbo", LINK + TURBO), *(page_at(f"/{name}", LINK + html) for name, (_, html) in GUESSES.items())]


@pytest.fixture(scope="module")
def app() -> Iterator[Scene]:
    with scene({}, *PAGES) as here:
        yield here


@pytest.fixture(scope="module")
def without_middleware() -> Iterator[Scene]:
    with scene(None, *PAGES) as here:
        yield here


@pytest.mark.parametrize("guess", GUESSES)
def test_a_guess_of_the_browser_logs_nobody_out_and_the_click_does(
    page: Page, app: Scene, console_errors: list[str], guess: str
) -> None:
    app.sign_in(page, then=f"/{guess}")
    arrival = app.await_answer(page, "/sign-out")
    assert arrival.headers["sec-purpose"] == GUESSES[guess][0]
    assert arrival.status == 503

    page.goto(f"{app.url}/{guess}")
    expect(page.locator("#user")).to_have_text("alice")
    assert app.is_in_at_provider(page)

    visits = provider_visits(page, app.issuer)
    page.get_by_text("Log out").click()
    page.wait_for_url(f"{app.url}/bye")
    expect(page.locator("#user")).to_have_text("nobody")
    assert len(visits) == 1
    assert not app.is_in_at_provider(page)
    console_errors[:] = [error for error in console_errors if "503" not in error]


@pytest.mark.parametrize("guess", GUESSES)
def test_without_the_middleware_the_same_guess_logs_the_user_out(
    page: Page, without_middleware: Scene, guess: str
) -> None:
    """The control."""
    without_middleware.sign_in(page, then=f"/{guess}")
    without_middleware.await_answer(page, "/sign-out")
    page.goto(f"{without_middleware.url}/")
    expect(page.locator("#user")).to_have_text("nobody")


def test_turbo_that_guesses_on_a_hover_logs_nobody_out_and_the_click_does(
    page: Page, app: Scene, console_errors: list[str]
) -> None:
    app.sign_in(page, then="/turbo")
    page.wait_for_function("window.Turbo !== undefined")
    visits = provider_visits(page, app.issuer)

    page.get_by_text("Log out").hover()
    arrival = app.await_answer(page, "/sign-out")
    assert arrival.headers["x-sec-purpose"] == "prefetch"
    assert arrival.status == 503
    assert page.evaluate("() => fetch('/').then(answer => answer.text())").count("alice") == 1
    assert app.is_in_at_provider(page)

    page.get_by_text("Log out").click()  # Turbo remembers the answer to its guess, and asks again
    page.wait_for_url(f"{app.url}/bye")
    expect(page.locator("#user")).to_have_text("nobody")
    assert len(visits) == 1
    assert not app.is_in_at_provider(page)
    console_errors[:] = [error for error in console_errors if "503" not in error]


def test_without_the_middleware_a_hover_under_turbo_logs_the_user_out(page: Page, without_middleware: Scene) -> None:
    """The control."""
    without_middleware.sign_in(page, then="/turbo")
    page.wait_for_function("window.Turbo !== undefined")
    page.get_by_text("Log out").hover()
    without_middleware.await_answer(page, "/bye")
    page.goto(f"{without_middleware.url}/")
    expect(page.locator("#user")).to_have_text("nobody")
