"""The token relay before a provider that others have written: hint, `sid` and `sub` are known without `remember_login`.

`signs_out_with_a_hint` and `ends_with_the_providers_logout` take the issuer of any provider that has the application's
client (see `client_metadata`), and the browser's way to confirm a logout there, if it asks.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from playwright.sync_api import Page, expect
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from asgi_rp_logout import OIDCProvider, RPLogoutMiddleware, TokenRelay
from tests.conftest import Serve, UnusedPort
from tests.interop.apps import CLIENT, client_metadata
from tests.interop.conftest import NewPage, StartNode, asks_for_password, confirm_logout, sign_in
from tests.interop.keycloak import Realm

PAGE = "<!doctype html><p id=user>{}</p><form method=post action=/logout><button id=out>Log out</button></form>"


def unknowing_app(metadata_url: str, url: str, client: tuple[str, str], middleware: Middleware) -> ASGIApp:
    """Make an application that never calls `remember_login`; its provider's metadata URL is a setting."""

    async def ask(method: str, address: str, **request: Any) -> dict[str, Any]:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            answer: dict[str, Any] = (await http.request(method, address, **request)).raise_for_status().json()
            return answer

    async def login(request: Request) -> Response:
        provider = await ask("GET", metadata_url)
        request.session["state"] = secrets.token_urlsafe()
        query = {"response_type": "code", "scope": "openid", "client_id": client[0]}
        query |= {"redirect_uri": f"{url}/callback", "state": request.session["state"]}
        return RedirectResponse(f"{provider['authorization_endpoint']}?{urlencode(query)}", 303)

    async def callback(request: Request) -> Response:
        assert request.query_params["state"] == request.session.pop("state")
        form = {"grant_type": "authorization_code", "code": request.query_params["code"]}
        token_endpoint = (await ask("GET", metadata_url))["token_endpoint"]
        await ask("POST", token_endpoint, data={**form, "redirect_uri": f"{url}/callback"}, auth=client)
        request.session["user"] = "somebody"
        return RedirectResponse("/", 303)

    async def home(request: Request) -> Response:
        return HTMLResponse(PAGE.format(request.session.get("user", "nobody")), headers={"cache-control": "no-store"})

    async def logout(request: Request) -> Response:
        request.session.clear()
        return RedirectResponse("/", 303)

    routes = [Route("/", home), Route("/login", login), Route("/callback", callback)]
    return Starlette(
        routes=[*routes, Route("/logout", logout, methods=["POST"])],
        middleware=[Middleware(SessionMiddleware, "interop"), middleware],
    )


def serve_app(serve: Serve, issuer: str, url: str, relay_port: int, client_id: str = CLIENT["client_id"]) -> None:
    client = (client_id, CLIENT["client_secret"])
    provider = OIDCProvider(issuer, *client)
    relay = TokenRelay(provider, relay_port)
    options: dict[str, Any] = {"providers": [provider], "token_relay": relay, "freshness": 0}
    ours = Middleware(RPLogoutMiddleware, backchannel_path="/backchannel", **options)
    serve(unknowing_app(relay.metadata_url, url, client, ours), host="localhost", port=urlsplit(url).port)


def signs_in(page: Page, url: str) -> None:
    page.goto(f"{url}/login")
    sign_in(page)
    expect(page.locator("#user")).to_have_text("somebody")


def signs_out_with_a_hint(page: Page, issuer: str, url: str, confirm: Callable[[Page], None] | None) -> None:
    """Log out: the browser takes an ID Token to the provider, comes back, and the next login asks for a password."""
    signs_in(page, url)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator("#out").click()
    if confirm is not None:
        confirm(page)
    expect(page.locator("#user")).to_have_text("nobody")
    sent = [parse_qs(urlsplit(one).query) for one in asked if one.startswith(issuer)]
    assert any("id_token_hint" in query for query in sent), asked
    page.goto(f"{url}/login")
    assert asks_for_password(page)


def test_a_login_that_was_noticed_logs_out_with_a_hint(
    new_page: NewPage, serve: Serve, oidc_provider: StartNode, unused_port: UnusedPort
) -> None:
    url = f"http://localhost:{unused_port()}"
    issuer = oidc_provider([client_metadata(url)]).issuer
    serve_app(serve, issuer, url, unused_port())
    signs_out_with_a_hint(new_page(), issuer, url, confirm_logout)


def test_with_keycloak_the_hint_spares_the_question_whether_to_log_out(
    new_page: NewPage, serve: Serve, realm: Realm, unused_port: UnusedPort
) -> None:
    """Keycloak asks whoever comes without one: nothing is confirmed here."""
    url = f"http://localhost:{unused_port()}"
    realm.register(client_metadata(url))
    serve_app(serve, realm.issuer, url, unused_port())
    signs_out_with_a_hint(new_page(), realm.issuer, url, None)
    assert realm.sessions("alice") == []


def test_a_login_that_was_noticed_ends_with_a_logout_token_of_keycloak(
    new_page: NewPage, serve: Serve, realm: Realm, unused_port: UnusedPort
) -> None:
    """By the `sid` that was in the noticed ID Token; another browser's login goes on."""
    url = f"http://localhost:{unused_port()}"
    client = client_metadata(url, client_id="rp-back", backchannel_logout_uri=f"{url}/backchannel")
    realm.register(client)
    serve_app(serve, realm.issuer, url, unused_port(), client["client_id"])
    page, elsewhere = new_page(), new_page()
    signs_in(page, url)
    (sid,) = realm.sessions("alice")
    signs_in(elsewhere, url)
    realm.end_session(sid)
    for tab, user in ((page, "nobody"), (elsewhere, "somebody")):
        tab.goto(url)
        expect(tab.locator("#user")).to_have_text(user)


def test_a_login_that_was_noticed_ends_with_the_logout_at_the_provider(
    new_page: NewPage, serve: Serve, oidc_provider: StartNode, unused_port: UnusedPort
) -> None:
    """By a logout token with the `sid` that was in the noticed ID Token; another browser's login goes on."""
    url = f"http://localhost:{unused_port()}"
    back_channel = {"backchannel_logout_uri": f"{url}/backchannel", "backchannel_logout_session_required": True}
    provider = oidc_provider([client_metadata(url, **back_channel)])
    serve_app(serve, provider.issuer, url, unused_port())
    page, elsewhere = new_page(), new_page()
    for tab in (page, elsewhere):
        signs_in(tab, url)
    page.goto(f"{provider.issuer}/session/end")
    confirm_logout(page)
    assert provider.next_event()["event"] == "backchannel.success"
    for tab, user in ((page, "nobody"), (elsewhere, "somebody")):
        tab.goto(url)
        expect(tab.locator("#user")).to_have_text(user)
