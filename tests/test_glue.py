"""What needs two events in a row, or two actors: each of these holds one line of the parts between the rules."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_rp_logout import Login, MemoryStore, RPLogoutMiddleware, StaticProvider, current_login, remember_login
from asgi_rp_logout.errors import StoreError
from asgi_rp_logout.logins.guarded_store import Breaker, StoreBudget
from asgi_rp_logout.logins.local_ends import LocalEnds
from asgi_rp_logout.store import LOGIN
from tests.asgi import call, http_scope
from tests.places import INSIDE, OUTSIDE, Browser, ForeignStore, Site, destination, providers
from tests.test_deferred import CLICK, FETCH
from tests.test_registry import registry_of
from tests.test_strangers import Batches, Stepping, end_subject
from tests.tokens import id_token
from tests.virtual_time import in_virtual_time, let_time_pass

SESSION = "a-session-id-of-the-server"


def an_app(*, status: int = 303, sets: str | None = SESSION, marker: str | None = None, seen: Any = None) -> ASGIApp:
    """Give an application: /login remembers, /logout signs out, and `seen` gets what every other page is shown."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer: Response = PlainTextResponse(Request(scope).cookies.get("session", "nobody"))
        if scope["path"] == "/login":
            remember_login(scope, id_token=id_token(), refresh_token="refresh", provider="a")
            answer.status_code = status
            if sets is not None:
                answer.set_cookie("session", sets)
        elif scope["path"] == "/logout":
            answer = RedirectResponse("/bye", 303, {} if marker is None else {"x-rp-logout": marker})
            answer.delete_cookie("session")
        elif seen is not None:
            seen.append(current_login(scope))
        await answer(scope, receive, send)

    return app


# Logout tokens


async def test_a_token_that_comes_late_to_another_worker_takes_back_nothing() -> None:
    here = Site(OUTSIDE, store=ForeignStore())
    there = Site(OUTSIDE, beside=here)
    assert await end_subject(here, at=300, received=1000) is True
    assert [await end_subject(there, at=at, received=1000) for at in (100, 300, 400)] == [False, False, True]
    (key,) = here.store.names("ended_until:")
    assert (await here.store.inner.get(key))["until"][""][0] == 400


async def test_of_two_tokens_that_the_store_did_not_take_the_later_one_counts() -> None:
    for order in ((300, 100), (100, 300)):
        foreign = ForeignStore()
        site = Site(OUTSIDE, store=foreign)
        foreign.trouble = "raise"
        for at in order:
            with pytest.raises(StoreError):
                await end_subject(site, at=at, received=1000)
        foreign.trouble = None
        registry_of(site).store.breaker.close()
        await end_subject(site, at=50, received=1000)
        (key,) = foreign.names("ended_until:")
        assert (await foreign.record(key))["until"][""][0] == 300


@pytest.mark.parametrize("steps", range(12))
async def test_a_logout_token_that_is_cancelled_is_taken_or_not_begun(steps: int) -> None:
    """And the cancellation is passed on afterwards."""
    site = Site(OUTSIDE, store=Stepping())
    task = asyncio.create_task(end_subject(site, at=300, received=1000))
    for _ in range(steps):
        await asyncio.sleep(0)
    done = task.done()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() is not done
    assert bool(site.store.names("ended_until:")) is (steps > 0)


# An outage


async def test_who_is_logged_out_here_is_anonymous_though_nobody_else_can_be_told_apart() -> None:
    foreign = ForeignStore()
    site = Site(OUTSIDE, store=foreign, freshness=0, on_store_error="deny")
    gone, other = await site.signed_in(), await site.signed_in(user="bob", sid="s2")
    thief = gone.copy()
    foreign.trouble = "raise"
    await gone.post("/logout")
    assert (await other.get("/")).status == 503
    assert await site.who(thief) == "anonymous"


async def test_a_login_that_has_local_ends_is_not_shown_as_living_during_an_outage() -> None:
    """Not even to a request whose session cookie is all that it brings, and whose tie was pushed out."""
    foreign, seen = ForeignStore(), list[Any]()
    app = RPLogoutMiddleware(an_app(seen=seen), providers=providers(), store=foreign, freshness=0)
    browser = Browser(app)
    await browser.get("/login")
    alone = Browser(app, {"session": SESSION})
    await alone.get("/")
    await browser.post("/logout")
    registry: Any = app._dispatcher.services.registry
    registry._shared.ties.clear()
    registry.store.ended.drop(f"cookie:{alone_digest(registry)}")
    foreign.trouble = "raise"
    await alone.get("/")
    assert [login and login.sub for login in seen] == ["alice", None]


def alone_digest(registry: Any) -> str:
    (status,) = (one.status for one in registry._cache.logins.entries.values() if one.status.by_cookie)
    return str(status.credentials.digests[0])


def test_an_end_that_is_noted_while_an_older_one_is_written_is_still_to_be_written() -> None:
    ends = LocalEnds()
    older, newer = {"v": 1, "until": {"": [1, 1, "back-channel"]}}, {"v": 1, "until": {"": [2, 2, "back-channel"]}}
    ends.note("ended_until:x", older, 100.0, LOGIN)
    ends.note("ended_until:x", newer, 100.0, LOGIN)
    ends.note_written({"ended_until:x": older})
    assert ends.unwritten
    ends.note_written({"ended_until:x": newer})
    assert not ends.unwritten


def test_ends_that_are_over_do_not_pile_up() -> None:
    ends = LocalEnds()
    for number in range(4):
        ends.note(f"ended:{number}", {"by": "logout"}, 100.0 + number, LOGIN)
    ends.note_written({f"ended:{number}": {"by": "logout"} for number in range(2)})
    assert [key for key, _ in ends.to_write(99.0, 1)] == ["ended:2"]
    assert ends.to_write(200.0, 10) == []
    assert len(ends) == 0


async def test_a_call_that_must_not_get_lost_makes_no_second_probe_of_a_store_that_was_down() -> None:
    """While one call asks whether the store is back, the others do without it, whatever else is written meanwhile."""
    now, go_on = [1000.0], anyio.Event()
    guard = Breaker(lambda: now[0])

    async def fails() -> None:
        raise OSError

    async def answers() -> None:
        await go_on.wait()

    with pytest.raises(StoreError):
        await guard.call(fails, StoreBudget(), vital=False)
    now[0] += 2
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: guard.call(answers, StoreBudget(), vital=False))
        await anyio.lowlevel.checkpoint()
        with pytest.raises(StoreError):
            await guard.call(fails, StoreBudget(), vital=True)
        now[0] += 2
        with pytest.raises(StoreError) as caught:
            await guard.call(answers, StoreBudget(), vital=False)
        assert caught.value.code == "breaker"
        go_on.set()


@pytest.mark.parametrize("dead", [True, False])
async def test_an_application_that_raises_for_a_dead_session_does_not_keep_it(dead: bool) -> None:
    """Its server answers past the middleware, so that the browser would bring the dead cookie for ever."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/raises":
            raise ZeroDivisionError
        await an_app()(scope, receive, send)

    inner, raised = RPLogoutMiddleware(app, providers=providers(), freshness=0), []

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await inner(scope, receive, send)
        except ZeroDivisionError as error:
            raised.append(error)

    browser = Browser(server)
    await browser.get("/login")
    alone = browser.copy()
    if dead:
        await browser.post("/logout")
    answer = await call(server, http_scope("/raises", headers={"cookie": f"session={alone.cookies['session']}"}))
    assert len(raised) == 1
    assert [message.get("status") for message in answer.messages] == ([500, None] if dead else [])
    if dead:
        assert answer.expired() == {"session"}


# How often the store is asked


async def test_the_end_of_one_login_asks_for_no_other_anew() -> None:
    foreign = ForeignStore()
    site = Site(OUTSIDE, store=foreign, freshness=3600)
    alice, bob = await site.signed_in(), await site.signed_in(user="bob", sid="s2")
    assert [await site.who(one) for one in (alice, bob)] == ["alice", "bob"]
    await bob.post("/logout")
    foreign.calls.clear()
    assert await site.who(alice) == "alice"
    assert foreign.calls == {}


@in_virtual_time
async def test_what_ties_a_session_cookie_to_a_login_is_renewed_with_it() -> None:
    """And so is the note that somebody signed in with this sid, without which a provider's frame ends nothing."""
    site = Site(OUTSIDE, store=Batches(), freshness=0, session_lifetime=100, frontchannel_path="/frontchannel")
    browser = await site.signed_in()
    await site.who(browser)
    site.store.written.clear()
    await anyio.sleep(50)
    assert await site.who(Browser(site.app, {"session": browser.cookies["session"]})) == "alice"
    assert site.store.written == []  # a session cookie alone may be a copy, and prolongs nothing
    await site.who(browser)
    assert [sorted(key.partition(":")[0] for key in keys) for keys, _ in site.store.written] == [
        ["cookie", "known_sid", "login"]
    ]


@pytest.mark.parametrize(
    ("path", "sid", "count"), [("/frontchannel", "s1", 1), ("/frontchannel", "", 0), (None, "s1", 0)]
)
async def test_a_sid_is_noted_where_a_frame_may_ask_for_it(path: str | None, sid: str, count: int) -> None:
    site = Site(OUTSIDE, store=ForeignStore(), frontchannel_path=path)
    await site.signed_in(sid=sid)
    assert len(site.store.names("known_sid:")) == count


async def test_session_cookies_whose_login_is_known_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_rp_logout.logins.registry.TIES", 3)
    site = Site(OUTSIDE, store=ForeignStore(), freshness=0)
    browsers = [await site.signed_in(sid=f"s{number}") for number in range(5)]
    assert len(registry_of(site)._shared.ties) == 3
    assert {await site.who(Browser(site.app, {"session": one.cookies["session"]})) for one in browsers} == {"alice"}


async def test_what_a_dropped_answer_needs_is_written_along_with_the_end() -> None:
    batches = Batches()
    site = Site(OUTSIDE, store=batches, freshness=0)
    browser = await site.signed_in()
    batches.written.clear()
    assert destination(await browser.post("/logout", **CLICK))[0] == "a.example"
    kinds = [sorted(key.partition(":")[0] for key in keys) for keys, _ in batches.written]
    assert sorted(kinds) == [["cookie", "ended", "last_end"], ["deferred", "login"]]


async def test_the_session_cookie_of_a_login_in_use_is_not_pushed_out() -> None:
    """What ties it to its login counts as used when it is read, as the login does."""
    memory = MemoryStore(3)
    for name in "abc":
        await memory.put(f"cookie:{name}", {"login": [name, 1, 1, "", ""]}, ttl=10)
    assert await memory.get("cookie:a") is not None
    await memory.put("cookie:d", {"login": ["d", 1, 1, "", ""]}, ttl=10)
    assert [name for name in "abcd" if await memory.get(f"cookie:{name}") is None] == ["b"]


async def test_a_dead_bearer_token_beside_a_living_session_stops_no_logout() -> None:
    site = Site(INSIDE, freshness=0, guard=True, session_cookie=("session", "access_token"))
    gone, alice = await site.signed_in(), await site.signed_in(sid="s2")
    gone.cookies["access_token"] = "header.payload.signature"
    await gone.post("/logout")
    host, query = destination(await alice.post("/logout", authorization="Bearer header.payload.signature"))
    assert (host, query["id_token_hint"]) == ("a.example", id_token(sid="s2", pad=""))


# What is remembered


@pytest.mark.parametrize(
    ("status", "sets", "declared", "brings", "known"),
    [
        (303, SESSION, True, {}, True),
        (200, SESSION, True, {}, True),
        (400, SESSION, True, {}, False),
        (500, SESSION, False, {}, False),
        (303, None, True, {}, False),
        (303, None, True, {"session": SESSION}, True),
        (303, "", True, {"session": SESSION}, False),
        (303, None, False, {}, True),
    ],
)
async def test_a_login_is_remembered_with_a_session_and_by_no_error(
    status: int, sets: str | None, declared: bool, brings: dict[str, str], known: bool
) -> None:
    """Where the session cookie's name was not declared, its absence tells nothing."""
    options: dict[str, Any] = {"session_cookie": ("session",)} if declared else {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        remember_login(scope, id_token=id_token(), provider="a")
        answer = PlainTextResponse("", status)
        if sets:
            answer.set_cookie("session", sets)
        elif sets is not None:
            answer.delete_cookie("session")
        await answer(scope, receive, send)

    store = MemoryStore()
    browser = Browser(RPLogoutMiddleware(app, providers=providers(), store=store, **options), brings)
    await browser.get("/login")
    assert ("rp_login" in browser.cookies, "login" in store.entries) == (known, known)


async def test_a_session_around_us_is_a_session_whatever_the_answer_sets() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"]["user"] = "alice"
        remember_login(scope, id_token=id_token(), provider="a")
        await PlainTextResponse("")(scope, receive, send)

    store = MemoryStore()
    app = RPLogoutMiddleware(app, providers=providers(), store=store, session_cookie=("session",))
    await call(app, {**http_scope("/login"), "session": {}})
    assert "login" in store.entries


async def test_a_login_is_remembered_beside_values_that_are_no_json() -> None:
    """A session on the server may hold anything, itself too."""
    session: dict[str, Any] = {"set": {1, 2}}
    session["itself"] = session

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        remember_login(scope, id_token=id_token(), provider="a")
        await PlainTextResponse("")(scope, receive, send)

    answer = await call(RPLogoutMiddleware(app, providers=providers()), {**http_scope("/login"), "session": session})
    assert answer.status == 200
    assert "_rp_login" in session


# A logout that waits for a page


async def test_a_logout_by_fetch_that_names_a_provider_goes_there_with_the_next_page() -> None:
    app = RPLogoutMiddleware(an_app(marker="b"), providers=providers())
    browser = Browser(app, {"session": SESSION})
    assert (await browser.post("/logout", **FETCH)).header("location") == "/bye"
    assert destination(await browser.get("/", **CLICK))[0] == "b.example"
    browser = Browser(app)
    await browser.get("/login")
    assert (await browser.post("/logout", **FETCH)).header("location") == "/bye"
    host, query = destination(await browser.get("/", **CLICK))
    assert (host, "id_token_hint" in query) == ("b.example", False)


async def test_a_logout_by_fetch_without_an_endpoint_leaves_the_next_page_alone() -> None:
    """Once: the browser is not asked again at the page after that."""
    nowhere = StaticProvider("https://a.example/logout", name="a")
    nowhere.get_end_session_url = lambda **parts: None  # type: ignore[method-assign, assignment]
    browser = Browser(RPLogoutMiddleware(an_app(), providers=[nowhere]), {"session": SESSION})
    await browser.post("/logout", **FETCH)
    assert set(browser.cookies) == {"rp_later"}
    answer = await browser.get("/", **CLICK)
    assert (answer.status, answer.body) == (200, b"nobody")
    assert browser.cookies == {}


async def test_a_second_click_whose_session_is_gone_comes_back_to_the_page_of_the_first() -> None:
    """With a callback path: to where the application led, and not to the logout itself."""
    app = RPLogoutMiddleware(an_app(), providers=providers()[:1], callback_path="/back", login_source=known)
    browser = Browser(app, {"session": SESSION})
    await browser.post("/logout", **CLICK)
    assert set(browser.cookies) == {"rp_later", "rp_return"}
    _, query = destination(await browser.post("/logout", **CLICK))
    assert (await browser.get(f"/back?state={query['state']}")).header("location") == "/bye"


def known(connection: Any) -> Login | None:
    return Login("a", id_token=id_token()) if "session" in connection.cookies else None


@pytest.mark.parametrize("login", [Login("b"), Login(iss="https://b.example", sub="alice")])
async def test_the_second_click_of_a_user_whom_only_the_application_knows_goes_to_the_same_provider(
    login: Login,
) -> None:
    """By the provider's name, or by its issuer, although the application knows nobody any more."""
    known = [login]
    app = RPLogoutMiddleware(an_app(), providers=providers(), login_source=lambda connection: next(iter(known), None))
    browser = Browser(app, {"session": SESSION})
    again = browser.copy()
    assert destination(await browser.post("/logout"))[0] == "b.example"
    known.clear()
    assert destination(await again.post("/logout"))[0] == "b.example"


async def test_a_second_click_by_fetch_gets_the_address_as_json_where_the_first_one_did() -> None:
    site = Site(OUTSIDE, for_fetch="json", guard=True)
    browser = await site.signed_in()
    again = browser.copy()
    first, second = await browser.post("/logout", **FETCH), await again.post("/logout", **FETCH)
    assert [json.loads(answer.body)["logout_url"].partition("?")[0] for answer in (first, second)] == [
        "https://a.example/logout"
    ] * 2


async def test_after_a_providers_frame_a_click_on_logout_stays_here() -> None:
    """The provider has ended its own session already, and told everybody."""
    site = Site(
        OUTSIDE, freshness=0, frontchannel_path="/frontchannel", frontchannel_session_required=False, guard=True
    )
    browser = await site.signed_in()
    before = browser.copy()
    frame = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"}
    assert "session" in (await browser.get("/frontchannel", **frame)).expired()
    assert (await before.post("/logout")).status == 401


async def test_a_frame_about_a_session_that_nobody_has_is_told_to_nobody() -> None:
    told: list[Any] = []
    site = Site(OUTSIDE, frontchannel_path="/frontchannel", on_logout=told.append)
    await site.signed_in()
    for sid in ("invented", "s1"):
        await site.browser().get(f"/frontchannel?iss=https://a.example&sid={sid}")
    assert [(event.provider, event.iss, event.sid) for event in told] == [("a", "https://a.example", "s1")]


async def test_a_logout_by_nobody_known_is_a_small_record_however_long_its_path_is() -> None:
    store, kept = ForeignStore(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer = RedirectResponse(scope["path"], 303, {"x-rp-logout": "1"})
        await answer(scope, receive, send)

    wrapped = RPLogoutMiddleware(app, providers=providers()[:1], store=store, callback_path="/back")
    for path in ("/out", "/" + "x" * 1000):
        answer = await Browser(wrapped, {"session": SESSION + path[:3]}).post(path, **CLICK)
        assert destination(answer)[0] == "a.example"
        kept = [await store.inner.get(name) for name in store.names("cookie:")]
    assert len(kept) == 2
    assert all(len(json.dumps(record)) < 300 for record in kept)


# Which provider


@pytest.mark.parametrize("issuer", ["https://a.example", "https://b.example"])
async def test_tokens_are_revoked_at_their_issuer_only(issuer: str) -> None:
    """The provider that the application has named may have another issuer than the ID Token."""
    revoked: list[str] = []

    class Revoking:
        name = "a"
        revoke: Any = None

        def get_end_session_url(self) -> str:
            return "https://a.example/logout"

        async def revoke_session(self, refresh_token: str) -> None:
            revoked.append(refresh_token)

    provider: Any = Revoking()
    provider.revoke, provider.issuer = provider, issuer
    browser = Browser(RPLogoutMiddleware(an_app(), providers=[provider]))
    await browser.get("/login")
    await browser.post("/logout")
    assert revoked == (["refresh"] if issuer == "https://a.example" else [])


class Slow:
    """A provider that reads its issuer from a document."""

    issuer = None

    def __init__(self, name: str) -> None:
        self.name, self.asked = name, 0

    async def learn_issuer(self) -> None:
        self.asked += 1

    def get_end_session_url(self) -> str:
        return f"https://{self.name}.example/logout"


async def test_a_login_that_names_its_provider_asks_no_other_one_for_its_issuer() -> None:
    slow = [Slow("a"), Slow("b")]
    browser = Browser(RPLogoutMiddleware(an_app(), providers=slow))
    await browser.get("/login")
    assert destination(await browser.post("/logout"))[0] == "a.example"
    assert [one.asked for one in slow] == [1, 0]


# Warnings, once each


@pytest.mark.parametrize(
    ("audience", "warned"),
    [
        ("rp-a", False),
        (["rp-a"], False),
        (["api", "rp-a"], False),
        ("rp-b", True),
        (["api", "rp-b"], True),
        ("rp-abc", True),
    ],
)
async def test_an_id_token_for_another_client_is_warned_of(audience: Any, warned: bool, log: Any) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        remember_login(scope, id_token=id_token(aud=audience), provider="a")
        await PlainTextResponse("")(scope, receive, send)

    wrapped = RPLogoutMiddleware(app, providers=providers())
    for _ in range(2):
        await call(wrapped, http_scope("/login"))
    assert ["was issued to" in line for line in log()] == [True] * warned


@pytest.mark.parametrize(("age", "warned"), [(0, True), (90, True), (110, False), (-10, False)])
@in_virtual_time
async def test_a_lost_login_is_warned_of_while_it_could_live(age: float, warned: bool, log: Any) -> None:
    site = Site(OUTSIDE, store=ForeignStore(), freshness=0, session_lifetime=100)
    browser = await site.signed_in()
    site.store.inner.entries.clear()
    let_time_pass(age)
    await site.who(browser)
    assert len(log()) == warned


async def test_a_session_cookie_of_two_logins_is_warned_of(log: Any) -> None:
    """Neither a renewal is two, nor a second login in a browser that has kept its session."""
    users = iter(["alice", "alice", "bob", "bob"])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        remember_login(scope, id_token=id_token(next(users)), provider="a")
        answer = PlainTextResponse("")
        answer.set_cookie("session", SESSION)
        await answer(scope, receive, send)

    browser = Browser(RPLogoutMiddleware(app, providers=providers()))
    await browser.get("/login")
    del browser.cookies["session"]
    await browser.get("/login")
    await browser.get("/login")
    assert log() == []
    await Browser(browser.app).get("/login")
    (line,) = log()
    assert line.startswith("a session cookie has the same value in two logins")
    assert SESSION not in line
