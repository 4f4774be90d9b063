"""Keycloak as it is downloaded: what its users see, and what it sends to the application."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from anyio.from_thread import start_blocking_portal
from playwright.sync_api import Page, expect

from asgi_rp_logout import AuthlibProvider, OIDCProvider
from asgi_rp_logout.login import unverified_claims
from tests.conftest import Log, UnusedPort
from tests.interop.apps import client_metadata, registered_client
from tests.interop.chaos import Proxy
from tests.interop.conftest import NewPage, confirm_logout
from tests.interop.keycloak import Keycloak, Realm, user
from tests.interop.relying_party import RelyingParty, relying_party
from tests.interop.scene import eventually

KINDS = ["OIDCProvider", "AuthlibProvider"]
GROUPS = [f"department-{number:03}" for number in range(200)]
IN_ID_TOKEN = {"claim.name": "groups", "full.path": "true", "id.token.claim": "true"}
GROUP_MAPPER = {"protocol": "openid-connect", "protocolMapper": "oidc-group-membership-mapper", "config": IN_ID_TOKEN}
Start = Callable[..., RelyingParty]


@pytest.fixture
def start(realm: Realm, unused_port: UnusedPort) -> Iterator[Start]:
    """Register an application and serve it: `start(kind, at=realm, client=, options=, **rp_logout)`.

    `client`: more of the registration, with paths of the application; `options` are those of the provider, and
    `rp_logout` those of the middleware. Besides: `fields` of Keycloak's own for the registration, another `issuer`, and
    `prefetch=False` for a provider that is not asked for its metadata when the application starts.
    """
    with ExitStack() as stack:

        def make(
            kind: str = "OIDCProvider",
            *,
            at: Realm = realm,
            client: Mapping[str, Any] | None = None,
            options: Mapping[str, Any] | None = None,
            **rp_logout: Any,
        ) -> RelyingParty:
            url = f"http://localhost:{unused_port()}"
            more = {name: f"{url}{path}" for name, path in (client or {}).items()}
            registered = client_metadata(url, client_id=f"rp-{secrets.token_hex(4)}", **more)
            at.register(registered, **rp_logout.pop("fields", {}))
            issuer = rp_logout.pop("issuer", at.issuer)
            oauth = registered_client(issuer, registered)
            provider = (
                OIDCProvider(issuer, registered["client_id"], registered["client_secret"], **(options or {}))
                if kind == "OIDCProvider"
                else AuthlibProvider(oauth.idp, **(options or {}))
            )
            providers = [provider] if rp_logout.pop("prefetch", True) else lambda: [provider]
            rp_logout = {"providers": providers, "freshness": 0, **rp_logout}
            return stack.enter_context(relying_party(issuer, registered, rp_logout=rp_logout, oauth=oauth))

        yield make


def log_out(page: Page, app: RelyingParty) -> dict[str, str]:
    """Press the button, and return the parameters with which the browser comes to Keycloak."""
    with page.expect_request(
        lambda request: urlsplit(request.url).path.endswith("/logout") and at_keycloak(request.url)
    ) as sent:
        app.log_out(page)
    return {name: value for name, (value,) in parse_qs(urlsplit(sent.value.url).query).items()}


def at_keycloak(url: str) -> bool:
    return urlsplit(url).hostname == "127.0.0.1"


# Logouts that start at the application


@pytest.mark.parametrize("kind", KINDS)
def test_a_logout_with_the_id_token_ends_the_session_without_a_question(
    page: Page, realm: Realm, start: Start, kind: str
) -> None:
    app = start(kind)
    app.sign_in(page)
    claims = app.claims(page)
    assert claims["sid"] in realm.sessions("alice")

    sent = log_out(page, app)
    app.expect_nobody(page)
    assert unverified_claims(sent["id_token_hint"]) == claims
    assert claims["sid"] not in realm.sessions("alice")
    assert app.next_login_asks(page)


def test_without_the_id_token_keycloak_asks_and_the_browser_comes_back(page: Page, realm: Realm, start: Start) -> None:
    app = start(options={"parameters": {"id_token_hint": None}})
    app.sign_in(page)
    sid = app.claims(page)["sid"]

    assert "id_token_hint" not in log_out(page, app)
    expect(page.locator("#kc-logout")).to_be_visible()
    assert sid in realm.sessions("alice")
    confirm_logout(page)
    app.expect_nobody(page)
    assert sid not in realm.sessions("alice")
    assert app.next_login_asks(page)


def test_an_id_token_that_has_expired_is_as_good_a_hint(page: Page, realm: Realm, start: Start) -> None:
    app = start(fields={"attributes": {"access.token.lifespan": "1"}})
    app.sign_in(page)
    expires = app.claims(page)["exp"]
    eventually(page, lambda: time.time() > expires + 1 or None)

    sent = log_out(page, app)
    app.expect_nobody(page)
    assert unverified_claims(sent["id_token_hint"])["exp"] == expires
    assert app.next_login_asks(page)


def test_an_address_that_is_not_registered_ends_on_an_error_page_and_at_keycloak_nothing_ends(
    page: Page, realm: Realm, start: Start, console_errors: list[str]
) -> None:
    """The application has forgotten its user all the same."""
    app = start(post_logout_redirect_uri="/page")
    app.sign_in(page)
    sid = app.claims(page)["sid"]

    assert log_out(page, app)["post_logout_redirect_uri"] == f"{app.url}/page"
    expect(page.get_by_text("Invalid redirect uri")).to_be_visible()
    assert at_keycloak(page.url)
    assert sid in realm.sessions("alice")
    page.goto(app.url)
    app.expect_nobody(page)
    assert not app.next_login_asks(page)
    console_errors[:] = [error for error in console_errors if "400 (Bad Request)" not in error]


def test_a_refresh_token_is_revoked(page: Page, realm: Realm, start: Start) -> None:
    """After a logout of the application alone, so that nothing else ends it at Keycloak."""
    app, other = start(options={"revoke": "refresh_token"}), start()
    for each in (app, other):
        each.sign_in(page)
        page.get_by_role("button", name="/logout-here").click()
        each.expect_nobody(page)

    def revoked() -> list[str]:
        return [event["clientId"] for event in realm.events("REVOKE_GRANT")]

    assert eventually(page, lambda: revoked() or None) == [app.client["client_id"]]


# Logouts that start elsewhere

BACK_CHANNEL = {"backchannel_logout_uri": "/backchannel"}
FRONT_CHANNEL = {"frontchannel_logout_uri": "/frontchannel"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_logout_from_one_application_ends_the_other_and_its_websocket(page: Page, start: Start, kind: str) -> None:
    one = start(kind)
    other = start(kind, client=BACK_CHANNEL, backchannel_path="/backchannel")
    one.sign_in(page)
    other_tab = page.context.new_page()
    other.sign_in(other_tab, then="/page")
    expect(other_tab.locator("#state")).to_have_text("hello")

    one.log_out(page)
    one.expect_nobody(page)
    expect(other_tab.locator("#state")).to_have_text("closed with 4401")
    assert [(arrival.method, arrival.status) for arrival in other.at("/backchannel")] == [("POST", 200)]
    other_tab.goto(other.url)
    other.expect_nobody(other_tab)


def test_a_logout_from_one_application_ends_the_other_by_a_frame(page: Page, start: Start) -> None:
    one = start()
    other = start(client=FRONT_CHANNEL, frontchannel_path="/frontchannel")
    one.sign_in(page)
    other_tab = page.context.new_page()
    other.sign_in(other_tab, then="/page")
    expect(other_tab.locator("#state")).to_have_text("hello")

    one.log_out(page)
    expect(other_tab.locator("#state")).to_have_text("closed with 4401")
    one.expect_nobody(page)
    (frame,) = other.at("/frontchannel")
    assert (frame.status, frame.headers["sec-fetch-dest"]) == (200, "iframe")
    other_tab.goto(other.url)
    other.expect_nobody(other_tab)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ends", ["one session", "all sessions of the user"])
def test_an_administrator_ends_a_session_and_a_copied_cookie_is_worth_nothing(
    new_page: NewPage, realm: Realm, start: Start, kind: str, ends: str
) -> None:
    app = start(kind, client=BACK_CHANNEL, backchannel_path="/backchannel")
    page, bystander, thief = new_page(), new_page(), new_page()
    app.sign_in(page, then="/page", user="alice")
    app.sign_in(bystander, user="bob")
    expect(page.locator("#state")).to_have_text("hello")
    thief.context.add_cookies(page.context.cookies(app.url))  # type: ignore[arg-type]
    thief.goto(app.url)
    expect(thief.locator("#user")).not_to_have_text("nobody")

    if ends == "one session":
        realm.end_session(app.claims(page)["sid"])
    else:
        realm.end_sessions_of("alice")
    expect(page.locator("#state")).to_have_text("closed with 4401")
    assert {arrival.status for arrival in app.at("/backchannel")} == {200}
    for tab in (page, thief):
        tab.goto(app.url)
        app.expect_nobody(tab)
    bystander.goto(app.url)
    expect(bystander.locator("#user")).not_to_have_text("nobody")


# What Keycloak's own state does to a logout


@pytest.mark.parametrize("post", [True, False], ids=["posted", "left out"])
def test_the_id_token_of_a_user_with_200_groups_is_in_no_header(
    page: Page, keycloak: Keycloak, start: Start, post: bool
) -> None:
    grace = user("grace", groups=[f"/{name}" for name in GROUPS])
    at = keycloak.realm(groups=[{"name": name} for name in GROUPS], users=[grace])
    app = start(at=at, fields={"protocolMappers": [{"name": "groups", **GROUP_MAPPER}]}, options={"post": post})
    app.sign_in(page, user="grace")
    assert len(app.claims(page)["groups"]) == len(GROUPS)

    with (
        page.expect_response(f"{app.url}/logout") as answered,
        page.expect_request(lambda request: at_keycloak(request.url)) as sent,
    ):
        app.log_out(page)
    headers = answered.value.headers_array()
    assert sum(len(f"{header['name']}: {header['value']}\r\n") for header in headers) < 4096
    assert ("id_token_hint" in (sent.value.post_data or "")) is post
    assert "id_token_hint" not in sent.value.url
    if not post:
        confirm_logout(page)
    app.expect_nobody(page)
    assert at.sessions("grace") == []


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_rotation_of_keys_old_hints_and_new_tokens_are_good(
    new_page: NewPage, keycloak: Keycloak, start: Start, kind: str
) -> None:
    at = keycloak.realm()
    app = start(kind, at=at, client=BACK_CHANNEL, backchannel_path="/backchannel")
    before, after, third = new_page(), new_page(), new_page()
    for page in (before, third):
        app.sign_in(page)
    at.end_session(app.claims(third)["sid"])  # the old keys are in the cache from here on
    third.goto(app.url)
    app.expect_nobody(third)

    old = at.signing_kid()
    assert at.rotate_keys() != old
    app.sign_in(after)
    at.end_session(app.claims(after)["sid"])
    assert [arrival.status for arrival in app.at("/backchannel")] == [200, 200]
    after.goto(app.url)
    app.expect_nobody(after)

    assert kid_of(log_out(before, app)["id_token_hint"]) == old
    app.expect_nobody(before)
    assert at.sessions("alice") == []


def kid_of(token: str) -> str:
    return str(unverified_claims(f".{token.partition('.')[0]}.")["kid"])


# Keycloak out of reach


class Entrance:
    """A port in front of Keycloak, whose issuers carry it; `close()`, and nobody listens there any more."""

    def __init__(self, stack: ExitStack, keycloak: Keycloak) -> None:
        port = urlsplit(keycloak.url).port
        assert port
        proxy = Proxy(port)
        portal = stack.enter_context(start_blocking_portal())
        self._open = stack.enter_context(ExitStack())
        self._open.enter_context(portal.wrap_async_context_manager(proxy.running()))
        self.url = f"http://127.0.0.1:{proxy.port}"

    def close(self) -> None:
        self._open.close()


@pytest.fixture
def entrance(keycloak: Keycloak) -> Iterator[Entrance]:
    with ExitStack() as stack:
        yield Entrance(stack, keycloak)


def test_a_keycloak_that_is_down_before_its_metadata_was_read_leaves_a_local_logout(
    page: Page, realm: Realm, start: Start, entrance: Entrance, log: Log
) -> None:
    app = start(issuer=f"{entrance.url}/realms/{realm.name}", prefetch=False)
    app.sign_in(page)
    copied = page.context.cookies(app.url)
    entrance.close()

    app.log_out(page)
    app.expect_nobody(page)
    assert [arrival.status for arrival in app.at("/logout")] == [303]
    page.context.add_cookies(copied)  # type: ignore[arg-type]
    page.goto(app.url)
    app.expect_nobody(page)
    assert len(log()) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_keycloak_that_is_down_later_leaves_a_local_logout(
    new_page: NewPage, realm: Realm, start: Start, entrance: Entrance, kind: str
) -> None:
    """The browser is on its way to an address that does not answer, as docs/failures.md says."""
    app = start(kind, issuer=f"{entrance.url}/realms/{realm.name}")
    first, page = new_page(), new_page()
    for each in (first, page):
        app.sign_in(each)
    app.log_out(first)
    app.expect_nobody(first)
    copied = page.context.cookies(app.url)
    entrance.close()

    app.log_out(page)
    page.wait_for_url("chrome-error://**")
    page.context.add_cookies(copied)  # type: ignore[arg-type]
    page.goto(app.url)
    app.expect_nobody(page)
    assert [arrival.status for arrival in app.at("/logout")] == [303, 303]


def test_a_keycloak_that_hangs_leaves_a_local_logout(page: Page, keycloak: Keycloak, start: Start, log: Log) -> None:
    app = start(provider_timeout=0.5, prefetch=False)
    app.sign_in(page)
    keycloak.pause()
    try:
        app.log_out(page)
        app.expect_nobody(page)
    finally:
        keycloak.resume()
    assert [arrival.status for arrival in app.at("/logout")] == [303]
    assert len(log()) == 1
