"""What a request that proves nothing can cost the others, and that none wakes a dead login: see SECURITY.md."""

from __future__ import annotations

import copy
import http.cookies
import json
import secrets
import time
from functools import partial
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from asgi_rp_logout import (
    MemoryStore,
    RPLogoutMiddleware,
    StoreError,
    current_login,
    forget_login,
    remember_login,
    store,
)
from asgi_rp_logout.logins.guarded_store import StoreBudget
from asgi_rp_logout.logins.local_ends import LIMITS
from asgi_rp_logout.logins.records import ended_until_key
from asgi_rp_logout.logins.registry import EndedSessions
from asgi_rp_logout.logins.status_cache import STATUS_BYTES, STATUSES
from tests.asgi import Answer, call, http_scope
from tests.places import INSIDE, OUTSIDE, Browser, ForeignStore, Site, destination, in_both_places, providers
from tests.test_registry import registry_of
from tests.tokens import id_token
from tests.virtual_time import in_virtual_time


def invented(count: int) -> str:
    """Give a Cookie header with session cookies that nobody ever issued, 26 bytes each."""
    return "; ".join(f"session={secrets.token_hex(8)}" for _ in range(count))


async def send_cookies(site: Site, cookies: str, path: str = "/", method: str = "GET", **headers: str) -> Answer:
    return await call(site.app, http_scope(path, method, {"cookie": cookies, **headers}))


class InTurn(ForeignStore):
    """A store that needs a moment for each key, and asks for several one after the other."""

    async def get_many(self, keys: Any, *, collection: str | None = None) -> Any:
        return [await self.get(key) for key in keys]


class Batches(ForeignStore):
    """A store that writes several records in one call, and notes every call with its keys and time to live."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[list[str], float]] = []
        self.read: list[list[str]] = []

    async def get_many(self, keys: Any, *, collection: str | None = None) -> Any:
        self.read.append(list(keys))
        return await super().get_many(keys)

    async def put(self, key: str, value: Any, *, collection: str | None = None, ttl: Any = None) -> Any:
        self.written.append(([key], float(ttl)))
        await super().put(key, value, ttl=ttl)

    async def put_many(self, keys: Any, values: Any, *, collection: str | None = None, ttl: Any = None) -> None:
        self.written.append((list(keys), float(ttl)))
        for key, value in zip(keys, values, strict=True):
            await super().put(key, value, ttl=ttl)

    def ttl_of(self, kind: str) -> float:
        """Give the time to live that the last record of a kind was written with."""
        return next(ttl for keys, ttl in reversed(self.written) if any(key.startswith(kind) for key in keys))


# What a request may bring


@in_both_places
@pytest.mark.parametrize("kilobytes", [1, 8, 60])
async def test_more_session_cookies_than_a_browser_sends_ask_the_store_nothing(place: str, kilobytes: int) -> None:
    foreign = ForeignStore()
    site = Site(place, store=foreign, freshness=0)
    await site.signed_in()
    foreign.calls.clear()
    assert (await send_cookies(site, invented(kilobytes * 1024 // 26))).status == 200
    assert foreign.calls == {}


async def test_more_session_cookies_than_a_browser_sends_are_nobodys_and_all_taken_out() -> None:
    site = Site(OUTSIDE, freshness=0)
    browser = await site.signed_in()
    own = browser.cookies["session"]
    pair = f"rp_login={browser.cookies['rp_login']}"
    for count, user in ((15, "alice"), (16, "anonymous")):
        answer = await send_cookies(site, f"{invented(count)}; theme=dark; {pair}; session={own}")
        assert json.loads(answer.body)["user"] == user
        assert site.seen[-1]["theme"] == "dark"
        assert ("session" in site.seen[-1]) is (user == "alice")
    assert answer.all("set-cookie") == []  # which of them is the browser's own cannot be told
    assert (await browser.post("/logout")).status == 303


async def test_sixteen_cookies_are_read_in_one_batch() -> None:
    batches = Batches()
    site = Site(OUTSIDE, store=batches, freshness=0)
    await site.signed_in()
    batches.read.clear()
    await send_cookies(site, invented(16))
    (keys,) = batches.read
    assert len(keys) == 16


@in_both_places
async def test_strangers_fill_no_memory_and_push_out_no_verdict_of_a_login(place: str) -> None:
    """A cached status saves a call of the store. The statuses of strangers have a limit of their own."""
    foreign = ForeignStore()
    site = Site(place, store=foreign, freshness=3600)
    browser = await site.signed_in()
    assert await site.who(browser) == "alice"
    for number in range(200):
        await send_cookies(site, f"session=invented-{number:016}; filler={'x' * 60_000}")
    for _ in range(STATUSES + 100):
        await send_cookies(site, invented(1))
    registry = registry_of(site)
    assert len(registry._cache.strangers.entries) <= STATUSES
    assert 0 <= registry._cache.strangers._bytes <= STATUS_BYTES
    kept = sum(len(key[0]) for key in registry._cache.strangers.entries)
    assert kept <= STATUS_BYTES
    foreign.calls.clear()
    assert await site.who(browser) == "alice"
    assert foreign.calls == {}


async def test_long_cookies_are_kept_by_their_digest_and_weighed() -> None:
    site = Site(OUTSIDE, store=ForeignStore(), freshness=3600)
    await site.signed_in()
    values = [f"session={secrets.token_hex(2000)}" for _ in range(2 * STATUS_BYTES // 4000)]
    for value in values:
        await send_cookies(site, value + "; " + "filler=x; " * 100)
    registry = registry_of(site)
    statuses = [entry.status for entry in registry._cache.strangers.entries.values()]
    kept = sum(len(part) for one in statuses for c in one.credentials.cookies for _, part in c.parts)
    assert STATUS_BYTES // 2 < kept <= STATUS_BYTES
    assert all(len(key[0]) == 32 for key in registry._cache.strangers.entries)


def test_reading_cookies_takes_time_that_is_linear_in_their_length() -> None:
    """Eight times as much may take thrice eight times as long, for a machine that is busy; not sixty-four times."""

    async def main() -> tuple[float, float]:
        site = Site(OUTSIDE, freshness=0)
        await site.signed_in()

        async def took(headers: list[tuple[str, str]]) -> float:
            best = float("inf")
            for _ in range(3):
                began = time.process_time()
                await call(site.app, http_scope("/missing", headers=headers))
                best = min(best, time.process_time() - began)
            return best

        many, few = [("cookie", f"a={n}") for n in range(40_000)], [("cookie", f"a={n}") for n in range(5_000)]
        return await took(few), await took(many)

    few, many = anyio.run(main)
    assert many < 24 * few


@pytest.mark.parametrize(
    "trick", ["session={}", "x=1 session={}", "x=1\tsession={}", 'x="1" session={}', "session={}\t\\"]
)
async def test_a_dead_value_is_dead_however_a_parser_finds_it(trick: str) -> None:
    """``http.cookies`` ends a pair at a blank too: Bottle, CherryPy and Emmett see a session cookie there."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/login":
            answer: Response = PlainTextResponse("")
            answer.set_cookie("session", "a-session-id-of-the-server")
        elif scope["path"] == "/logout":
            answer = RedirectResponse("/bye", 303)
        else:
            jar: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
            jar.load(Request(scope).headers.get("cookie", ""))
            answer = PlainTextResponse(jar["session"].value if "session" in jar else "nobody")
        await answer(scope, receive, send)

    browser = Browser(RPLogoutMiddleware(app, providers=providers()[:1], freshness=0))
    await browser.get("/login")
    header = {"cookie": trick.format(browser.cookies["session"])}
    assert (await call(browser.app, http_scope("/", headers=header))).body == b"a-session-id-of-the-server"
    await browser.post("/logout")
    assert (await call(browser.app, http_scope("/", headers=header))).body == b"nobody"


# The same secret as a bearer token


def taking_bearers() -> RPLogoutMiddleware:
    """Give an application that takes its session cookie's value from the Authorization header as well."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope)
        value = request.cookies.get("access_token") or request.headers.get("authorization", "").removeprefix("Bearer ")
        answer: Response = PlainTextResponse(value or "nobody")
        if scope["path"] == "/login":
            answer.set_cookie("access_token", "header.payload.signature")
        elif scope["path"] == "/logout":
            answer = RedirectResponse("/bye", 303)
        await answer(scope, receive, send)

    return RPLogoutMiddleware(app, providers=providers()[:1], session_cookie="access_token", freshness=0)


async def test_a_value_that_was_logged_out_is_dead_as_a_bearer_token_too() -> None:
    app = taking_bearers()
    browser = Browser(app)
    await browser.get("/login")
    bearer, other = (
        {"authorization": "Bearer header.payload.signature"},
        {"authorization": "Bearer another-token-of-an-api"},
    )
    for headers in (bearer, other):
        assert (await call(app, http_scope("/", headers=headers))).body == headers["authorization"][7:].encode()
    await browser.post("/logout")
    assert (await call(app, http_scope("/", headers=bearer))).body == b"nobody"
    assert (await call(app, http_scope("/", headers=other))).body == b"another-token-of-an-api"
    many = {**bearer, "cookie": "; ".join(f"access_token={secrets.token_hex(8)}" for _ in range(20))}
    assert (await call(app, http_scope("/", headers=many))).body == b"nobody"


# What an anonymous logout writes


KINDS = {
    "no browser": {},
    "form": {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "sec-fetch-site": "same-origin"},
    "fetch": {"sec-fetch-mode": "cors", "sec-fetch-dest": "empty", "sec-fetch-site": "same-origin"},
    "htmx": {"hx-request": "true", "accept": "*/*", "sec-fetch-site": "same-origin"},
}


@pytest.mark.parametrize("callback", [None, "/back"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("cookies", "issued"), [(1, False), (3, False), (16, False), (2400, False), (3, True)])
async def test_an_anonymous_logout_writes_one_small_record_at_most(
    cookies: int, issued: bool, kind: str, callback: str | None
) -> None:
    """Its tombstone, which also knows the way back, and what a page that comes next has to finish."""
    foreign = ForeignStore()
    site = Site(OUTSIDE, store=foreign, remembers=False, providers=providers()[:1], callback_path=callback)
    header = invented(cookies)
    if issued:
        header += f"; session={(await site.signed_in()).cookies['session']}"
    foreign.calls.clear()
    await send_cookies(site, header, "/logout", "POST", **KINDS[kind])
    names = foreign.names()
    assert len(names) <= 1
    assert not any(name.startswith("ends:") for name in names)
    for name in names:
        assert len(json.dumps(await foreign.inner.get(name))) < 300
    assert foreign.calls["put"] + foreign.calls["put_many"] <= 1


@pytest.mark.parametrize("callback", [None, "/back"])
@pytest.mark.parametrize("kind", ["form", "fetch"])
@pytest.mark.parametrize("store", [MemoryStore, ForeignStore])
async def test_an_anonymous_logout_reaches_the_provider_and_comes_back(
    kind: str, callback: str | None, store: Any
) -> None:
    site = Site(OUTSIDE, store=store(), remembers=False, providers=providers()[:1], callback_path=callback)
    browser = await site.signed_in()
    page = {name.replace("-", "_"): value for name, value in KINDS["form"].items()}
    logout = {name.replace("-", "_"): value for name, value in KINDS[kind].items()}
    answer = await browser.post("/logout", **logout)
    if kind == "fetch":
        assert answer.header("location") == "/bye"
        answer = await browser.get("/?page=2", **page)
    host, query = destination(answer)
    assert (host, "id_token_hint" in query) == ("a.example", False)
    if callback is not None:
        back = await browser.get(f"/back?state={query['state']}", sec_fetch_site="cross-site")
        assert back.header("location") == ("/?page=2" if kind == "fetch" else "/bye")
        wrong = await browser.get("/back?state=another", sec_fetch_site="cross-site")
        assert wrong.header("location") == "/"
    assert (await browser.get("/?page=3", **{**page, "sec_fetch_site": "cross-site"})).status == 200
    assert (await browser.get("/?page=4", **page)).status == 200


async def test_an_anonymous_logout_without_a_cookie_writes_nothing() -> None:
    foreign = ForeignStore()
    site = Site(OUTSIDE, store=foreign, remembers=False)
    assert (await site.browser().post("/logout")).status == 303
    assert foreign.names() == []


async def test_among_invented_cookies_the_one_that_was_issued_is_revoked() -> None:
    site = Site(OUTSIDE, remembers=False, providers=providers()[:1], freshness=0)
    browser = await site.signed_in()
    thief = browser.copy()
    own = browser.cookies["session"]
    await send_cookies(
        site, f"session=planted-{'x' * 16}; session={own}; session=planted-{'y' * 16}", "/logout", "POST"
    )
    assert await site.who(thief) == "anonymous"


@pytest.mark.parametrize("kind", ["login", "issued"])
async def test_invented_logouts_push_out_nobody_elses_tombstone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an application that never calls remember_login too, and far beyond what is kept in full."""
    monkeypatch.setattr(store, "DETAILED", 20)
    monkeypatch.setattr(store, "GENERATION", 50)
    site = Site(OUTSIDE, store=MemoryStore(50), remembers=kind == "login", freshness=0, providers=providers()[:1])
    browser = await site.signed_in()
    alone = Browser(site.app, {"session": browser.cookies["session"]})
    assert await site.who(alone.copy()) == "alice"
    await browser.post("/logout")
    for _ in range(1000):
        await send_cookies(site, invented(1), "/logout", "POST")
    assert await site.who(alone) == "anonymous"
    assert len(site.store) <= 30


async def test_what_was_pushed_out_is_still_known_to_be_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that nobody has seen issued, as after a restart, is not forgotten after ten thousand others."""
    monkeypatch.setattr(store, "DETAILED", 20)
    site = Site(OUTSIDE, remembers=False, freshness=0, providers=providers()[:1])
    browser = await site.signed_in()
    registry_of(site)._shared.issued = store.Fingerprints(10)
    thief = browser.copy()
    await browser.post("/logout")
    for _ in range(300):
        await send_cookies(site, invented(1), "/logout", "POST")
    assert await site.who(thief) == "anonymous"
    assert len(site.store) <= 20


async def test_a_value_that_is_issued_anew_lives_again_though_it_was_pushed_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "DETAILED", 2)
    memory = MemoryStore()
    for number in range(5):
        await memory.put(f"cookie:{number}", {"v": 1, "by": "buried", "of": store.UNKNOWN}, ttl=10)
    assert [await memory.get(f"cookie:{number}") is not None for number in range(5)] == [True] * 5
    assert await memory.delete("cookie:0") is True
    assert await memory.get("cookie:0") is None
    assert await memory.delete("cookie:0") is False


def test_fingerprints_are_kept_for_three_generations_at_least() -> None:
    seen = store.Fingerprints(10)
    for number in range(100):
        seen.add(str(number))
    assert all(str(number) in seen for number in range(70, 100))
    assert not any(str(number) in seen for number in range(60))
    assert len(seen) <= 40


# The breaker


async def test_a_request_that_is_slow_by_its_own_size_stops_nobody_elses_questions() -> None:
    slow = InTurn()
    site = Site(OUTSIDE, store=slow, freshness=0)
    browser = await site.signed_in()
    slow.delay = 0.06  # sixteen of them are more than the half second that a request has
    assert (await send_cookies(site, invented(16))).status == 200
    slow.delay = 0
    slow.calls.clear()
    assert (await browser.get("/")).body.count(b'"login":["a"') == 1
    assert slow.reads > 0


async def test_after_a_failure_one_call_at_a_time_asks_whether_the_store_is_back() -> None:
    foreign = ForeignStore()
    site = Site(OUTSIDE, store=foreign, freshness=0)
    browsers = [await site.signed_in(sid=f"s{number}") for number in range(5)]
    guard, now = registry_of(site).store.breaker, [1000.0]
    guard._clock = lambda: now[0]
    foreign.trouble = "raise"
    await site.who(browsers[0])
    foreign.trouble, foreign.delay = None, 0.05
    foreign.calls.clear()
    now[0] += 0.9
    await site.who(browsers[0])
    assert foreign.calls == {}  # the breaker is open
    now[0] += 0.2
    async with anyio.create_task_group() as tasks:
        for browser in browsers:
            tasks.start_soon(site.who, browser)
    assert foreign.calls == {"get_many": 1}  # half open: one is the probe, the others do without
    foreign.calls.clear()
    await site.who(browsers[0])
    assert foreign.calls == {"get_many": 1}  # closed


async def test_the_breaker_never_stops_what_must_not_get_lost() -> None:
    """A logout's tombstones, a logout token, the take of a deferred logout, and the take of a return trip."""
    foreign = ForeignStore()
    site = Site(OUTSIDE, store=foreign, freshness=0, callback_path="/back")
    fetching, leaving = await site.signed_in(), await site.signed_in(sid="s2")
    assert (await fetching.post("/logout", accept="*/*", origin="http://127.0.0.1")).header("location") == "/bye"
    registry = registry_of(site)
    registry.store.breaker._opened_at = registry.store.breaker._clock() + 3600
    host, query = destination(await fetching.get("/", accept="text/html"))
    assert host == "a.example"
    assert (await fetching.get(f"/back?state={query['state']}")).header("location") == "/"
    registry.store.breaker._opened_at = registry.store.breaker._clock() + 3600
    await leaving.post("/logout")
    assert len(foreign.names("ended:")) == 2
    registry.store.breaker._opened_at = registry.store.breaker._clock() + 3600
    assert await end_subject(site, at=time.time())
    assert foreign.names("ended_until:") != []


# What this process has ended is ended here


async def end_subject(site: Site, *, at: float, received: float | None = None, sid: str | None = None) -> bool:
    """End all logins of alice at provider `a`, or one session, as a logout token does."""
    ended = EndedSessions("https://a.example", sid, "alice", at, received or time.time() + 1, "back-channel")
    return bool(await registry_of(site).end_sessions(ended, StoreBudget()))


@in_both_places
@pytest.mark.parametrize("how", ["logout", "token"])
@pytest.mark.parametrize("taken", [True, False])
async def test_an_end_of_this_process_holds_while_the_store_is_down(place: str, how: str, taken: bool) -> None:
    """Although "allow" lets through whoever cannot be looked up: the last known status counts."""
    foreign = ForeignStore()
    site = Site(place, store=foreign, freshness=0)
    browser, other = await site.signed_in(), await site.signed_in(user="bob", sid="s2")
    copies = [browser.copy(), Browser(site.app, {"session": browser.cookies["session"]})]
    for one in (*copies, other):
        assert await site.who(one.copy()) != "anonymous"
    foreign.trouble = None if taken else "raise"
    if how == "logout":
        await browser.post("/logout")
    elif taken:
        assert await end_subject(site, at=time.time() + 1)
    else:
        with pytest.raises(Exception, match="store"):
            await end_subject(site, at=time.time() + 1)
    foreign.trouble = "raise"
    assert {await site.who(one.copy()) for one in copies} == {"anonymous"}
    assert await site.who(other) == "bob"
    foreign.trouble = None
    registry_of(site).store.breaker.close()
    await site.who(other)
    elsewhere = Site(place, beside=site)
    assert {await elsewhere.who(Browser(elsewhere.app, one.cookies)) for one in copies} == {"anonymous"}


async def test_an_end_that_the_store_did_not_take_is_written_though_no_request_comes_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asgi_rp_logout.logins.guarded_store.WRITE_AGAIN", 0.05)
    foreign = ForeignStore()
    site = Site(OUTSIDE, store=foreign, freshness=0)
    browsers = [await site.signed_in(sid=f"s{number}") for number in range(50)]
    foreign.trouble = "raise"
    for browser in browsers:
        await browser.post("/logout")
    await anyio.sleep(0.1)
    assert foreign.names("ended:") == []
    foreign.trouble = None
    with anyio.fail_after(10):
        while len(foreign.names("ended:")) < 50 or registry_of(site).store.ended.unwritten:
            await anyio.sleep(0.01)


async def test_a_record_that_nobody_can_read_does_not_keep_the_ends_of_others_out_of_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asgi_rp_logout.logins.guarded_store.WRITE_AGAIN", 0.05)
    foreign = ForeignStore()
    site = Site(OUTSIDE, store=foreign, freshness=0)
    browser = await site.signed_in(user="bob")
    foreign.trouble = "raise"
    with pytest.raises(StoreError):
        await end_subject(site, at=time.time() + 1)
    await browser.post("/logout")
    key = next(key for key in registry_of(site).store.ended.among([ended_until_key("https://a.example", sub="alice")]))
    await foreign.inner.put(key, {"v": 1, "until": {"": ["soon", "now", "by"]}})
    foreign.trouble = None
    with anyio.fail_after(10):
        while registry_of(site).store.ended.unwritten:
            await anyio.sleep(0.01)
    assert len(foreign.names("ended:")) == 1
    assert (await foreign.record(key))["until"][""][0] != "soon"


class LateStore(ForeignStore):
    """A store behind a slow line: while `late`, it takes what is written to it after everybody has given up on it."""

    def __init__(self) -> None:
        super().__init__()
        self.late = False
        self.on_its_way: list[tuple[str, dict[str, Any]]] = []

    async def put(self, key: str, value: Any, *, collection: str | None = None, ttl: Any = None) -> Any:
        if self.late:
            self.on_its_way.append((key, dict(value)))
            await anyio.sleep_forever()
        return await super().put(key, value, ttl=ttl)

    async def deliver(self) -> None:
        for key, value in self.on_its_way:
            await self.inner.put(key, value)


@in_both_places
@in_virtual_time
async def test_a_login_that_reaches_the_store_after_its_logout_is_a_dead_one(place: str) -> None:
    store = LateStore()
    site = Site(place, store=store, freshness=0)
    store.late = True
    browser = await site.signed_in()
    store.late = False
    thief = browser.copy()
    await anyio.sleep(2)
    await browser.post("/logout")
    await store.deliver()
    await anyio.sleep(5)
    elsewhere = Site(place, beside=site, freshness=0)
    assert await elsewhere.who(Browser(elsewhere.app, thief.cookies)) == "anonymous"


async def test_a_store_that_does_not_take_the_news_takes_the_tombstones_all_the_same() -> None:
    class NoNews(ForeignStore):
        async def put(self, key: str, value: Any, *, collection: str | None = None, ttl: Any = None) -> Any:
            if key.startswith(("ends:", "login:")):
                raise OSError("no")
            return await super().put(key, value, ttl=ttl)

    foreign = NoNews()
    site = Site(INSIDE, store=foreign, freshness=0)
    browser = await site.signed_in()
    thief = browser.copy()
    await browser.post("/logout")
    assert foreign.names("ended:") != []
    assert await site.who(thief) == "anonymous"


async def test_strangers_push_out_no_tombstone_that_waits_for_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "asgi_rp_logout.logins.guarded_store.WRITE_AGAIN", 3600
    )  # requests alone write here, and nothing at the end
    foreign = ForeignStore()
    site = Site(OUTSIDE, store=foreign, freshness=0)
    browser = await site.signed_in()
    thief = browser.copy()
    foreign.trouble = "raise"
    await browser.post("/logout")
    handle = "x" * 39 + ".1700000000.1700000000000.."
    for number in range(LIMITS["unknown"] + 500):
        await send_cookies(site, f"session={number:020}; rp_login={number:04}{handle}", "/logout", "POST")
    ends = registry_of(site).store.ended
    assert len(ends) <= LIMITS["unknown"] + 10
    copied = dict(thief.cookies)
    assert await site.who(thief) == "anonymous"
    foreign.trouble = None
    registry_of(site).store.breaker.close()
    await send_cookies(site, invented(1))
    elsewhere = Site(OUTSIDE, beside=site)
    assert await elsewhere.who(Browser(elsewhere.app, copied)) == "anonymous"  # the remembered ones are written first


@in_both_places
async def test_the_store_may_be_down_for_an_application_that_remembers_nobody(place: str) -> None:
    foreign = ForeignStore()
    site = Site(place, store=foreign, remembers=False, providers=providers()[:1])
    browser = await site.signed_in()
    thief = browser.copy()
    foreign.trouble = "raise"
    assert destination(await browser.post("/logout"))[0] == "a.example"
    assert browser.cookies == {}
    if place == OUTSIDE:
        assert await site.who(thief) == "anonymous"


# One batch


@in_both_places
async def test_a_logout_writes_its_ends_in_one_batch_and_what_a_click_needs_in_another(place: str) -> None:
    """The ID Token is kept for two minutes after the end, and not for as long as the tombstone."""
    batches = Batches()
    site = Site(place, store=batches, freshness=0)
    browser = await site.signed_in()
    batches.written.clear()
    await browser.post("/logout")
    kinds = sorted((sorted(key.partition(":")[0] for key in keys), ttl > 120) for keys, ttl in batches.written)
    ends = ["cookie", "ended", "last_end"]
    assert kinds == [(ends, True), (["login"], False)]
    assert batches.ttl_of("login:") == 120


async def test_the_token_of_a_login_source_is_kept_for_two_minutes_too() -> None:
    from asgi_rp_logout import Login

    batches = Batches()
    site = Site(OUTSIDE, store=batches, remembers=False, login_source=lambda connection: Login("a", id_token()))
    browser = await site.signed_in()
    thief = browser.copy()
    assert "id_token_hint" in destination(await browser.post("/logout"))[1]
    assert batches.ttl_of("last_login:") == 120
    assert destination(await thief.post("/logout"))[0] == "a.example"


async def test_a_store_that_asks_in_turn_is_asked_at_once() -> None:
    """py-key-value's PostgreSQL and DynamoDB stores have no batch of their own."""
    from key_value.aio.stores.memory import MemoryStore as Theirs

    class Counting(Theirs):
        waiting = most = 0

        async def get(self, key: str, *, collection: str | None = None) -> Any:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            await anyio.sleep(0.01)
            self.waiting -= 1
            return await super().get(key=key, collection=collection)

    theirs = Counting()
    site = Site(OUTSIDE, store=theirs, freshness=0)
    browser = await site.signed_in()
    theirs.most = 0
    assert await site.who(browser) == "alice"
    assert theirs.most == 5  # the record, the tombstone, two not-before times, the session cookie


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_store_that_writes_in_turn_is_written_to_at_once(wrapped: bool) -> None:
    """py-key-value's Memcached store reads in batches, and has none to write; a wrapper hides that."""
    from key_value.aio.stores.memory import MemoryStore as Theirs
    from key_value.aio.wrappers.prefix_keys import PrefixKeysWrapper

    class Reading(Theirs):
        waiting = most = batches = 0

        async def _get_managed_entries(self, *, collection: str, keys: Any) -> Any:
            self.batches += 1
            return await super()._get_managed_entries(collection=collection, keys=keys)

        async def _put_managed_entry(self, **entry: Any) -> None:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            await anyio.sleep(0.01)
            self.waiting -= 1
            await super()._put_managed_entry(**entry)

    theirs = Reading()
    store: Any = PrefixKeysWrapper(theirs, prefix="p") if wrapped else theirs
    site = Site(OUTSIDE, store=store, freshness=0)
    browser = await site.signed_in()
    assert await site.who(browser) == "alice"
    assert theirs.batches > 0
    theirs.most = 0
    await browser.post("/logout")
    assert theirs.most == 4  # the tombstone, the session cookie, the news; and what a second click needs


@in_both_places
async def test_two_logins_that_take_turns_are_looked_up_once_each(place: str) -> None:
    foreign = ForeignStore()
    site = Site(place, store=foreign, freshness=3600)
    browsers = [await site.signed_in(), await site.signed_in(user="bob", sid="s2")]
    foreign.calls.clear()
    for _ in range(10):
        assert [await site.who(browser) for browser in browsers] == ["alice", "bob"]
    assert foreign.calls == {"get_many": 2}


# A session that is renewed, and a second login


def renewing(*, forgets: bool = False) -> Starlette:
    async def login(request: Request) -> Response:
        request.session.update(user="alice", tenant="a")
        remember_login(request, id_token=id_token(), provider="a")
        return PlainTextResponse("")

    async def renew(request: Request) -> Response:
        request.session.clear()
        request.session.update(user="alice", tenant=secrets.token_hex(4))
        if forgets:
            forget_login(request)
        return PlainTextResponse("")

    async def me(request: Request) -> Response:
        return PlainTextResponse(request.session.get("user", "nobody"))

    async def logout(request: Request) -> Response:
        request.session.clear()
        return RedirectResponse("/bye", 303)

    routes = [
        Route("/login", login),
        Route("/renew", renew),
        Route("/", me),
        Route("/logout", logout, methods=["POST"]),
    ]
    inside = Middleware(RPLogoutMiddleware, providers=providers(), freshness=0)
    return Starlette(routes=routes, middleware=[Middleware(SessionMiddleware, secret_key="secret"), inside])


async def test_a_session_that_is_cleared_and_filled_again_keeps_its_login() -> None:
    """For another tenant or role, and against session fixation."""
    browser = Browser(renewing())
    await browser.get("/login")
    copies = [browser.copy()]
    for _ in range(2):
        await browser.get("/renew")
        copies.append(browser.copy())
    assert [(await one.copy().get("/")).body for one in copies] == [b"alice"] * 3
    assert destination(await browser.post("/logout"))[1]["id_token_hint"] == id_token()
    assert [(await one.get("/")).body for one in copies] == [b"nobody"] * 3


async def test_a_login_that_the_application_forgets_is_not_put_back() -> None:
    browser = Browser(renewing(forgets=True))
    await browser.get("/login")
    await browser.get("/renew")
    assert (await browser.post("/logout")).header("location") == "/bye"


async def test_a_second_login_revokes_the_session_cookie_of_the_first() -> None:
    site = Site(OUTSIDE, freshness=0)
    browser = await site.signed_in()
    first = Browser(site.app, {"session": browser.cookies["session"]})
    await site.sign_in(browser, user="bob", sid="s2")
    assert await site.who(browser) == "bob"
    assert await site.who(first) == "anonymous"


async def test_a_second_login_ends_a_first_one_that_the_store_has_lost() -> None:
    """The handle stands in a session that was signed, which vouches for it as at a logout."""
    site = Site(INSIDE, freshness=0)
    browser = await site.signed_in()
    first = browser.copy()
    for key in list(site.store.entries["login"]):
        await site.store.delete(key)
    assert await site.who(first.copy()) == "alice"
    await site.sign_in(browser, user="bob", sid="s2")
    assert await site.who(browser) == "bob"
    assert await site.who(first) == "anonymous"


async def test_a_dead_cookie_beside_a_new_login_stays_dead() -> None:
    """An application that keeps its session's id at a login must not get a revoked one tied to the new login."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        answer: Response = PlainTextResponse(Request(scope).cookies.get("session", "nobody"))
        seen.append(answer.body)
        if scope["path"] == "/login":
            remember_login(scope, id_token=id_token("bob" if b"bob" in scope["query_string"] else "alice"))
            if b"sets" in scope["query_string"]:
                answer.set_cookie("session", "the-session-id-of-alice")
        elif scope["path"] == "/logout":
            answer = RedirectResponse("/bye", 303)
        await answer(scope, receive, send)

    browser = Browser(RPLogoutMiddleware(app, providers=providers(), freshness=0))
    await browser.get("/login?sets")
    thief = Browser(browser.app, {"session": browser.cookies["session"]})
    assert (await thief.copy().get("/")).body == b"the-session-id-of-alice"
    await browser.post("/logout")
    await thief.copy().get("/login?bob")
    assert (await thief.get("/")).body == b"nobody"


# A session cookie without its companion


@pytest.mark.parametrize("how", ["logout", "the session", "the subject"])
async def test_a_copy_that_leaves_the_companion_out_ends_with_its_login(how: str) -> None:
    site = Site(OUTSIDE, freshness=0)
    browser = await site.signed_in()
    await browser.get("/touch")
    alone = Browser(site.app, {"session": browser.cookies["session"]})
    assert await site.who(alone.copy()) == "alice"
    if how == "logout":
        await browser.post("/logout")
    else:
        await end_subject(site, at=time.time() + 1, sid="s1" if how == "the session" else None)
    assert await site.who(alone) == "anonymous"


async def test_a_copy_without_the_companion_is_known_and_gets_no_token() -> None:
    """It can be ended; whoever stole the cookie must not get the ID Token as well, in a Location or from the page."""
    shown: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        shown.append(current_login(scope))
        answer: Response = RedirectResponse("/bye", 303)
        if scope["path"] == "/login":
            remember_login(scope, id_token=id_token(), refresh_token="refresh", provider="a")
            answer.set_cookie("session", "a-session-id-of-the-server")
        await answer(scope, receive, send)

    browser = Browser(RPLogoutMiddleware(app, providers=providers(), freshness=0))
    await browser.get("/login")
    alone = Browser(browser.app, {"session": browser.cookies["session"]})
    again = alone.copy()
    await alone.get("/")
    assert (shown[-1].sub, shown[-1].sid, shown[-1].id_token, shown[-1].refresh_token) == ("alice", "s1", None, None)
    assert "rp_login" not in alone.cookies
    host, query = destination(await alone.post("/logout"))
    assert (host, "id_token_hint" in query) == ("a.example", False)
    answer = await again.post("/logout")
    assert "id_token_hint" not in (answer.header("location") or "")
    await browser.get("/")
    assert shown[-1].ended == "logout"


async def test_a_stolen_cookie_is_not_covered_by_a_login_of_the_thiefs_own() -> None:
    site = Site(OUTSIDE, freshness=0)
    victim, thief = await site.signed_in(), await site.signed_in(user="mallory", sid="s2")
    both = Browser(site.app, {"session": victim.cookies["session"], "rp_login": thief.cookies["rp_login"]})
    assert await site.who(both.copy()) == "alice"
    await end_subject(site, at=time.time() + 1)
    assert await site.who(both) == "anonymous"
    assert await site.who(thief) == "mallory"


async def test_a_dead_cookie_planted_beside_a_living_login_changes_nothing() -> None:
    site = Site(OUTSIDE, freshness=0)
    browser, other = await site.signed_in(), await site.signed_in(user="bob", sid="s2")
    dead = other.cookies["session"]
    await other.post("/logout")
    for order in ((dead, browser.cookies["session"]), (browser.cookies["session"], dead)):
        header = "; ".join([*(f"session={value}" for value in order), f"rp_login={browser.cookies['rp_login']}"])
        answer = await send_cookies(site, header)
        assert json.loads(answer.body) == {"user": "alice", "login": ["a", "alice", "s1"], "ended": None}
        assert answer.all("set-cookie") == []


# Renewing is not a new login


@in_both_places
async def test_the_same_login_once_more_is_a_renewal(place: str) -> None:
    """Requests on their way go on; the last tokens win; what a refresh leaves out stays."""
    tokens: list[dict[str, str]] = []
    hinted: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope)
        if scope["path"] == "/login":
            request.session["user"] = "alice"
            remember_login(request, tokens.pop(0), provider="a" if len(tokens) == 2 else None)
        hinted.append(current_login(request))
        answer: Response = PlainTextResponse(request.session.get("user", "nobody"))
        if scope["path"] == "/logout":
            request.session.clear()
            answer = RedirectResponse("/bye", 303)
        await answer(scope, receive, send)

    options: dict[str, Any] = {"providers": providers(), "freshness": 0}
    if place == INSIDE:
        wrapped: Any = SessionMiddleware(RPLogoutMiddleware(app, **options), secret_key="secret")
    else:
        wrapped = RPLogoutMiddleware(SessionMiddleware(app, secret_key="secret"), **options)
    first, second = id_token(n=1), id_token(n=2)
    tokens[:] = [{"id_token": first, "refresh_token": "r1"}, {"id_token": second}, {"refresh_token": "r3"}]
    browser = Browser(wrapped)
    await browser.get("/login")
    before = browser.copy()
    await browser.get("/login")
    await browser.get("/login")
    assert (await before.copy().get("/")).body == b"alice"
    await browser.get("/")
    login = hinted[-1]
    assert (login.provider, login.id_token, login.refresh_token, login.sub) == ("a", second, "r3", "alice")
    assert destination(await browser.post("/logout"))[1]["id_token_hint"] == second
    if place == INSIDE:
        assert (await before.get("/")).body == b"nobody"


async def test_another_user_in_the_same_browser_is_no_renewal() -> None:
    site = Site(INSIDE, freshness=0)
    browser = await site.signed_in()
    copy_of_alice = browser.copy()
    await site.sign_in(browser, user="bob")
    assert await site.who(copy_of_alice) == "anonymous"


# Logout tokens


async def test_of_two_logout_tokens_the_later_one_counts_whatever_their_order() -> None:
    for order in ((100, 300), (300, 100)):
        site = Site(OUTSIDE, freshness=0, store=ForeignStore())
        for at in order:
            await end_subject(site, at=at, received=1000)
        browser = await site.signed_in()  # made now, by a clock that is far ahead of all these
        assert await site.who(browser) == "alice"
        (key,) = site.store.names("ended_until:")
        ((slot, entry),) = (await site.store.inner.get(key))["until"].items()
        assert (slot, entry[0]) == ("", 300)


async def test_two_logout_tokens_at_once_at_two_workers_leave_the_later_one() -> None:
    foreign = ForeignStore()
    foreign.delay = 0.02
    here, there = Site(OUTSIDE, store=foreign), Site(OUTSIDE, store=copy.copy(foreign))
    for later, earlier in ((here, there), (there, here)):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(end_subject, later, at=300, received=1000))
            tasks.start_soon(partial(end_subject, earlier, at=100, received=1000))
        (key,) = foreign.names("ended_until:")
        assert (await foreign.record(key))["until"][""][0] == 300
        await foreign.inner.delete(key)


async def test_a_token_that_is_sent_again_ends_nothing_anew() -> None:
    site = Site(OUTSIDE, store=ForeignStore())
    assert [await end_subject(site, at=at, received=1000) for at in (100, 100, 50, 101)] == [True, False, False, True]


async def test_a_login_without_a_known_sid_ends_with_any_session_of_its_subject() -> None:
    """Which session it is of cannot be told. One with another sid lives, and so does another subject."""
    site = Site(OUTSIDE, freshness=0)
    unknown, other = await site.signed_in(sid=""), await site.signed_in(sid="s2")
    bob = await site.signed_in(user="bob", sid="")
    await end_subject(site, at=time.time() + 1, sid="s1")
    assert [await site.who(one) for one in (unknown, other, bob)] == ["anonymous", "alice", "bob"]


# Cancellation


class Stepping(ForeignStore):
    """A store that gives way to the event loop in every call, so that it can be cancelled there."""

    async def _do(self, name: str, *args: Any, **kwargs: Any) -> Any:
        for _ in range(3):
            await anyio.sleep(0)
        return await super()._do(name, *args, **kwargs)


async def _cancelled_after(place: str, steps: int, native: bool) -> tuple[bool, set[str]]:
    """Cancel a logout after so many turns of the loop; give whether it was done, and who the copies are seen as."""
    import asyncio

    site = Site(place, store=Stepping(), freshness=0)
    browser = await site.signed_in()
    copies = [browser.copy(), Browser(site.app, {"session": browser.cookies["session"]})]
    done = False

    async def run() -> None:
        nonlocal done
        await browser.post("/logout")
        done = True

    if native:
        task = asyncio.create_task(run())
        for _ in range(steps):
            await asyncio.sleep(0)
        finished = done
        task.cancel()
        await asyncio.wait([task])
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            for _ in range(steps):
                await anyio.sleep(0)
            finished = done
            tasks.cancel_scope.cancel()
    for _ in range(50):
        await anyio.sleep(0)
    written = bool(site.store.names("ended:"))
    users = {await site.who(copy) for copy in copies}
    assert written is ("anonymous" in users), f"after {steps} turns only this process knows of the end"
    return finished, users


@in_both_places
@pytest.mark.parametrize(("backend", "native"), [("asyncio", True), ("asyncio", False), ("trio", False)])
def test_a_cancelled_logout_is_done_or_not_begun(place: str, backend: str, native: bool) -> None:
    """asyncio.timeout(), Daphne after a disconnect and uvicorn's graceful timeout cancel the task itself."""

    async def main() -> None:
        seen = set()
        for steps in range(1000):
            finished, users = await _cancelled_after(place, steps, native)
            assert len(users) == 1, f"after {steps} turns one copy lives, and the other does not"
            seen |= users
            if finished:
                assert users == {"anonymous"}
                break
        assert seen == {"alice", "anonymous"}

    anyio.run(main, backend=backend)
