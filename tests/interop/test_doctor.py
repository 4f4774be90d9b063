"""The doctor before node-oidc-provider: what it can tell of a registration, and what it cannot."""

from __future__ import annotations

import pytest
from anyio.from_thread import start_blocking_portal

from asgi_rp_logout import OIDCProvider
from asgi_rp_logout.doctor import examine
from tests.interop.conftest import NodeProvider, StartNode
from tests.test_doctor import APP, inside

CLIENT = {
    "client_id": "dashboard",
    "client_secret": "secret",
    "redirect_uris": [f"{APP}/callback"],
    "post_logout_redirect_uris": [f"{APP}/"],
}


@pytest.fixture
def node(oidc_provider: StartNode) -> NodeProvider:
    return oidc_provider([CLIENT])


@pytest.mark.parametrize(
    ("client", "url", "expected"),
    [
        ("dashboard", APP, []),
        ("dashboard", "http://localhost:9000", ["registration.post_logout_uri"]),
        ("dashbord", APP, ["registration.client"]),
    ],
)
def test_what_a_real_provider_tells(node: NodeProvider, client: str, url: str, expected: list[str]) -> None:
    with start_blocking_portal() as portal:
        report = portal.call(examine.examine_app, inside(OIDCProvider(node.issuer, client)), url)
    assert [one.id for one in report.findings] == expected
