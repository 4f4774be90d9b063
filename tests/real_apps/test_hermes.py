"""The dashboard of Hermes Agent, with a user plugin: alone, over https, behind nginx, and with two providers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from playwright.sync_api import Locator, Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from demo.provider import Client, create_provider
from tests.conftest import Certificate, _free_port, _served
from tests.interop.conftest import run_nginx
from tests.real_apps import steps
from tests.real_apps.recipe import APP_PORT, CLIENT_ID, CLIENT_SECRET, PAGES, Recipe, read_recipe
from tests.real_apps.running import PASSWORD, USER, RealApp, copy_of, running

PLUGIN = ".hermes/plugins/rp-logout/__init__.py"
START = "hermes dashboard"


class Hermes(RealApp):
    name = "hermes"
    host = "127.0.0.2"
    public_port = 0
    link = "Sign in with Self-Hosted OIDC"

    def start_login(self, page: Page) -> None:
        page.goto(f"{self.url}/login")
        page.get_by_role("link", name=self.link).click()

    def is_signed_in(self, page: Page) -> bool:
        page.goto(f"{self.url}/sessions")  # without a session Hermes goes to the provider by itself, but not twice
        elsewhere = page.locator("input[type=password]").or_(page.get_by_role("link", name=self.link))
        expect(self.log_out_button(page).or_(elsewhere)).to_be_visible()
        return self.log_out_button(page).count() > 0

    def log_out(self, page: Page) -> None:
        self.log_out_button(page).click()

    def log_out_button(self, page: Page) -> Locator:
        return page.get_by_role("button", name="Log out")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hermes]:
    with running(Hermes, tmp_path_factory.mktemp("hermes")) as app:
        yield app


def test_the_plugin_has_at_most_20_lines_of_code() -> None:
    lines = read_recipe("hermes", "https://id.example.com", APP_PORT, 1).files[PLUGIN].splitlines()
    assert 1 < len([line for line in lines if line.strip() and not line.startswith("#")]) <= 20


def test_the_pages_logout_button_logs_out_at_the_provider(app: Hermes, page: Page) -> None:
    steps.log_out_at_the_provider(app, page)


def test_copied_cookies_are_worth_nothing_after_a_logout(app: Hermes, page: Page, new_page: steps.NewPage) -> None:
    steps.refuse_copied_cookies(app, page, new_page)


def test_a_logout_in_another_app_ends_the_session(app: Hermes, page: Page) -> None:
    steps.end_by_the_back_channel(app, page)


def test_a_logout_closes_the_websocket_of_another_tab(app: Hermes, page: Page) -> None:
    steps.close_the_websocket(app, page)


@pytest.mark.parametrize("click", [Locator.click, Locator.dblclick], ids=["once", "twice"])
def test_a_click_300_ms_after_the_page_shows_logs_out_at_the_provider(
    app: Hermes, page: Page, click: Callable[[Locator], None]
) -> None:
    app.log_in(page)
    app.provider.requests.clear()
    page.goto(f"{app.url}/sessions", wait_until="commit")
    expect(app.log_out_button(page)).to_be_visible()
    page.wait_for_timeout(300)  # what the page shows is still being fetched
    click(app.log_out_button(page))
    page.wait_for_url(f"{app.url}/login")
    assert not app.is_in_at_provider(page)
    assert "id_token_hint" in app.provider.requests[0].params
    assert not app.is_signed_in(page)
    assert app.next_login_asks(page)


def test_a_logout_after_a_restart_reaches_the_provider_too(tmp_path: Path, page: Page) -> None:
    class Restarting(Hermes):
        port = _free_port()

    with running(Restarting, tmp_path) as app:
        app.log_in(page)
        app.restart()
        assert app.is_signed_in(page)
        app.provider.requests.clear()
        app.log_out_and_await_the_provider(page)
        assert "id_token_hint" in app.provider.requests[0].params
        assert app.next_login_asks(page)


# Behind a proxy


def test_over_https_the_prefixed_cookies_die_too(
    tmp_path: Path, certificate: Certificate, page: Page, new_page: steps.NewPage
) -> None:
    header = "proxy_set_header X-Forwarded-Proto https; proxy_set_header Host $http_host;"
    upgrade = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;"

    class OverHTTPS(Hermes):
        port = _free_port()
        public_port = _free_port()
        public_url = f"https://{Hermes.host}:{public_port}"

    location = f"location / {{ proxy_pass http://{Hermes.host}:{OverHTTPS.port}; {header} {upgrade} }}"
    with behind_nginx(OverHTTPS, tmp_path, certificate, location) as app:
        app.log_in(page)
        names = {cookie["name"] for cookie in page.context.cookies(app.url)}
        assert {"__Host-hermes_session_at", "__Host-hermes_session_rt", "__Host-rp_login"} <= names
        check_logout(app, page, new_page())


def test_behind_nginx_with_a_prefix_the_cookies_of_the_prefix_die_too(
    tmp_path: Path, certificate: Certificate, page: Page, new_page: steps.NewPage
) -> None:
    class Prefixed(Hermes):
        port = _free_port()
        public_port = _free_port()
        public_url = f"https://{Hermes.host}:{public_port}/hermes"
        environment = {"HERMES_DASHBOARD_PUBLIC_URL": public_url}

    with behind_nginx(Prefixed, tmp_path, certificate, f"include {tmp_path}/hermes.conf;") as app:
        app.log_in(page)
        places = {(cookie["name"], cookie["path"]) for cookie in page.context.cookies(app.url)}
        assert {("__Secure-hermes_session_at", "/hermes"), ("__Secure-hermes_session_rt", "/hermes")} <= places
        check_logout(app, page, new_page())


@contextmanager
def behind_nginx(kind: type[Hermes], folder: Path, certificate: Certificate, location: str) -> Iterator[Hermes]:
    """Run Hermes with nginx before it, which takes https off."""
    port = kind.public_port
    tls = f"ssl_certificate {certificate.cert}; ssl_certificate_key {certificate.key};"
    server = f"listen {Hermes.host}:{port} ssl; {tls} {location}"
    with running(kind, folder) as app, run_nginx(folder, port, server, Hermes.host):
        yield app


def check_logout(app: Hermes, page: Page, copy: Page) -> None:
    """Log out: the provider gets the ID Token, the browser comes back without cookies, and a copy is worth nothing."""
    copy_of(app, page.context, copy.context, companion=False)
    assert app.is_signed_in(copy)
    assert app.is_signed_in(page)
    app.provider.requests.clear()
    app.log_out_and_await_the_provider(page)
    page.wait_for_url(f"{app.url}/login")
    assert "id_token_hint" in app.provider.requests[0].params
    names = {one["name"] for one in page.context.cookies(app.url) if "hermes_session" in one["name"]}
    assert names <= {"__Host-hermes_session_pkce", "__Secure-hermes_session_pkce"}  # of a login that begins
    assert not app.is_signed_in(copy)
    assert app.next_login_asks(page)


# Several providers


def test_with_two_providers_the_browser_goes_to_the_one_that_signed_the_user_in(tmp_path: Path, page: Page) -> None:
    issuer = f"http://127.0.0.1:{(provider_port := _free_port())}"
    whole, line = (block.replace("https://id.partner.example", issuer) for block in blocks_about_partner())

    class WithPartner(Hermes):
        port = _free_port()

        @classmethod
        def amended(cls, recipe: Recipe) -> Recipe:
            files = {
                **recipe.files,
                PLUGIN: recipe.files[PLUGIN].replace("\n\ndef remember", f"\n{line}\n\ndef remember"),
                ".hermes/plugins/partner/__init__.py": whole,
                ".hermes/plugins/partner/plugin.yaml": "name: partner\nversion: '1.0'\ndescription: A second one\n",
            }
            enable = "hermes plugins enable partner --no-allow-tool-override\n"
            return replace(recipe, files=files, commands=recipe.commands.replace(START, f"{enable}{START}"))

    class AtPartner(WithPartner):
        link = "Sign in with Partner"

    address = f"http://{Hermes.host}:{WithPartner.port}"
    client = Client(CLIENT_ID, CLIENT_SECRET, [f"{address}/auth/callback"], [f"{address}/login"])
    partner = create_provider(issuer, [client], {USER: PASSWORD})
    with running(WithPartner, tmp_path) as app, _served(partner, port=provider_port):
        there = AtPartner(app.url, issuer, app.wiki, partner.state.provider)
        for own, other in ((there, app), (app, there)):
            own.log_in(page)
            own.provider.requests.clear()
            other.provider.requests.clear()
            own.log_out_and_await_the_provider(page)
            assert "id_token_hint" in own.provider.requests[0].params
            assert other.provider.requests == []
            assert own.next_login_asks(page)


def test_a_login_through_nous_is_logged_out_of_hermes_only(tmp_path: Path, page: Page, new_page: steps.NewPage) -> None:
    portal_url = f"http://127.0.0.1:{(portal_port := _free_port())}"

    class AtNous(Hermes):
        link = "Sign in with Nous Research"
        environment = {"HERMES_DASHBOARD_OAUTH_CLIENT_ID": "agent:1", "HERMES_DASHBOARD_PORTAL_URL": portal_url}

    with running(AtNous, tmp_path) as app, _served(portal(portal_url), port=portal_port):
        app.start_login(page)
        expect(app.log_out_button(page)).to_be_visible()
        copy = new_page()
        copy_of(app, page.context, copy.context, companion=False)
        assert app.is_signed_in(copy)
        app.log_out(page)
        page.wait_for_url(f"{app.url}/login")
        assert not app.is_signed_in(page)
        assert not app.is_signed_in(copy)
        assert app.provider.requests == []


def blocks_about_partner() -> tuple[str, str]:
    """Return the page's plugin of a second provider, and its line for the first plugin."""
    page = (PAGES / "hermes.md").read_text()
    blocks: list[str] = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    whole, line = (block for block in blocks if "artner" in block)
    return whole, line


def portal(url: str) -> Starlette:
    """Make the portal that the Nous provider talks to: alice is signed in there, and its tokens are no ID Tokens."""
    key = RSAKey.generate_key(2048, {"kid": "portal"})

    async def authorize(request: Request) -> Response:
        answer = urlencode({"code": "code", "state": request.query_params["state"]})
        return RedirectResponse(f"{request.query_params['redirect_uri']}?{answer}")

    async def token(request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        now = int(time.time())
        claims = {"iss": url, "aud": form["client_id"], "sub": USER, "iat": now, "exp": now + 900}
        access_token = jwt.encode({"alg": "RS256", "kid": "portal"}, claims, key)
        return JSONResponse({"access_token": access_token, "token_type": "Bearer", "refresh_token": "r" * 40})

    async def jwks(request: Request) -> Response:
        return JSONResponse({"keys": [key.as_dict(private=False)]})

    return Starlette(
        routes=[
            Route("/oauth/authorize", authorize),
            Route("/api/oauth/token", token, methods=["POST"]),
            Route("/.well-known/jwks.json", jwks),
        ]
    )
