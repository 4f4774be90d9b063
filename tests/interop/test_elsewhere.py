"""Logouts that start elsewhere, as the pages of this application see them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from playwright.sync_api import Page, expect
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from asgi_rp_logout import OIDCProvider, current_login
from tests.conftest import Certificate, Serve, UnusedPort
from tests.interop.apps import CLIENT, client_metadata, create_app
from tests.interop.conftest import StartNode, confirm_logout, sign_in
from tests.interop.scene import LIVE, Scene, live, page_at, scene


@pytest.fixture(scope="module")
def app(certificate: Certificate) -> Iterator[Scene]:
    """An application whose cookies would come along into a frame, if the browser let third-party cookies pass."""
    options: dict[str, Any] = {"certificate": certificate, "same_site": "none"}
    rp_logout = {"frontchannel_path": "/frontchannel", "freshness": 0}
    front_channel = {"frontchannel_logout_uri": "/frontchannel"}
    routes = [page_at("/page", LIVE), page_at("/watch", EVENTS), Route("/events", events)]
    with scene(rp_logout, *routes, client=front_channel, **options) as here:
        yield here


@pytest.mark.parametrize("third_party_cookies", ["blocked", "allowed"])
def test_a_front_channel_logout_ends_the_session_whether_or_not_its_cookie_comes_along(
    request: pytest.FixtureRequest, app: Scene, third_party_cookies: str
) -> None:
    blocked = third_party_cookies == "blocked"
    page: Page = request.getfixturevalue("page" if blocked else "lenient_page")
    app.sign_in(page, then="/page")
    expect(page.locator("#state")).to_have_text("hello")

    other_tab = page.context.new_page()
    other_tab.goto(f"{app.issuer}/end_session")
    other_tab.get_by_role("button", name="Yes, sign me out").click()
    frame = app.await_answer(other_tab, "/frontchannel")
    assert (frame.status, frame.headers["sec-fetch-dest"]) == (200, "iframe")
    assert ("session=" in frame.headers.get("cookie", "")) is not blocked

    expect(page.locator("#state")).to_have_text("closed with 4401")
    page.goto(app.url)
    expect(page.locator("#user")).to_have_text("nobody")
    other_tab.close()


@pytest.fixture(scope="module")
def app_without_sids(certificate: Certificate) -> Iterator[Scene]:
    """The same with a provider whose frame names no session."""
    options: dict[str, Any] = {"certificate": certificate, "same_site": "none"}
    rp_logout = {"frontchannel_path": "/frontchannel", "frontchannel_session_required": False, "freshness": 0}
    client = {"frontchannel_logout_uri": "/frontchannel", "frontchannel_logout_session_required": False}
    with scene(rp_logout, client=client, **options) as here:
        yield here


@pytest.mark.parametrize("third_party_cookies", ["blocked", "allowed"])
def test_a_frame_that_names_no_session_ends_the_one_whose_cookie_comes_along(
    request: pytest.FixtureRequest, app_without_sids: Scene, third_party_cookies: str
) -> None:
    app, blocked = app_without_sids, third_party_cookies == "blocked"
    page: Page = request.getfixturevalue("page" if blocked else "lenient_page")
    app.sign_in(page)
    page.goto(f"{app.issuer}/end_session")
    page.get_by_role("button", name="Yes, sign me out").click()
    frame = app.await_answer(page, "/frontchannel")
    assert (frame.status, frame.headers["sec-fetch-dest"]) == (200, "iframe")
    page.goto(app.url)
    expect(page.locator("#user")).to_have_text("alice" if blocked else "nobody")


def test_a_logout_from_one_application_ends_the_other_and_its_websocket(
    page: Page, serve: Serve, oidc_provider: StartNode, unused_port: UnusedPort
) -> None:
    """Two clients of node-oidc-provider in one browser; it tells the other one by the back channel."""
    clients: list[dict[str, Any]] = [CLIENT, {**CLIENT, "client_id": "other"}]
    ports = [unused_port(), unused_port()]
    one, other = urls = [f"http://localhost:{port}" for port in ports]
    back_channel = [
        {"backchannel_logout_uri": f"{url}/backchannel", "backchannel_logout_session_required": True} for url in urls
    ]
    registered = [
        client_metadata(url, **client, **channel)
        for url, client, channel in zip(urls, clients, back_channel, strict=True)
    ]
    issuer = oidc_provider(registered).issuer
    for client, port in zip(clients, ports, strict=True):
        rp_logout = {"providers": [OIDCProvider(issuer, **client)], "backchannel_path": "/backchannel", "freshness": 0}
        cookie = f"session_{client['client_id']}"  # cookies do not tell ports apart
        routes = [page_at("/page", LIVE), WebSocketRoute("/live", live)]
        application = create_app(issuer, client=client, session_cookie=cookie, rp_logout=rp_logout, routes=routes)
        serve(application, host="localhost", port=port)

    page.goto(f"{one}/login")
    sign_in(page)
    expect(page.locator("#user")).to_have_text("alice")
    other_tab = page.context.new_page()
    other_tab.goto(f"{other}/login")
    assert other_tab.locator("input[type=password]").count() == 0
    other_tab.locator("form:has(input[name=prompt][value=consent]) button[type=submit]").click()
    other_tab.goto(f"{other}/page")
    expect(other_tab.locator("#user")).to_have_text("alice")
    expect(other_tab.locator("#state")).to_have_text("hello")

    page.get_by_role("button", name="/logout", exact=True).click()
    confirm_logout(page)
    page.wait_for_url(f"{one}/")
    expect(other_tab.locator("#state")).to_have_text("closed with 4401")
    other_tab.reload()
    expect(other_tab.locator("#user")).to_have_text("nobody")


EVENTS = """<!doctype html><title>Events</title><p id=state>connecting</p>
<script>
const source = new EventSource('/events')
const say = text => { document.querySelector('#state').textContent = text }
source.onmessage = event => say(event.data)
source.onerror = () => say(['connecting', 'open', 'closed'][source.readyState])
</script>"""


async def events(request: Request) -> Response:
    """Stream events to whoever is signed in, as docs/elsewhere.md says."""

    async def source() -> Any:
        yield b"data: hello\n\n"
        await anyio.sleep_forever()

    if not current_login(request):
        return Response(status_code=204)
    return StreamingResponse(source(), media_type="text/event-stream")


def test_an_event_source_whose_stream_has_ended_stays_closed_after_a_204(page: Page, app: Scene) -> None:
    app.sign_in(page, then="/watch")
    expect(page.locator("#state")).to_have_text("hello")
    page.evaluate("fetch('/logout', {method: 'POST'})")
    expect(page.locator("#state")).to_have_text("closed")
