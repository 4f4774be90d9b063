"""The same logouts at every provider. What each does is in seen.toml, and must be neither more nor less."""

from __future__ import annotations

import secrets
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Response, expect

from asgi_rp_logout import OIDCProvider
from tests.conftest import _free_port
from tests.interop import providers
from tests.interop.apps import client_metadata
from tests.interop.conftest import CONFIRM, NewPage, confirm_logout
from tests.interop.relying_party import RelyingParty, relying_party
from tests.interop.scene import eventually, page_at

SEEN = tomllib.loads((Path(__file__).parent / "seen.toml").read_text())
SPA = """<!doctype html><title>Single-page app</title><p id=user>USER</p><button>Log out</button>
<script>
document.querySelector('button').onclick = () =>
  fetch('/logout', {method: 'POST'}).then(() => location.assign('/'))
</script>"""
APPS: dict[str, dict[str, Any]] = {
    "usual": {},
    "without_hint": {"provider": {"parameters": {"id_token_hint": None}}},
    "posted": {"provider": {"post": True}, "max_url_length": 500},
    "unregistered": {"post_logout_redirect_uri": "/page"},
    "other": {"backchannel_path": "/backchannel"},
}
"""The applications of a provider: the options of the middleware and, as `provider`, those of OIDCProvider."""


class Place:
    """A provider that was started, and an application in each of the ways of APPS."""

    def __init__(self, name: str, start: providers.Start, stack: ExitStack) -> None:
        self.seen: Mapping[str, str] = SEEN[name]
        urls = {kind: f"http://localhost:{_free_port()}" for kind in APPS}
        clients = {kind: _client(kind.replace("_", "-"), url) for kind, url in urls.items()}
        if self.seen["back_channel"] != "not offered":
            clients["other"]["backchannel_logout_uri"] = f"{urls['other']}/backchannel"
        self.issuer = stack.enter_context(start(list(clients.values())))
        self._apps = {kind: stack.enter_context(self._serve(client, **APPS[kind])) for kind, client in clients.items()}

    def _serve(self, client: Mapping[str, Any], **options: Any) -> AbstractContextManager[RelyingParty]:
        more = options.pop("provider", {})
        provider = OIDCProvider(self.issuer, client["client_id"], client["client_secret"], **more)
        rp_logout = {"providers": [provider], "freshness": 0, **options}
        return relying_party(self.issuer, client, page_at("/spa", SPA), rp_logout=rp_logout)

    def app(self, kind: str = "usual") -> RelyingParty:
        return self._apps[kind]


def _client(name: str, url: str) -> dict[str, Any]:
    return client_metadata(url, client_id=name, client_secret=secrets.token_hex())


@pytest.fixture(scope="module", params=SEEN)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    name: str = request.param
    if name == "keycloak":
        start = providers.keycloak(request.getfixturevalue("keycloak"))
    else:
        start = getattr(providers, name)
    with ExitStack() as stack:
        yield Place(name, start, stack)


@pytest.fixture
def statuses(page: Page, console_errors: list[str]) -> Iterator[dict[str, int]]:
    """Note the status of each document that this tab shows; an error page may be noted in the console too."""
    seen: dict[str, int] = {}

    def note(response: Response) -> None:
        if response.request.is_navigation_request() and response.frame == page.main_frame:
            seen[response.url] = response.status

    page.on("response", note)
    yield seen
    console_errors[:] = [error for error in console_errors if "server responded with a status of" not in error]


def outcome(page: Page, app: RelyingParty, statuses: Mapping[str, int]) -> str:
    """Follow a logout to its end, by way of the provider's question, and see what became of the user.

    Whatever the provider does, the application has forgotten the user.
    """
    where = eventually(page, lambda: _where(page, app, statuses))
    if where == "asks":
        confirm_logout(page)
        page.locator(CONFIRM).wait_for(state="detached")
        where = f"asks, then {eventually(page, lambda: _where(page, app, statuses))}"
    page.goto(app.url)
    app.expect_nobody(page)
    return where if app.next_login_asks(page) else f"{where}, still signed in"


def _where(page: Page, app: RelyingParty, statuses: Mapping[str, int]) -> str | None:
    """Say where the browser is, or None if it is on its way."""
    if page.url.startswith(app.url):
        return "back" if page.locator("#user:text-is('nobody')").count() and page.url == f"{app.url}/" else None
    if page.locator(CONFIRM).count():
        return "asks"
    return "error page" if statuses.get(page.url, 200) >= 400 else None


def test_a_logout_by_a_form(page: Page, new_page: NewPage, place: Place, statuses: dict[str, int]) -> None:
    """At every provider, a cookie that was copied before the logout is worth nothing after it."""
    app, thief = place.app(), new_page()
    app.sign_in(page)
    thief.context.add_cookies(page.context.cookies(app.url))  # type: ignore[arg-type]
    thief.goto(app.url)
    expect(thief.locator("#user")).not_to_have_text("nobody")

    app.log_out(page)
    assert outcome(page, app, statuses) == place.seen["with_hint"]
    thief.goto(app.url)
    app.expect_nobody(thief)


@pytest.mark.parametrize("step", ["without_hint", "posted", "unregistered"])
def test_a_logout_by_a_form_of_another_application(
    page: Page, place: Place, statuses: dict[str, int], step: str
) -> None:
    app = place.app(step)
    app.sign_in(page)
    app.log_out(page)
    assert outcome(page, app, statuses) == place.seen[step]


def test_a_double_click(page: Page, place: Place, statuses: dict[str, int]) -> None:
    app = place.app()
    app.sign_in(page)
    page.get_by_role("button", name="/logout", exact=True).dblclick()
    assert outcome(page, app, statuses) == place.seen["double_click"]


def test_a_logout_by_fetch(page: Page, place: Place, statuses: dict[str, int]) -> None:
    """The next page that is opened goes by way of the provider."""
    app = place.app()
    app.sign_in(page, then="/spa")
    with page.expect_request(lambda request: request.url.startswith(place.issuer)):
        page.get_by_role("button").click()
    assert outcome(page, app, statuses) == place.seen["fetch"]


def test_a_logout_at_one_application_ends_the_other(page: Page, place: Place) -> None:
    metadata = httpx.get(f"{place.issuer}/.well-known/openid-configuration", trust_env=False).json()
    offered = metadata.get("backchannel_logout_supported", False)
    assert ("ended" if offered else "not offered") == place.seen["back_channel"]
    one, other = place.app(), place.app("other")
    one.sign_in(page)
    other_tab = page.context.new_page()
    other.sign_in(other_tab, then="/page")
    expect(other_tab.locator("#state")).to_have_text("hello")

    one.log_out(page)
    if place.seen["with_hint"].startswith("asks"):
        confirm_logout(page)
    one.expect_nobody(page)
    if offered:
        expect(other_tab.locator("#state")).to_have_text("closed with 4401")
    other_tab.goto(other.url)
    assert (other_tab.locator("#user").text_content() == "nobody") is offered
