"""A logout that starts at the provider: node-oidc-provider calls the middleware's back-channel endpoint."""

from __future__ import annotations

from playwright.sync_api import expect

from asgi_rp_logout import OIDCProvider
from tests.conftest import Serve
from tests.interop.apps import CLIENT, client_metadata, create_app
from tests.interop.conftest import NewPage, StartNode, confirm_logout, sign_in


def test_a_logout_at_the_provider_ends_that_browsers_session_here_and_no_other(
    new_page: NewPage, serve: Serve, oidc_provider: StartNode, free_port: int
) -> None:
    url = f"http://localhost:{free_port}"
    back_channel = {"backchannel_logout_uri": f"{url}/backchannel", "backchannel_logout_session_required": True}
    provider = oidc_provider([client_metadata(url, **back_channel)])
    rp_logout = {
        "providers": [OIDCProvider(provider.issuer, CLIENT["client_id"], CLIENT["client_secret"])],
        "backchannel_path": "/backchannel",
        "freshness": 0,
    }
    serve(create_app(provider.issuer, rp_logout=rp_logout), host="localhost", port=free_port)

    page, elsewhere = new_page(), new_page()
    for tab in (page, elsewhere):
        tab.goto(f"{url}/login")
        sign_in(tab, "alice")
        expect(tab.locator("#user")).to_have_text("alice")

    page.goto(f"{provider.issuer}/session/end")
    confirm_logout(page)
    report = provider.next_event()
    assert (report["event"], report["client"]) == ("backchannel.success", CLIENT["client_id"]), report

    page.goto(url)
    expect(page.locator("#user")).to_have_text("nobody")
    elsewhere.goto(url)
    expect(elsewhere.locator("#user")).to_have_text("alice")
