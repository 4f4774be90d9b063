"""The demo: its provider's own behaviour, and logins and logouts of its apps through it, over real connections."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urljoin, urlsplit

import httpx
import pytest
import websockets.sync.client
from anyio.from_thread import start_blocking_portal
from joserfc import jwt
from joserfc.jwk import KeySet
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from websockets.exceptions import ConnectionClosed

from demo.provider import Client, create_provider
from demo.serving import listen, port_of, serving
from demo.world import USERS, Member, World, build
from tests.conftest import Serve, UnusedPort

BACK = "http://localhost:9/callback"  # nobody listens: the browser stops in front of it
BYE = "http://localhost:9/bye"
ONE_REQUEST_A_CONNECTION = httpx.Limits(max_keepalive_connections=0)  # so that there is nothing to close


class Form(HTMLParser):
    """The last form of a page: where it goes, its hidden fields, and the values of its submit buttons."""

    def __init__(self, page: httpx.Response) -> None:
        super().__init__()
        self.action = self.method = ""
        self.fields: dict[str, str] = {}
        self.buttons: list[str] = []
        self.feed(page.text)
        self.action = urljoin(str(page.url), self.action)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action, self.method = given["action"], given["method"]
        elif tag == "input" and given["type"] == "hidden":
            self.fields[given["name"]] = given["value"]
        elif tag == "button" and "value" in given:
            self.buttons.append(given["value"])


class Browser:
    """A client that keeps cookies, navigates and follows redirects, but stops in front of `BACK` and `BYE`."""

    def __init__(self) -> None:
        headers = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        self.http = httpx.Client(headers=headers, trust_env=False, limits=ONE_REQUEST_A_CONNECTION)
        self.visited: list[str] = []

    def get(self, url: str) -> httpx.Response:
        return self._follow(self.http.get(url))

    def post(self, url: str, data: dict[str, str]) -> httpx.Response:
        return self._follow(self.http.post(url, data=data))

    def post_from_elsewhere(self, url: str, data: dict[str, str]) -> httpx.Response:
        """Post a form of another site's page: cookies that are SameSite=Lax stay at home."""
        with httpx.Client(headers=self.http.headers, trust_env=False) as stranger:
            return self._follow(stranger.post(url, data=data))

    def submit(self, page: httpx.Response, **values: str) -> httpx.Response:
        form = Form(page)
        return self.post(form.action, form.fields | values)

    def sign_in(self, page: httpx.Response, user: str = "alice") -> httpx.Response:
        assert asks_for_password(page), page.text
        return self.submit(page, username=user, password=USERS[user])

    def _follow(self, response: httpx.Response) -> httpx.Response:
        self.visited = []
        while response.next_request is not None and response.next_request.url.port != 9:
            self.visited.append(str(response.next_request.url))
            response = self.http.get(response.next_request.url)
        return response


def asks_for_password(page: httpx.Response) -> bool:
    return 'name="password"' in page.text


def asks_to_confirm(page: httpx.Response) -> bool:
    return Form(page).buttons == ["yes", "no"]


def returned(response: httpx.Response) -> dict[str, str]:
    """What a redirect to the app carries."""
    assert response.status_code == 303, response.text
    return dict(parse_qsl(urlsplit(response.headers["location"]).query))


@dataclass
class Rig:
    """One provider with two clients, "app" and "other", and a browser."""

    issuer: str
    provider: Any
    clients: dict[str, Client]
    browser: Browser = field(default_factory=Browser)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    def url(self, endpoint: str, **params: str) -> str:
        return f"{self.issuer}/{endpoint}?{urlencode(params)}"

    def authorize_url(self, client_id: str = "app", **more: str) -> str:
        digest = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).decode().rstrip("=")
        params = {"response_type": "code", "client_id": client_id, "redirect_uri": BACK, "scope": "openid profile"}
        params |= {"state": "s", "nonce": "n", "code_challenge": digest, "code_challenge_method": "S256"}
        return self.url("authorize", **(params | more))

    def code(self, client_id: str = "app", *, browser: Browser | None = None) -> str:
        """Go through the authorization endpoint, with the password if it is asked for."""
        browser = browser or self.browser
        page = browser.get(self.authorize_url(client_id))
        return returned(browser.sign_in(page) if page.status_code == 200 else page)["code"]

    def token(self, client_id: str = "app", **form: str) -> httpx.Response:
        client = self.clients[client_id]
        auth = (client_id, client.client_secret or "")
        return httpx.post(f"{self.issuer}/token", data=form, auth=auth, trust_env=False)

    def redeem(self, code: str, client_id: str = "app", **more: str) -> httpx.Response:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": self.verifier}
        return self.token(client_id, **(form | more))

    def tokens(self, client_id: str = "app", *, browser: Browser | None = None) -> dict[str, Any]:
        response = self.redeem(self.code(client_id, browser=browser), client_id)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def claims(self, token: str) -> dict[str, Any]:
        keys = KeySet.import_key_set(httpx.get(f"{self.issuer}/jwks", trust_env=False).json())
        return jwt.decode(token, keys, algorithms=["RS256"]).claims

    def userinfo(self, access_token: str) -> int:
        headers = {"Authorization": f"Bearer {access_token}"}
        return httpx.get(f"{self.issuer}/userinfo", headers=headers, trust_env=False).status_code

    def signed_in(self) -> bool:
        """Whether the browser gets a code without a password."""
        return "code" in returned(self.browser.get(self.authorize_url(prompt="none")))


MakeRig = Callable[..., Rig]


@pytest.fixture
def make_rig(serve: Serve, unused_port: UnusedPort) -> MakeRig:
    def make(*, app: dict[str, Any] | None = None, other: dict[str, Any] | None = None, **options: Any) -> Rig:
        port = unused_port()
        issuer = f"http://127.0.0.1:{port}{options.pop('path', '')}"
        both = {"client_secret": "s:cret/", "redirect_uris": [BACK], "post_logout_redirect_uris": [BYE, f"{BYE}?a=b"]}
        clients = [Client("app", **both | (app or {})), Client("other", **both | (other or {}))]
        made = create_provider(issuer, clients, USERS, **options)
        serve(made, port=port)
        return Rig(issuer, made.state.provider, {client.client_id: client for client in clients})

    return make


@pytest.fixture
def rig(make_rig: MakeRig) -> Rig:
    return make_rig()


@pytest.fixture
def inbox(serve: Serve) -> SimpleNamespace:
    """A client's back-channel endpoint that keeps what it is sent."""
    received: list[tuple[str, dict[str, list[str]]]] = []

    async def take(request: Request) -> Response:
        received.append((request.headers["content-type"], parse_qs((await request.body()).decode())))
        return Response()

    return SimpleNamespace(
        url=serve(Starlette(routes=[Route("/take", take, methods=["POST"])])) + "/take", received=received
    )


# Signing in


def test_discovery_names_the_issuer_exactly_and_every_endpoint_answers_under_it(make_rig: MakeRig) -> None:
    rig = make_rig(path="/realms/acme")
    document = httpx.get(f"{rig.issuer}/.well-known/openid-configuration", trust_env=False).json()
    assert document["issuer"] == rig.issuer
    endpoints = [value for name, value in document.items() if name.endswith(("_endpoint", "jwks_uri"))]
    assert len(endpoints) == 6
    assert all(value.startswith(f"{rig.issuer}/") for value in endpoints)
    assert all(httpx.get(value, trust_env=False).status_code != 404 for value in endpoints)
    assert document["backchannel_logout_session_supported"] is True
    assert rig.signed_in() is False
    rig.tokens()
    assert rig.signed_in()


def test_the_id_token_says_who_signed_in_when_and_in_which_session(make_rig: MakeRig) -> None:
    rig = make_rig(claims={"department": "rabbits"})
    claims = rig.claims(rig.tokens()["id_token"])
    assert {key: claims[key] for key in ("iss", "sub", "aud", "nonce", "name", "email", "department")} == {
        "iss": rig.issuer,
        "sub": "alice",
        "aud": "app",
        "nonce": "n",
        "name": "Alice",
        "email": "alice@example.com",
        "department": "rabbits",
    }
    (session,) = rig.provider.sessions.values()
    assert claims["sid"] == session.sid
    assert claims["auth_time"] == session.auth_time <= claims["iat"] < claims["exp"]


def test_a_second_login_needs_no_password_and_has_the_same_sid(rig: Rig) -> None:
    first = rig.claims(rig.tokens("app")["id_token"])
    response = rig.browser.get(rig.authorize_url("other"))
    second = rig.claims(rig.redeem(returned(response)["code"], "other").json()["id_token"])
    assert (second["sid"], second["auth_time"]) == (first["sid"], first["auth_time"])


def test_another_browser_needs_the_password(rig: Rig) -> None:
    rig.tokens()
    assert asks_for_password(Browser().get(rig.authorize_url()))


def test_a_wrong_password_or_an_unknown_user_gets_no_session(rig: Rig) -> None:
    page = rig.browser.get(rig.authorize_url())
    for user, password in [("alice", "builder"), ("alice", ""), ("mallory", ""), ("mallory", "wonderland")]:
        answer = rig.browser.submit(page, username=user, password=password)
        assert (answer.status_code, asks_for_password(answer)) == (401, True)
    assert rig.provider.sessions == {}


def test_the_sign_in_form_needs_its_csrf_token(rig: Rig) -> None:
    page = rig.browser.get(rig.authorize_url())
    form = {"username": "alice", "password": "wonderland"}
    assert rig.browser.post(str(page.url), form).status_code == 403
    assert Browser().submit(page, **form).status_code == 403
    assert rig.provider.sessions == {}


@pytest.mark.parametrize("param", [{"prompt": "login"}, {"max_age": "0"}])
def test_prompt_login_and_max_age_ask_again_and_keep_the_session(rig: Rig, param: dict[str, str]) -> None:
    before = rig.claims(rig.tokens()["id_token"])
    (session,) = rig.provider.sessions.values()
    session.auth_time -= 100
    page = rig.browser.get(rig.authorize_url(**param))
    after = rig.claims(rig.redeem(returned(rig.browser.sign_in(page))["code"]).json()["id_token"])
    assert after["sid"] == before["sid"]
    assert after["auth_time"] >= before["auth_time"]
    assert not asks_for_password(rig.browser.get(rig.authorize_url(max_age="100")))


def test_prompt_none_gives_an_error_instead_of_a_form(rig: Rig) -> None:
    answer = returned(rig.browser.get(rig.authorize_url(prompt="none")))
    assert answer == {"error": "login_required", "state": "s", "iss": rig.issuer}


def test_somebody_else_signing_in_ends_the_session_before(rig: Rig) -> None:
    alice = rig.tokens()
    rig.browser.sign_in(rig.browser.get(rig.authorize_url(prompt="login")), "bob")
    assert [session.user for session in rig.provider.sessions.values()] == ["bob"]
    assert rig.userinfo(alice["access_token"]) == 401


def test_the_session_cookie_is_httponly_lax_and_of_a_name_per_provider(make_rig: MakeRig) -> None:
    one, two = make_rig(), make_rig()
    answer = one.browser.sign_in(one.browser.get(one.authorize_url()))
    (line,) = [line for line in answer.headers.get_list("set-cookie") if line.startswith(f"{one.provider.cookie}=")]
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(line.split("; "))
    assert one.provider.cookie != two.provider.cookie
    sid = one.claims(one.tokens()["id_token"])["sid"]
    assert sid not in line


@pytest.mark.parametrize("change", [{"redirect_uri": f"{BACK}/"}, {"client_id": "nobody"}])
def test_an_unregistered_app_or_address_is_never_redirected_to(rig: Rig, change: dict[str, str]) -> None:
    answer = rig.browser.get(rig.authorize_url(**change))
    assert (answer.status_code, "location" in answer.headers) == (400, False)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "profile"}, "invalid_scope"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"prompt": "dance"}, "invalid_request"),
    ],
)
def test_a_wrong_authorization_request_goes_back_with_its_error(rig: Rig, change: dict[str, str], error: str) -> None:
    assert returned(rig.browser.get(rig.authorize_url(**change)))["error"] == error


# Tokens


def test_a_code_needs_its_verifier_its_address_and_its_client(rig: Rig) -> None:
    for change in ({"code_verifier": "x" * 48}, {"code_verifier": ""}, {"redirect_uri": BYE}):
        assert rig.redeem(rig.code(), **change).json() == {"error": "invalid_grant"}
    assert rig.redeem(rig.code(), "other").json() == {"error": "invalid_grant"}
    assert rig.redeem(rig.code()).status_code == 200


def test_a_code_works_once_and_a_second_use_kills_its_tokens(rig: Rig) -> None:
    code = rig.code()
    tokens = rig.redeem(code).json()
    assert rig.userinfo(tokens["access_token"]) == 200
    assert rig.redeem(code).json() == {"error": "invalid_grant"}
    assert rig.userinfo(tokens["access_token"]) == 401


def test_a_code_lives_for_sixty_seconds(rig: Rig) -> None:
    code = rig.code()
    rig.provider.codes[code].expires_at -= 59
    early = rig.redeem(code)
    code = rig.code()
    rig.provider.codes[code].expires_at -= 60
    assert (early.status_code, rig.redeem(code).status_code) == (200, 400)


def test_a_public_client_needs_pkce(make_rig: MakeRig) -> None:
    rig = make_rig(app={"client_secret": None})
    bare = rig.url("authorize", response_type="code", client_id="app", redirect_uri=BACK, scope="openid")
    assert returned(rig.browser.get(bare))["error"] == "invalid_request"
    assert rig.redeem(rig.code()).status_code == 200


def test_a_client_must_prove_itself(rig: Rig) -> None:
    form = {"grant_type": "authorization_code", "code": "x", "client_id": "app"}
    for more in ({}, {"client_secret": "wrong"}, {"client_id": "nobody", "client_secret": "s:cret/"}):
        answer = httpx.post(f"{rig.issuer}/token", data=form | more, trust_env=False)
        assert (answer.status_code, answer.json()) == (401, {"error": "invalid_client"})
    right = httpx.post(f"{rig.issuer}/token", data=form | {"client_secret": "s:cret/"}, trust_env=False)
    assert right.json() == {"error": "invalid_grant"}


def test_a_refresh_token_gives_new_tokens_until_the_session_ends(rig: Rig) -> None:
    refresh = {"grant_type": "refresh_token", "refresh_token": rig.tokens()["refresh_token"]}
    again = rig.token(**refresh).json()
    assert rig.userinfo(again["access_token"]) == 200
    assert rig.token("other", **refresh).json() == {"error": "invalid_grant"}
    rig.browser.get(rig.url("end_session", id_token_hint=again["id_token"]))
    assert rig.token(**refresh).json() == {"error": "invalid_grant"}
    assert rig.userinfo(again["access_token"]) == 401


def test_revoking_a_refresh_token_ends_its_access_tokens_too(rig: Rig) -> None:
    tokens = rig.tokens()

    def revoke(token: str, client_id: str = "app") -> httpx.Response:
        auth = (client_id, rig.clients[client_id].client_secret or "")
        return httpx.post(f"{rig.issuer}/revoke", data={"token": token}, auth=auth, trust_env=False)

    assert revoke("unknown").status_code == 200
    assert revoke(tokens["refresh_token"], "other").json() == {"error": "invalid_grant"}
    assert rig.userinfo(tokens["access_token"]) == 200
    assert revoke(tokens["refresh_token"]).status_code == 200
    assert rig.userinfo(tokens["access_token"]) == 401
    assert rig.provider.revoked == [tokens["refresh_token"]]


# Signing out


def test_end_session_with_the_hint_ends_the_session_and_returns_with_the_state(rig: Rig) -> None:
    hint = rig.tokens()["id_token"]
    answer = rig.browser.get(
        rig.url("end_session", id_token_hint=hint, client_id="app", post_logout_redirect_uri=f"{BYE}?a=b", state="x&é")
    )
    assert answer.headers["location"].startswith(f"{BYE}?a=b&")
    assert returned(answer) == {"a": "b", "state": "x&é"}
    assert rig.provider.sessions == {}
    assert asks_for_password(rig.browser.get(rig.authorize_url()))


def test_an_expired_hint_is_as_good(rig: Rig) -> None:
    rig.provider.id_token_ttl = -100
    hint = rig.tokens()["id_token"]
    assert rig.browser.get(rig.url("end_session", id_token_hint=hint, post_logout_redirect_uri=BYE)).status_code == 303
    assert not rig.signed_in()


def test_end_session_takes_a_posted_form_from_another_site(rig: Rig) -> None:
    form = {"id_token_hint": rig.tokens()["id_token"], "post_logout_redirect_uri": BYE, "state": "s"}
    assert returned(rig.browser.post_from_elsewhere(f"{rig.issuer}/end_session", form)) == {"state": "s"}
    assert not rig.signed_in()
    assert [(request.method, request.params) for request in rig.provider.requests] == [("POST", form)]


def test_a_provider_can_refuse_post(make_rig: MakeRig) -> None:
    rig = make_rig(accept_post=False)
    assert rig.browser.post(f"{rig.issuer}/end_session", {}).status_code == 405


def test_signing_out_twice_is_no_error(rig: Rig) -> None:
    url = rig.url("end_session", id_token_hint=rig.tokens()["id_token"], post_logout_redirect_uri=BYE)
    assert [rig.browser.get(url).headers["location"] for _ in range(2)] == [BYE, BYE]


@pytest.mark.parametrize("uri", [f"{BYE}/", f"{BYE}?x=1", "https://evil.example/"])
def test_an_unregistered_return_address_is_refused_and_ends_nothing(rig: Rig, uri: str) -> None:
    hint = rig.tokens()["id_token"]
    answer = rig.browser.get(rig.url("end_session", id_token_hint=hint, post_logout_redirect_uri=uri))
    assert (answer.status_code, "location" in answer.headers) == (400, False)
    assert rig.signed_in()


def test_a_return_address_without_a_client_is_refused(rig: Rig) -> None:
    assert rig.browser.get(rig.url("end_session", post_logout_redirect_uri=BYE)).status_code == 400


def test_duplicate_parameters_are_refused(rig: Rig) -> None:
    hint = rig.tokens()["id_token"]
    url = rig.url("end_session", id_token_hint=hint, post_logout_redirect_uri=BYE)
    assert rig.browser.get(f"{url}&state=1&state=2").status_code == 400
    assert rig.browser.get(f"{rig.authorize_url()}&state=2").status_code == 400
    assert rig.signed_in()


def test_a_hint_that_is_not_ours_or_of_another_client_is_refused(make_rig: MakeRig) -> None:
    rig, stranger = make_rig(), make_rig()
    hint = rig.tokens()["id_token"]
    head, body, signature = hint.split(".")
    (session,) = rig.provider.sessions.values()
    for wrong in (
        stranger.tokens()["id_token"],
        f"{head}.{body}.{signature[::-1]}",
        "garbage",
        rig.provider.logout_token(rig.clients["app"], session),
    ):
        assert rig.browser.get(rig.url("end_session", id_token_hint=wrong)).status_code == 400
    assert rig.browser.get(rig.url("end_session", id_token_hint=hint, client_id="other")).status_code == 400
    assert rig.signed_in()


def test_without_a_hint_the_user_is_asked_and_may_stay(rig: Rig) -> None:
    rig.tokens()
    url = rig.url("end_session", client_id="app", post_logout_redirect_uri=BYE, state="s")
    page = rig.browser.get(url)
    assert asks_to_confirm(page)
    assert "Yes, sign me out" in page.text
    assert "Stay signed in" in page.text
    assert returned(rig.browser.submit(page, answer="no")) == {"state": "s"}
    assert rig.signed_in()
    assert returned(rig.browser.submit(rig.browser.get(url), answer="yes")) == {"state": "s"}
    assert not rig.signed_in()


def test_the_confirmation_needs_its_csrf_token_and_works_once(rig: Rig) -> None:
    rig.tokens()
    page = rig.browser.get(rig.url("end_session"))
    form = Form(page)
    assert rig.browser.post(form.action, {"request": form.fields["request"], "answer": "yes"}).status_code == 403
    assert Browser().submit(page, answer="yes").status_code == 403
    assert rig.signed_in()
    assert rig.browser.submit(page, answer="yes").status_code == 200
    assert not rig.signed_in()
    assert rig.browser.submit(page, answer="yes").status_code == 400


def test_a_hint_of_another_session_asks_first_and_ends_only_this_browsers(rig: Rig) -> None:
    elsewhere = rig.tokens(browser=Browser())["id_token"]
    rig.tokens()
    page = rig.browser.get(rig.url("end_session", id_token_hint=elsewhere))
    assert asks_to_confirm(page)
    rig.browser.submit(page, answer="yes")
    (left,) = rig.provider.sessions.values()
    assert left.sid == rig.claims(elsewhere)["sid"]


def test_a_provider_can_always_ask(make_rig: MakeRig) -> None:
    rig = make_rig(confirm="always")
    assert asks_to_confirm(rig.browser.get(rig.url("end_session", id_token_hint=rig.tokens()["id_token"])))
    with pytest.raises(ValueError, match="confirm must be"):
        create_provider("http://127.0.0.1:1", [], {}, confirm="never")


def test_every_client_of_the_session_gets_a_logout_token_before_the_browser_goes_on(
    make_rig: MakeRig, inbox: SimpleNamespace
) -> None:
    rig = make_rig(app={"backchannel_logout_uri": inbox.url}, other={"backchannel_logout_uri": inbox.url})
    hint = rig.tokens("app")["id_token"]
    rig.tokens("other", browser=Browser())
    rig.browser.get(rig.url("end_session", id_token_hint=hint))
    ((content_type, form),) = inbox.received
    assert content_type == "application/x-www-form-urlencoded"
    assert list(form) == ["logout_token"]
    token = form["logout_token"][0]
    claims = rig.claims(token)
    times = claims.pop("iat"), claims.pop("exp")
    assert times[1] - times[0] == 120
    assert claims.pop("jti")
    assert claims == {
        "iss": rig.issuer,
        "aud": "app",
        "sub": "alice",
        "sid": rig.claims(hint)["sid"],
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
    }
    header = jwt.decode(token, rig.provider.key, algorithms=["RS256"]).header
    assert (header["alg"], header["typ"]) == ("RS256", "logout+jwt")
    assert [(sent.client_id, sent.status) for sent in rig.provider.deliveries] == [("app", 200)]


def test_a_client_that_is_down_does_not_keep_the_session_alive(make_rig: MakeRig, unused_port: UnusedPort) -> None:
    rig = make_rig(app={"backchannel_logout_uri": f"http://127.0.0.1:{unused_port()}/"})
    rig.browser.get(rig.url("end_session", id_token_hint=rig.tokens()["id_token"]))
    assert [sent.status for sent in rig.provider.deliveries] == [None]
    assert not rig.signed_in()


def test_front_channel_clients_are_framed_with_iss_and_sid_and_the_page_goes_on(make_rig: MakeRig) -> None:
    rig = make_rig(app={"frontchannel_logout_uri": "http://localhost:9/front?a=b"})
    hint = rig.tokens()["id_token"]
    page = rig.browser.get(rig.url("end_session", id_token_hint=hint, post_logout_redirect_uri=BYE, state="s"))
    query = urlencode({"iss": rig.issuer, "sid": rig.claims(hint)["sid"]}).replace("&", "&amp;")
    assert f'src="http://localhost:9/front?a=b&amp;{query}"' in page.text
    assert f'content="2;url={BYE}?state=s"' in page.text
    assert "frame-src http://localhost:9;" in page.headers["content-security-policy"]
    assert not rig.signed_in()


def test_what_comes_from_outside_is_escaped(rig: Rig) -> None:
    page = rig.browser.get(rig.authorize_url(state='"><script>'))
    assert "<script" not in page.text
    page = rig.browser.submit(page, username='"><script>', password="x")
    assert "&quot;&gt;&lt;script&gt;" in page.text
    assert "<script" not in page.text


def test_the_provider_has_a_page_of_its_own_that_signs_out_everywhere(rig: Rig) -> None:
    assert "Nobody is signed in" in rig.browser.get(f"{rig.issuer}/").text
    rig.tokens("app")
    rig.tokens("other")
    page = rig.browser.get(f"{rig.issuer}/")
    assert ">App</a>" in page.text
    assert ">Other</a>" in page.text
    confirmation = rig.browser.get(Form(page).action)
    assert "You are signed out" in rig.browser.submit(confirmation, answer="yes").text
    assert not rig.signed_in()


# The apps


@pytest.fixture
def world() -> Iterator[World]:
    """The whole demo, as `python -m demo` runs it, on free ports."""
    world = build(0)
    apps = [(member.app, member.listener) for member in world.members]
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving(apps)):
        yield world


@pytest.fixture
def browser() -> Browser:
    return Browser()


def enter(browser: Browser, app: Member, provider: str = "acme-id") -> bool:
    """Sign in at an app; tells whether the password was asked for."""
    page = browser.get(f"{app.url}/login/{provider}")
    asked = asks_for_password(page)
    if asked:
        page = browser.sign_in(page)
    assert str(page.url) == f"{app.url}/", page.text
    return asked


def leave(browser: Browser, app: Member, path: str = "/auth/logout") -> httpx.Response:
    return browser.post(f"{app.url}{path}", {})


def is_in(browser: Browser, app: Member) -> bool:
    return "Hello, Alice" in browser.get(f"{app.url}/").text


def login_of(browser: Browser, app: Member) -> str:
    """What the app's page gives to its live connection."""
    return unescape(browser.get(f"{app.url}/").text.partition('data-login="')[2].partition('"')[0])


def live_connection(browser: Browser, app: Member, login: str) -> websockets.sync.client.ClientConnection:
    cookie = "; ".join(f"{name}={value}" for name, value in browser.http.cookies.items())
    address = f"{app.url.replace('http:', 'ws:')}/live?login={login}"
    return websockets.sync.client.connect(address, additional_headers={"Cookie": cookie}, proxy=None)


def test_after_a_logout_the_provider_asks_for_the_password_again(world: World, browser: Browser) -> None:
    assert enter(browser, world.dashboard)
    page = leave(browser, world.dashboard)
    assert str(page.url) == f"{world.dashboard.url}/login"
    assert "You have been signed out." in page.text
    assert [url.partition("?")[0] for url in browser.visited] == [
        f"{world.acme.url}/end_session",
        f"{world.dashboard.url}/auth/signed-out",
        f"{world.dashboard.url}/login",
    ]
    assert not is_in(browser, world.dashboard)
    assert enter(browser, world.dashboard)


def test_without_the_middleware_the_same_logout_leaves_the_provider_signed_in(world: World, browser: Browser) -> None:
    assert enter(browser, world.plain)
    page = leave(browser, world.plain)
    assert "You have been signed out. Have you?" in page.text
    (session,) = world.acme.app.state.provider.sessions.values()
    session.auth_time -= 1  # whole seconds, and this test is faster than anybody types
    assert not enter(browser, world.plain)
    assert "Nobody asked for a password." in browser.get(world.plain.url).text


def test_log_out_of_this_app_only_leaves_the_provider_and_the_other_app_alone(world: World, browser: Browser) -> None:
    assert enter(browser, world.dashboard)
    assert not enter(browser, world.wiki)
    page = leave(browser, world.dashboard, "/auth/logout/here")
    assert "You have been signed out of this app." in page.text
    assert not is_in(browser, world.dashboard)
    assert is_in(browser, world.wiki)
    assert not enter(browser, world.dashboard)


def test_a_logout_in_one_app_ends_the_other_apps_session_too(world: World, browser: Browser) -> None:
    enter(browser, world.dashboard)
    enter(browser, world.wiki)
    leave(browser, world.dashboard)
    page = browser.get(f"{world.wiki.url}/")
    assert str(page.url) == f"{world.wiki.url}/login"
    assert "You were signed out elsewhere." in page.text
    deliveries = world.acme.app.state.provider.deliveries
    assert sorted((sent.client_id, sent.status) for sent in deliveries) == [("dashboard", 200), ("wiki", 200)]


@pytest.mark.parametrize("path", ["/auth/logout", "/auth/logout/here"])
def test_a_cookie_copied_before_a_logout_is_worth_nothing_after_it(world: World, browser: Browser, path: str) -> None:
    enter(browser, world.dashboard)
    thief = Browser()
    thief.http.cookies.update(browser.http.cookies)
    assert is_in(thief, world.dashboard)
    leave(browser, world.dashboard, path)
    assert not is_in(thief, world.dashboard)


def test_the_logout_goes_to_the_provider_that_signed_the_user_in(world: World, browser: Browser) -> None:
    enter(browser, world.wiki)
    assert enter(browser, world.dashboard, "globex-login")
    leave(browser, world.dashboard)
    assert [request.method for request in world.globex.app.state.provider.requests] == ["GET"]
    assert world.acme.app.state.provider.requests == []
    assert is_in(browser, world.wiki)
    assert enter(browser, world.dashboard, "globex-login")


def test_the_front_channel_page_of_the_provider_leads_back_to_the_app(world: World, browser: Browser) -> None:
    enter(browser, world.dashboard, "globex-login")
    page = leave(browser, world.dashboard)
    assert page.text.count("<iframe") == 1
    frame = unescape(page.text.partition('<iframe class="hidden-frame" src="')[2].partition('"')[0])
    answer = browser.get(frame)
    assert frame.startswith(f"{world.dashboard.url}/auth/frontchannel?iss=")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    back = browser.get(unescape(page.text.partition('content="2;url=')[2].partition('"')[0]))
    assert str(back.url) == f"{world.dashboard.url}/login"
    assert "You have been signed out." in back.text


def test_a_sign_out_at_the_provider_ends_another_browser_page_at_once(world: World, browser: Browser) -> None:
    enter(browser, world.dashboard)
    with live_connection(browser, world.dashboard, login_of(browser, world.dashboard)) as live:
        assert live.ping().wait(timeout=10)
        confirmation = browser.get(f"{world.acme.url}/end_session")
        assert asks_to_confirm(confirmation)
        browser.submit(confirmation, answer="yes")
        with pytest.raises(ConnectionClosed):
            live.recv(timeout=10)
        assert live.close_code == 4401
    assert not is_in(browser, world.dashboard)


def test_the_live_connection_of_nobody_is_closed_with_4401(world: World) -> None:
    with live_connection(Browser(), world.plain, "") as live:
        with pytest.raises(ConnectionClosed):
            live.recv(timeout=10)
        assert live.close_code == 4401


def test_the_live_connection_of_a_page_of_an_earlier_login_is_closed_with_4401(world: World, browser: Browser) -> None:
    """A tab that connects again finds the next login of its browser."""
    enter(browser, world.dashboard)
    earlier = login_of(browser, world.dashboard)
    leave(browser, world.dashboard)
    enter(browser, world.dashboard)
    with live_connection(browser, world.dashboard, login_of(browser, world.dashboard)) as live:
        assert live.ping().wait(timeout=10)
    with live_connection(browser, world.dashboard, earlier) as live:
        with pytest.raises(ConnectionClosed):
            live.recv(timeout=10)
        assert live.close_code == 4401


def test_the_first_page_says_what_to_try_and_how_the_providers_differ(world: World, browser: Browser) -> None:
    page = browser.get(world.dashboard.url)
    for words in [
        "Sign in, log out and sign in again, here and in the tab “Without middleware”: which app asks",
        "All three apps use it. It notifies apps of a logout from server to server (back-channel).",
        "Only the Dashboard uses it. It notifies apps of a logout through your browser (front-channel).",
    ]:
        assert page.text.count(words) == 1
    at_globex = Form(browser.get(f"{world.dashboard.url}/login/globex-login"))
    assert at_globex.action.startswith(world.globex.url)
    assert not is_in(browser, world.dashboard)


def test_a_page_that_says_you_are_signed_out_promises_no_password_for_good(world: World, browser: Browser) -> None:
    """It stays open while another tab signs in at the provider: then the promise would be broken."""
    enter(browser, world.dashboard)
    page = leave(browser, world.dashboard)
    assert "Acme ID asks for your password, unless you have signed in there in the meantime." in page.text
    enter(browser, world.wiki)
    assert not enter(browser, world.dashboard)


def test_a_logout_from_a_tab_that_was_signed_out_already_promises_no_password(world: World, browser: Browser) -> None:
    """Such a logout has no session, so it does not go to the provider, whose session lives on."""
    enter(browser, world.dashboard)
    leave(browser, world.dashboard, "/auth/logout/here")
    page = leave(browser, world.dashboard)
    assert str(page.url) == f"{world.dashboard.url}/login"
    assert "You were already signed out of this app." in page.text
    assert "password" not in page.text.replace("which app asks for your password?", "")
    assert not enter(browser, world.dashboard)


def test_the_provider_notifies_nobody_if_nobody_is_signed_in(rig: Rig) -> None:
    assert "It has notified your apps." not in rig.browser.get(f"{rig.issuer}/end_session").text
    rig.tokens()
    page = rig.browser.submit(rig.browser.get(f"{rig.issuer}/end_session"), answer="yes")
    assert "It has notified your apps." in page.text


def test_the_dashboard_shows_what_is_remembered(world: World, browser: Browser) -> None:
    enter(browser, world.dashboard)
    (session,) = world.acme.app.state.provider.sessions.values()
    page = browser.get(world.dashboard.url)
    for value in ("acme-id", "alice", f"{session.sid[:6]}…"):
        assert f"<code>{value}</code>" in page.text
    assert session.sid not in page.text


def test_the_pages_with_a_logout_button_name_the_providers_in_their_policy(world: World, browser: Browser) -> None:
    policy = browser.get(world.dashboard.url).headers["content-security-policy"]
    assert f"form-action 'self' {' '.join(sorted([world.acme.url, world.globex.url]))};" in policy
    assert "default-src 'none';" in policy


def test_a_sign_in_that_fails_or_is_unknown_leads_back_to_the_login_page(world: World, browser: Browser) -> None:
    for path, status, words in [
        ("/callback/acme-id?error=access_denied&state=x", 400, "That sign-in did not work."),
        ("/callback/acme-id?code=x&state=x", 400, "That sign-in did not work."),
        ("/callback/nobody", 404, "There is no such provider."),
        ("/login/nobody", 404, "There is no such provider."),
    ]:
        page = browser.get(f"{world.dashboard.url}{path}")
        assert (page.status_code, words in page.text) == (status, True)


def test_a_taken_port_is_replaced_by_a_free_one() -> None:
    first = listen("localhost", 0)
    second = listen("localhost", port_of(first))
    assert port_of(first) != port_of(second)
    for sock in first + second:
        sock.close()


@contextlib.contextmanager
def demo_running(*arguments: str) -> Iterator[str]:
    """Run `python -m demo`, yield what it prints, and end it with Ctrl-C."""
    command = [sys.executable, "-m", "demo", "--port", "0", *arguments]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        printed = ""
        while "Ctrl-C" not in printed:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            printed += line
        try:
            yield printed
        finally:
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=20)
    assert (process.returncode, rest.strip(), errors) == (0, "Bye.", "")


def test_python_m_demo_prints_its_address_and_ends_on_ctrl_c() -> None:
    with demo_running() as printed:
        address = printed.partition("Open ")[2].split()[0]
        assert "Sign in to Dashboard" in httpx.get(f"{address}/login", trust_env=False).text
        assert "alice (password: wonderland)" in printed


def test_python_m_demo_runs_a_provider_for_the_readmes_example() -> None:
    with demo_running("--provider-for", "http://localhost:8000/") as printed:
        issuer, client, secret = re.findall('"(.+?)"', printed)
        assert (client, secret) == ("dashboard", "secret")
        asked = {"client_id": client, "redirect_uri": "http://localhost:8000/callback", "response_type": "code"}
        asked |= {"scope": "openid", "code_challenge": "x" * 43, "code_challenge_method": "S256"}
        assert asks_for_password(httpx.get(f"{issuer}/authorize", params=asked, trust_env=False))
