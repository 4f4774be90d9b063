"""The steps that every app is asked to take, in Chromium."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from playwright.sync_api import Page

from tests.real_apps.running import RealApp, copy_of

NewPage = Callable[[], Page]


def log_out_at_the_provider(app: RealApp, page: Page) -> None:
    """Log out in the app: the provider gets the ID Token and does not ask, and the next login asks for the password."""
    app.log_in(page)
    assert app.is_in_at_provider(page)
    app.provider.requests.clear()
    app.log_out_and_await_the_provider(page)
    assert app.provider.requests  # more than one of a page that goes to its login twice
    assert all("id_token_hint" in request.params for request in app.provider.requests)
    assert not app.is_signed_in(page)
    assert app.next_login_asks(page)


def refuse_copied_cookies(app: RealApp, page: Page, new_page: NewPage) -> None:
    """Log out: the cookies that were copied before are worth nothing, with and without the companion cookie."""
    app.log_in(page)
    copies = []
    for companion in (True, False):
        copies.append(new_page())
        copy_of(app, page.context, copies[-1].context, companion=companion)
        assert app.is_signed_in(copies[-1])
    app.log_out_and_await_the_provider(page)
    for copy in copies:
        assert not app.is_signed_in(copy)


def end_by_the_back_channel(app: RealApp, page: Page) -> None:
    """Log out in the second app: the provider's logout token ends the session here."""
    app.log_in(page)
    app.log_in_to_the_wiki(page)
    assert app.is_signed_in(page)
    app.provider.deliveries.clear()
    app.log_out_of_the_wiki(page)
    assert [(one.client_id, one.status) for one in app.provider.deliveries] == [("dashboard", 200)]
    assert not app.is_signed_in(page)
    assert app.next_login_asks(page)


def close_the_websocket(app: RealApp, page: Page) -> None:
    """Log out in one tab: the WebSocket of the app's own page in another tab is closed with 4401."""
    app.log_in(page)
    other = page.context.new_page()
    assert app.is_signed_in(other)
    other.wait_for_function("window.openSockets > 0")
    with other.expect_console_message(lambda message: message.text.startswith("WebSocket closed")) as closed:
        app.log_out(page)
    assert closed.value.text == "WebSocket closed with 4401"


def refuse_long_polling(app: RealApp, path: str) -> None:
    """Ask Socket.IO for a connection that no logout could close, as a sequence of requests."""
    polling = {"EIO": "4", "transport": "polling"}
    answer = httpx.get(f"{app.url}{path}", params=polling, trust_env=False)
    assert (answer.status_code, answer.json()) == (400, "Invalid transport")
