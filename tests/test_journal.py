"""What is logged of a logout: one line at INFO to count it, and why it went as it did at DEBUG."""

from __future__ import annotations

import copy
import logging
from typing import Any

import anyio
import pytest
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from asgi_rp_logout import LogoutEvent, MemoryStore, end_login, remember_login
from tests.apps import COOKIE, FETCH, guarded, log_out, page, signs_out
from tests.asgi import call, http_scope
from tests.conftest import Log
from tests.places import OUTSIDE, Browser, ForeignStore, Site, destination, in_both_places, providers
from tests.tokens import id_token

FORGED = {"cookie": COOKIE, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "sec-fetch-site": "cross-site"}
SCRIPT = {name: value for name, value in FETCH.items() if name != "cookie"}
GUESS = {"cookie": COOKIE, "sec-purpose": "prefetch"}
HERE = "logged out here only, "
COUNTED = "logout channel=logout outcome="
HINT = id_token(pad="")


@pytest.mark.parametrize(
    ("answer", "options", "request_", "line", "outcome"),
    [
        (
            signs_out(),
            {},
            {},
            "logged out here, and the browser (navigation) goes on to 'idp'; no ID Token is known",
            "provider",
        ),
        (
            signs_out(),
            {"for_fetch": "json"},
            {"headers": FETCH},
            "logged out here, and the browser (fetch) goes on to 'idp'",
            "provider",
        ),
        (
            signs_out(),
            {},
            {"headers": FETCH},
            "logged out here; the next page that this browser opens goes by way of the",
            "deferred",
        ),
        (signs_out(), {"for_fetch": "local"}, {"headers": FETCH}, f"{HERE}as the application said", "local"),
        (signs_out("/", ("x-rp-logout", "local")), {}, {}, f"{HERE}as the application said", "local"),
        (signs_out(), {}, {"headers": FORGED}, f"{HERE}another site made this request", "local"),
        (page(401), {}, {}, "POST '/logout', answered 401, was not a logout", None),
        (signs_out(), {}, {"method": "GET", "headers": GUESS}, "GET '/logout' is a prefetch, answered 503", None),
        (
            signs_out(),
            {"session_cookie": ["sid", "sid2"]},
            {},
            "logged out here only: no live login is remembered, and the request has no",
            None,
        ),
        (
            signs_out(),
            {"require_login": True},
            {},
            "logged out here only: no live login is remembered",
            None,
        ),
        (
            page(),
            {"callback_path": "/cb"},
            {"path": "/cb", "method": "GET"},
            "a browser came back from the provider without",
            None,
        ),
    ],
)
async def test_one_line_says_what_became_of_a_request(
    log: Log, answer: Any, options: dict[str, Any], request_: dict[str, Any], line: str, outcome: str | None
) -> None:
    await log_out(guarded(answer, **options), **request_)
    counted = log(logging.INFO)
    (said,) = (one for one in log(logging.DEBUG) if one not in counted)
    assert said.startswith(line)
    name = "'idp'" if outcome == "provider" else None
    assert counted == ([f"{COUNTED}{outcome} provider={name}"] if outcome else [])


async def test_a_logout_whose_provider_gives_no_url_is_counted_as_failed(log: Log) -> None:
    class Failing:
        name = "a"

        def get_end_session_url(self) -> str:
            raise RuntimeError

    site = Site(OUTSIDE, providers=[Failing()])
    browser = await site.signed_in()
    await browser.post("/logout")
    assert log(logging.INFO)[-1] == f"{COUNTED}failed provider='a'"


async def test_a_logout_that_the_store_does_not_keep_for_the_next_page_is_counted_as_failed(log: Log) -> None:
    store = ForeignStore()

    class Failing(Site):
        async def logout(self, request: Request) -> Response:
            store.trouble = "raise"
            return await super().logout(request)

    browser = await Failing(OUTSIDE, store=store).signed_in()
    await browser.request("POST", "/logout", SCRIPT)
    assert "rp_later" not in browser.cookies
    assert log(logging.INFO)[-1] == f"{COUNTED}failed provider='a'"
    assert log()


async def test_two_clicks_are_one_logout(log: Log) -> None:
    browser = await Site(OUTSIDE, freshness=0).signed_in()
    second = browser.copy()
    for one in (browser, second):
        assert destination(await one.post("/logout"))[0] == "a.example"
    assert log(logging.INFO) == [f"{COUNTED}provider provider='a'"]


@in_both_places
@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize(("method", "headers"), [("GET", {}), ("POST", {}), ("POST", SCRIPT)])
async def test_the_same_logout_once_more_is_neither_logged_nor_reported(
    log: Log, place: str, remembers: bool, method: str, headers: dict[str, str]
) -> None:
    """By link, by form and by fetch, with the session's cookies and without."""
    events: list[LogoutEvent] = []
    site = Site(place, remembers=remembers, providers=providers()[:1], on_logout=events.append)
    browser = await site.signed_in()
    for one in (browser.copy(), browser.copy(), browser, browser):
        await one.request(method, "/logout", headers)
    assert len([line for line in log(logging.INFO) if line.startswith(COUNTED)]) == len(events) == 1
    await site.sign_in(browser)
    await browser.request(method, "/logout", headers)
    assert len(events) == 2


@in_both_places
@pytest.mark.parametrize("store", [MemoryStore, ForeignStore])
@pytest.mark.parametrize("remembers", [True, False])
async def test_clicks_that_are_at_work_at_the_same_time_are_one_logout(
    log: Log, place: str, store: Any, remembers: bool
) -> None:
    waiting: list[anyio.Event] = []

    class Slow(Site):
        async def logout(self, request: Request) -> Response:
            waiting.append(anyio.Event())
            await waiting[-1].wait()
            return await super().logout(request)

    site = Slow(place, remembers=remembers, store=store(), providers=providers()[:1])
    browser = await site.signed_in()
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(browser.copy().post, "/logout")
        while len(waiting) < 3:
            await anyio.sleep(0)
        for number, one in enumerate(waiting, 1):
            one.set()
            while len(log(logging.DEBUG)) < number:
                await anyio.sleep(0)
    assert [line for line in log(logging.INFO) if line.startswith(COUNTED)] == [f"{COUNTED}provider provider='a'"]


async def test_a_logout_of_a_later_login_with_the_same_session_cookie_is_another_one(log: Log) -> None:
    """The first worker still knows that it has ended this cookie, and the second has issued it again."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/login":
            remember_login(scope, id_token=id_token(), provider="a")
            answer = PlainTextResponse("in")
            answer.set_cookie("session", "the-same-0123456789abcdef")
            await answer(scope, receive, send)
        else:
            await signs_out()(scope, receive, send)

    store = ForeignStore()
    here, there = (guarded(app, providers=providers(), store=one, freshness=0) for one in (store, copy.copy(store)))
    browser = Browser(here)
    for worker in (here, there):
        browser.app = worker
        await browser.get("/login")
        browser.app = here
        await browser.post("/logout")
    assert [line for line in log(logging.INFO) if line.startswith(COUNTED)] == [f"{COUNTED}provider provider='a'"] * 2


@in_both_places
@pytest.mark.parametrize("remembers", [True, False])
async def test_end_login_once_more_is_not_logged(log: Log, place: str, remembers: bool) -> None:
    class Quiet(Site):
        async def touch(self, request: Request) -> Response:
            await end_login(request)
            return PlainTextResponse("signed out")

    browser = await Quiet(place, remembers=remembers, providers=providers()[:1]).signed_in()
    for one in (browser.copy(), browser):
        await one.get("/touch")
    assert log(logging.INFO) == [f"{COUNTED}provider provider='a'"]


@pytest.mark.parametrize("known", [True, False])
async def test_a_logout_by_the_provider_is_counted_if_it_ended_anything(log: Log, known: bool) -> None:
    site = Site(OUTSIDE, freshness=0, frontchannel_path="/frontchannel")
    await site.signed_in()
    sid = "s1" if known else "s9"
    await call(site.app, http_scope(f"/frontchannel?iss=https://a.example&sid={sid}"))
    assert log(logging.INFO) == (["logout channel=front-channel outcome=ended provider='a'"] if known else [])


async def test_the_cookies_that_were_looked_for_are_named(log: Log) -> None:
    await log_out(guarded(signs_out(), session_cookie=["sid", "sid2"]))
    assert log(logging.DEBUG)[0].endswith("and the request has no cookie 'sid' or 'sid2'")


async def test_a_logout_with_a_hint_lacks_nothing_and_what_is_dead_is_said_to_be(log: Log) -> None:
    site = Site(OUTSIDE, freshness=0)
    browser = await site.signed_in()
    copy = browser.copy()
    assert log(logging.DEBUG) == []
    await browser.post("/logout")
    await copy.get("/")
    assert log(logging.DEBUG) == [
        "logged out here, and the browser (navigation) goes on to 'a'",
        f"{COUNTED}provider provider='a'",
        "'/': login already ended (logout), handled as anonymous",
    ]


async def test_a_dead_cookie_beside_a_living_one_is_said_to_be_kept_back(log: Log) -> None:
    site = Site(OUTSIDE, freshness=0)
    browser, other = await site.signed_in(), await site.signed_in(user="bob", sid="s2")
    dead = browser.cookies["session"]
    await browser.post("/logout")
    lines = len(log(logging.DEBUG))
    await call(site.app, http_scope("/", headers={"cookie": f"session={dead}; session={other.cookies['session']}"}))
    assert log(logging.DEBUG)[lines:] == ["'/': a session cookie of an ended login was removed from the request"]


@in_both_places
async def test_a_logout_at_a_path_that_nobody_named_is_noticed(log: Log, place: str) -> None:
    """By the cookie that it expires, or by the session around us that it empties."""
    browser = await Site(place, freshness=0, logout_path=()).signed_in()
    await browser.post("/logout")
    line = "POST '/logout' deletes the session, but is not configured as a logout"
    assert [one for one in log(logging.DEBUG) if one not in log()] == [line]
    (warning,) = log()
    assert "deleted the session of a live login" in warning
    assert "logout_path" in warning
    assert "/logout" not in warning


@pytest.mark.parametrize("how", ["clear", "pop"])
async def test_a_session_without_its_user_is_a_lost_one(log: Log, how: str) -> None:
    """The middleware's own keys are still in it, and those that others put into every session."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session, path = scope["session"], scope["path"]
        if path == "/login":
            session["user"] = "alice"
            remember_login(scope, id_token=HINT)
        elif path != "/":
            session.clear() if how == "clear" else session.pop("user")
        await PlainTextResponse("a page")(scope, receive, send)

    async def around(scope: Any, receive: Any, send: Any) -> None:
        scope["session"].setdefault("visitor", "of every session")
        await wrapped(scope, receive, send)

    wrapped = guarded(app, providers=providers())
    browser = Browser(SessionMiddleware(around, secret_key="secret"))
    await browser.get("/login")
    before = browser.copy()
    await browser.get("/sign-out")
    (warning,) = log()
    assert warning.startswith("an answer deleted the session of a live login")
    assert destination(await before.get("/logout"))[0] == "a.example"  # a GET that deletes the session and answers 200


async def test_what_an_inner_middleware_ended_is_no_lost_session(log: Log) -> None:
    site = Site(OUTSIDE)
    outer = guarded(site.app, providers=providers(), store=site.store, logout_path="/elsewhere")
    browser = Browser(outer)
    await site.sign_in(browser)
    await browser.get("/")
    assert destination(await browser.post("/logout"))[0] == "a.example"
    assert log() == []


@in_both_places
@pytest.mark.parametrize(
    ("store", "remedy"), [(MemoryStore, "MemoryStore is for one process"), (ForeignStore, "was the store emptied")]
)
async def test_a_login_that_the_store_has_lost_is_warned_of_once(log: Log, place: str, store: Any, remedy: str) -> None:
    """After a restart with MemoryStore, or at another worker with a store of its own. It is the first request there."""
    before, after = (Site(place, store=store(), providers=providers()[:1]) for _ in range(2))
    browser = await before.signed_in()
    for _ in range(2):
        await Browser(after.app, browser.cookies).post("/logout")
        (warning,) = log()
        assert warning.startswith("a session belongs to a login that the store does not have")
        assert remedy in warning


@pytest.mark.parametrize(
    ("audience", "warned"), [("rp-a", False), (["other", "rp-a"], False), ("rp-A", True), (["other"], True)]
)
async def test_an_id_token_of_another_client_is_warned_of(log: Log, audience: Any, warned: bool) -> None:
    """A typing error in ``client_id`` is seen at the login, and not by users at their logout."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        remember_login(scope, id_token=id_token(aud=audience))
        await PlainTextResponse("in")(scope, receive, send)

    for _ in range(2):
        await Browser(guarded(app, providers=providers())).get("/login")
    assert [line.startswith("the ID Token of a login was issued to") for line in log()] == [True] * 2 * warned
    assert all("client_id='rp-a'" in line for line in log())


async def test_a_session_cookie_that_two_browsers_get_is_warned_of_once(log: Log) -> None:
    """A "remember me" cookie is the same on all devices. One browser that signs in again keeps its session."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        remember_login(scope, id_token=id_token(sid=scope["query_string"].decode()))
        answer = PlainTextResponse("in")
        answer.set_cookie("session", "alice|0123456789abcdef")
        await answer(scope, receive, send)

    wrapped = guarded(app, providers=providers())
    phone = Browser(wrapped)
    for sid in ("s1", "s2"):
        await phone.get(f"/login?{sid}")
    assert log() == []
    for sid in ("s3", "s4"):
        await Browser(wrapped).get(f"/login?{sid}")
    (warning,) = log()
    assert warning.startswith("a session cookie has the same value in two logins")
    assert "clear_cookies" in warning
    assert "0123456789abcdef" not in warning


@in_both_places
@pytest.mark.parametrize("store", [MemoryStore, ForeignStore])
async def test_in_normal_use_nothing_is_warned_of(log: Log, place: str, store: Any) -> None:
    """Logins, clicks, a refresh, a login over another, a slow answer, logouts by click and fetch, dead copies."""
    site = Site(place, store=store(), freshness=0)
    browser = await site.signed_in()
    for sid in ("s1", "s2"):
        copy = browser.copy()
        await site.sign_in(browser, sid=sid)
        await browser.get("/touch")
        await copy.get("/")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(browser.copy().get, "/slow")
        await site.arrived.wait()
        copy = browser.copy()
        assert destination(await browser.post("/logout"))[0] == "a.example"
        site.go_on.set()
    for path in ("/", "/touch", "/slow"):
        await copy.get(path)
    await site.sign_in(browser, user="bob", sid="s3")
    await browser.post("/logout", sec_fetch_mode="cors", sec_fetch_dest="empty", sec_fetch_site="same-origin")
    await browser.get("/", sec_fetch_mode="navigate", sec_fetch_dest="document", sec_fetch_site="same-origin")
    await site.sign_in(browser)
    await browser.get("/forget")
    await browser.post("/local")
    assert log() == []


async def test_nothing_that_is_said_holds_a_secret(log: Log) -> None:
    browser = await Site(OUTSIDE, freshness=0).signed_in()
    secrets = [*browser.cookies.values(), HINT, "alice"]
    for _ in range(2):
        copy = browser.copy()
        await copy.copy().post("/logout")
        await copy.get("/")
    assert len(log(logging.DEBUG)) == 6
    assert not any(secret in line for line in log(logging.DEBUG) for secret in secrets)
