"""Hint on demand: a logout without an ID Token fetches one at the provider, without a page, and never depends on it."""

from __future__ import annotations

import logging
import secrets
import warnings
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import anyio
import httpx
import pytest
from authlib.deprecate import AuthlibDeprecationWarning
from key_value.aio.stores.redis import RedisStore
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_rp_logout import (
    AuthlibProvider,
    ConfigurationError,
    Login,
    MemoryStore,
    OIDCProvider,
    ProviderError,
    RPLogoutMiddleware,
    end_login,
    presets,
)
from asgi_rp_logout.logout.silent_trip import TRIP_LIFETIME
from asgi_rp_logout.protocol.id_token import ExpectedToken, check_id_token
from asgi_rp_logout.providers.silent_hint import MOST_ADDRESSES, MOST_FAILURES, OFF_FOR, SilentHint, SilentRequest
from tests.apps import SECRET, guarded, parameters, signs_out
from tests.asgi import Answer, call, http_scope
from tests.conftest import Log, RedisServer, Serve, UnusedPort
from tests.places import Browser, ForeignStore
from tests.stub_provider import SilentProvider, generated
from tests.test_demo import BACK, make_rig
from tests.test_demo import Rig as DemoRig
from tests.virtual_time import in_virtual_time, let_time_pass
from tests.workers import wait_until

with warnings.catch_warnings():
    warnings.simplefilter("ignore", AuthlibDeprecationWarning)
    from authlib.integrations.starlette_client import OAuth

__all__ = ["make_rig"]

CLICK = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document", "sec_fetch_site": "same-origin"}
ARRIVAL = {**CLICK, "sec_fetch_site": "cross-site"}
FETCH = {"sec_fetch_mode": "cors", "sec_fetch_dest": "empty", "sec_fetch_site": "same-origin"}
CODE = {"code", "state", "iss"}


class Rig:
    """An application that remembers nobody, behind the middleware, and the provider of its users."""

    def __init__(self, op: SilentProvider | None = None, app: ASGIApp | None = None, **options: Any) -> None:
        self.op = op or SilentProvider()
        secret = self.op.client_secret
        self.provider = OIDCProvider(self.op.issuer, "rp", secret, name="idp", silent_hint=True)
        self.options = {"callback_path": "/back", "providers": [self.provider], **options}
        self.options.setdefault("http_client", self.op.client())
        self.app: ASGIApp = guarded(app or signs_out("/bye"), **self.options)

    @property
    def silent(self) -> SilentHint:
        assert self.provider.silent is not None
        return self.provider.silent

    async def probed(self, **headers: str) -> Rig:
        """Log somebody out, who goes the direct way, and lets the provider be probed after that."""
        answer = await self.browser().post("/logout", **headers)
        assert not is_trip(answer)
        return self

    def browser(self) -> Browser:
        """Give a browser with a session of its own."""
        return Browser(self.app, {"session": secrets.token_hex(16)})

    async def leaves(self, **headers: str) -> tuple[Browser, Answer]:
        """Give a browser that has logged out, and the answer that sends it on its trip."""
        browser = self.browser()
        answer = await browser.post("/logout", **headers)
        assert is_trip(answer), answer.header("location")
        return browser, answer

    async def comes_back(self, browser: Browser, answer: Answer, user: str | None = "alice") -> Answer:
        """Let the provider answer, and give our answer to that."""
        back = await self.op.visit(str(answer.header("location")), user)
        return await browser.get(str(back), **ARRIVAL, sec_fetch_user="?1")

    async def trip(self, user: str | None = "alice") -> tuple[Browser, Answer]:
        """Log out by way of the trip; give the browser and our answer to what it came back with."""
        browser, answer = await self.leaves()
        return browser, await self.comes_back(browser, answer, user)


def is_trip(answer: Answer) -> bool:
    return answer.status == 303 and (answer.header("location") or "").startswith("https://op.example/auth?")


def hint_of(answer: Answer) -> str | None:
    """Give the hint with which an answer sends the browser to the end-session endpoint."""
    assert answer.status == 303
    location = str(answer.header("location"))
    assert location.startswith("https://op.example/end_session?"), location
    assert (answer.header("cache-control"), answer.header("referrer-policy")) == ("no-store", "no-referrer")
    return parameters(answer).get("id_token_hint")


def subject(token: str | None) -> str | None:
    return Login(id_token=token).sub if token else None


async def lands(browser: Browser, answer: Answer) -> str | None:
    """Give the page on which a browser lands that the end-session endpoint sends back."""
    return (await browser.get(f"/back?state={parameters(answer)['state']}", **ARRIVAL)).header("location")


# The trip


async def test_a_logout_without_an_id_token_fetches_one_and_goes_on_with_it() -> None:
    rig = await Rig().probed()
    browser, answer = await rig.trip()
    hint = hint_of(answer)
    assert hint == rig.op.secrets[-1]
    assert subject(hint) == "alice"
    assert parameters(answer)["post_logout_redirect_uri"] == "http://127.0.0.1/back"
    assert browser.cookies.keys() == {"rp_return"}
    assert await lands(browser, answer) == "/bye"


async def test_the_control_without_the_option_nobody_is_asked() -> None:
    op = SilentProvider()
    app = guarded(
        signs_out("/bye"),
        providers=[OIDCProvider(op.issuer, "rp", name="idp")],
        callback_path="/back",
        http_client=op.client(),
    )
    for _ in range(2):
        answer = await Browser(app, {"session": SECRET}).post("/logout")
        assert hint_of(answer) is None
    assert op.fetched == {"discovery": 1}


async def test_the_request_is_by_the_book_and_shows_nothing_of_the_cookie() -> None:
    rig = await Rig().probed()
    browser, answer = await rig.leaves()
    asked = parameters(answer)
    constant = {"response_type": "code", "client_id": "rp", "redirect_uri": "http://127.0.0.1/back"}
    constant |= {"scope": "openid", "prompt": "none", "code_challenge_method": "S256"}
    assert {name: asked[name] for name in constant} == constant
    assert asked.keys() - constant.keys() == {"state", "nonce", "code_challenge"}
    secret = browser.cookies["rp_silent"]
    assert len({asked["state"], asked["nonce"], asked["code_challenge"], secret}) == 4
    assert {len(value) for value in (asked["state"], asked["nonce"], asked["code_challenge"], secret)} == {43}
    (line,) = answer.set_cookies()["rp_silent"]
    assert line.partition("; ")[2] == "Path=/; Max-Age=60; HttpOnly; SameSite=Lax"
    assert (answer.header("cache-control"), answer.header("referrer-policy")) == ("no-store", "no-referrer")


async def test_the_logout_here_is_complete_before_the_trip_begins() -> None:
    rig = await Rig().probed()
    browser, answer = await rig.leaves()
    assert "session" in answer.expired()
    assert browser.cookies.keys() == {"rp_silent"}


@pytest.mark.parametrize("user", ["?1", "?0"])
async def test_a_browser_that_comes_back_without_a_hint_is_not_sent_on_another_trip(user: str) -> None:
    """Else it would go round and round."""
    rig = await Rig().probed()
    browser, answer = await rig.leaves()
    back = str(await rig.op.visit(str(answer.header("location")), None))
    assert hint_of(await browser.get(back, **ARRIVAL, sec_fetch_user=user)) is None


@pytest.mark.parametrize("error", [ValueError("no"), ProviderError("no")])
async def test_a_list_that_fails_meanwhile_leads_to_the_page(error: Exception, log: Log) -> None:
    listed: list[Any] = []

    def listing() -> list[Any]:
        if not listed:
            raise error
        return listed

    rig = Rig(providers=listing)
    listed.append(rig.provider)
    await rig.probed()
    browser, answer = await rig.leaves()
    listed.clear()
    answer = await rig.comes_back(browser, answer)
    assert (answer.status, answer.header("location")) == (303, "/bye")
    assert len(log()) == 1


@pytest.mark.parametrize("error", ["login_required", "interaction_required", "consent_required", "server_error", "x"])
@pytest.mark.parametrize("iss", ["https://op.example/", "https://other.example/", None])
async def test_an_error_goes_on_to_the_end_session_endpoint_all_the_same(error: str, iss: str | None) -> None:
    """`login_required` too: some providers answer it although a session lives."""
    rig = await Rig().probed()
    rig.op.answers, rig.op.iss = error, iss
    browser, answer = await rig.trip()
    assert hint_of(answer) is None
    assert parameters(answer)["post_logout_redirect_uri"] == "http://127.0.0.1/back"
    assert "rp_silent" in answer.expired()
    assert await lands(browser, answer) == "/bye"
    assert rig.op.redeemed == []


FAULTS: dict[str, dict[str, Any]] = {
    "the token endpoint refuses": {"tokens": 400},
    "the token endpoint is broken": {"tokens": 500},
    "no ID Token": {"tokens": {"id_token": None}},
    "an ID Token that is no text": {"tokens": {"id_token": ["a"]}},
    "an ID Token that is no token": {"tokens": {"id_token": "a.b.c"}},
    "another nonce": {"claims": {"nonce": "another"}},
    "no nonce": {"claims": {"nonce": None}},
    "another audience": {"claims": {"aud": "another"}},
    "another audience among others": {"claims": {"aud": ["a", "b"], "azp": "rp"}},
    "several audiences without azp": {"claims": {"aud": ["rp", "another"]}},
    "another azp": {"claims": {"azp": "another"}},
    "another issuer": {"claims": {"iss": "https://other.example/"}},
    "expired": {"claims": {"exp": 1}},
    "no exp": {"claims": {"exp": None}},
    "no sub": {"claims": {"sub": None}},
    "an empty sub": {"claims": {"sub": ""}},
    "a key that is not the provider's": {"signing_key": generated("RSA", 99)},
    "a code without iss where it is announced": {"iss": None},
    "a code with another iss": {"iss": "https://other.example/"},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_what_cannot_be_verified_is_no_hint(fault: dict[str, Any]) -> None:
    rig = await Rig().probed()
    for name, value in fault.items():
        setattr(rig.op, name, value)
    browser, answer = await rig.trip()
    assert hint_of(answer) is None
    assert await lands(browser, answer) == "/bye"


GOOD: dict[str, Any] = {"iss": "i", "aud": "rp", "sub": "alice", "exp": 1000, "nonce": "n"}


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, None),
        ({"aud": ["rp"], "azp": "rp"}, None),
        ({"aud": ["rp", "x"], "azp": "rp"}, None),
        ({"exp": 941}, None),
        ({"iss": "j"}, "iss"),
        ({"iss": None}, "iss"),
        ({"aud": ["x"]}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": ["rp", "x"]}, "azp"),
        ({"azp": "x"}, "azp"),
        ({"exp": 940}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": "soon"}, "exp"),
        ({"nonce": "m"}, "nonce"),
        ({"sub": 7}, "sub"),
        ({"sub": ""}, "sub"),
    ],
)
def test_each_claim_of_an_id_token_counts(changes: dict[str, Any], wrong: str | None) -> None:
    if wrong is None:
        check_id_token(GOOD | changes, ExpectedToken("i", "rp", "n"), now=1000)
        return
    with pytest.raises(ProviderError, match=f"the {wrong} of the ID Token is not the expected one") as raised:
        check_id_token(GOOD | changes, ExpectedToken("i", "rp", "n"), now=1000)
    assert raised.value.code == "id_token"


@pytest.mark.parametrize("aud", ["rp", ["rp"], ["rp", "another"]])
async def test_the_control_an_audience_that_names_this_client_is_fine(aud: Any) -> None:
    rig = await Rig().probed()
    rig.op.claims = {"aud": aud, "azp": "rp"}
    assert subject(hint_of((await rig.trip())[1])) == "alice"


async def test_a_code_without_iss_is_taken_where_none_is_announced() -> None:
    op = SilentProvider()
    op.more_metadata, op.iss = {}, None
    rig = await Rig(op).probed()
    assert subject(hint_of((await rig.trip())[1])) == "alice"


async def test_a_code_of_another_issuer_is_not_redeemed_here() -> None:
    """The mix-up: an attacker's provider sends its code, and wants ours to see it, or ours sent to it."""
    rig = await Rig().probed()
    rig.op.iss = "https://attacker.example"
    await rig.trip()
    assert rig.op.redeemed == []


@pytest.mark.parametrize(("endpoint", "delay"), [("token_delay", 2.9), ("token_delay", 3600.0)])
@in_virtual_time
async def test_a_slow_token_endpoint_has_the_time_of_a_provider(endpoint: str, delay: float) -> None:
    rig = await Rig(provider_timeout=3.0).probed()
    setattr(rig.op, endpoint, delay)
    browser, answer = await rig.leaves()
    back = await rig.op.visit(str(answer.header("location")))
    began = anyio.current_time()
    answer = await browser.get(str(back), **ARRIVAL)
    assert anyio.current_time() - began <= 3.0
    assert (hint_of(answer) is not None) is (delay < 2.7)


@in_virtual_time
async def test_the_control_a_token_endpoint_that_takes_its_time_is_waited_for() -> None:
    rig = await Rig(provider_timeout=3.0).probed()
    rig.op.token_delay = 2.5
    assert subject(hint_of((await rig.trip())[1])) == "alice"


async def test_a_provider_that_has_no_url_any_more_leads_to_the_page() -> None:
    rig = await Rig(store=ForeignStore()).probed()
    browser, answer = await rig.leaves()
    back = str(await rig.op.visit(str(answer.header("location"))))
    other = OIDCProvider("https://b.example", "rp", name="b", silent_hint=True)
    gone = Browser(guarded(signs_out(), **{**rig.options, "providers": [other]}), browser.cookies)
    answer = await gone.get(back, **ARRIVAL)
    assert (answer.status, answer.header("location")) == (303, "/bye")
    assert "rp_silent" in answer.expired()


class Strict(OIDCProvider):
    """A provider that takes no logout request without a hint, as Okta's."""

    def adapted(self, values: Any, login: Login | None) -> Any:
        if not values["id_token_hint"]:
            raise ProviderError("this provider takes no logout request without id_token_hint", code="missing_parameter")
        return values


async def test_a_provider_that_takes_no_logout_without_a_hint_gets_one_now() -> None:
    op = SilentProvider()
    provider = Strict(op.issuer, "rp", name="idp", silent_hint=True)
    rig = Rig(op, providers=[provider])
    assert (await rig.browser().post("/logout")).header("location") == "/bye"
    browser, answer = await rig.trip()
    assert subject(hint_of(answer)) == "alice"
    assert await lands(browser, answer) == "/bye"


async def test_and_without_one_its_logout_stays_a_local_one(log: Log) -> None:
    op = SilentProvider()
    provider = Strict(op.issuer, "rp", name="idp", silent_hint=True)
    rig = Rig(op, providers=[provider])
    await rig.browser().post("/logout")
    _, answer = await rig.trip(None)
    assert (answer.status, answer.header("location")) == (303, "/bye")
    assert len(log()) == 1  # once a second
    assert log()[0].endswith("this provider takes no logout request without id_token_hint")


# Who is signed in there


def knowing(**parts: Any) -> Callable[[Any], Login]:
    return lambda connection: Login("idp", **parts)


@pytest.mark.parametrize(("there", "hints"), [("alice", True), ("bob", False)])
async def test_somebody_else_at_the_provider_is_not_logged_out_by_our_hint(there: str, hints: bool) -> None:
    """Where it is known who is signed in here; otherwise whoever this browser has a session for."""
    rig = await Rig(login_source=knowing(sub="alice")).probed()
    _, answer = await rig.trip(there)
    assert (hint_of(answer) is not None) is hints


@pytest.mark.parametrize(
    ("known", "claims", "hints"),
    [
        ({"sid": "sid-of-alice"}, {}, True),
        ({"sid": "sid-of-bob"}, {}, False),
        ({"sid": "sid-of-alice"}, {"sid": "another-of-alice"}, False),  # nothing shows that it is hers
        ({"sid": "sid-of-alice"}, {"sid": None}, False),
        ({"sub": "alice", "sid": "sid-of-alice"}, {"sid": "another-of-alice"}, True),  # she has signed in again
        ({"sub": "alice", "sid": "sid-of-alice"}, {"sid": None}, True),
        ({"sub": "bob", "sid": "sid-of-alice"}, {}, False),
    ],
)
async def test_the_sid_says_whose_session_it_is_where_the_sub_is_not_known(
    known: dict[str, str], claims: dict[str, Any], hints: bool
) -> None:
    rig = await Rig(login_source=knowing(**known)).probed()
    rig.op.claims = claims
    assert (hint_of((await rig.trip())[1]) is not None) is hints


async def test_where_nobody_is_known_the_browsers_own_session_counts() -> None:
    rig = await Rig().probed()
    assert subject(hint_of((await rig.trip("bob"))[1])) == "bob"


async def test_a_known_id_token_is_the_hint_and_nobody_is_asked() -> None:
    op = SilentProvider()
    token = op.make_id_token("alice")
    rig = Rig(op, login_source=knowing(id_token=token))
    for _ in range(2):
        assert hint_of(await rig.browser().post("/logout")) == token
    assert op.fetched == {"discovery": 1}


async def test_a_login_of_another_issuer_is_not_looked_for_here() -> None:
    rig = Rig(login_source=lambda connection: Login("idp", sub="alice", iss="https://other.example"))
    for _ in range(2):
        assert hint_of(await rig.browser().post("/logout")) is None
    assert rig.op.fetched == {"discovery": 1}


async def test_the_login_that_is_handed_on_says_where_it_is_known_from() -> None:
    seen: list[Login | None] = []

    class Watching(OIDCProvider):
        def adapted(self, values: Any, login: Login | None) -> Any:
            seen.append(login)
            return super().adapted(values, login)

    op = SilentProvider()
    provider = Watching(op.issuer, "rp", name="idp", silent_hint=True)
    rig = Rig(op, providers=[provider], login_source=knowing(sub="alice", logout_hint="alice@example.com"))
    await rig.probed()
    _, answer = await rig.trip()
    login = seen[-1]
    assert login is not None
    assert (login.known_by, login.sub, login.sid, login.iss) == ("silent_hint", "alice", "sid-of-alice", op.issuer)
    assert parameters(answer)["logout_hint"] == "alice@example.com"


# Bound to its browser, and used once


async def test_another_browser_goes_on_without_a_hint_and_uses_nothing_up() -> None:
    """Not to a page of ours: the session at the provider would live."""
    rig = await Rig(login_source=knowing(sub="alice", logout_hint="alice@example.com")).probed()
    browser, answer = await rig.leaves()
    other, _ = await rig.leaves()
    back = str(await rig.op.visit(str(answer.header("location"))))
    for stranger in (Browser(rig.app), other, Browser(rig.app, {"rp_silent": ""})):
        answer = await stranger.copy().get(back, **ARRIVAL)
        assert (hint_of(answer), "logout_hint" in parameters(answer)) == (None, False)
        assert await lands(stranger, answer) == "/"
    assert rig.op.redeemed == []
    assert subject(hint_of(await browser.get(back, **ARRIVAL))) == "alice"


async def test_a_code_is_redeemed_once_and_a_browser_that_asks_again_goes_on_without() -> None:
    """It may have dropped the first answer; only for some seconds, and then the state is unknown."""
    store, now = MemoryStore(), [0.0]
    store._clock = lambda: now[0]
    rig = await Rig(store=store).probed()
    browser, answer = await rig.leaves()
    back = str(await rig.op.visit(str(answer.header("location"))))
    copies = [browser.copy() for _ in range(2)]
    assert subject(hint_of(await browser.get(back, **ARRIVAL))) == "alice"
    answer = await copies[0].get(back, **ARRIVAL)
    assert hint_of(answer) is None
    assert await lands(copies[0], answer) == "/bye"
    now[0] += 10.5
    answer = await copies[1].get(back, **ARRIVAL)
    assert hint_of(answer) is None
    assert await lands(copies[1], answer) == "/"
    assert len(rig.op.redeemed) == 1


async def test_visits_at_the_same_moment_redeem_a_code_once() -> None:
    store = ForeignStore()
    rig = await Rig(store=store).probed()
    browser, answer = await rig.leaves()
    back = str(await rig.op.visit(str(answer.header("location"))))
    store.delay = 0.01
    hints: list[str | None] = []
    async with anyio.create_task_group() as tasks:
        for _ in range(4):

            @tasks.start_soon
            async def _() -> None:
                hints.append(subject(hint_of(await browser.copy().get(back, **ARRIVAL))))

    assert sorted(hints, key=str) == [None, None, None, "alice"]
    assert len(rig.op.redeemed) == 1


@pytest.mark.parametrize(("seconds", "known"), [(TRIP_LIFETIME - 1, True), (TRIP_LIFETIME + 1, False)])
async def test_a_trip_is_waited_for_for_a_minute(seconds: float, known: bool) -> None:
    store, now = MemoryStore(), [0.0]
    store._clock = lambda: now[0]
    rig = await Rig(store=store).probed()
    browser, answer = await rig.leaves()
    now[0] += seconds
    answer = await rig.comes_back(browser, answer)
    assert (hint_of(answer) is not None) is known
    assert (len(rig.op.redeemed) == 1) is known


async def test_a_trip_that_the_store_has_lost_still_ends_at_the_provider() -> None:
    """Strangers have pushed it out, or the process has started again: the session there would live on."""
    rig = await Rig(store=MemoryStore()).probed()
    browser, answer = await rig.leaves()
    back = str(await rig.op.visit(str(answer.header("location"))))
    store: Any = rig.options["store"]
    store.entries["silent_trip:unknown"].clear()
    stranger = Browser(rig.app, {"rp_silent": "invented"})
    assert (await stranger.get(back, **ARRIVAL)).header("location") == "/"
    answer = await browser.get(back, **ARRIVAL)
    assert hint_of(answer) is None
    assert "rp_silent" not in browser.cookies
    assert await lands(browser, answer) == "/"
    assert rig.op.redeemed == []


WRONG = {
    "another state": "?code={code}&state=" + "x" * 43,
    "no state": "?code={code}",
    "an empty state": "?code={code}&state=",
    "a state twice": "?code={code}&state={state}&state={state}",
    "two codes": "?code={code}&code=x&state={state}",
    "a code and an error": "?code={code}&error=x&state={state}",
    "neither": "?state={state}",
    "a hundred parameters": "?" + "a=b&" * 100 + "code={code}&state={state}",
    "a target": "?code={code}&state=x&post_logout_redirect_uri=https://evil.example&to=//evil.example",
}


@pytest.mark.parametrize("query", WRONG.values(), ids=WRONG.keys())
async def test_what_is_no_answer_to_our_request_is_the_way_back_as_ever(query: str, log: Log) -> None:
    rig = await Rig().probed()
    browser, answer = await rig.leaves()
    back = str(await rig.op.visit(str(answer.header("location"))))
    given = dict(parse_qsl(urlsplit(back).query))
    answer = await browser.copy().get("/back" + query.format(**given), **ARRIVAL)
    assert (answer.status, answer.header("location")) == (303, "/")
    assert log() == []
    assert rig.op.redeemed == []
    assert subject(hint_of(await browser.get(back, **ARRIVAL))) == "alice"


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [("HEAD", ARRIVAL, 303), ("POST", ARRIVAL, 405), ("GET", FETCH, 303), ("GET", {"sec_fetch_dest": "image"}, 303)],
)
async def test_only_a_navigation_uses_it_up(method: str, headers: dict[str, str], status: int) -> None:
    rig = await Rig().probed()
    browser, answer = await rig.leaves()
    back = str(await rig.op.visit(str(answer.header("location"))))
    assert (await browser.copy().request(method, back, headers)).status == status
    assert rig.op.redeemed == []
    assert subject(hint_of(await browser.get(back, **ARRIVAL))) == "alice"


@pytest.mark.parametrize("checks_verifier", [True, False])
async def test_a_code_of_another_user_is_no_hint(checks_verifier: bool) -> None:
    """It was asked for by another trip: the verifier does not fit, and neither does the nonce."""
    rig = await Rig().probed()
    rig.op.checks_verifier = checks_verifier
    _, mallorys = await rig.leaves()
    stolen = dict(parse_qsl(urlsplit(str(await rig.op.visit(str(mallorys.header("location")), "mallory"))).query))
    browser, answer = await rig.leaves()
    state = parameters(answer)["state"]
    answer = await browser.get(f"/back?code={stolen['code']}&state={state}&iss={rig.op.issuer}", **ARRIVAL)
    assert hint_of(answer) is None
    assert len(rig.op.redeemed) == 1


async def test_somebody_elses_answer_does_not_reach_a_browser_that_asked_for_none() -> None:
    """Login CSRF has no aim here: the browser has no cookie for that state, and nobody is signed in by it."""
    rig = await Rig().probed()
    _, answer = await rig.leaves()
    back = str(await rig.op.visit(str(answer.header("location")), "mallory"))
    victim = Browser(rig.app, {"session": "another-0123456789abcdef"})
    answer = await victim.get(back, **ARRIVAL)
    assert hint_of(answer) is None
    assert rig.op.redeemed == []
    assert victim.cookies["session"] == "another-0123456789abcdef"


@pytest.mark.parametrize("provider", ["https://evil.example", "b", ""])
async def test_a_store_in_somebody_elses_hands_takes_the_browser_nowhere_else(provider: str) -> None:
    rig = await Rig(store=MemoryStore()).probed()
    browser, answer = await rig.leaves()
    store: Any = rig.options["store"]
    ((key, (_, record)),) = store.entries["silent_trip:unknown"].items()
    await store.put(key, {**record, "provider": provider, "to": "//evil.example"}, ttl=60)
    answer = await rig.comes_back(browser, answer)
    assert (answer.status, answer.header("location")) == (303, "/")


@pytest.mark.parametrize("record", [{"v": 1}, {"v": 1, "provider": "idp", "to": 7}, {"v": 2, "provider": "idp"}, {}])
async def test_a_record_that_cannot_be_read_is_none(record: dict[str, Any]) -> None:
    """Its own browser still goes to the provider where the record is malformed, which may be the only one."""
    rig = await Rig(store=MemoryStore()).probed()
    browser, answer = await rig.leaves()
    store: Any = rig.options["store"]
    (key,) = store.entries["silent_trip:unknown"]
    await store.put(key, record, ttl=60)
    answer = await rig.comes_back(browser, answer)
    assert answer.status == 303
    assert answer.header("location") == "/" or hint_of(answer) is None
    assert rig.op.redeemed == []


# What it leaves behind


@in_virtual_time
async def test_the_refresh_token_is_revoked_after_the_logout_had_its_second() -> None:
    """Keycloak ends the session with it: the logout itself, which tells the other applications, is to come first."""
    op = SilentProvider()
    op.more_metadata |= {"revocation_endpoint": f"{op.issuer}revoke"}
    rig = await Rig(op).probed()
    browser, answer = await rig.leaves()
    back = str(await op.visit(str(answer.header("location"))))
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: browser.get(back, **ARRIVAL))
        await anyio.sleep(0.9)
        assert (len(op.redeemed), op.revoked) == (1, [])
    assert op.revoked == ["the-refresh-token"]
    assert anyio.current_time() - began == pytest.approx(1.0)


async def test_the_refresh_token_is_revoked_at_once_and_no_token_is_stored() -> None:
    op, store = SilentProvider(), ForeignStore()
    op.more_metadata |= {"revocation_endpoint": f"{op.issuer}revoke"}
    rig = await Rig(op, store=store).probed()
    browser, answer = await rig.leaves()
    hidden = [browser.cookies["rp_silent"], *(parameters(answer)[name] for name in ("state", "nonce"))]
    kept = [str((key, await store.record(key))) for key in store.names("silent_trip:")]
    assert len(kept) == 1
    answer = await rig.comes_back(browser, answer)
    assert subject(hint_of(answer)) == "alice"
    assert op.revoked == ["the-refresh-token"]
    kept += [str((key, await store.record(key))) for key in store.names()]
    assert not [secret for secret in (*op.secrets, *hidden) if any(secret in record for record in kept)]


@pytest.mark.parametrize("there", ["alice", "bob"])
async def test_the_refresh_token_of_somebody_who_is_not_logged_out_is_left_alone(there: str) -> None:
    """Nobody keeps it. Some providers end the session with it, and this one may be somebody else's."""
    op = SilentProvider()
    op.more_metadata |= {"revocation_endpoint": f"{op.issuer}revoke"}
    rig = await Rig(op, login_source=knowing(sub="alice")).probed()
    op.claims = {"nonce": "another"} if there == "alice" else {}
    _, answer = await rig.trip(there)
    assert (hint_of(answer), op.revoked) == (None, [])


async def test_a_refresh_token_that_is_not_revoked_is_a_warning_and_nobody_waits(log: Log) -> None:
    op = SilentProvider()
    op.more_metadata |= {"revocation_endpoint": f"{op.issuer}revoke"}
    op.revocation_status = 503
    rig = await Rig(op).probed()
    assert subject(hint_of((await rig.trip())[1])) == "alice"
    (line,) = log()
    assert line.startswith("the refresh token that came with the ID Token of a logout was not revoked")


@pytest.mark.parametrize("tokens", [{}, {"refresh_token": None}])
async def test_without_a_revocation_endpoint_or_a_refresh_token_there_is_nothing_to_do(tokens: Any, log: Log) -> None:
    op = SilentProvider()
    op.tokens = tokens
    if tokens:
        op.more_metadata |= {"revocation_endpoint": f"{op.issuer}revoke"}
    rig = await Rig(op).probed()
    assert subject(hint_of((await rig.trip())[1])) == "alice"
    assert (op.revoked, log()) == ([], [])


@pytest.mark.parametrize(
    ("secret", "methods", "expected"),
    [
        ("s3cr3t-s3cr3t", None, "basic"),
        ("s3cr3t-s3cr3t", ["client_secret_post", "client_secret_basic"], "basic"),
        ("s3cr3t-s3cr3t", ["client_secret_post"], "post"),
        ("s3cr3t-s3cr3t", ["private_key_jwt"], "basic"),
        (None, None, "none"),
    ],
)
async def test_the_client_authenticates_as_the_provider_admits(secret: Any, methods: Any, expected: str) -> None:
    op = SilentProvider(client_secret=secret)
    op.more_metadata |= {"token_endpoint_auth_methods_supported": methods} if methods else {}
    rig = await Rig(op).probed()
    await rig.trip()
    assert op.authenticated == [expected if secret else "none"]
    (form,) = op.redeemed
    assert form.keys() - {"client_secret"} >= {"grant_type", "code", "redirect_uri", "code_verifier"}
    assert form.get("client_id") == (None if expected == "basic" else "rp")


async def test_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture, log: Log) -> None:
    """Nor is anything that an attacker writes into the error."""
    op = SilentProvider()
    op.more_metadata |= {"revocation_endpoint": f"{op.issuer}revoke"}
    rig = await Rig(op).probed()
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    hidden = list(op.secrets)
    for tokens, answers in (({}, "by the book"), (400, "by the book"), ({}, "</script>\n"), ({"id_token": "x"}, None)):
        op.tokens, op.answers = tokens, answers or "by the book"
        browser, answer = await rig.leaves()
        hidden += [browser.cookies["rp_silent"]]
        hidden += [parameters(answer)[name] for name in ("state", "nonce", "code_challenge")]
        await rig.comes_back(browser, answer)
    hidden += [value for value in op.secrets if len(value) > 1]
    hidden += [form["code_verifier"] for form in op.redeemed] + ["the-client-secret", "</script>"]
    assert len(hidden) > 20
    ours = log(logging.DEBUG)
    assert any("asks 'idp' without a page" in line for line in ours)
    assert not [line for line in ours for secret in hidden if secret in line]
    # httpx logs addresses at INFO: the token request has nothing in its own.
    theirs = [record.getMessage() for record in caplog.records if "op.example/auth" not in record.getMessage()]
    assert not [line for line in theirs for secret in hidden if secret in line]


# The probe


async def test_the_first_logout_goes_the_direct_way_and_the_provider_is_probed_once() -> None:
    rig = Rig()
    for _ in range(2):
        await rig.probed() if rig.op.fetched["auth"] == 0 else await rig.trip()
    (probe, real) = rig.op.requests
    assert rig.op.cookies == [None, "op=alice"]
    assert probe.keys() == real.keys()
    fresh = {"state", "nonce", "code_challenge"}
    assert {name: value for name, value in probe.items() if name not in fresh} == {
        name: value for name, value in real.items() if name not in fresh
    }
    assert not {probe[name] for name in fresh} & {real[name] for name in fresh}


@in_virtual_time
async def test_no_logout_waits_for_the_probe() -> None:
    rig = Rig()
    rig.op.authorize_delay = 3600.0
    began = anyio.current_time()
    times: list[float] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def timed(message: Message) -> None:
            times.append(anyio.current_time() - began)
            await send(message)

        await rig.app(scope, receive, timed)

    answer = await Browser(app, {"session": SECRET}).post("/logout")
    assert hint_of(answer) is None
    assert times == [0.0, 0.0]
    assert rig.op.fetched["auth"] == 1
    assert anyio.current_time() - began <= 5.0


def elsewhere(op: SilentProvider) -> None:
    op.redirect_uris = ["http://127.0.0.1/other"]


OFF: dict[str, Callable[[SilentProvider], Any]] = {
    "a page": lambda op: setattr(op, "answers", 200),
    "an error page": lambda op: setattr(op, "answers", 400),
    "a crash": lambda op: setattr(op, "answers", 500),
    "an unregistered address": elsewhere,
    "no authorization endpoint": lambda op: op.more_metadata.update(authorization_endpoint=None),
    "an authorization endpoint without https": lambda op: op.more_metadata.update(authorization_endpoint="http://a.b/"),
}


@pytest.mark.parametrize("breaks", OFF.values(), ids=OFF.keys())
async def test_a_provider_that_answers_otherwise_is_not_asked(breaks: Callable[[SilentProvider], Any]) -> None:
    op = SilentProvider()
    breaks(op)
    rig = Rig(op)
    for _ in range(5):
        answer = await rig.browser().post("/logout")
        assert hint_of(answer) is None
    assert op.fetched["auth"] <= 1


BY_THE_BOOK = "http://127.0.0.1/back?error=x&state={state}"
LOCATIONS = {
    "a code": "http://127.0.0.1/back?code=x&state={state}",
    "another state": "http://127.0.0.1/back?error=x&state=y",
    "no state": "http://127.0.0.1/back?error=x",
    "another address": "http://127.0.0.1/other?error=x&state={state}",
    "another host": "http://evil.example/back?error=x&state={state}",
    "another scheme": "https://127.0.0.1/back?error=x&state={state}",
    "a fragment": "http://127.0.0.1/back#error=x&state={state}",
    "a login page": "/login",
    "nothing": "",
}


@pytest.mark.parametrize(
    ("location", "status", "on"),
    [
        *((location, 302, False) for location in LOCATIONS.values()),
        (BY_THE_BOOK, 200, False),
        (BY_THE_BOOK, 302, True),
        (BY_THE_BOOK, 303, True),
    ],
)
async def test_only_an_error_at_our_own_address_with_our_state_turns_it_on(
    location: str, status: int, on: bool, log: Log
) -> None:
    op = SilentProvider()

    async def redirects(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/auth":
            await op.app(scope, receive, send)
            return
        op.fetched["auth"] += 1
        state = dict(parse_qsl(scope["query_string"].decode()))["state"]
        headers = [(b"location", location.format(state=state).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body"})

    rig = Rig(op, http_client=httpx.AsyncClient(transport=httpx.ASGITransport(redirects)))
    await rig.probed()
    for _ in range(2):
        assert is_trip(await rig.browser().post("/logout")) is on
    assert op.fetched["auth"] == 1
    expected = [] if on else ["silent_hint of provider 'idp' is off"]
    assert [line.partition(", so")[0] for line in log()] == expected


@in_virtual_time
async def test_a_provider_that_is_down_is_asked_again(log: Log) -> None:
    rig = Rig()
    await rig.browser().post("/logout")  # the metadata is fetched
    rig.silent._probed.clear()
    rig.op.answers = 503
    await rig.probed()
    rig.op.answers = "by the book"
    for seconds, asked in ((29.0, 2), (2.0, 3)):
        let_time_pass(seconds)
        await rig.probed()
        assert rig.op.fetched["auth"] == asked
    assert subject(hint_of((await rig.trip())[1])) == "alice"
    assert len(log()) == 1


@in_virtual_time
async def test_a_registration_that_changes_is_noticed_within_an_hour() -> None:
    """Else every browser ended on the error page of the provider until the application starts again."""
    rig = await Rig().probed()
    rig.op.redirect_uris = []
    let_time_pass(3590)
    assert is_trip(await rig.browser().post("/logout"))
    assert rig.op.fetched["auth"] == 1
    let_time_pass(20)
    assert is_trip(await rig.browser().post("/logout"))  # no logout waits for the probe
    assert rig.op.fetched["auth"] == 2
    rig.op.redirect_uris = ["http://127.0.0.1/back"]
    await rig.probed()
    assert rig.op.fetched["auth"] == 2
    let_time_pass(3610)
    await rig.probed()
    assert is_trip(await rig.browser().post("/logout"))


@pytest.mark.parametrize("public_url", ["https://app.example.com", "https://app.example.com/prefix"])
async def test_with_a_public_url_the_provider_is_probed_while_the_application_starts(public_url: str) -> None:
    op = SilentProvider()
    op.redirect_uris = [f"{public_url}/back"]
    rig = Rig(op, public_url=public_url, app=lifespan_and(signs_out("/bye")))
    await start(rig.app)
    assert op.fetched == {"discovery": 1, "auth": 1}
    browser = rig.browser()
    answer = await browser.post("/logout")
    assert parameters(answer)["redirect_uri"] == f"{public_url}/back"
    assert "__Host-rp_silent" in browser.cookies
    back = str(await op.visit(str(answer.header("location"))))
    assert back.startswith(f"{public_url}/back?")
    answer = await browser.get(back.removeprefix(public_url), **ARRIVAL)
    assert subject(hint_of(answer)) == "alice"
    assert parameters(answer)["post_logout_redirect_uri"] == f"{public_url}/back"
    assert await lands(browser, answer) == "/bye"


async def test_without_one_nothing_is_probed_at_the_start() -> None:
    rig = Rig(app=lifespan_and(signs_out("/bye")))
    await start(rig.app)
    assert rig.op.fetched == {"discovery": 1}


@in_virtual_time
async def test_a_start_waits_a_second_for_the_probe_and_a_logout_makes_it_then() -> None:
    op = SilentProvider()
    op.redirect_uris, op.authorize_delay = ["https://app.example.com/back"], 3600.0
    rig = Rig(op, public_url="https://app.example.com", app=lifespan_and(signs_out("/bye")))
    began = anyio.current_time()
    await start(rig.app)
    assert 0.5 < anyio.current_time() - began <= 1.0
    op.authorize_delay = 0.0
    await rig.probed()
    assert is_trip(await rig.browser().post("/logout"))


def lifespan_and(app: ASGIApp) -> ASGIApp:
    async def with_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.complete"})
        else:
            await app(scope, receive, send)

    return with_lifespan


async def start(app: ASGIApp) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "lifespan"}, anyio.sleep_forever, send)  # type: ignore[arg-type]
    assert sent == [{"type": "lifespan.startup.complete"}]


async def test_below_a_root_path_the_address_is_below_it_too() -> None:
    op = SilentProvider()
    op.redirect_uris = ["http://127.0.0.1/prefix/back"]
    rig = Rig(op)
    cookies: dict[str, str] = {"session": SECRET}

    async def send(path: str, method: str = "GET") -> Answer:
        cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
        answer = await call(rig.app, http_scope(path, method, {"cookie": cookie}, root_path="/prefix"))
        cookies.update(answer.cookies())
        return answer

    assert hint_of(await send("/prefix/logout", "POST")) is None
    answer = await send("/prefix/logout", "POST")
    assert parameters(answer)["redirect_uri"] == "http://127.0.0.1/prefix/back"
    back = await op.visit(str(answer.header("location")))
    answer = await send(str(back))
    assert subject(hint_of(answer)) == "alice"
    assert (await send(f"/prefix/back?state={parameters(answer)['state']}")).header("location") == "/bye"


# Off by itself


OF_THE_PROVIDER: dict[str, dict[str, Any]] = {
    "it wants an ID Token first": {"answers": "invalid_request"},
    "it always wants a page": {"answers": "interaction_required"},
    "no ID Token": {"tokens": {"id_token": None}},
    "an ID Token without a nonce": {"claims": {"nonce": None}},
}


@pytest.mark.parametrize("fault", OF_THE_PROVIDER.values(), ids=OF_THE_PROVIDER.keys())
async def test_after_three_failures_in_a_row_it_is_off_for_an_hour_with_one_warning(
    fault: dict[str, Any], log: Log
) -> None:
    """Glewlwyd answers the probe with `interaction_required`, and a browser with `invalid_request`."""
    rig = await probed_with("interaction_required" if "answers" in fault else "by the book")
    now = [0.0]
    rig.silent._clock = lambda: now[0]
    rig.silent._off_until = 0.0
    for name, value in fault.items():
        setattr(rig.op, name, value)
    for _ in range(2):
        for _ in range(MOST_FAILURES):
            assert hint_of((await rig.trip())[1]) is None
        assert hint_of(await rig.browser().post("/logout")) is None
        assert len(log()) == 1
        assert log()[0].startswith("3 logouts in a row came back from provider 'idp' without the ID Token")
        assert "off for 60 minutes at a time" in log()[0]
        now[0] += OFF_FOR - 1
        assert not is_trip(await rig.browser().post("/logout"))
        now[0] += 2
    rig.op.answers, rig.op.tokens, rig.op.claims = "by the book", {}, {}
    assert subject(hint_of((await rig.trip())[1])) == "alice"
    assert rig.op.fetched["auth"] == 1 + 2 * MOST_FAILURES + 1


async def probed_with(answer: str) -> Rig:
    """Give a rig whose provider answers the probe like this, and browsers by the book."""
    rig = Rig()
    rig.op.answers = answer
    await rig.probed()
    rig.op.answers = "by the book"
    return rig


OF_THE_USER = ["interaction_required", "consent_required", "account_selection_required", "login_required", "x"]


@pytest.mark.parametrize("error", OF_THE_USER)
async def test_an_error_is_no_failure_of_a_provider_that_knows_when_nobody_is_signed_in(error: str, log: Log) -> None:
    """It says something about this user, or anybody has made it up."""
    rig = await Rig().probed()
    rig.op.answers = error
    for _ in range(MOST_FAILURES + 1):
        assert hint_of((await rig.trip())[1]) is None
    assert is_trip(await rig.browser().post("/logout"))
    assert log() == []


@pytest.mark.parametrize("error", OF_THE_USER)
async def test_an_error_is_no_failure_of_a_provider_that_has_given_an_id_token(error: str, log: Log) -> None:
    """AD FS answers with `interaction_required` where nobody is signed in, and with a code where somebody is."""
    rig = await probed_with("interaction_required")
    assert subject(hint_of((await rig.trip())[1])) == "alice"
    rig.op.answers = error
    for _ in range(MOST_FAILURES + 1):
        assert hint_of((await rig.trip())[1]) is None
    assert is_trip(await rig.browser().post("/logout"))
    assert log() == []


@in_virtual_time
async def test_a_later_probe_does_not_take_back_what_the_provider_has_shown(log: Log) -> None:
    rig = await probed_with("interaction_required")
    assert subject(hint_of((await rig.trip())[1])) == "alice"
    rig.op.answers = "interaction_required"
    let_time_pass(3610)
    for _ in range(MOST_FAILURES + 1):
        assert hint_of((await rig.trip())[1]) is None
    assert rig.op.fetched["auth"] == 3 + MOST_FAILURES + 1
    assert log() == []


async def test_an_error_is_no_failure_where_no_probe_has_shown_anything_yet(log: Log) -> None:
    """Another worker has probed the provider, and sent the browser there."""
    op, store = SilentProvider(), ForeignStore()
    here, there = await Rig(op, store=store).probed(), Rig(op, store=store)
    op.answers = "invalid_request"
    for _ in range(MOST_FAILURES):
        browser, answer = await here.leaves()
        back = str(await op.visit(str(answer.header("location"))))
        assert hint_of(await Browser(there.app, browser.cookies).get(back, **ARRIVAL)) is None
    op.answers = "by the book"
    await there.probed()
    assert is_trip(await there.browser().post("/logout"))
    assert log() == []


@pytest.mark.parametrize(
    ("between", "goes_on"), [("login_required", False), ("interaction_required", False), ("by the book", True)]
)
async def test_only_a_hint_interrupts_the_row(between: str, goes_on: bool) -> None:
    """Anybody could send an error in between, and make the server ask the token endpoint again and again."""
    rig = await Rig().probed()
    for tokens, answers in ((500, "by the book"), (500, "by the book"), ({}, between), (500, "by the book")):
        rig.op.tokens, rig.op.answers = tokens, answers
        await rig.trip()
    assert is_trip(await rig.browser().post("/logout")) is goes_on


async def test_codes_that_are_refused_and_wrong_id_tokens_are_counted_apart() -> None:
    """Else it took a stranger and one bad answer of the provider to switch it off for an hour."""
    rig = await Rig().probed()
    for tokens in (400, 400, {"id_token": None}, {"id_token": None}):
        rig.op.tokens = tokens
        await rig.trip()
    assert is_trip(await rig.browser().post("/logout"))


@pytest.mark.parametrize("there", ["bob", "alice"])
async def test_somebody_else_signed_in_is_no_failure_of_the_provider(there: str, log: Log) -> None:
    rig = await Rig(login_source=knowing(sub="alice")).probed()
    for _ in range(MOST_FAILURES + 1):
        await rig.trip(there)
    assert is_trip(await rig.browser().post("/logout"))
    assert log() == []


async def test_nobody_signed_in_is_no_failure_however_often() -> None:
    rig = await Rig().probed()
    for _ in range(MOST_FAILURES + 2):
        assert hint_of((await rig.trip(None))[1]) is None


OF_THE_TOKEN_ENDPOINT: dict[str, dict[str, Any]] = {
    "it refuses": {"tokens": 400},
    "it refuses with 200": {"tokens": dict.fromkeys(("id_token", "access_token", "refresh_token"))},
    "it is broken": {"tokens": 500},
    "it is slow": {"token_delay": 3600.0},
}


@pytest.mark.parametrize("fault", OF_THE_TOKEN_ENDPOINT.values(), ids=OF_THE_TOKEN_ENDPOINT.keys())
@in_virtual_time
async def test_a_token_endpoint_that_redeems_nothing_is_left_alone_for_half_a_minute(
    fault: dict[str, Any], log: Log
) -> None:
    """Any of these may be an invented code's doing."""
    rig = await Rig().probed()
    for name, value in fault.items():
        setattr(rig.op, name, value)
    for _ in range(MOST_FAILURES):
        assert hint_of((await rig.trip())[1]) is None
    let_time_pass(29)
    assert not is_trip(await rig.browser().post("/logout"))
    rig.op.tokens, rig.op.token_delay = {}, 0.0
    let_time_pass(2)
    assert subject(hint_of((await rig.trip())[1])) == "alice"
    assert len(log()) == 1
    assert "off for 0.5 minutes at a time" in log()[0]


# Strangers


NO_CODE = ["code=x", "code=x&iss=https://other.example/"]
"""The provider of these tests announces that it sends `iss`."""


async def test_invented_hosts_make_a_few_probes_and_do_not_stop_an_address_that_works(log: Log) -> None:
    rig = await Rig().probed()
    for number in range(40):
        await call(
            rig.app, http_scope("/logout", "POST", {"cookie": f"session={SECRET}", "host": f"evil{number}.example"})
        )
    assert rig.op.fetched["auth"] == MOST_ADDRESSES
    assert is_trip(await rig.browser().post("/logout"))
    assert len(log()) == 1
    assert not [line for line in log(logging.DEBUG) if "evil" in line]


@in_virtual_time
async def test_an_address_is_probed_after_strangers_have_named_others() -> None:
    rig = Rig()
    for number in range(40):
        await call(
            rig.app, http_scope("/logout", "POST", {"cookie": f"session={SECRET}", "host": f"evil{number}.example"})
        )
    await rig.probed()
    assert not is_trip(await rig.browser().post("/logout"))
    let_time_pass(31)
    await rig.probed()
    assert is_trip(await rig.browser().post("/logout"))


class Wildcard(list[str]):
    """Every address is registered."""

    def __contains__(self, address: object) -> bool:
        return True


@in_virtual_time
async def test_an_address_is_probed_although_the_provider_answers_at_invented_ones_too() -> None:
    rig = Rig()
    rig.op.redirect_uris = Wildcard()
    for number in range(40):
        await call(
            rig.app, http_scope("/logout", "POST", {"cookie": f"session={SECRET}", "host": f"evil{number}.example"})
        )
    assert rig.op.fetched["auth"] == MOST_ADDRESSES
    await rig.probed()
    assert not is_trip(await rig.browser().post("/logout"))
    let_time_pass(31)
    await rig.probed()
    assert is_trip(await rig.browser().post("/logout"))
    assert len(rig.silent._probed) == MOST_ADDRESSES


@pytest.mark.parametrize("code", ["invented", "%00", "%FF", "%F0%9F%92%A5", "%27%20or%201=1--", "x" * 6000])
@in_virtual_time
async def test_invented_codes_reach_the_token_endpoint_a_few_times_only(code: str) -> None:
    """Three in half a minute: after that, the option works again for everybody."""
    rig = await Rig().probed()
    for browser, answer in [await rig.leaves() for _ in range(10)]:
        back = f"/back?code={code}&state={parameters(answer)['state']}&iss={rig.op.issuer}"
        assert hint_of(await browser.get(back, **ARRIVAL)) is None
    assert rig.op.fetched["token"] == MOST_FAILURES
    assert not is_trip(await rig.browser().post("/logout"))
    let_time_pass(31)
    assert subject(hint_of((await rig.trip())[1])) == "alice"


@pytest.mark.parametrize("invented", ["error=server_error", "error=invalid_request&iss=https://op.example/", *NO_CODE])
async def test_an_answer_that_asks_nothing_of_the_provider_switches_nothing_off(invented: str, log: Log) -> None:
    """It takes the state and the cookie of one's own logout to send it."""
    rig = await Rig().probed()
    for _ in range(2 * MOST_FAILURES):
        browser, answer = await rig.leaves()
        back = f"/back?{invented}&state={parameters(answer)['state']}"
        assert hint_of(await browser.get(back, **ARRIVAL)) is None
    assert rig.op.fetched["token"] == 0
    assert subject(hint_of((await rig.trip())[1])) == "alice"
    assert log() == []


async def test_with_a_login_source_a_stranger_begins_no_trip() -> None:
    rig = Rig(login_source=lambda connection: Login("idp", sub="alice") if "uid" in connection.cookies else None)
    rig = await rig.probed(cookie="session=one-0123456789abcdef; uid=alice")
    for uid, begins in (("", False), ("; uid=alice", True)):
        answer = await Browser(rig.app).post("/logout", cookie=f"session=two-0123456789abcdef{uid}")
        assert is_trip(answer) is begins


async def test_a_strangers_trip_leaves_little_and_pushes_out_nobody_elses() -> None:
    store = ForeignStore()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await signs_out("/" + "x" * 1000)(scope, receive, send)

    rig = await Rig(app=app, store=store).probed()
    before = set(store.names())
    browser, answer = await rig.leaves()
    (key,) = store.names("silent_trip:")
    assert len(key) + len(str(await store.record(key))) < 300
    assert (await store.record(key))["of"] == "unknown"
    assert len(set(store.names()) - before) <= 2
    puts = store.calls["put"]
    await rig.comes_back(browser, answer)
    assert (store.calls["put"] - puts, store.calls["delete"]) == (2, 1)
    reads, puts = store.reads, store.calls["put"]
    for query in ("?code=x&state=y", "?error=x&state=y"):
        assert (await Browser(rig.app, {"rp_silent": "invented"}).get(f"/back{query}")).header("location") == "/"
    assert (store.reads - reads, store.calls["put"] - puts) == (2, 0)
    fits = SilentRequest("", "invented").state
    assert hint_of(await Browser(rig.app, {"rp_silent": "invented"}).get(f"/back?code=x&state={fits}")) is None
    assert (store.reads - reads, store.calls["put"] - puts) == (3, 1)


async def test_what_is_neither_a_logout_nor_the_callback_asks_nobody_anything() -> None:
    store = ForeignStore()
    rig = await Rig(store=store).probed()
    browser, _ = await rig.leaves()
    fetched, calls = dict(rig.op.fetched), sum(store.calls.values())
    assert (await Browser(rig.app, {"rp_silent": browser.cookies["rp_silent"]}).get("/page?code=x&state=y")).status
    assert dict(rig.op.fetched) == fetched
    assert sum(store.calls.values()) == calls


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", ARRIVAL),  # a script or refresh of another site; with a click there is a Sec-Fetch-User
        ("POST", ARRIVAL),  # a form of another site
        ("GET", {"sec_fetch_mode": "no-cors", "sec_fetch_dest": "image", "sec_fetch_site": "cross-site"}),
    ],
)
async def test_a_logout_that_another_site_causes_fetches_no_hint(method: str, headers: dict[str, str]) -> None:
    rig = await Rig().probed()
    answer = await rig.browser().request(method, "/logout", headers)
    assert "op.example/auth" not in str(answer.header("location"))
    assert "rp_silent" not in answer.cookies()


async def test_the_control_a_click_on_a_link_is_the_users() -> None:
    rig = await Rig().probed()
    assert is_trip(await rig.browser().request("GET", "/logout", {**ARRIVAL, "sec_fetch_user": "?1"}))


# The kinds of request


async def test_htmx_inertia_and_turbo_are_sent_there_in_their_own_way() -> None:
    rig = await Rig().probed()
    asks = "https://op.example/auth?response_type=code"
    for headers, header in (({"hx_request": "true"}, "hx-redirect"), ({"x_inertia": "true"}, "x-inertia-location")):
        browser = rig.browser()
        answer = await browser.post("/logout", **{**FETCH, **headers})
        assert str(answer.header(header)).startswith(asks)
        back = str(await rig.op.visit(str(answer.header(header))))
        answer = await browser.get(back, **ARRIVAL)  # a script's navigation: nobody has clicked
        assert subject(hint_of(answer)) == "alice"
        assert await lands(browser, answer) == "/bye"
    answer = await rig.browser().post("/logout", **{**FETCH, "accept": "text/vnd.turbo-stream.html"})
    assert f"url={asks}&amp;".encode() in answer.body
    assert "rp_silent" in answer.cookies()


async def test_a_fetch_leaves_it_to_the_next_page() -> None:
    rig = await Rig().probed()
    browser = rig.browser()
    assert (await browser.post("/logout", **FETCH)).header("location") == "/bye"
    assert browser.cookies.keys() == {"rp_later"}
    answer = await browser.get("/?tab=2", **CLICK)
    assert is_trip(answer)
    answer = await rig.comes_back(browser, answer)
    assert subject(hint_of(answer)) == "alice"
    assert await lands(browser, answer) == "/?tab=2"
    assert (await browser.get("/?tab=2", **CLICK)).header("location") == "/bye"  # the application's own answer


async def test_the_next_page_after_a_fetch_lets_the_provider_be_probed_too() -> None:
    rig = Rig()
    browser = rig.browser()
    await browser.post("/logout", **FETCH)
    assert rig.op.fetched == {}
    assert hint_of(await browser.get("/", **CLICK)) is None
    assert rig.op.fetched["auth"] == 1


async def test_an_application_that_goes_to_the_provider_by_itself_is_left_alone() -> None:
    rig = Rig(app=signs_out("https://op.example/end_session?id_token_hint=a.b.c"))
    for _ in range(2):
        answer = await rig.browser().post("/logout")
        assert answer.header("location") == "https://op.example/end_session?id_token_hint=a.b.c"
    assert rig.op.fetched["auth"] == 0


async def test_the_url_that_end_login_returns_begins_no_trip() -> None:
    """No cookie goes with it that could bind the way back."""
    urls: list[str | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/end":
            urls.append(await end_login(Request(scope)))
        await signs_out("/bye")(scope, receive, send)

    rig = await Rig(app=app).probed()
    answer = await rig.browser().get("/end")
    assert str(urls[0]).startswith("https://op.example/end_session?")
    assert "rp_silent" not in answer.cookies()


# Clicks, tabs, workers, stores


async def test_a_second_click_during_the_trip_makes_another_one() -> None:
    """The browser shows the answer to the last click only."""
    rig = await Rig().probed()
    browser = rig.browser()
    first = await browser.post("/logout", **CLICK)
    assert is_trip(first)
    second = await browser.post("/logout", **CLICK)
    assert is_trip(second)
    assert parameters(first)["state"] != parameters(second)["state"]
    answer = await rig.comes_back(browser, second)
    assert subject(hint_of(answer)) == "alice"
    assert await lands(browser, answer) == "/bye"


async def test_a_click_after_coming_back_makes_another_trip() -> None:
    rig = await Rig().probed()
    browser = rig.browser()
    await rig.comes_back(browser, await browser.post("/logout", **CLICK))
    answer = await browser.post("/logout", **CLICK)
    assert is_trip(answer)
    assert subject(hint_of(await rig.comes_back(browser, answer))) == "alice"


async def test_two_tabs_at_once_both_end_at_the_provider() -> None:
    """They share one cookie: the later one has its hint, the other goes without."""
    rig = await Rig().probed()
    browser = rig.browser()
    other_tab = browser.copy()
    first, second = await browser.post("/logout"), await other_tab.post("/logout")
    browser.cookies = other_tab.cookies
    answers = [await rig.comes_back(browser, one) for one in (first, second)]
    assert [subject(hint_of(answer)) for answer in answers] == [None, "alice"]


async def test_another_worker_takes_the_browser_back(redis_server: RedisServer) -> None:
    op = SilentProvider()
    stores = [RedisStore(url=redis_server.url) for _ in range(2)]
    here, there = (Rig(op, store=store) for store in stores)
    await here.probed()
    browser, answer = await here.leaves()
    back = str(await op.visit(str(answer.header("location"))))
    elsewhere = Browser(there.app, browser.cookies)
    copy = elsewhere.copy()
    answer = await elsewhere.get(back, **ARRIVAL)
    assert subject(hint_of(answer)) == "alice"
    assert hint_of(await Browser(here.app, copy.cookies).get(back, **ARRIVAL)) is None
    assert len(op.redeemed) == 1
    assert await lands(Browser(here.app, elsewhere.cookies), answer) == "/bye"
    for store in stores:
        await store.close()


@pytest.mark.parametrize("trouble", ["raise", "hang"])
async def test_without_the_store_a_logout_goes_as_ever(trouble: Any) -> None:
    store = ForeignStore()
    rig = await Rig(store=store).probed()
    store.trouble = trouble
    answer = await rig.browser().post("/logout")
    assert hint_of(answer) is None
    assert "rp_silent" not in answer.cookies()


@pytest.mark.parametrize("trouble", ["raise", "hang", "short"])
async def test_a_browser_that_comes_back_without_the_store_still_goes_to_the_provider(trouble: Any) -> None:
    store = ForeignStore()
    rig = await Rig(store=store).probed()
    browser, answer = await rig.leaves()
    back = str(await rig.op.visit(str(answer.header("location"))))
    store.trouble = trouble
    assert (await Browser(rig.app, {"rp_silent": "x"}).get(back, **ARRIVAL)).header("location") == "/"
    assert hint_of(await browser.get(back, **ARRIVAL)) is None


async def test_a_url_too_long_with_the_hint_goes_without_it() -> None:
    rig = await Rig(max_url_length=500).probed()
    rig.op.claims = {"pad": "x" * 500}
    browser, answer = await rig.trip()
    assert hint_of(answer) is None
    assert await lands(browser, answer) == "/bye"


async def test_where_the_endpoint_takes_it_a_long_one_is_posted() -> None:
    op = SilentProvider()
    provider = OIDCProvider(op.issuer, "rp", name="idp", silent_hint=True, post=True)
    rig = Rig(op, providers=[provider], max_url_length=500)
    await rig.probed()
    op.claims = {"pad": "x" * 500}
    _, answer = await rig.trip()
    assert answer.status == 200
    assert f'name="id_token_hint" value="{op.secrets[-1]}"'.encode() in answer.body


@pytest.mark.parametrize(("kind", "crowd"), [(CLICK, 3300), ({**FETCH, "hx_request": "true"}, 3400)])
async def test_where_the_headers_leave_no_room_for_the_request_there_is_no_trip(
    kind: dict[str, str], crowd: int
) -> None:
    rig = await Rig().probed()
    crowded = guarded(signs_out("/bye", ("x-crowd", "x" * crowd)), **rig.options)
    answer = await Browser(crowded, {"session": SECRET}).post("/logout", **kind)
    assert "/end_session?" in str(answer.header("location") or answer.header("hx-redirect") or answer.body)
    assert "rp_silent" not in answer.cookies()


# Over real connections, to a real provider, by each kind of client


def oidc_client(rig: DemoRig) -> OIDCProvider:
    return OIDCProvider(rig.issuer, "app", "s:cret/", silent_hint=True)


def authlib_client(oauth: Any, rig: DemoRig, **client_kwargs: str) -> AuthlibProvider:
    registered = oauth.register(
        "acme",
        client_id="app",
        client_secret="s:cret/",
        server_metadata_url=f"{rig.issuer}/.well-known/openid-configuration",
        client_kwargs={"scope": "openid profile", **client_kwargs},
    )
    return AuthlibProvider(registered, silent_hint=True)


def starlette_client(rig: DemoRig) -> AuthlibProvider:
    return authlib_client(OAuth(), rig)


def client_that_posts_its_secret(rig: DemoRig) -> AuthlibProvider:
    return authlib_client(OAuth(), rig, token_endpoint_auth_method="client_secret_post")


def flask_client(rig: DemoRig) -> AuthlibProvider:
    from authlib.integrations.flask_client import OAuth as FlaskOAuth
    from flask import Flask

    return authlib_client(FlaskOAuth(Flask("app")), rig)


def django_client(rig: DemoRig) -> AuthlibProvider:
    from authlib.integrations.django_client import OAuth as DjangoOAuth
    from django.conf import settings

    if not settings.configured:
        settings.configure(SECRET_KEY="secret", ALLOWED_HOSTS=["*"])
    return authlib_client(DjangoOAuth(), rig)


@pytest.mark.parametrize(
    "client", [oidc_client, starlette_client, client_that_posts_its_secret, flask_client, django_client]
)
@pytest.mark.parametrize("user", ["alice", None])
def test_with_a_real_provider(
    client: Callable[[DemoRig], Any], user: str | None, make_rig: Any, serve: Serve, unused_port: UnusedPort
) -> None:
    """It is not asked whether to log out, the browser lands on the page, and the session there is over."""
    address = f"http://localhost:{(port := unused_port())}"
    back = f"{address}/back"
    rig: DemoRig = make_rig(app={"redirect_uris": [BACK, back], "post_logout_redirect_uris": [back]})

    async def enter(request: Request) -> Response:
        answer = PlainTextResponse("entered")
        answer.set_cookie("session", secrets.token_hex(16))
        return answer

    async def leave(request: Request) -> Response:
        return RedirectResponse("/bye", 303)

    async def bye(request: Request) -> Response:
        return PlainTextResponse("bye")

    routes = [Route("/", enter), Route("/logout", leave, methods=["POST"]), Route("/bye", bye)]
    options: dict[str, Any] = {"providers": [client(rig)], "callback_path": "/back", "public_url": address}
    serve(guarded(Starlette(routes=routes), **options), host="localhost", port=port)

    def is_asked() -> bool:
        """Log out; on a busy machine the provider may not have answered while the application started."""
        cookies = {"session": secrets.token_hex(16)}
        return "prompt=none" in httpx.post(f"{address}/logout", cookies=cookies, trust_env=False).headers["location"]

    wait_until(is_asked)
    if user:
        rig.code()
    rig.browser.get(address)
    assert rig.browser.post(f"{address}/logout", {}).text == "bye"
    asked, came_back, end_session, *_ = rig.browser.visited
    assert asked.startswith(f"{rig.issuer}/authorize?")
    assert came_back.startswith(f"{back}?")
    assert end_session.startswith(f"{rig.issuer}/end_session?")
    assert ("id_token_hint=" in end_session) is (user is not None)
    assert rig.provider.sessions == {}
    if user:
        wait_until(lambda: len(rig.provider.revoked) == 1)


# Configuration

ADDRESSES = "as a redirect URI and as a post-logout redirect URI"


def silent(**options: Any) -> OIDCProvider:
    return OIDCProvider("https://op.example/", "rp", silent_hint=True, **options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "expected a callback_path along with it, such as '/auth/callback'; register <the application's address>"),
        ({"callback_path": "/back", "for_fetch": "json"}, "register <the application's address>/back at"),
        (
            {"callback_path": "/back", "for_fetch": "json", "public_url": "https://app.example.com/x"},
            "a page that reads JSON gets no cookie; register https://app.example.com/x/back at the provider twice",
        ),
    ],
)
def test_what_it_needs_is_said_at_construction_with_the_addresses_to_register(options: Any, expected: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        RPLogoutMiddleware(signs_out(), providers=[silent()], **options)
    assert str(raised.value).startswith("silent_hint=True of provider 'https://op.example/': ")
    assert expected in str(raised.value)
    assert str(raised.value).endswith(ADDRESSES)


@pytest.mark.parametrize("options", [{}, {"for_fetch": "local"}])
def test_the_control_with_a_callback_path_it_is_fine(options: Any) -> None:
    assert RPLogoutMiddleware(signs_out(), providers=[silent()], callback_path="/back", **options)


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_it_is_true_or_false(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="silent_hint"):
        OIDCProvider("https://op.example/", "rp", silent_hint=value)
    with pytest.raises(ConfigurationError, match=f"silent_hint={value!r}: expected True or False"):
        AuthlibProvider(object(), silent_hint=value)


def test_a_provider_that_takes_no_hint_cannot_have_it() -> None:
    makes: list[Callable[[], OIDCProvider]] = [
        lambda: silent(parameters={"id_token_hint": None}),
        lambda: presets.keycloak_legacy("https://a.example/auth", "r", "rp", silent_hint=True),
        lambda: presets.fusionauth("https://a.example", "rp", id_token_hint=False, silent_hint=True),
    ]
    for make in makes:
        with pytest.raises(ConfigurationError, match="expected a provider that takes an id_token_hint"):
            make()
    assert presets.fusionauth("https://a.example", "rp", silent_hint=True).silent is not None


@pytest.mark.parametrize("method", ["private_key_jwt", "tls_client_auth", object()])
def test_a_client_that_authenticates_otherwise_cannot_have_it(method: Any) -> None:
    oauth = OAuth()
    client = oauth.register("acme", client_id="rp", client_kwargs={"token_endpoint_auth_method": method})
    with pytest.raises(ConfigurationError, match="silent_hint=True with token_endpoint_auth_method="):
        AuthlibProvider(client, silent_hint=True)
    assert AuthlibProvider(client).silent is None


def test_a_provider_without_a_logout_cannot_have_it() -> None:
    with pytest.raises(TypeError, match="silent_hint"):
        presets.local_only("github", silent_hint=True)  # type: ignore[call-arg]


@pytest.mark.parametrize("options", [{"callback_path": None}, {"for_fetch": "json"}])
async def test_of_a_list_that_a_function_gives_it_is_ignored_with_one_warning(options: Any, log: Log) -> None:
    op = SilentProvider()
    provider = OIDCProvider(op.issuer, "rp", name="idp", silent_hint=True)
    rig = Rig(op, providers=lambda: [provider], **options)
    for _ in range(3):
        assert hint_of(await rig.browser().post("/logout")) is None
    assert op.fetched["auth"] == 0
    (line,) = log()
    assert line.startswith("silent_hint of provider 'idp' is ignored: expected ")


async def test_the_control_a_function_may_give_it() -> None:
    op = SilentProvider()
    provider = OIDCProvider(op.issuer, "rp", name="idp", silent_hint=True)
    rig = await Rig(op, providers=lambda: [provider]).probed()
    assert subject(hint_of((await rig.trip())[1])) == "alice"
