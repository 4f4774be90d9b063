"""The token relay: logins of any client library are noticed, if its token endpoint is a setting."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import selectors
import socket
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import anyio
import httpx
import pytest
from key_value.aio.stores.redis import RedisStore
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from asgi_rp_logout import (
    ConfigurationError,
    OIDCProvider,
    RPLogoutMiddleware,
    StaticProvider,
    TokenRelay,
    current_login,
    forget_login,
    remember_login,
)
from asgi_rp_logout.context import RequestContext
from asgi_rp_logout.login import Login
from asgi_rp_logout.protocol.token_request import codes_in, redeemed_code
from asgi_rp_logout.relay import endpoints, listener
from asgi_rp_logout.relay.codes import ExpectedCodes
from tests.asgi import call, http_scope
from tests.conftest import Log, RedisServer, Serve, UnusedPort
from tests.places import ForeignStore
from tests.stub_provider import Draft, StubProvider, generated, sign
from tests.test_demo import ONE_REQUEST_A_CONNECTION

CODE = "the-code-of-alice"


class Upstream(StubProvider):
    """A provider whose token endpoint gives what the test says, and notes what it was sent."""

    def __init__(self, port: int) -> None:
        super().__init__(f"http://127.0.0.1:{port}/")
        self.claims: dict[str, Any] = {}
        self.draft: Callable[[Draft], object] = lambda draft: None
        self.answer: Callable[[], Response] = lambda: JSONResponse(self.tokens(), headers={"cache-control": "no-store"})
        self.seen: list[Request] = []
        self.forms: list[dict[str, list[str]]] = []
        self.arrived, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.app.router.routes.append(Route("/token", self._token, methods=["POST"]))

    def id_token(self) -> str:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": "rp", "sub": "alice", "sid": "s1", "iat": now, "exp": now + 300}
        draft = Draft({"alg": "RS256", "kid": self.signing_key.kid}, claims | self.claims, self.signing_key)
        self.draft(draft)
        return sign(draft)

    def tokens(self) -> dict[str, Any]:
        self.issued = {"access_token": "an-access-token", "token_type": "Bearer", "id_token": self.id_token()}
        return self.issued | {"refresh_token": "a-refresh-token"}

    async def _token(self, request: Request) -> Response:
        self.seen.append(request)
        self.forms.append(parse_qs((await request.body()).decode()))
        self.arrived.set()
        while not self.go_on.is_set():  # another thread sets it
            await anyio.sleep(0.01)
        return self.answer()


After = Callable[[Request], Response | None]


class App:
    """An application that redeems codes at `token_url`, and then does what `after` says."""

    def __init__(self, token_url: str, after: After | None = None) -> None:
        self.token_url = token_url
        self.after = after
        self.grant: dict[str, str] = {"grant_type": "authorization_code"}
        self.answers: list[httpx.Response] = []
        self.at_home, self.leave_home = threading.Event(), threading.Event()
        self.leave_home.set()

    def around(self, *rp_logout: Mapping[str, Any]) -> ASGIApp:
        routes = [
            Route("/callback", self.callback, methods=["GET", "POST"]),
            Route("/", self.home),
            Route("/logout", self.logout, methods=["POST"]),
        ]
        sessions = Middleware(SessionMiddleware, secret_key="secret")
        inner = [Middleware(RPLogoutMiddleware, **options) for options in rp_logout]

        @contextlib.asynccontextmanager
        async def lifespan(app: ASGIApp) -> AsyncIterator[None]:
            yield
            for options in rp_logout:
                if hasattr(options.get("store"), "close"):
                    await options["store"].close()

        return Starlette(routes=routes, middleware=[sessions, *inner], lifespan=lifespan)

    async def callback(self, request: Request) -> Response:
        form = await request.form() if request.method == "POST" else request.query_params
        async with httpx.AsyncClient(trust_env=False) as http:
            data = {**self.grant, "code": str(form["code"]), "redirect_uri": "https://app.example/callback"}
            answer = await http.post(self.token_url, data=data, auth=("rp", "s3cret"), timeout=60)
        self.answers.append(answer)
        request.session["user"] = "alice" if answer.status_code == 200 else "nobody"
        return (self.after(request) if self.after else None) or RedirectResponse("/", 303)

    async def home(self, request: Request) -> Response:
        self.at_home.set()
        while not self.leave_home.is_set():  # another thread sets it
            await anyio.sleep(0.01)
        if "theme" in request.query_params:
            request.session["theme"] = request.query_params["theme"]
        login = current_login(request)
        known = [login.provider, login.sub, login.known_by, login.refresh_token] if login else None
        return JSONResponse({"user": request.session.get("user"), "known": known})

    async def logout(self, request: Request) -> Response:
        request.session.clear()
        return RedirectResponse("/", 303)


KNOWN = ["acme", "alice", "relay", "a-refresh-token"]


class Rig:
    """A provider, a relay and an application, all served."""

    def __init__(self, serve: Serve, unused_port: UnusedPort, **options: Any) -> None:
        self.serve = serve
        self.upstream = Upstream(port := unused_port())
        self.provider_port = port
        self.stop_provider: Callable[[], None] = lambda: None
        if options.pop("provider_up", True):
            serve(self.upstream.app, port=port)
        self.provider = OIDCProvider(self.upstream.issuer, "rp", "s3cret", name="acme")
        self.relay = TokenRelay(self.provider, options.pop("port", None) or unused_port(), **options.pop("relay", {}))
        self.app = App(self.relay.token_url, options.pop("after", None))
        self.options = {"providers": [self.provider], "token_relay": self.relay, **options}
        self.url = serve(self.app.around(self.options))

    def browser(self) -> httpx.Client:
        return browser_at(self.url)

    def signed_in(self, code: str = CODE) -> httpx.Client:
        browser = self.browser()
        assert browser.get("/callback", params={"code": code, "state": "a-state"}).status_code < 500
        return browser

    def known(self, code: str = CODE) -> Any:
        return known_to(self.signed_in(code))

    def ask_relay(self, method: str = "GET", path: str = "/token", **request: Any) -> httpx.Response:
        with httpx.Client(trust_env=False, timeout=60) as http:
            return http.request(method, f"http://127.0.0.1:{self.relay.port}{path}", **request)


def browser_at(url: str, **options: Any) -> httpx.Client:
    """Give a browser that leaves no connection open."""
    return httpx.Client(base_url=url, trust_env=False, timeout=60, limits=ONE_REQUEST_A_CONNECTION, **options)


def wait_until(happened: Callable[[], bool]) -> None:
    """Wait for what comes after an answer, for a minute at most."""
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


def known_to(browser: httpx.Client) -> Any:
    return browser.get("/").json()["known"]


MakeRig = Callable[..., Rig]


@pytest.fixture
def rig(serve: Serve, unused_port: UnusedPort) -> MakeRig:
    return lambda **options: Rig(serve, unused_port, **options)


# Which logins are noticed


def test_a_login_that_the_user_does_not_see_is_not_noticed_while_a_logout_waits(rig: MakeRig) -> None:
    """An image on some page goes through the provider; the control is the same as a page."""
    image = {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image", "sec-fetch-site": "cross-site"}
    fetch = {"sec-fetch-mode": "cors", "sec-fetch-dest": "empty", "sec-fetch-site": "same-origin"}
    here = rig()
    for headers, known in ((image, None), ({}, KNOWN)):
        browser = here.signed_in()
        assert "rp_later" in browser.post("/logout", headers=fetch).cookies
        browser.get("/callback", params={"code": CODE, "state": "a-state"}, headers=headers)
        assert known_to(browser) == known


def test_a_login_through_the_relay_is_known_and_its_id_token_is_the_hint(rig: MakeRig) -> None:
    here = rig()
    browser = here.signed_in()
    assert browser.get("/").json() == {"user": "alice", "known": KNOWN}
    away = browser.post("/logout").headers["location"]
    assert f"id_token_hint={here.upstream.issued['id_token']}" in away
    assert away.startswith(f"{here.upstream.issuer}end_session")


def test_the_request_that_signs_in_knows_the_login_already(rig: MakeRig) -> None:
    seen: list[Any] = []
    rig(after=lambda request: seen.append(current_login(request))).signed_in()
    assert [login.known_by for login in seen] == ["relay"]


def refuses(request: Request) -> Response:
    return PlainTextResponse("not you", 403)


def refuses_by_redirect(request: Request) -> Response:
    request.session.clear()
    return RedirectResponse("/denied", 303)


def forgets(request: Request) -> None:
    forget_login(request)


def remembers_bob(request: Request) -> None:
    remember_login(request, sub="bob", iss="https://id.example")


def already_noticed(request: Request) -> None:
    request.scope["asgi_rp_logout"].noticed = Login("acme", sub="carol", known_by="authlib")


@pytest.mark.parametrize(
    ("after", "known"),
    [
        (lambda request: None, KNOWN),
        (refuses, None),
        (refuses_by_redirect, None),
        (forgets, None),
        (remembers_bob, [None, "bob", "remember_login", None]),
    ],
)
def test_what_the_application_says_and_does_goes_before_it(rig: MakeRig, after: Any, known: Any) -> None:
    assert rig(after=after).known() == known


def test_a_login_that_was_noticed_before_is_kept() -> None:
    codes, context = ExpectedCodes(), RequestContext()
    context.noticed = Login("acme", sub="carol", known_by="authlib")
    with codes.expected(CODE, context):
        assert codes.give(CODE, Login("acme", sub="alice", known_by="relay"))
    assert context.noticed.sub == "carol"


def test_a_stranger_with_the_used_code_gets_nothing(rig: MakeRig) -> None:
    """Even where the provider takes the code once more, the login belongs to the request that redeemed it."""
    here = rig()
    assert known_to(here.signed_in()) == KNOWN
    here.upstream.answer = lambda: JSONResponse({"error": "invalid_grant"}, 400)
    stranger = here.signed_in()
    assert stranger.get("/").json() == {"user": "nobody", "known": None}


def test_of_two_requests_with_one_code_neither_gets_the_login(rig: MakeRig) -> None:
    here = rig()
    here.upstream.go_on.clear()
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(here.known())) for _ in range(2)]
    for thread in threads:
        thread.start()
    while len(here.upstream.seen) < 2:
        time.sleep(0.01)
    here.upstream.go_on.set()
    for thread in threads:
        thread.join()
    assert found == [None, None]
    assert here.known() == KNOWN  # the control: alone it does


def test_a_code_is_expected_only_while_its_request_is_handled(rig: MakeRig) -> None:
    here = rig()
    here.upstream.go_on.clear()
    thread = threading.Thread(target=here.signed_in)
    thread.start()
    assert here.upstream.arrived.wait(60)
    assert CODE in here.relay.codes
    here.upstream.go_on.set()
    thread.join()
    here.upstream.answer = lambda: JSONResponse({"error": "invalid_grant"}, 400)
    here.signed_in("a-code-that-fails")
    wait_until(lambda: len(here.relay.codes) == 0)


def test_a_code_that_comes_in_several_requests_is_freed_by_the_last() -> None:
    codes, one, two = ExpectedCodes(), RequestContext(), RequestContext()
    with codes.expected(CODE, one):
        with codes.expected(CODE, two):
            pass
        assert CODE in codes
        codes.give(CODE, Login("acme", sub="alice"))
    assert (one.noticed, two.noticed, len(codes)) == (None, None, 0)


@pytest.mark.parametrize(
    ("query", "codes"),
    [
        (b"state=s&code=a%20b+c", ["a b c"]),
        (b"", []),
        (b"code=", []),
        (b"x=1&nocode=2", []),
        (b"code=a&code=b", ["a", "b"]),
        (b"%63od%65=a", ["a"]),
        (b"&" * 200 + b"code=a", ["a"]),
        (b"x=1&" * 200 + b"code=a", ["a"]),
        (b"code=" + b"x" * 8193, []),
    ],
)
def test_every_code_is_seen_however_it_is_spelled(query: bytes, codes: list[str]) -> None:
    assert codes_in(query) == codes


@pytest.mark.parametrize(
    ("query", "form"),
    [
        ("code=OF-MALLORY", None),
        ("%63ode=OF-MALLORY", None),
        ("code=x&code=OF-MALLORY", None),
        ("code=OF-MALLORY" + "&x=1" * 100, None),
        ("code=x", {"code": "OF-MALLORY"}),
    ],
)
def test_a_code_in_the_page_of_another_user_does_not_replace_their_login(rig: MakeRig, query: str, form: Any) -> None:
    """Mallory opens a page in the browser of Alice with a code of their own, and redeems it in that moment."""
    here = rig(relay={"form_post_path": "/callback"})
    alice = here.signed_in()
    here.upstream.claims = {"sub": "mallory", "sid": "s2"}
    here.upstream.go_on.clear()
    here.upstream.arrived.clear()
    here.app.at_home.clear()
    here.app.leave_home.clear()
    with ThreadPoolExecutor() as threads:
        redeems = threads.submit(here.browser().request, "POST" if form else "GET", f"/callback?{query}", data=form)
        assert here.upstream.arrived.wait(60)
        assert here.upstream.forms[-1]["code"] == ["OF-MALLORY"]
        opens = threads.submit(alice.get, "/?theme=dark&code=OF-MALLORY")
        assert here.app.at_home.wait(60)
        here.upstream.go_on.set()
        assert redeems.result().status_code == 303
        here.app.leave_home.set()
        assert opens.result().status_code == 200
    assert known_to(alice) == KNOWN


def test_only_a_form_redeems_a_code() -> None:
    form = b"grant_type=authorization_code&code=a"
    assert redeemed_code(b"Application/x-www-form-urlencoded; charset=utf-8", form) == "a"
    assert redeemed_code(b"application/json", form) is None
    assert redeemed_code(b"", form) is None
    assert redeemed_code(b"application/x-www-form-urlencoded", form + b"&grant_type=x") is None


def test_a_request_that_leaves_its_session_as_it_is_begins_none(rig: MakeRig) -> None:
    """Several workers do not see each other's codes: here, only the request of Alice carries the one of Mallory."""
    here = rig()
    alice = here.signed_in()
    here.upstream.claims = {"sub": "mallory", "sid": "s2"}
    here.app.at_home.clear()
    here.app.leave_home.clear()
    with ThreadPoolExecutor() as threads:
        opens = threads.submit(alice.get, "/?code=OF-MALLORY")
        assert here.app.at_home.wait(60)
        form = {"grant_type": "authorization_code", "code": "OF-MALLORY"}
        assert here.ask_relay("POST", data=form).status_code == 200
        here.app.leave_home.set()
        assert opens.result().json()["known"] == ["acme", "mallory", "relay", "a-refresh-token"]  # the control
    assert known_to(alice) == KNOWN


def test_a_request_with_several_codes_gets_no_login(rig: MakeRig) -> None:
    here = rig()
    with here.browser() as browser:
        browser.get(f"/callback?code=another&code={CODE}")
        assert here.upstream.forms[-1]["code"] == [CODE]
        assert known_to(browser) is None


def test_other_grants_are_passed_on_and_not_looked_at(rig: MakeRig) -> None:
    here = rig()
    for grant in ("refresh_token", "client_credentials"):
        here.app.grant = {"grant_type": grant}
        assert here.known() is None
        assert here.upstream.forms[-1]["grant_type"] == [grant]
        assert here.app.answers[-1].json()["id_token"] == here.upstream.issued["id_token"]


def test_a_refresh_through_the_relay_leaves_the_login_as_it_is(rig: MakeRig) -> None:
    here = rig()
    browser = here.signed_in()
    first = here.upstream.issued["id_token"]
    here.app.grant = {"grant_type": "refresh_token"}
    here.upstream.claims = {"sub": "bob"}
    browser.get("/callback", params={"code": "another"})
    assert known_to(browser) == KNOWN
    assert f"id_token_hint={first}" in browser.post("/logout").headers["location"]


def test_a_second_login_ends_the_first(rig: MakeRig) -> None:
    here = rig()
    browser = here.signed_in()
    copy = browser_at(here.url, cookies=dict(browser.cookies))
    here.upstream.claims = {"sub": "bob", "sid": "s2"}
    browser.get("/callback", params={"code": "of-bob"})
    assert known_to(browser) == ["acme", "bob", "relay", "a-refresh-token"]
    time.sleep(1.1)
    assert copy.get("/").json() == {"user": None, "known": None}


def test_with_two_providers_each_has_a_relay_of_its_own(serve: Serve, unused_port: UnusedPort) -> None:
    here, other = Upstream(unused_port()), Upstream(unused_port())
    relays = []
    for number, upstream in enumerate((here, other)):
        serve(upstream.app, port=int(upstream.issuer.rstrip("/").rpartition(":")[2]))
        provider = OIDCProvider(upstream.issuer, "rp", "s3cret", name=f"p{number}")
        relays.append(TokenRelay(provider, unused_port()))
    app = App("")
    url = serve(app.around({"providers": [relay.provider for relay in relays], "token_relay": relays}))
    for number, (relay, upstream) in enumerate(zip(relays, (here, other), strict=True)):
        app.token_url = relay.token_url
        with browser_at(url) as browser:
            browser.get("/callback", params={"code": CODE})
            assert known_to(browser)[0] == f"p{number}"
            assert browser.post("/logout").headers["location"].startswith(upstream.issuer)


@pytest.mark.parametrize("relays", [(True, False), (False, True), (True, True)])
def test_of_nested_middlewares_the_one_with_the_relay_gets_the_login(
    rig: MakeRig, serve: Serve, relays: tuple[bool, bool]
) -> None:
    """If both have it, the inner one, as with `remember_login`; a request does not contest its own code."""
    here = rig()
    around = [{**here.options, "token_relay": here.relay if has else None} for has in relays]
    here.url = serve(here.app.around(*around))
    browser = here.signed_in()
    assert f"id_token_hint={here.upstream.issued['id_token']}" in browser.post("/logout").headers["location"]


def test_a_posted_callback_is_read_if_its_path_is_declared(rig: MakeRig) -> None:
    for declared, known in ((None, None), ("/callback", KNOWN)):
        here = rig(relay={"form_post_path": declared})
        with here.browser() as browser:
            browser.post("/callback", data={"code": CODE, "state": "a-state"})
            assert known_to(browser) == known
        wait_until(partial(lambda relay: len(relay.codes) == 0, here.relay))


# The ID Token


def broken(draft: Draft) -> None:
    draft.broken = True


def unsigned(draft: Draft) -> None:
    draft.header, draft.alg_none = {"alg": "none"}, True


def by_another_key(draft: Draft) -> None:
    draft.key = generated("RSA", 99)


def other(**claims: Any) -> Callable[[Draft], object]:
    return lambda draft: draft.claims.update(claims)


@pytest.mark.parametrize(
    ("draft", "why"),
    [
        (broken, "matches none of the provider's keys"),
        (by_another_key, "matches none of the provider's keys"),
        (unsigned, "not signed with RS256"),
        (other(iss="https://evil.example"), "the iss of the ID Token"),
        (other(aud="another"), "the aud of the ID Token"),
        (other(aud=["rp", "another"]), "the azp of the ID Token"),
        (other(azp="another"), "the azp of the ID Token"),
        (other(exp=1), "the exp of the ID Token"),
        (other(exp="late"), "the exp of the ID Token"),
        (other(sub=""), "the sub of the ID Token"),
        (other(sub=7), "the sub of the ID Token"),
    ],
)
def test_a_bad_id_token_is_passed_on_and_not_remembered(rig: MakeRig, log: Log, draft: Any, why: str) -> None:
    here = rig()
    here.upstream.draft = draft
    browser = here.signed_in()
    assert browser.get("/").json() == {"user": "alice", "known": None}
    assert here.app.answers[0].json()["id_token"] == here.upstream.issued["id_token"]
    (line,) = log()
    assert line.startswith("a login goes on, but the relay could not keep it for its logout: ")
    assert why in line


def test_an_audience_of_several_with_the_right_azp_is_fine(rig: MakeRig) -> None:
    here = rig()
    here.upstream.claims = {"aud": ["rp", "another"], "azp": "rp"}
    assert here.known() == KNOWN


@pytest.mark.parametrize("status", [404, 500])
def test_without_the_providers_keys_the_login_goes_on(rig: MakeRig, log: Log, status: int) -> None:
    here = rig(provider_up=False)
    here.upstream.status = status
    here.serve(here.upstream.app, port=here.provider_port)
    browser = here.signed_in()
    assert browser.get("/").json() == {"user": "alice", "known": None}
    assert any("could not keep it" in line for line in log())
    (line,) = [line for line in log() if "keys cannot be read" in line]
    assert "its ID Tokens ignored" in line


def test_keys_that_never_come_hold_a_login_for_a_moment_only(
    rig: MakeRig, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "NOTICE_WITHIN", 0.05)
    here = rig(provider_up=False)
    here.upstream.delay = 3600.0
    here.serve(here.upstream.app, port=here.provider_port, timeout_graceful_shutdown=0)
    assert here.signed_in().get("/").json() == {"user": "alice", "known": None}
    assert any("did not answer within 0.0 s" in line or "not done within 0 s" in line for line in log())


@pytest.mark.parametrize(
    "answer",
    [
        lambda: JSONResponse({"access_token": "x", "token_type": "Bearer"}),
        lambda: JSONResponse({"id_token": 7}),
        lambda: JSONResponse({"id_token": ""}),
        lambda: JSONResponse(["id_token"]),
        lambda: PlainTextResponse('{"id_token": "'),
        lambda: PlainTextResponse('"id_token"' + "[" * 100_000),
        lambda: JSONResponse({"error": "invalid_grant", "id_token": "x"}, 400),
    ],
)
def test_an_answer_without_an_id_token_is_passed_on_as_it_is(rig: MakeRig, log: Log, answer: Any) -> None:
    here = rig()
    here.upstream.answer = answer
    assert here.known() is None
    (got,) = here.app.answers
    assert (got.status_code, got.content) == (answer().status_code, answer().body)
    assert log() == []


# What is passed on


def test_the_metadata_is_the_providers_with_another_token_endpoint(rig: MakeRig) -> None:
    here = rig()
    answer = here.ask_relay(path="/.well-known/openid-configuration")
    with httpx.Client(trust_env=False) as http:
        theirs = http.get(f"{here.upstream.issuer}.well-known/openid-configuration").json()
    assert answer.json() == {**theirs, "token_endpoint": here.relay.token_url}
    assert here.relay.metadata_url == f"http://127.0.0.1:{here.relay.port}/.well-known/openid-configuration"


def test_a_document_of_another_issuer_is_not_passed_on(rig: MakeRig, log: Log) -> None:
    here = rig(provider_up=False)
    here.upstream.issuer_in_document = "https://evil.example"
    here.serve(here.upstream.app, port=here.provider_port)
    assert here.ask_relay(path="/.well-known/openid-configuration").status_code == 502
    assert here.ask_relay("POST", data={"grant_type": "authorization_code"}).status_code == 502
    assert here.upstream.seen == []
    assert all("names another issuer" in line for line in log())


def test_headers_go_on_in_both_directions(rig: MakeRig) -> None:
    here = rig()
    given = {"www-authenticate": 'Basic realm="x"', "dpop-nonce": "n", "cache-control": "no-store", "x-own": "1"}
    here.upstream.answer = lambda: JSONResponse(
        {"error": "invalid_client"}, 401, {**given, "connection": "x-hop", "x-hop": "1"}
    )
    sent = {
        "authorization": "Basic cnA6cw==",
        "accept": "application/json",
        "x-tenant": "t",
        "connection": "close, x-mine",
    }
    answer = here.ask_relay("POST", content=b"grant_type=x", headers={**sent, "x-mine": "1", "content-type": "a/b"})
    assert answer.status_code == 401
    assert answer.json() == {"error": "invalid_client"}
    assert given.items() <= dict(answer.headers).items()
    assert "x-hop" not in answer.headers
    arrived = here.upstream.seen[-1].headers
    assert [arrived.get(name) for name in ("authorization", "accept", "x-tenant", "content-type", "x-mine")] == [
        *("Basic cnA6cw==", "application/json", "t", "a/b", None),
    ]
    assert arrived["host"] == here.upstream.issuer.removeprefix("http://").rstrip("/")


def test_requests_to_the_provider_go_through_its_own_client_and_no_proxy_of_the_environment(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch, unused_port: UnusedPort
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_port()}")
    assert rig().known() == KNOWN
    client = httpx.AsyncClient(headers={"x-client": "own"}, trust_env=False, limits=ONE_REQUEST_A_CONNECTION)
    here = rig(relay={"http_client": client})
    assert here.known() == KNOWN
    assert here.upstream.seen[-1].headers["x-client"] == "own"


def test_a_client_with_a_proxy_and_credentials_asks_the_provider_only(rig: MakeRig, serve: Serve) -> None:
    """Who else has the relay's port is found out without it: the proxy is elsewhere, and the port may be anybody's."""
    asked: list[str] = []

    async def proxy(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        request = Request(scope, receive)
        headers = {**request.headers, "connection": "close"}
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.request(scope["method"], scope["path"], content=await request.body(), headers=headers)
        await Response(answer.content, answer.status_code, dict(answer.headers))(scope, receive, send)

    at = serve(proxy, lifespan="off")
    client = httpx.AsyncClient(proxy=at, headers={"x-client": "own"}, limits=ONE_REQUEST_A_CONNECTION)
    here = rig(relay={"http_client": client})
    assert here.known() == KNOWN
    assert here.upstream.seen[-1].headers["x-client"] == "own"
    assert asked
    assert [url for url in asked if not url.startswith(here.upstream.issuer)] == []


def test_the_event_loop_that_the_application_has_chosen_is_not_the_relays(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop's, for example, knows no Happy Eyeballs."""
    monkeypatch.setattr(asyncio, "new_event_loop", PlainLoop)
    assert rig().known() == KNOWN


class PlainLoop(asyncio.SelectorEventLoop):
    async def create_connection(self, *where: Any, **options: Any) -> Any:
        if "happy_eyeballs_delay" in options:
            raise TypeError("create_connection() got an unexpected keyword argument 'happy_eyeballs_delay'")
        return await super().create_connection(*where, **options)


def test_each_token_request_has_a_connection_of_its_own(rig: MakeRig) -> None:
    """The provider may close an idle one in the moment in which a code is sent on it."""
    here = rig()
    for _ in range(3):
        assert here.known() == KNOWN
    assert len({request.client for request in here.upstream.seen}) == 3


def test_a_redirect_of_the_token_endpoint_is_not_followed_and_its_cookies_are_not_kept(rig: MakeRig) -> None:
    here = rig()
    here.upstream.answer = lambda: RedirectResponse("/jwks", 307, {"set-cookie": "node=1; Path=/"})
    fetched = here.upstream.fetched["jwks"]
    for _ in range(2):
        assert here.ask_relay("POST", content=b"x").status_code == 307
    assert here.upstream.fetched["jwks"] == fetched
    assert "cookie" not in here.upstream.seen[-1].headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/token", 405),
        ("POST", "/", 405),
        ("POST", "/token/", 404),
        ("POST", "/userinfo", 404),
        ("GET", "/jwks", 404),
        ("GET", "/.well-known/jwks.json", 404),
        ("POST", "/token/../jwks", 404),
        ("CONNECT", "/token", 405),
    ],
)
def test_nothing_else_is_passed_on(rig: MakeRig, method: str, path: str, status: int) -> None:
    here = rig()
    assert here.ask_relay(method, path).status_code == status
    assert here.upstream.seen == []
    assert here.ask_relay("POST", content=b"grant_type=x").status_code == 200  # the control


def test_an_answer_of_64_kb_is_passed_on_and_its_login_known(rig: MakeRig) -> None:
    here = rig()
    here.upstream.answer = lambda: JSONResponse({**here.upstream.tokens(), "access_token": "x" * 65_536})
    assert here.known() == KNOWN
    assert len(here.app.answers[0].json()["access_token"]) == 65_536


def test_an_answer_or_a_request_that_is_too_large_is_not(rig: MakeRig, log: Log) -> None:
    here = rig()
    assert here.ask_relay("POST", content=b"x" * (endpoints.MAX_BODY + 1)).status_code == 413
    assert here.upstream.seen == []
    assert here.ask_relay("POST", content=b"x" * endpoints.MAX_BODY).status_code == 200
    here.upstream.answer = lambda: PlainTextResponse("x" * 600_000)
    assert here.ask_relay("POST", content=b"x").status_code == 502
    (line,) = log()
    assert "is over 524288 bytes" in line


def test_a_provider_that_is_down_fails_the_login_with_one_line(rig: MakeRig, log: Log) -> None:
    here = rig(provider_up=False)
    browser = here.signed_in()
    assert browser.get("/").json() == {"user": "nobody", "known": None}
    assert here.app.answers[0].status_code == 502
    (line,) = log()
    assert line.startswith("a token request could not be passed on, so its login has failed: ")


def test_an_answer_with_a_status_that_http_has_not_fails_the_login_with_one_line(rig: MakeRig, log: Log) -> None:
    """A server of a library sends none, and uvicorn, before the application, cannot either."""
    here = rig(provider_up=False)
    document = JSONResponse({"issuer": here.upstream.issuer, "token_endpoint": f"{here.upstream.issuer}token"}).body
    head = b"HTTP/1.1 %d what\r\ncontent-length: %d\r\n\r\n"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        writer.write(head % (200, len(document)) + document if b"openid-configuration" in asked else head % (600, 0))
        writer.close()

    async def ask() -> httpx.Response:
        async with await asyncio.start_server(talk, "127.0.0.1", here.provider_port):
            return await asyncio.to_thread(here.ask_relay, "POST", content=b"x")

    assert asyncio.run(ask()).status_code == 502
    assert [line for line in log() if "600" in line] == [
        "a token request could not be passed on, so its login has failed: the provider answered with status 600"
    ]


def test_a_client_that_does_not_wait_is_not_waited_for(rig: MakeRig, log: Log) -> None:
    """Otherwise a provider that hangs would keep the relay's connections for longer than the application does."""
    here = rig()
    here.upstream.go_on.clear()
    with pytest.raises(httpx.ReadTimeout):
        here.ask_relay("POST", content=b"x", timeout=0.2)
    wait_until(lambda: log() != [])
    assert log() == [
        "a token request could not be passed on, so its login has failed: the application has not waited for the answer"
    ]
    here.upstream.go_on.set()
    assert here.known() == KNOWN


def test_a_provider_that_hangs_is_waited_for_until_a_deadline(
    rig: MakeRig, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = rig()
    assert here.known() == KNOWN
    monkeypatch.setattr(endpoints, "FORWARD_WITHIN", 0.2)
    here.upstream.go_on.clear()
    assert here.ask_relay("POST", content=b"x", timeout=20).status_code == 502
    assert log() == [
        "a token request could not be passed on, so its login has failed: the provider did not answer within 0.2 s"
    ]
    here.upstream.go_on.set()


def test_a_client_that_leaves_in_the_middle_of_its_request_causes_no_line_in_the_log(
    rig: MakeRig, caplog: pytest.LogCaptureFixture
) -> None:
    here = rig()
    head = b"POST /token HTTP/1.1\r\nhost: 127.0.0.1\r\nexpect: 100-continue\r\ncontent-length: 100\r\n\r\n"
    with socket.create_connection(("127.0.0.1", here.relay.port), timeout=60) as client:
        client.sendall(head)
        assert client.recv(100).startswith(b"HTTP/1.1 100")  # so it is waiting for the body
        client.sendall(b"grant_type")
    assert here.known() == KNOWN
    assert len(here.upstream.seen) == 1
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# Who may ask


def test_only_a_client_on_this_machine_is_answered() -> None:
    """A rule of the network may lead others to a loopback address; no test can come from there, so a scope does."""

    async def answers(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("answered")(scope, receive, send)

    async def status(client: tuple[str, int] | None, headers: Mapping[str, str] | None = None) -> int:
        app = endpoints.LoopbackOnly(answers)
        return (await call(app, http_scope("/token", "POST", headers or {}, client=client))).status

    async def main() -> None:
        assert await status(("127.0.0.1", 5)) == 200
        for client in (("10.0.0.1", 5), ("192.168.127.1", 5), ("::ffff:10.0.0.1", 5), None):
            assert await status(client) == 403
        for name, value in (("origin", "http://127.0.0.1:8765"), ("sec-fetch-site", "none")):
            assert await status(("127.0.0.1", 5), {name: value}) == 403

    anyio.run(main)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", ""])
def test_a_name_that_only_leads_here_is_refused(rig: MakeRig, host: str) -> None:
    here = rig()
    assert here.ask_relay("POST", content=b"x", headers={"host": host}).status_code == 400
    assert here.upstream.seen == []
    for own in ("127.0.0.1", f"localhost:{here.relay.port}"):
        assert here.ask_relay("POST", content=b"x", headers={"host": own}).status_code == 200


def test_it_listens_on_the_loopback_address_only(rig: MakeRig) -> None:
    here = rig()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent
        own = probe.getsockname()[0]
    for address, refused in ((own, not own.startswith("127.")), ("127.0.0.1", False)):
        with socket.socket() as client:
            assert (client.connect_ex((address, here.relay.port)) != 0) is refused


def test_a_connection_is_closed_after_its_answer_and_an_idle_one_in_time(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "CONNECTION_AT_MOST", 0.2)
    here = rig()
    assert here.ask_relay(path="/").headers["connection"] == "close"
    with socket.create_connection(("127.0.0.1", here.relay.port), timeout=60) as idle:
        idle.sendall(b"POST /token HTTP/1.1\r\nhost: 127.0.0.1\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert idle.recv(1) == b""


def test_more_connections_than_its_limit_are_closed_at_once(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that ask for nothing."""
    monkeypatch.setattr(listener, "CONNECTIONS", 4)
    here = rig()
    idle = [socket.create_connection(("127.0.0.1", here.relay.port), timeout=60) for _ in range(4)]
    with contextlib.ExitStack() as stack:
        for one in idle:
            stack.enter_context(one)
        another = stack.enter_context(socket.create_connection(("127.0.0.1", here.relay.port), timeout=20))
        with contextlib.suppress(ConnectionResetError):
            assert another.recv(1) == b""
        for one in idle:
            one.setblocking(False)
            with pytest.raises(BlockingIOError):
                one.recv(1)

    def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return here.ask_relay(path="/").status_code == 200
        return False

    wait_until(answers)


class WindowsSelector(selectors.DefaultSelector):
    """As `select` there: for more sockets it raises, which ends the event loop."""

    def select(self, timeout: float | None = None) -> Any:
        for event in (selectors.EVENT_READ, selectors.EVENT_WRITE):
            if sum(bool(key.events & event) for key in self.get_map().values()) > 512:
                raise ValueError("too many file descriptors in select()")
        return super().select(timeout)


def test_all_connections_and_those_to_the_provider_are_as_few_as_windows_waits_for(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.SelectorEventLoop
    monkeypatch.setattr(asyncio, "SelectorEventLoop", lambda: loop(WindowsSelector()))
    here = rig()
    here.upstream.go_on.clear()
    request = b"POST /token HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1\r\n\r\nx"
    (relays_thread,) = (thread for thread in threading.enumerate() if thread.name == "asgi-rp-logout-relay")
    with contextlib.ExitStack() as stack:
        for _ in range(listener.CONNECTIONS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", here.relay.port), timeout=60))
            client.sendall(request)
        wait_until(lambda: len(here.upstream.seen) == listener.CONNECTIONS or not relays_thread.is_alive())
    here.upstream.go_on.set()
    assert relays_thread.is_alive()


# When it starts and stops


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_it_opens_nothing_before_the_first_call_and_stops_with_the_application(unused_port: UnusedPort) -> None:
    relay = TokenRelay(OIDCProvider("https://id.example", "rp"), unused_port())
    started: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        started.append(listens(relay.port))
        await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    wrapped = RPLogoutMiddleware(app, providers=[relay.provider], token_relay=relay)
    assert not listens(relay.port)

    async def main() -> None:
        async def send(message: Any) -> None:
            pass

        await wrapped({"type": "lifespan"}, None, send)  # type: ignore[arg-type]

    for _ in range(2):
        asyncio.run(main())
        assert not listens(relay.port)
    assert started == [True, True]


def test_it_stops_with_an_application_that_cannot_start(unused_port: UnusedPort) -> None:
    relay = TokenRelay(OIDCProvider("https://id.example", "rp"), unused_port())
    started: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        started.append(listens(relay.port))
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    async def send(message: Any) -> None:
        pass

    wrapped = RPLogoutMiddleware(app, providers=[relay.provider], token_relay=relay)
    try:
        asyncio.run(wrapped({"type": "lifespan"}, None, send))  # type: ignore[arg-type]
        assert started == [True]
        assert not listens(relay.port)
    finally:
        relay.stop()


def test_without_a_lifespan_it_starts_with_the_first_request(unused_port: UnusedPort) -> None:
    relay = TokenRelay(OIDCProvider("https://id.example", "rp"), unused_port())
    seen: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(listens(relay.port))
        await PlainTextResponse("")(scope, receive, send)

    async def main() -> None:
        wrapped = RPLogoutMiddleware(app, providers=[relay.provider], token_relay=relay)
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(call(wrapped, http_scope()))

    try:
        asyncio.run(main())
        assert seen == [True] * 3
    finally:
        relay.stop()


def test_an_application_without_lifespan_keeps_its_relay(unused_port: UnusedPort) -> None:
    relay = TokenRelay(OIDCProvider("https://id.example", "rp"), unused_port())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("no lifespan here")

    wrapped = RPLogoutMiddleware(app, providers=[relay.provider], token_relay=relay)
    try:
        with pytest.raises(RuntimeError):
            asyncio.run(wrapped({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
        assert listens(relay.port)
    finally:
        relay.stop()


def test_a_forked_process_holds_no_socket_of_the_relay_and_starts_its_own(rig: MakeRig) -> None:
    here = rig()
    relay, context = here.relay, multiprocessing.get_context("fork")
    ready, go_on, done = context.Event(), context.Event(), context.Event()

    def child() -> None:
        ready.set()
        go_on.wait(60)
        before = relay.is_started
        asyncio.run(relay.start())
        if not before and listens(relay.port):
            done.set()
        time.sleep(0.5)
        os._exit(0)

    process = context.Process(target=child)
    with warnings.catch_warnings():  # of threads that a forked process has no more, from Python 3.12 on
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    assert ready.wait(60)
    relay.stop()
    assert not listens(relay.port)
    go_on.set()
    assert done.wait(60)
    process.join()


# The port


@contextlib.contextmanager
def another_program(port: int, say: bytes = b"") -> Iterator[None]:
    """Listen on a port, and answer whoever connects with the same bytes."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen()

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(1000)
                        connection.sendall(say)

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("say", [b"", b"-ERR what?\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"])
def test_a_port_that_another_program_has_is_said_once_and_taken_when_it_is_free(
    rig: MakeRig, log: Log, unused_port: UnusedPort, say: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "AGAIN", 0.05)
    port = unused_port()
    with another_program(port, say):
        here = rig(port=port)
        assert here.browser().get("/").status_code == 200
        time.sleep(0.5)
        (line,) = log()
        assert line == (
            "the token relay does not listen, so logins through it fail: another program has port "
            f"{port}; pass port= another one to TokenRelay"
        )
    while len(log()) < 2:
        time.sleep(0.01)
    assert log()[1] == f"the token relay listens on port {port} now"
    assert here.known() == KNOWN


def test_the_relay_of_another_provider_on_the_port_is_noticed(rig: MakeRig, log: Log) -> None:
    here = rig()
    other = rig(port=here.relay.port)
    (line,) = log()
    assert f"the relay of another provider has port {here.relay.port}" in line
    assert other.browser().get("/").status_code == 200
    for _ in range(10):
        assert here.known() == KNOWN  # nothing of it goes to the other one
    assert other.upstream.seen == []


def test_two_relays_of_different_providers_that_start_at_once_do_not_share_a_port(
    rig: MakeRig, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look of each found nobody: after it listens, each looks again, more often here than by default."""
    here = rig()
    monkeypatch.setattr(listener, "LOOKS", 40)
    late = listener.Listener(here.relay.port, "another", lambda client: (answers_as("another"), nothing), None)
    late._nobody_listens = yes  # type: ignore[method-assign]
    late.start()
    assert late.settled.wait(60)
    late.stop()
    assert any("the relay of another provider has port" in line for line in log())


async def yes() -> bool:
    return True


async def nothing() -> None:
    pass


def answers_as(identity: str) -> ASGIApp:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await JSONResponse({"relay": identity}, headers={"connection": "close"})(scope, receive, send)

    return app


def test_a_second_process_without_a_shared_store_is_warned_of(rig: MakeRig, log: Log) -> None:
    here = rig()
    twin = TokenRelay(OIDCProvider(here.upstream.issuer, "rp", "s3cret", name="acme"), here.relay.port)
    try:
        asyncio.run(twin.start())
    finally:
        twin.stop()
    (line,) = log()
    assert "has the relay of another process too" in line
    assert "set store=" in line


# Several workers


def two_workers(rig: MakeRig, store: Callable[[], Any], **options: Any) -> tuple[Rig, Rig]:
    """Two processes' worth of one application: A's codes are redeemed at B's relay."""
    a = rig(store=store(), **options)
    b = TokenRelay(OIDCProvider(a.upstream.issuer, "rp", "s3cret", name="acme"), _free())
    app = App(b.token_url)
    beside = Rig.__new__(Rig)
    beside.app, beside.relay, beside.upstream = app, b, a.upstream
    beside.url = a.serve(app.around({"providers": [b.provider], "token_relay": b, "store": store(), **options}))
    a.app.token_url = b.token_url
    return a, beside


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Shared(ForeignStore):
    """A store of several workers, by one object for each event loop."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner


def test_a_code_redeemed_at_one_worker_is_a_login_at_the_other(redis_server: RedisServer, rig: MakeRig) -> None:
    a, b = two_workers(rig, lambda: RedisStore(url=redis_server.url))
    browser = a.signed_in()
    assert known_to(browser) == KNOWN
    at_b = browser_at(b.url, cookies=dict(browser.cookies))
    assert known_to(at_b) == KNOWN
    assert f"id_token_hint={a.upstream.issued['id_token']}" in at_b.post("/logout").headers["location"]


def test_workers_share_one_port(redis_server: RedisServer, rig: MakeRig, log: Log) -> None:
    """The system spreads the token requests over both, and each login is noticed."""
    here = rig(store=RedisStore(url=redis_server.url))
    twin = TokenRelay(OIDCProvider(here.upstream.issuer, "rp", "s3cret", name="acme"), here.relay.port)
    app = App(twin.token_url)
    url = here.serve(
        app.around({"providers": [twin.provider], "token_relay": twin, "store": RedisStore(url=redis_server.url)})
    )
    for number in range(16):
        address = here.url if number % 2 else url
        with browser_at(address) as browser:
            browser.get("/callback", params={"code": f"{CODE}-{number}"})
            assert known_to(browser) == KNOWN, number
    assert log() == []


def shared_memory(inner: Any) -> Callable[[], Shared]:
    return lambda: Shared(inner)


def test_a_login_is_handed_over_once_and_only_to_a_request_that_was_on_its_way(rig: MakeRig) -> None:
    from asgi_rp_logout import MemoryStore

    kept = MemoryStore()
    a, b = two_workers(rig, shared_memory(kept))
    with httpx.Client(trust_env=False) as nobody:  # redeemed for nobody, as by a page that posts its code as JSON
        form = {"grant_type": "authorization_code", "code": CODE}
        assert nobody.post(b.relay.token_url, data=form).status_code == 200
    assert len(kept.entries["handed_over"]) == 1
    a.upstream.answer = lambda: JSONResponse({"error": "invalid_grant"}, 400)
    assert known_to(a.signed_in()) is None  # it came later: a stranger with the used code
    del a.upstream.answer
    a.upstream.answer = lambda: JSONResponse(a.upstream.tokens())
    assert a.known("another") == KNOWN
    assert len(kept.entries["handed_over"]) == 1  # that of the other code; the one that was taken is gone


@pytest.mark.parametrize("trouble", ["raise", "hang"])
def test_a_store_that_fails_costs_the_hint_and_no_login(rig: MakeRig, trouble: Any) -> None:
    from asgi_rp_logout import MemoryStore

    kept = MemoryStore()
    stores: list[Shared] = []
    a, _ = two_workers(rig, lambda: stores.append(Shared(kept)) or stores[-1])
    for store in stores:
        store.trouble, store.broken = trouble, ("get", "get_many", "put", "delete")
    browser = a.signed_in()
    for store in stores:
        store.trouble = None
    assert browser.get("/").json()["user"] == "alice"


def test_a_request_with_a_code_asks_the_store_once_more_and_only_if_it_may_begin_a_session(
    unused_port: UnusedPort,
) -> None:
    """A stranger can add `code=` to any address. Nothing is written for it."""
    foreign = ForeignStore()
    relay = TokenRelay(OIDCProvider("https://id.example", "rp"), unused_port())
    answer: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("", answer["status"], answer["headers"])(scope, receive, send)

    wrapped = RPLogoutMiddleware(app, providers=[relay.provider], token_relay=relay, store=foreign)
    sets = {"set-cookie": "session=0123456789abcdef0123456789abcdef"}

    async def calls(path: str, status: int = 200, headers: Mapping[str, str] | None = None) -> dict[str, int]:
        answer.update(status=status, headers=headers or {})
        foreign.calls.clear()
        await call(wrapped, http_scope(path))
        return dict(foreign.calls)

    async def main() -> None:
        assert await calls("/") == await calls(f"/?code={CODE}") == {}
        assert await calls("/", 400, sets) == await calls(f"/?code={CODE}", 400, sets)
        without, with_code = await calls("/", 200, sets), await calls(f"/?code={CODE}", 200, sets)
        assert with_code == {**without, "get_many": without.get("get_many", 0) + 1}
        assert foreign.names() == []

    try:
        asyncio.run(main())
    finally:
        relay.stop()


# What is said


def test_no_code_token_or_state_is_in_any_log(rig: MakeRig, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG, of every library; but for the lines that say which address was asked for."""
    caplog.set_level(logging.DEBUG)
    here = rig()
    browser = here.signed_in()
    here.upstream.draft = broken
    here.signed_in("another-code-7")
    here.upstream.answer = lambda: PlainTextResponse("x" * 600_000)
    here.signed_in("another-code-8")
    browser.post("/logout")
    asked_for = ("uvicorn.access", "httpx", "httpcore")
    said = "\n".join(
        record.getMessage()
        for record in caplog.records
        if not (record.name.startswith(asked_for) and ("/callback?" in record.getMessage()))
    )
    assert "HTTP Request: POST" in said
    secrets_ = [CODE, "another-code-7", "another-code-8", "a-state", "an-access-token", "a-refresh-token", "s3cret"]
    for secret in [*secrets_, here.upstream.issued["id_token"]]:
        assert secret not in said, secret


def test_the_applications_own_server_says_nothing_of_the_relay(
    rig: MakeRig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loggers belong to the application: uvicorn would log each token request, or silence the whole access log."""
    caplog.set_level(logging.DEBUG)
    for name in ("uvicorn", "uvicorn.access"):  # which a server of another test may have configured
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        caplog.set_level(logging.DEBUG, logger=name)
    here = rig()
    here.known()
    records = {id(record): record for record in caplog.records}.values()  # some come by way of two handlers
    said = [r.getMessage() for r in records if r.name.startswith("uvicorn")]
    assert any("GET /callback" in line for line in said)
    assert any("POST /token" in line for line in said)  # the provider's own
    asked = [line for line in said if "POST /token" in line or "GET / HTTP" in line]
    assert len(asked) == 2, asked  # one token request, and the page that shows who is known


# What is refused at construction


PROVIDER = OIDCProvider("https://id.example", "rp")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"provider": StaticProvider("https://id.example/logout")},
            "provider=StaticProvider: expected an OIDCProvider",
        ),
        ({"provider": None}, "provider=NoneType: expected an OIDCProvider"),
        ({"port": 0}, "port=0: expected the number of a port, such as 8765"),
        ({"port": 65536}, "port=65536"),
        ({"port": "8765"}, "port='8765'"),
        ({"port": True}, "port=True"),
        ({"form_post_path": "callback"}, "form_post_path='callback': expected a path"),
        ({"form_post_path": 7}, "form_post_path=7: expected a path"),
        ({"http_client": "x"}, "http_client='x': expected an AsyncClient"),
    ],
)
def test_a_wrong_value_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TokenRelay(**{"provider": PROVIDER, **given})


def test_a_relay_whose_provider_is_not_listed_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"expected its provider, 'https://id\.example', among"):
        RPLogoutMiddleware(
            answers_as(""), providers=[OIDCProvider("https://other.example", "rp")], token_relay=TokenRelay(PROVIDER)
        )
    RPLogoutMiddleware(answers_as(""), providers=list, token_relay=TokenRelay(PROVIDER))


def test_without_uvicorn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "asgi_rp_logout.relay.listener", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'asgi-rp-logout\[relay\]'"):
        TokenRelay(PROVIDER)


def test_its_addresses_are_known_at_once() -> None:
    relay = TokenRelay(PROVIDER)
    assert relay.token_url == "http://127.0.0.1:8765/token"
    assert relay.metadata_url == "http://127.0.0.1:8765/.well-known/openid-configuration"
