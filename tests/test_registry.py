"""The book of logins over stores that raise, hang and are slow: what it promises to the requests, and to the dead."""

from __future__ import annotations

import json
import secrets
from typing import Any

import anyio
import pytest

from asgi_rp_logout import MemoryStore, RPLogoutMiddleware, current_login
from asgi_rp_logout.logins.guarded_store import AT_ONCE, STORE_DEADLINE, StoreBudget
from asgi_rp_logout.logins.registry import EndedSessions
from tests.asgi import call, http_scope
from tests.places import INSIDE, OUTSIDE, Browser, ForeignStore, Site, destination, in_both_places, providers
from tests.tokens import id_token
from tests.virtual_time import in_virtual_time, virtual_now

TROUBLES = pytest.mark.parametrize("trouble", ["raise", pytest.param("hang", marks=pytest.mark.slow), "short"])


def registry_of(site: Site) -> Any:
    """Find the login registry of a site's middleware: to let time pass for it."""
    app: Any = site.app
    if site.place == INSIDE:
        app = app.middleware_stack or app.build_middleware_stack()
    while not isinstance(app, RPLogoutMiddleware):
        app = app.app
    return app._dispatcher.services.registry


def close_breaker(site: Site) -> None:
    registry_of(site).store.breaker.close()


def forget_statuses(site: Site) -> None:
    """Let `freshness` pass."""
    registry = registry_of(site)
    for verdict in (*registry._cache.logins.entries.values(), *registry._cache.strangers.entries.values()):
        verdict.until = float("-inf")


# How often the store is asked


@in_both_places
async def test_a_login_is_looked_up_once_per_freshness(place: str) -> None:
    store = ForeignStore()
    site = Site(place, store=store, freshness=60)
    browser = await site.signed_in()
    store.calls.clear()
    for _ in range(10):
        assert await site.who(browser) == "alice"
    assert store.calls == {"get_many": 1}
    forget_statuses(site)
    for _ in range(10):
        assert await site.who(browser) == "alice"
    assert store.calls == {"get_many": 2}


@in_virtual_time
@in_both_places
async def test_requests_that_come_at_once_ask_the_store_once(place: str) -> None:
    store = ForeignStore()
    site = Site(place, store=store, freshness=60)
    browser = await site.signed_in()
    store.calls.clear()
    store.delay = 0.05
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(site.who, browser.copy())
    assert store.calls == {"get_many": 1}


@in_both_places
async def test_a_freshness_of_zero_asks_for_every_request(place: str) -> None:
    store = ForeignStore()
    site = Site(place, store=store, freshness=0)
    browser = await site.signed_in()
    store.calls.clear()
    for _ in range(3):
        await site.who(browser)
    assert store.calls == {"get_many": 3}


@in_both_places
async def test_a_stranger_is_not_asked_for(place: str) -> None:
    store = ForeignStore()
    site = Site(place, store=store)
    await site.who(site.browser())
    browser = site.browser()
    browser.cookies = {"theme": "dark-and-long-enough-to-be-an-id", "session": "short"}
    await site.who(browser)
    assert store.calls == {}


@in_virtual_time
@in_both_places
async def test_a_status_is_as_old_as_the_question(place: str) -> None:
    """A store that takes long to answer must not make the dead live longer."""
    store = ForeignStore()
    site = Site(place, store=store, freshness=0.2)
    browser = await site.signed_in()
    store.delay = 0.3
    await site.who(browser)
    store.delay = 0
    store.calls.clear()
    await site.who(browser)
    assert store.calls == {"get_many": 1}


@in_both_places
@in_virtual_time
async def test_the_record_of_a_login_in_use_is_written_anew(place: str) -> None:
    store = ForeignStore()
    site = Site(place, store=store, freshness=0, session_lifetime=100)
    browser = await site.signed_in()
    await site.who(browser)
    written = store.calls["put"]
    await site.who(browser)
    assert store.calls["put"] == written  # not at each request
    for _ in range(20):
        await anyio.sleep(20)
        assert (await browser.get("/")).body.count(b'"login":["a"') == 1
    await anyio.sleep(111)
    assert (await browser.get("/")).body.count(b'"login":null') == 1


@in_both_places
@pytest.mark.parametrize("how", ["logout", "back-channel"])
@in_virtual_time
async def test_what_ended_a_login_is_known_for_as_long_as_any_copy_of_it_could_live(place: str, how: str) -> None:
    """Cookies live as long as the session from when they were last set, and their age is counted in whole seconds."""
    store = ForeignStore()
    site = Site(place, store=store, freshness=0, session_lifetime=100)
    browser = await site.signed_in()
    copy = browser.copy()
    if how == "logout":
        await browser.post("/logout")
    else:
        later = virtual_now() + 60
        ended = EndedSessions("https://a.example", "s1", None, later, later, how)
        await registry_of(site).end_sessions(ended, StoreBudget())
    await anyio.sleep(100.9)
    assert await site.who(copy.copy()) == "anonymous"
    await anyio.sleep(9.2)  # by now even the record of a login that was in use is gone
    await store.get_many(store.names())
    assert store.names("login:") == []


# A store in trouble


@TROUBLES
@in_both_places
async def test_allow_lets_everybody_through_and_says_so_in_the_log(place: str, trouble: Any, log: Any) -> None:
    store = ForeignStore()
    site = Site(place, store=store, freshness=0)
    browser = await site.signed_in()
    assert log() == []
    store.trouble = trouble
    for _ in range(5):
        assert await site.who(browser) == "alice"
    assert 1 <= len(log()) <= 2
    assert "a login could not be looked up, so on_store_error decides about its request: the store " in log()[0]
    assert "hunter2" not in "".join(log())


@TROUBLES
@in_both_places
async def test_deny_refuses_whoever_could_be_signed_in_and_expires_nothing(place: str, trouble: Any) -> None:
    store = ForeignStore()
    site = Site(place, store=store, freshness=0, on_store_error="deny")
    browser = await site.signed_in()
    assert await site.who(browser) == "alice"
    store.trouble = trouble
    for _ in range(3):
        answer = await browser.get("/")
        assert (answer.status, answer.all("set-cookie"), answer.header("cache-control")) == (503, [], "no-store")
    assert (await site.browser().get("/")).status == 200
    answer = await browser.post("/logout")
    assert (answer.status, browser.cookies) == (303, {})


async def test_deny_closes_a_websocket_that_cannot_be_checked() -> None:
    store = ForeignStore()
    store.trouble = "raise"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    wrapped = RPLogoutMiddleware(app, providers=providers(), store=store, on_store_error="deny")
    scope = http_scope("/", headers={"cookie": "session=0123456789abcdef"}) | {"type": "websocket"}
    assert (await call(wrapped, scope)).messages == [{"type": "websocket.close", "code": 1013}]
    del scope["headers"][0]
    assert (await call(wrapped, scope)).messages == [{"type": "websocket.accept"}]


@TROUBLES
@in_both_places
async def test_a_local_logout_completes_whatever_the_store_does(place: str, trouble: Any) -> None:
    store = ForeignStore()
    site = Site(place, store=store, callback_path="/back")
    for when in ("before", "in between"):
        browser = await site.signed_in()
        if when == "before":
            store.trouble = trouble
        else:
            store.trouble, store.broken = trouble, ("put", "delete")
        answer = await browser.post("/logout")
        assert answer.status == 303
        assert browser.cookies.keys() <= {"rp_return"}
        store.trouble, store.broken = None, ("get", "get_many", "put", "delete")
        close_breaker(site)


@in_both_places
@pytest.mark.parametrize("used", [True, False])
async def test_a_login_that_was_known_before_the_outage_still_ends_at_its_provider(place: str, used: bool) -> None:
    store = ForeignStore()
    site = Site(place, store=store, freshness=0)
    browser = await site.signed_in(provider="b")
    if used:
        await site.who(browser)
    store.trouble = "raise"
    answer = await browser.post("/logout")
    assert browser.cookies == {}
    if used:
        host, query = destination(answer)
        assert (host, query["id_token_hint"]) == ("b.example", id_token(iss="https://b.example", pad=""))
    else:
        assert answer.header("location") == "/bye"


async def test_inside_a_login_is_known_during_an_outage_though_cookies_beside_it_change() -> None:
    store = ForeignStore()
    site = Site(INSIDE, store=store, session_cookie=("session", "other"), freshness=0)
    browser = await site.signed_in()
    assert await site.who(browser) == "alice"
    store.trouble = "raise"
    browser.cookies["other"] = secrets.token_hex(16)
    assert json.loads((await browser.get("/")).body)["login"] == ["a", "alice", "s1"]
    host, query = destination(await browser.post("/logout"))
    assert (host, "id_token_hint" in query) == ("a.example", True)


@in_virtual_time
@in_both_places
async def test_what_the_application_does_between_two_store_calls_is_not_the_stores_time(place: str) -> None:
    """A slow application, and a store that needs a moment: both the tombstone and the check have to work."""
    store = ForeignStore()
    site = Site(place, store=store, freshness=0)
    browser = await site.signed_in()
    slow = browser.copy()
    store.delay = 0.05
    async with anyio.create_task_group() as tasks:

        @tasks.start_soon
        async def _() -> None:
            answer = await slow.get("/slow")
            assert answer.all("set-cookie") == []

        await site.arrived.wait()
        await anyio.sleep(STORE_DEADLINE + 0.1)
        await browser.post("/logout")
        site.go_on.set()


@in_virtual_time
async def test_a_deadline_is_shared_and_never_less_than_a_hundredth() -> None:
    store = ForeignStore()
    store.delay = STORE_DEADLINE * 0.7
    registry = registry_of(Site(OUTSIDE, store=store))
    budget = StoreBudget()
    assert await registry.store.read(["login:x"], budget) == {"login:x": None}
    assert 0.01 <= budget.left() < STORE_DEADLINE * 0.4
    assert not await registry.store.put("return_trip:x", {}, 10, budget)
    assert budget.left() == 0.01


async def test_after_a_failure_reads_are_not_even_tried_for_a_moment_and_writes_are(log: Any) -> None:
    store = ForeignStore()
    site = Site(OUTSIDE, store=store, freshness=0)
    browser = await site.signed_in()
    store.trouble = "raise"
    await site.who(browser)
    store.calls.clear()
    for _ in range(5):
        await site.who(browser)
    assert store.calls == {}
    store.trouble = None
    await browser.post("/logout")
    assert store.calls["put"] > 0
    assert store.names("ended:") != []


# What the store did not take


@in_both_places
async def test_a_tombstone_that_the_store_did_not_take_counts_here_at_once_and_is_written_later(place: str) -> None:
    store = ForeignStore()
    site = Site(place, store=store, freshness=0)
    browser = await site.signed_in()
    thief = browser.copy()
    store.trouble = "raise"
    await browser.post("/logout")
    assert store.names("ended:") == []
    assert await site.who(thief.copy()) == "anonymous"
    store.trouble = None
    close_breaker(site)
    assert await site.who(thief.copy()) == "anonymous"  # the very read that pays
    assert await site.who(thief.copy()) == "anonymous"
    assert store.names("ended:") != []
    assert not registry_of(site).store.ended.unwritten
    elsewhere = Site(place, beside=site)
    assert await elsewhere.who(Browser(elsewhere.app, thief.cookies)) == "anonymous"


@in_virtual_time
@in_both_places
async def test_a_tombstone_that_is_paid_while_a_read_is_under_way_counts_in_that_read(place: str) -> None:
    store = ForeignStore()
    site = Site(place, store=store, freshness=0)
    browser, other = await site.signed_in(), await site.signed_in(user="bob", sid="s2")
    thief = browser.copy()
    store.trouble = "raise"
    await browser.post("/logout")
    store.trouble, store.delay = None, 0.02
    close_breaker(site)
    seen = []
    async with anyio.create_task_group() as tasks:

        async def ask_as_a_thief() -> None:
            seen.append(await site.who(thief.copy()))

        tasks.start_soon(site.who, other)
        for _ in range(10):
            tasks.start_soon(ask_as_a_thief)
            await anyio.sleep(0.005)
    assert seen == ["anonymous"] * 10


async def test_an_outage_of_many_logouts_is_not_paid_by_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_rp_logout.logins.guarded_store.WRITE_AGAIN", 3600)  # requests alone write here
    store = ForeignStore()
    site = Site(OUTSIDE, store=store, freshness=0)
    browsers = [await site.signed_in(sid=f"s{number}") for number in range(50)]
    browser = await site.signed_in()
    thieves = [one.copy() for one in browsers]
    store.trouble = "raise"
    for one in browsers:
        await one.post("/logout")
    store.trouble = None
    close_breaker(site)
    store.calls.clear()
    await site.who(browser)
    assert 0 < store.calls["put"] <= AT_ONCE
    for _ in range(10):
        await site.who(browser)
    assert len(store.names("ended:")) == len(store.names("cookie:")) - 1 == 50
    assert {await site.who(thief) for thief in thieves} == {"anonymous"}


@in_both_places
async def test_a_slow_answer_is_held_back_though_the_store_is_down(place: str) -> None:
    store = ForeignStore()
    site = Site(place, store=store, freshness=0)
    browser = await site.signed_in()
    slow = browser.copy()
    async with anyio.create_task_group() as tasks:

        @tasks.start_soon
        async def _() -> None:
            answer = await slow.get("/slow")
            assert answer.all("set-cookie") == []

        await site.arrived.wait()
        store.trouble = "raise"
        await browser.post("/logout")
        site.go_on.set()


@in_both_places
async def test_a_login_that_the_store_did_not_take_is_no_error(place: str) -> None:
    store = ForeignStore()
    site = Site(place, store=store)
    store.trouble = "raise"
    browser = await site.signed_in()
    store.trouble = None
    close_breaker(site)
    assert await site.who(browser) == "alice"
    answer = await browser.post("/logout")
    # Nothing is known of the login; with two providers nobody is sent anywhere.
    assert (answer.header("location"), browser.cookies) == ("/bye", {})


# What a store of this process costs


@in_virtual_time
async def test_a_store_of_our_own_is_neither_timed_nor_broken() -> None:
    class Slow(MemoryStore):
        async def get_many(self, keys: Any, *, collection: str | None = None) -> Any:
            await anyio.sleep(STORE_DEADLINE + 0.1)
            return await super().get_many(keys)

    site = Site(OUTSIDE, store=Slow(), freshness=60)
    browser = await site.signed_in()
    assert (await browser.get("/")).body.count(b'"login":["a"') == 1


@in_both_places
async def test_a_logout_in_this_process_is_known_at_once_however_long_statuses_are_kept(place: str) -> None:
    site = Site(place, freshness=3600, store=ForeignStore())
    browser = await site.signed_in()
    thief = browser.copy()
    assert await site.who(thief) == "alice"
    assert destination(await browser.post("/logout"))[0] == "a.example"
    assert await site.who(thief) == "anonymous"


async def test_nobody_is_looked_up_while_nothing_is_remembered() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert current_login(scope) is None
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    class Untouched(MemoryStore):
        async def get_many(self, keys: Any, *, collection: str | None = None) -> Any:
            raise AssertionError

    wrapped = RPLogoutMiddleware(app, providers=providers(), store=Untouched())
    assert (await call(wrapped, http_scope("/", headers={"cookie": "session=0123456789abcdef"}))).status == 200
