"""Positive control: what a user sees without the middleware."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.conftest import Serve
from tests.interop.apps import client_metadata, create_app
from tests.interop.conftest import StartNode, asks_for_password, sign_in


def test_without_the_middleware_a_logged_out_user_is_signed_in_again_without_a_password(
    page: Page, serve: Serve, oidc_provider: StartNode, free_port: int
) -> None:
    url = f"http://localhost:{free_port}"
    provider = oidc_provider([client_metadata(url)])
    serve(create_app(provider.issuer), host="localhost", port=free_port)

    page.goto(f"{url}/login")
    assert page.url.startswith(provider.issuer)
    assert asks_for_password(page)
    sign_in(page, "alice")
    expect(page.locator("#user")).to_have_text("alice")

    page.get_by_role("button", name="/logout", exact=True).click()
    expect(page.locator("#user")).to_have_text("nobody")

    page.goto(f"{url}/login")
    assert page.url == f"{url}/"
    expect(page.locator("#user")).to_have_text("alice")
