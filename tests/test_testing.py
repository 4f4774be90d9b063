"""``asgi_rp_logout.testing``: the fake provider accepts what a provider accepts, and says why it refuses the rest."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
import pytest
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import KeySet
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

import asgi_rp_logout
from asgi_rp_logout import Login, OIDCProvider, RPLogoutMiddleware, remember_login
from asgi_rp_logout.testing import FakeProvider
from tests.apps import guarded, log_out, signs_out
from tests.asgi import call, http_scope
from tests.conftest import Serve, UnusedPort
from tests.places import Browser

ROOT = Path(__file__).parent.parent
LIBRARIES = [name for name in ("httpx", "httpx2") if importlib.util.find_spec(name) is not None]
FORM = {"content-type": "application/x-www-form-urlencoded"}
CALLBACK = "https://app.example.com/callback"


def authorization(provider: FakeProvider, **changed: str | None) -> str:
    query = {"response_type": "code", "client_id": "app", "redirect_uri": CALLBACK, "state": "s", "nonce": "n"}
    sent = {name: value for name, value in (query | changed).items() if value is not None}
    return f"{provider.issuer}/authorize?{urlencode(sent)}"


def logout(provider: FakeProvider, **changed: str | None) -> str:
    query = {"id_token_hint": provider.id_token(), "client_id": "app", "state": "s"}
    query["post_logout_redirect_uri"] = "https://app.example.com/bye"
    sent = {name: value for name, value in (query | changed).items() if value is not None}
    return f"{provider.issuer}/logout?{urlencode(sent)}"


def test_the_page_about_testing_is_an_app_and_tests_that_pass(tmp_path: Path) -> None:
    """As a newcomer does it: its blocks in two files, and pytest over them."""
    page = (ROOT / "docs" / "testing.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    files = {block.split("\n")[0].removeprefix("# "): block for block in blocks if block.startswith("# ")}
    assert list(files) == ["app.py", "test_logout.py"]
    (fetch,) = (block for block in blocks if block.startswith("FETCH"))
    files["test_logout.py"] += "\n\n" + fetch
    for name, source in files.items():
        (tmp_path / name).write_text(source)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-q",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    path = [str(Path(asgi_rp_logout.__path__[0]).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{len(re.findall(r'^def test_', files['test_logout.py'], re.MULTILINE))} passed" in ran.stdout


def test_a_sign_in_answers_with_a_code_and_the_state_and_begins_a_session() -> None:
    provider = FakeProvider()
    url = httpx.URL(provider.sign_in(authorization(provider), sub="bob"))
    assert str(url).startswith(f"{CALLBACK}?code=")
    assert url.params["state"] == "s"
    assert list(provider.sessions.values()) == ["bob"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (lambda p: authorization(p, client_id="other"), "client_id='other': expected 'app'"),
        (lambda p: authorization(p, redirect_uri=None), "no redirect_uri"),
        (lambda p: "https://evil.example/authorize", "the browser goes to 'https://evil.example/authorize'"),
        (lambda p: authorization(p) + "&state=again", "given twice"),
        (lambda p: authorization(p, code_challenge="x" * 43), "code_challenge_method='plain': expected 'S256'"),
    ],
)
def test_a_wrong_authorization_request_is_refused(url: Callable[[FakeProvider], str], reason: str) -> None:
    provider = FakeProvider()
    with pytest.raises(AssertionError, match=re.escape(reason)):
        provider.sign_in(url(provider))
    assert provider.sessions == {}


@pytest.mark.parametrize("header", ["Location", "HX-Redirect", "X-Inertia-Location"])
def test_a_logout_is_taken_from_any_redirect_and_goes_back_with_its_state(header: str) -> None:
    provider = FakeProvider(post_logout_redirect_uris=["https://app.example.com/bye"])
    answer = httpx.Response(200, headers={header: logout(provider)})
    request = provider.assert_logged_out(answer, sub="alice")
    assert (request.sub, request.sid) == ("alice", "session-1")
    assert request.return_url == "https://app.example.com/bye?state=s"
    assert request.parameters["client_id"] == "app"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (lambda p: "/login", "the browser goes to '/login': expected https://id.example.com/logout"),
        (lambda p: logout(p, id_token_hint=None), "no ID Token"),
        (lambda p: logout(p, id_token_hint="a.b.c"), "not an ID Token of this provider"),
        (lambda p: logout(p, id_token_hint=p.id_token(aud="other")), "for the client 'other'"),
        (lambda p: logout(p, client_id="other"), "for the client 'other'"),
        (lambda p: logout(p, post_logout_redirect_uri="https://app.example.com/"), "expected one of"),
        (lambda p: logout(p, id_token_hint=p.id_token("bob")), "the session of 'bob' has ended: expected that of"),
        (lambda p: logout(p) + "&client_id=app", "given twice"),
    ],
)
def test_a_logout_that_a_provider_would_refuse_fails_with_a_reason(
    url: Callable[[FakeProvider], str], reason: str
) -> None:
    provider = FakeProvider(post_logout_redirect_uris=["https://app.example.com/bye"])
    with pytest.raises(AssertionError, match=re.escape(reason)):
        provider.assert_logged_out(url(provider), sub="alice")


def test_a_response_that_redirects_nowhere_is_no_logout() -> None:
    with pytest.raises(AssertionError, match="the browser goes to ''"):
        FakeProvider().assert_logged_out(httpx.Response(200))


@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_client_of_either_library_gets_tokens_keys_and_the_user(library: str) -> None:
    provider = FakeProvider("https://id.example.com/realms/acme/")
    async with importlib.import_module(library).AsyncClient(transport=provider.transport) as http:
        metadata = (await http.get(f"{provider.issuer}.well-known/openid-configuration")).json()
        assert metadata["issuer"] == provider.issuer
        query = authorization(provider).partition("?")[2]
        callback = httpx.URL(provider.sign_in(f"{metadata['authorization_endpoint']}?{query}"))
        form = {"grant_type": "authorization_code", "code": callback.params["code"], "redirect_uri": CALLBACK}
        form["client_id"] = "app"
        token = (await http.post(metadata["token_endpoint"], data=form)).json()
        keys = KeySet.import_key_set((await http.get(metadata["jwks_uri"])).json())
        claims = jwt.decode(token["id_token"], keys).claims
        assert (claims["iss"], claims["aud"], claims["nonce"]) == (provider.issuer, "app", "n")
        assert (await http.post(metadata["token_endpoint"], data=form)).status_code == 400, "a code works once"
        refresh = {"grant_type": "refresh_token", "refresh_token": token["refresh_token"], "client_id": "app"}
        renewed = (await http.post(metadata["token_endpoint"], data=refresh)).json()
        assert jwt.decode(renewed["id_token"], keys).claims["sid"] == claims["sid"]
        bearer = {"Authorization": f"Bearer {token['access_token']}"}
        assert (await http.get(metadata["userinfo_endpoint"], headers=bearer)).json() == {"sub": "alice"}
        assert (await http.get(metadata["userinfo_endpoint"])).status_code == 401
        revocation = {"token": "t", "client_id": "app"}
        assert (await http.post(metadata["revocation_endpoint"], data=revocation)).status_code == 200
        assert provider.revoked == ["t"]


VERIFIER = "a-code-verifier-of-43-characters-or-more-0123"
SECRET = "s3cret/+%"


async def redeem(provider: FakeProvider, changed: dict[str, str | None], **more: Any) -> httpx.Response:
    """Sign in with a code challenge, and redeem the code with a token request that is right but for what is changed."""
    challenge = create_s256_code_challenge(VERIFIER)
    url = authorization(provider, code_challenge=challenge, code_challenge_method="S256")
    code = httpx.URL(provider.sign_in(url)).params["code"]
    right = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
    right |= {} if "auth" in more else {"client_id": "app", "client_secret": SECRET}
    form = {name: value for name, value in (right | changed).items() if value is not None}
    async with httpx.AsyncClient(transport=provider.transport) as http:
        return await http.post(f"{provider.issuer}/token", data=form, **more)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, (200, None)),
        ({"client_id": "other"}, (401, "invalid_client")),
        ({"client_id": None}, (401, "invalid_client")),
        ({"client_secret": "wrong"}, (401, "invalid_client")),
        ({"client_secret": None}, (401, "invalid_client")),
        ({"code": "invented"}, (400, "invalid_grant")),
        ({"code": None}, (400, "invalid_grant")),
        ({"redirect_uri": f"{CALLBACK}/"}, (400, "invalid_grant")),
        ({"redirect_uri": None}, (400, "invalid_grant")),
        ({"code_verifier": VERIFIER[::-1]}, (400, "invalid_grant")),
        ({"code_verifier": None}, (400, "invalid_grant")),
        ({"grant_type": "password"}, (400, "unsupported_grant_type")),
    ],
    ids=str,
)
async def test_a_token_request_is_refused_as_a_provider_does(
    changed: dict[str, str | None], expected: tuple[int, str | None]
) -> None:
    answer = await redeem(FakeProvider(client_secret=SECRET), changed)
    assert (answer.status_code, answer.json().get("error")) == expected
    assert ("error_description" in answer.json()) == (expected[1] not in (None, "unsupported_grant_type"))


async def test_the_secret_may_be_in_the_header() -> None:
    provider = FakeProvider(client_secret=SECRET)
    encoded = (quote("app"), quote(SECRET, safe=""))
    assert (await redeem(provider, {}, auth=encoded)).status_code == 200
    for wrong in [("app", "wrong"), ("other", SECRET), ("app", "")]:
        answer = await redeem(provider, {}, auth=wrong)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
        assert answer.headers["www-authenticate"].startswith("Basic ")


async def test_a_secret_that_the_test_does_not_give_is_not_checked() -> None:
    accepted: list[dict[str, str | None]] = [
        {},
        {"client_secret": None},
        {"client_id": None, "client_assertion": "a.b.c"},
    ]
    for changed in accepted:
        assert (await redeem(FakeProvider(), changed)).status_code == 200
    assert (await redeem(FakeProvider(), {"client_id": "other"})).status_code == 401


async def test_a_verifier_without_a_challenge_is_refused() -> None:
    provider = FakeProvider()
    form = {"grant_type": "authorization_code", "client_id": "app", "redirect_uri": CALLBACK}
    async with httpx.AsyncClient(transport=provider.transport) as http:
        for more, status in [({}, 200), ({"code_verifier": VERIFIER}, 400)]:
            code = httpx.URL(provider.sign_in(authorization(provider))).params["code"]
            assert (
                await http.post(f"{provider.issuer}/token", data=form | {"code": code} | more)
            ).status_code == status


async def test_one_kind_of_token_is_not_taken_for_another() -> None:
    provider = FakeProvider()
    token = provider.token()
    async with httpx.AsyncClient(transport=provider.transport) as http:
        for kind in ("access_token", "id_token"):
            form = {"grant_type": "refresh_token", "client_id": "app", "refresh_token": token[kind]}
            assert (await http.post(f"{provider.issuer}/token", data=form)).json()["error"] == "invalid_grant"
        bearer = {"Authorization": f"Bearer {token['refresh_token']}"}
        assert (await http.get(f"{provider.issuer}/userinfo", headers=bearer)).status_code == 401


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_authlib_s_client_gets_tokens_with_the_right_secret_only(method: str) -> None:
    provider = FakeProvider(client_secret="right")
    for secret in ("right", "wrong"):
        options = {"token_endpoint_auth_method": method, "code_challenge_method": "S256", "redirect_uri": CALLBACK}
        client = AsyncOAuth2Client("app", secret, scope="openid", transport=provider.transport, **options)
        url, _ = client.create_authorization_url(f"{provider.issuer}/authorize", code_verifier=VERIFIER)
        arguments = {"authorization_response": provider.sign_in(url), "code_verifier": VERIFIER}
        async with client:
            if secret == "right":
                token = await client.fetch_token(f"{provider.issuer}/token", **arguments)
                assert token["token_type"] == "Bearer"
            else:
                with pytest.raises(OAuthError, match="invalid_client: the client_secret is missing, or is another"):
                    await client.fetch_token(f"{provider.issuer}/token", **arguments)


async def test_a_revocation_needs_the_secret_too() -> None:
    provider = FakeProvider(client_secret=SECRET)
    async with httpx.AsyncClient(transport=provider.transport) as http:
        for secret, status in [("wrong", 401), (SECRET, 200)]:
            form = {"token": secret, "client_id": "app", "client_secret": secret}
            assert (await http.post(f"{provider.issuer}/revoke", data=form)).status_code == status
    assert provider.revoked == [SECRET]


async def test_the_middleware_takes_its_logout_tokens_and_refuses_broken_ones() -> None:
    provider = FakeProvider()
    options = {"http_client": provider.http_client, "backchannel_path": "/bc"}
    guard = guarded(signs_out(), providers=[provider.oidc_provider()], **options)

    async def post(token: str) -> int:
        return (await call(guard, http_scope("/bc", "POST", FORM), urlencode({"logout_token": token}).encode())).status

    assert await post(provider.logout_token(sub="alice")) == 200
    assert await post(provider.logout_token(sid="session-1")) == 200
    assert await post(provider.logout_token()) == 400, "neither sub nor sid"
    assert await post(provider.logout_token(sub="alice", events=None)) == 400
    assert await post(provider.logout_token(sub="alice", aud="other")) == 400
    assert await post(provider.logout_token(sub="alice", exp=1700000000)) == 400
    assert await post(provider.id_token()) == 400


async def test_the_url_of_the_middleware_passes_the_check() -> None:
    provider = FakeProvider()
    login = Login(id_token=provider.id_token())
    options = {"http_client": provider.http_client, "login_source": lambda _: login}
    guard = guarded(signs_out(), providers=[provider.oidc_provider()], **options)
    answer = await log_out(guard)
    assert provider.assert_logged_out(answer.header("location") or "", sub="alice").sid == "session-1"


async def test_a_hint_on_demand_is_fetched_from_it() -> None:
    """The first logout goes without: the provider is probed after it."""
    provider = FakeProvider(post_logout_redirect_uris=["https://app.example.com/back"])
    options = {"callback_path": "/back", "public_url": "https://app.example.com", "http_client": provider.http_client}
    app = guarded(signs_out(), providers=[provider.oidc_provider(silent_hint=True)], **options)
    ways = []
    for number in range(2):
        browser = Browser(app, {"session": f"a-session-of-32-characters-or-so-{number}"})
        ways.append(answer := await browser.post("/logout"))
        assert answer.status == 303
    assert [urlsplit(way.header("location") or "").path for way in ways] == ["/logout", "/authorize"]
    back = urlsplit(provider.sign_in(ways[1].header("location") or "", sub="alice"))
    answer = await browser.get(f"{back.path}?{back.query}")
    assert provider.assert_logged_out(answer.header("location") or "", sub="alice").return_url
    assert provider.sessions == {}


async def test_the_token_of_the_fake_provider_is_one_to_remember() -> None:
    """By an application that signs in without a real login, as tests do."""
    provider = FakeProvider()

    async def login(request: Request) -> Response:
        request.session["user"] = "bob"
        remember_login(request, provider.token(sub="bob", sid="s9"))
        return PlainTextResponse()

    async def logout(request: Request) -> Response:
        request.session.clear()
        return RedirectResponse("/", 303)

    options: dict[str, Any] = {"providers": [provider.oidc_provider()], "http_client": provider.http_client}
    sessions = Middleware(SessionMiddleware, secret_key="secret")
    routes = [Route("/login", login), Route("/logout", logout, methods=["POST"])]
    app = Starlette(routes=routes, middleware=[sessions, Middleware(RPLogoutMiddleware, **options)])
    browser = Browser(app)
    await browser.get("/login")
    answer = await browser.post("/logout")
    assert provider.assert_logged_out(answer.header("location") or "", sub="bob").sid == "s9"


def test_a_server_can_run_it_and_a_browser_passes_through(serve: Serve, unused_port: UnusedPort) -> None:
    port = unused_port()
    provider = FakeProvider(f"http://127.0.0.1:{port}")
    serve(provider, port=port)
    with httpx.Client(trust_env=False) as browser:
        back = browser.get(authorization(provider))
        assert (back.status_code, back.headers["location"].partition("?")[0]) == (303, CALLBACK)
        assert browser.get(authorization(provider, client_id="other")).status_code == 400
        bye = browser.get(logout(provider))
        assert (bye.status_code, bye.headers["location"]) == (303, "https://app.example.com/bye?state=s")
        posted = browser.post(f"{provider.issuer}/logout", data={"id_token_hint": provider.id_token()})
        assert (posted.status_code, posted.text) == (200, "Logged out")
        refused = browser.get(f"{provider.issuer}/logout")
        assert (refused.status_code, "no ID Token" in refused.text) == (400, True)


def test_its_provider_takes_the_options_of_an_oidc_provider() -> None:
    provider = FakeProvider(client_id="mine", client_secret="s3cret").oidc_provider(name="fake", require_exp=True)
    assert isinstance(provider, OIDCProvider)
    assert (provider.name, provider.client_id, provider.client_secret) == ("fake", "mine", "s3cret")
    assert provider.require_exp
