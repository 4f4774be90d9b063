"""Keycloak as it is downloaded: what its users see, and what it tells the application."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from asgi_rp_logout import OIDCProvider
from tests.conftest import Serve
from tests.interop.apps import CLIENT, client_metadata, create_app
from tests.interop.conftest import asks_for_password, sign_in
from tests.interop.keycloak import Realm


def test_a_logout_ends_the_session_at_keycloak(page: Page, serve: Serve, realm: Realm, free_port: int) -> None:
    url = f"http://localhost:{free_port}"
    realm.register(client_metadata(url))
    rp_logout = {"providers": [OIDCProvider(realm.issuer, CLIENT["client_id"], CLIENT["client_secret"])]}
    serve(create_app(realm.issuer, rp_logout=rp_logout), host="localhost", port=free_port)
    page.goto(f"{url}/login")
    sign_in(page)
    expect(page.locator("#user")).not_to_have_text("nobody")
    assert len(realm.sessions("alice")) == 1

    page.get_by_role("button", name="/logout", exact=True).click()
    page.wait_for_url(f"{url}/")
    expect(page.locator("#user")).to_have_text("nobody")
    assert realm.sessions("alice") == []
    page.goto(f"{url}/login")
    assert asks_for_password(page)
