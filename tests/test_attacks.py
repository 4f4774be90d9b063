"""What somebody may try who has copied a cookie, has an account, or neither: nothing dead wakes, nobody else ends."""

from __future__ import annotations

import base64
import copy
import json
import secrets
import time
from collections import OrderedDict
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from asgi_rp_logout import Login, MemoryStore, RPLogoutMiddleware, remember_login, store
from asgi_rp_logout.logins import local_ends
from asgi_rp_logout.logins.guarded_store import StoreBudget
from asgi_rp_logout.logins.registry import EndedSessions
from asgi_rp_logout.protocol.cookie_values import secret_digests
from tests.asgi import Answer, call, http_scope
from tests.places import INSIDE, OUTSIDE, Browser, ForeignStore, Site, destination, in_both_places, providers
from tests.test_registry import registry_of
from tests.test_strangers import end_subject, invented, send_cookies
from tests.tokens import id_token
from tests.virtual_time import in_virtual_time

STORES = pytest.mark.parametrize("store", [MemoryStore, ForeignStore])
NAVIGATION = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document", "sec_fetch_site": "same-origin"}


class Opaque:
    """An application that keeps its sessions on the server and ends none of them itself, with the middleware outside.

    Its paths: `/login`, `/logout`, `/` says who is signed in, `/same` sets the same cookie again, `/other` another one,
    and `/refresh` remembers the user's new tokens; each of the last three waits for `go_on` where it is `slow`.
    """

    def __init__(self, beside: Opaque | None = None, **options: Any) -> None:
        self.kept: dict[str, str] = beside.kept if beside else {}
        self.arrived, self.go_on = anyio.Event(), anyio.Event()
        self.app = RPLogoutMiddleware(self.answer, **{"providers": providers(), "freshness": 0, **options})

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope)
        value = request.cookies.get("session") or request.headers.get("authorization", "").partition(" ")[2]
        user = self.kept.get(value, "nobody")
        answer: Response = PlainTextResponse(user)
        path, query = scope["path"], request.query_params
        if path == "/login":
            user = query["user"]
            self.set(answer, query.get("value") or secrets.token_hex(16), user)
            if "sid" in query:
                remember_login(scope, id_token=id_token(user, query["sid"]), provider="a")
        elif path == "/logout":
            answer = RedirectResponse("/bye", 303)
        elif path != "/" and user != "nobody":
            if "slow" in query:
                self.arrived.set()
                await self.go_on.wait()
            if "refresh" in query:
                remember_login(scope, id_token=id_token(user, f"s-{user}", renewed=True), provider="a")
            if path in ("/same", "/other"):
                self.set(answer, value if path == "/same" else secrets.token_hex(16), user)
        await answer(scope, receive, send)

    def set(self, answer: Response, value: str, user: str) -> None:
        self.kept[value] = user
        answer.set_cookie("session", value)

    async def signed_in(self, user: str, **query: str) -> Browser:
        browser = Browser(self.app)
        query = {"sid": f"s-{user}", **query}
        await browser.get(f"/login?user={user}&" + "&".join(f"{name}={one}" for name, one in query.items() if one))
        return browser

    async def who(self, **cookies: str) -> str:
        return (await Browser(self.app, cookies).get("/")).body.decode()

    async def end(self, user: str) -> None:
        """End all logins of a user, as a logout token does."""
        registry: Any = self.app._dispatcher.services.registry
        soon = time.time() + 1
        ended = EndedSessions("https://a.example", None, user, soon, soon, "back-channel")
        await registry.end_sessions(ended, StoreBudget())

    async def while_it_waits(self, thief: Browser, path: str, victim: Browser) -> None:
        """Log the victim out while a request of the thief's is answered."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(thief.get, path)
            await self.arrived.wait()
            await victim.post("/logout")
            self.go_on.set()


async def user_of(site: Site, *values: str) -> str:
    answer = await send_cookies(site, "; ".join(f"session={value}" for value in values))
    return str(json.loads(answer.body)["user"])


def hinted(answer: Answer) -> bytes:
    """Give the claims of the ID Token that a browser is sent away with."""
    token = destination(answer)[1].get("id_token_hint", "..")
    return base64.urlsafe_b64decode(token.split(".")[1] + "==")


# A dead session cookie in company


@in_both_places
@pytest.mark.parametrize("others", [1, 15, 16, 30])
async def test_a_dead_cookie_among_invented_ones_is_dead(place: str, others: int) -> None:
    """Inside too, where the session was read from one of them before this middleware saw any."""
    site = Site(place, remembers=False, providers=providers()[:1], freshness=0)
    browser = await site.signed_in()
    dead = browser.cookies["session"]
    assert await user_of(site, dead) == "alice"
    await browser.post("/logout")
    invented_ones = [secrets.token_hex(10) for _ in range(others)]
    assert await user_of(site, *invented_ones, dead) == "anonymous"
    assert await user_of(site, dead, *invented_ones) == "anonymous"


async def test_inside_a_slow_request_with_an_invented_cookie_beside_a_dead_one_signs_nobody_in() -> None:
    site = Site(INSIDE, remembers=False, providers=providers()[:1], freshness=0)
    browser = await site.signed_in()
    own = browser.cookies["session"]
    answers: list[Answer] = []

    async def slow() -> None:
        answers.append(await send_cookies(site, f"session={secrets.token_hex(10)}; session={own}", "/slow"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(slow)
        await site.arrived.wait()
        await browser.post("/logout")
        site.go_on.set()
    assert answers[0].all("set-cookie") == []


@STORES
@pytest.mark.parametrize("remembered", [True, False])
@pytest.mark.parametrize("path", ["/same", "/other"])
async def test_a_companion_of_ones_own_gets_no_slow_answer_past_a_logout(
    store: Any, remembered: bool, path: str
) -> None:
    """The login beside a stolen cookie lives; the answer must not set a cookie for the one that died."""
    site = Opaque(store=store())
    victim, thief = await site.signed_in("alice", sid="s" if remembered else ""), await site.signed_in("mallory")
    stolen = victim.cookies["session"]
    both = Browser(site.app, {"session": stolen, "rp_login": thief.cookies["rp_login"]})
    await site.while_it_waits(both, f"{path}?slow", victim)
    assert await site.who(session=stolen) == "nobody"
    assert await site.who(**both.cookies) == "nobody"
    assert await site.who(session=both.cookies["session"]) == "nobody"


async def test_a_bearer_token_is_not_exchanged_for_a_cookie_once_it_is_dead() -> None:
    site = Opaque()
    victim = await site.signed_in("alice", sid="")
    thief = Browser(site.app)
    async with anyio.create_task_group() as tasks:
        header = f"Bearer {victim.cookies['session']}"
        tasks.start_soon(lambda: thief.get("/other?slow", authorization=header))
        await site.arrived.wait()
        await victim.post("/logout")
        site.go_on.set()
    assert await site.who(**thief.cookies) == "nobody"


@pytest.mark.parametrize(
    "headers",
    [
        ["Bearer {}", "Bearer another-token"],
        ["Bearer another-token", "Bearer {}"],
        ["Bearer {}", "Basic eDp5"],
        ["Bearer\t{}"],
        ["bEaReR \t {}"],
    ],
)
async def test_a_dead_bearer_token_is_dead_in_every_company_and_spelling(headers: list[str]) -> None:
    """Some frameworks read the first header of a name and some the last; some split at any white space."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        said = " ".join(Request(scope).headers.getlist("authorization"))
        answer: Response = PlainTextResponse(said or "nobody")
        if scope["path"] == "/login":
            answer.set_cookie("session", "header.payload.signature")
        elif scope["path"] == "/logout":
            answer = RedirectResponse("/bye", 303)
        await answer(scope, receive, send)

    browser = Browser(RPLogoutMiddleware(app, providers=providers()[:1], freshness=60, store=ForeignStore()))
    await browser.get("/login")
    await browser.post("/logout")
    other = http_scope("/", headers={"authorization": "Bearer another-token"})
    assert (await call(browser.app, other)).body == b"Bearer another-token"
    pairs = [("authorization", one.format("header.payload.signature")) for one in headers]
    assert b"signature" not in (await call(browser.app, http_scope("/", headers=pairs))).body


@pytest.mark.parametrize("carrier", ["cookie", "authorization"])
@pytest.mark.parametrize("warm", [False, True])
async def test_inside_a_dead_token_is_dead_beside_a_login_of_ones_own(carrier: str, warm: bool) -> None:
    """A handle in the session says who has come, and nothing of what else was brought."""

    async def login(request: Request) -> Response:
        request.session["user"] = user = request.query_params["user"]
        remember_login(request, id_token=id_token(user, f"s-{user}"), provider="a")
        answer = RedirectResponse("/", 303)
        answer.set_cookie("jwt", f"header.{user}.signature")
        return answer

    async def home(request: Request) -> Response:
        said = request.cookies.get("jwt", "") + request.headers.get("authorization", "")
        return PlainTextResponse(f"{request.session.get('user')} {said}")

    async def logout(request: Request) -> Response:
        return RedirectResponse("/bye", 303)

    ours = Middleware(RPLogoutMiddleware, providers=providers(), session_cookie=("session", "jwt"), freshness=60)
    app = Starlette(
        routes=[Route("/", home), Route("/login", login), Route("/logout", logout, methods=["POST"])],
        middleware=[Middleware(SessionMiddleware, secret_key="secret"), ours],
    )
    victim, thief = Browser(app), Browser(app)
    await victim.get("/login?user=alice")
    await thief.get("/login?user=bob")
    assert (await thief.get("/")).body == b"bob header.bob.signature"
    token, beside = "header.alice.signature", ""
    thief.cookies.pop("jwt")
    if carrier == "cookie":
        thief.cookies["jwt"] = token
    else:
        beside = f"Bearer {token}"
    if warm:
        assert token in (await thief.get("/", authorization=beside)).body.decode()
    await victim.post("/logout")
    assert (await thief.get("/", authorization=beside)).body == b"bob "


def test_an_ecdsa_signature_has_one_digest_in_both_of_its_valid_forms() -> None:
    """Of (r, s) anybody can make (r, n - s), which is as valid."""
    n = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    r, s = secrets.randbelow(n), secrets.randbelow(n)

    def token(*numbers: int) -> str:
        signature = b"".join(number.to_bytes(32, "big") for number in numbers)
        parts = (b'{"alg":"ES256"}', b'{"sub":"alice"}', signature)
        return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)

    assert secret_digests(token(r, s)) == secret_digests(token(r, n - s))
    assert secret_digests(token(r, s)) != secret_digests(token(r + 1, s))


# What a session holds


async def test_inside_a_second_login_of_the_same_user_leaves_nothing_to_a_copy() -> None:
    """The user's name was there before the second login, and still is no anonymous visitor's."""
    site = Site(INSIDE, freshness=0)
    browser = await site.signed_in()
    await site.sign_in(browser, sid="s2")
    thief = browser.copy()
    assert await site.who(thief.copy()) == "alice"
    await browser.post("/logout")
    assert await site.who(thief) == "anonymous"


class Tracking:
    """A middleware that keeps an id in every session, and signs in whom a proxy names."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["session"].setdefault("id", secrets.token_hex(8))
            if "x-user" in Request(scope).headers:
                scope["session"]["user"] = "alice"
        await self.app(scope, receive, send)


@pytest.mark.parametrize(("by", "others_first"), [("password", False), ("password", True), ("proxy", True)])
async def test_inside_what_was_noted_before_the_login_is_not_everybodys(by: str, others_first: bool) -> None:
    """By a password in an earlier request, or by a middleware. What that puts into every session stays."""

    async def password(request: Request) -> Response:
        request.session["user"] = "alice"
        return PlainTextResponse("")

    async def link(request: Request) -> Response:
        remember_login(request, id_token=id_token(), provider="a")
        return PlainTextResponse("")

    async def home(request: Request) -> Response:
        return PlainTextResponse(request.session.get("user", "nobody") + str(len(request.session.get("id", ""))))

    async def logout(request: Request) -> Response:
        return RedirectResponse("/", 303)

    paths = (("/password", password), ("/link", link), ("/", home), ("/logout", logout))
    outer = [Middleware(SessionMiddleware, secret_key="s"), Middleware(Tracking)]
    inner = Middleware(RPLogoutMiddleware, providers=providers(), freshness=0, store=ForeignStore())
    app = Starlette(
        routes=[Route(path, one, methods=["GET", "POST"]) for path, one in paths], middleware=[*outer, inner]
    )
    browser = Browser(app)
    if others_first:
        await Browser(app).get("/")
    if by == "password":
        await browser.get("/password")
        await browser.get("/link")
    else:
        await browser.get("/link", x_user="alice")
    thief = browser.copy()
    assert (await thief.copy().get("/")).body == b"alice16"
    await browser.post("/logout")
    assert (await thief.get("/")).body == b"nobody16"


# A stolen cookie and the login that it is tied to


@STORES
@pytest.mark.parametrize("companion", ["", "mallory"])
@pytest.mark.parametrize("path", ["/refresh", "/same", "/other"])
async def test_a_refresh_with_a_stolen_cookie_brings_no_companion_of_its_login(
    store: Any, companion: str, path: str
) -> None:
    """With it the thief would get the ID Token, and a login that outlives the victim's logout."""
    site = Opaque(store=store())
    victim = await site.signed_in("alice")
    thief = Browser(site.app, {"session": victim.cookies["session"]})
    if companion:
        thief.cookies["rp_login"] = (await site.signed_in(companion)).cookies["rp_login"]
    mine = thief.cookies.get("rp_login")
    assert (await thief.get(f"{path}?refresh")).body == b"alice"
    assert thief.cookies.get("rp_login") == mine
    assert await site.who(**victim.cookies) == "alice"
    copied = dict(thief.cookies)
    assert b"alice" not in hinted(await thief.copy().post("/logout"))
    again = await site.signed_in("alice", value="", sid="s2")
    assert await site.who(**again.cookies) == "alice"
    await victim.post("/logout")
    assert await site.who(**copied) == "nobody"


@STORES
@pytest.mark.parametrize("companion", [True, False])
@pytest.mark.parametrize(
    ("path", "remembered"), [("/refresh", True), ("/other", True), ("/refresh", False), ("/same", False)]
)
async def test_a_slow_refresh_signs_nobody_in_past_a_logout(
    store: Any, companion: bool, path: str, remembered: bool
) -> None:
    site = Opaque(store=store())
    victim, mallory = (
        await site.signed_in("alice", sid="s-alice" if remembered else ""),
        await site.signed_in("mallory"),
    )
    own = {"rp_login": mallory.cookies["rp_login"]} if companion else {}
    thief = Browser(site.app, {"session": victim.cookies["session"], **own})
    await site.while_it_waits(thief, f"{path}?slow&refresh", victim)
    assert await site.who(**thief.cookies) == "nobody"
    assert await site.who(session=thief.cookies.get("session", "")) == "nobody"


@in_both_places
async def test_the_refresh_of_a_login_that_ended_meanwhile_keeps_no_tokens(place: str) -> None:
    foreign = ForeignStore()
    site = Site(place, freshness=0, store=foreign)
    browser = await site.signed_in()
    other_tab = browser.copy()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other_tab.get, "/both?user=alice&sid=s1&provider=a")
        await site.arrived.wait()
        await browser.post("/logout")
        site.go_on.set()
    assert await site.who(other_tab) == "anonymous"
    kept = [until for key, (until, _) in foreign.inner.entries["login"].items() if key.startswith("login:")]
    assert all(until - time.monotonic() <= 120 for until in kept)


@STORES
@pytest.mark.parametrize("path", ["/refresh?refresh", "/same", "/other"])
async def test_a_stolen_cookie_is_never_tied_to_a_login_of_the_thiefs(store: Any, path: str) -> None:
    """Beside the thief's own cookie and companion; the provider's logout of the victim still ends it."""
    site = Opaque(store=store())
    victim, thief = await site.signed_in("alice"), await site.signed_in("mallory")
    stolen = victim.cookies["session"]
    header = f"session={stolen}; session={thief.cookies['session']}; rp_login={thief.cookies['rp_login']}"
    assert (await call(site.app, http_scope(path, headers={"cookie": header}))).body == b"mallory"
    header = f"session={stolen}; rp_login={thief.cookies['rp_login']}"
    if path == "/same":
        assert (await call(site.app, http_scope(path, headers={"cookie": header}))).body == b"alice"
    await site.end("alice")
    assert await site.who(session=stolen) == "nobody"
    assert await site.who(**thief.cookies) == "mallory"


async def test_a_tie_at_one_worker_overwrites_no_tombstone_of_another() -> None:
    """The thief has two logins, so that every answer has something new to tie."""
    foreign = ForeignStore()
    here = Opaque(store=foreign)
    there = Opaque(here, store=copy.copy(foreign))
    victim = await here.signed_in("alice", sid="")
    stolen = victim.cookies["session"]
    companions = [(await there.signed_in(f"mallory{n}")).cookies["rp_login"] for n in range(3)]
    foreign.delay = 0.002
    logged_out = anyio.Event()

    async def hammer() -> None:
        turn = 0
        while not logged_out.is_set() or turn < 30:
            turn += 1
            header = f"session={stolen}; rp_login={companions[turn % 3]}"
            await call(there.app, http_scope("/same", headers={"cookie": header}))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hammer)
        await anyio.sleep(0.02)
        await victim.post("/logout")
        logged_out.set()
    assert [await site.who(session=stolen) for site in (here, there)] == ["nobody", "nobody"]


@pytest.mark.parametrize("thiefs", [True, False])
async def test_a_cookie_that_is_forgotten_by_a_thief_ends_with_its_login(thiefs: bool) -> None:
    """A session cookie alone, or beside a companion of one's own, cuts no other login off from its provider."""
    site = Site(OUTSIDE, freshness=0)
    browser, other = await site.signed_in(), await site.signed_in(user="mallory", sid="s2")
    stolen = {"session": browser.cookies["session"]}
    await Browser(site.app, {**stolen, **({"rp_login": other.cookies["rp_login"]} if thiefs else {})}).get("/forget")
    await end_subject(site, at=time.time() + 1)
    assert await site.who(Browser(site.app, stolen)) == "anonymous"


async def test_nor_does_one_with_a_cookie_of_the_thiefs_between_two_of_the_victims() -> None:
    """The application reads the last one, which is not the last one that is new."""
    site = Opaque()
    victim, thief = await site.signed_in("alice"), await site.signed_in("mallory")
    stolen, own = victim.cookies["session"], thief.cookies["session"]
    header = f"session={stolen}; session={own}; session={stolen}"
    answer = await call(site.app, http_scope("/other?refresh", headers={"cookie": header}))
    assert answer.body == b"alice"
    assert "rp_login" not in answer.cookies()
    await victim.post("/logout")
    assert await site.who(session=answer.cookies()["session"]) == "nobody"


# Tombstones


@STORES
@pytest.mark.parametrize("first", [True, False])
async def test_a_stranger_with_a_dead_cookie_leaves_its_tombstone_as_it_is(store: Any, first: bool) -> None:
    """Revoked again without a known login, it would be one of the records that strangers can push out."""
    site = Site(OUTSIDE, store=store(), freshness=0)
    browser = await site.signed_in()
    dead, other = browser.cookies["session"], secrets.token_hex(10)
    await browser.post("/logout")
    shelves = (site.store if isinstance(site.store, MemoryStore) else site.store.inner).entries
    before = dict(shelves["cookie:login"])
    values = (dead, other) if first else (other, dead)
    await send_cookies(site, "; ".join(f"session={value}" for value in values), "/logout", "POST")
    assert dict(shelves["cookie:login"]) == before


@pytest.mark.parametrize("value", ["~{}", "~~{}", "~~~~{}", "~cookie:{}"])
@pytest.mark.parametrize("remembers", [True, False])
async def test_nobody_touches_a_tombstone_by_a_reference_to_it(value: str, remembers: bool) -> None:
    """It gets a redirect to the provider, as anybody does; neither who, nor how long, nor whose changes."""
    foreign = ForeignStore()
    site = Site(OUTSIDE, store=foreign, freshness=0, remembers=remembers, providers=providers()[:1])
    browser = await site.signed_in()
    dead = browser.cookies["session"]
    await browser.post("/logout")
    (key,) = foreign.names("cookie:")
    (name,) = (name for name, shelf in foreign.inner.entries.items() if key in shelf)
    until, before = foreign.inner.entries[name][key]
    for path, site_of in (("/", "same-origin"), ("/?code=1&state=2", "same-origin"), ("/", "cross-site")):
        thief = Browser(site.app, {"rp_later": value.format(key.removeprefix("cookie:"))})
        answer = await thief.get(path, **{**NAVIGATION, "sec_fetch_site": site_of})
        assert "id_token_hint" not in (answer.header("location") or "")
    now, after = foreign.inner.entries[name][key]
    assert after.items() >= before.items()
    assert abs(now - until) < 2
    assert await user_of(site, dead) == "anonymous"


async def test_invented_cookies_beside_a_login_have_no_share_in_the_room_of_logins() -> None:
    """At a logout, at a second login, and at logouts that only `login_source` vouches for."""
    memory = MemoryStore()
    site = Site(
        OUTSIDE, store=memory, freshness=0, login_source=lambda one: Login("a") if "x-key" in one.headers else None
    )
    browser = await site.signed_in()
    own = f"session={browser.cookies['session']}; rp_login={browser.cookies['rp_login']}"
    await send_cookies(site, f"{invented(15)}; {own}", "/login?user=bob&sid=s2")
    browser = await site.signed_in()
    own = f"session={browser.cookies['session']}; rp_login={browser.cookies['rp_login']}"
    await send_cookies(site, f"{invented(15)}; {own}", "/logout", "POST")
    for _ in range(10):
        await send_cookies(site, invented(16), "/logout", "POST", **{"x-key": "1"})
    assert len(memory.entries["cookie:login"]) <= 12
    assert await user_of(site, browser.cookies["session"]) == "anonymous"


async def test_a_tied_cookie_of_ones_own_pushes_out_no_end_that_waits_for_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(local_ends.LIMITS, "login", 60)
    foreign = ForeignStore()
    site = Site(OUTSIDE, store=foreign, freshness=0)
    browser, mallory = await site.signed_in(), await site.signed_in(user="mallory", sid="s2")
    copied, own = dict(browser.cookies), mallory.cookies["session"]
    foreign.trouble = "raise"
    await browser.post("/logout")
    handle = "x" * 39 + ".1700000000.1700000000000.."
    for number in range(60):
        cookies = f"{invented(14)}; session={own}; rp_login={number:04}{handle}"
        await send_cookies(site, cookies, "/logout", "POST")
    foreign.trouble = None
    registry_of(site).store.breaker.close()
    for _ in range(8):
        await send_cookies(site, invented(1))
    elsewhere = Site(OUTSIDE, beside=site)
    assert await elsewhere.who(Browser(elsewhere.app, copied)) == "anonymous"
    assert await user_of(elsewhere, copied["session"]) == "anonymous"


@pytest.mark.parametrize(
    "planted", ["__Host-session={}; session=planted-planted-planted", "session={}; session=x", "auth=planted-too"]
)
async def test_what_is_planted_behind_a_session_cookie_does_not_keep_it_from_being_revoked(planted: str) -> None:
    """At a worker that has not issued it, which revokes the value that the application most likely reads."""
    site = Site(OUTSIDE, remembers=False, providers=providers()[:1], freshness=0, session_cookie="session")
    own = (await site.signed_in()).cookies["session"]
    registry_of(site)._shared.issued = store.Fingerprints(10)
    header = planted.format(own) if "{}" in planted else f"session={own}; {planted}"
    await send_cookies(site, header, "/logout", "POST")
    assert await user_of(site, own) == "anonymous"


async def test_each_cookie_that_is_declared_is_revoked_at_a_worker_that_has_not_issued_it() -> None:
    names = ("session", "auth")
    site = Site(
        OUTSIDE, store=ForeignStore(), remembers=False, providers=providers()[:1], freshness=0, session_cookie=names
    )
    values = {name: secrets.token_hex(16) for name in names}
    await send_cookies(site, "; ".join(f"{name}={value}" for name, value in values.items()), "/logout", "POST")
    for name, value in values.items():
        await send_cookies(site, f"{name}={value}")
        assert name not in site.seen[-1]


async def test_sixteen_planted_cookies_do_not_keep_a_login_from_ending() -> None:
    site = Site(OUTSIDE, freshness=0)
    browser = await site.signed_in()
    own = browser.cookies["session"]
    await send_cookies(
        site, f"{invented(16)}; session={own}; rp_login={browser.cookies['rp_login']}", "/logout", "POST"
    )
    assert await user_of(site, own) == "anonymous"


async def test_a_cookie_issued_to_a_browser_with_a_dead_one_is_known_as_issued() -> None:
    site = Site(OUTSIDE, remembers=False, freshness=0, providers=providers()[:1])
    browser = await site.signed_in()
    dead = browser.cookies["session"]
    await browser.post("/logout")
    browser.cookies["session"] = dead
    await site.sign_in(browser)
    own = browser.cookies["session"]
    await send_cookies(site, f"session={own}; session={secrets.token_hex(10)}", "/logout", "POST")
    assert await user_of(site, own) == "anonymous"


# Stores that fail, lag and forget


@in_both_places
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("how", ["logout", "token"])
async def test_what_this_process_has_ended_stays_ended_though_the_store_does_not_show_it(
    place: str, alone: bool, how: str
) -> None:
    """A replica that lags behind, a cache that is full, a backup: they show what was there before the end."""
    foreign = ForeignStore()
    site = Site(place, store=foreign, freshness=0)
    browser = await site.signed_in()
    thief = Browser(site.app, {"session": browser.cookies["session"]}) if alone else browser.copy()
    before = {name: OrderedDict(shelf) for name, shelf in foreign.inner.entries.items()}
    if how == "logout":
        await browser.post("/logout")
    else:
        await end_subject(site, at=time.time() + 1)
    foreign.inner.entries = before
    assert await site.who(thief) == "anonymous"


@pytest.mark.parametrize("remembered", [True, False])
async def test_a_value_that_another_worker_has_issued_anew_lives_at_all_of_them(remembered: bool) -> None:
    """Some applications derive a session's id from the user."""
    foreign = ForeignStore()
    here = Opaque(store=foreign)
    there = Opaque(here, store=copy.copy(foreign))
    for turn in range(3):
        for one, other in ((here, there), (there, here)):
            again = await one.signed_in("alice", value="derived-id-of-alice", sid=f"s{turn}" if remembered else "")
            assert [await site.who(**again.cookies) for site in (one, other)] == ["alice", "alice"]
            before = {name: OrderedDict(shelf) for name, shelf in foreign.inner.entries.items()}
            await again.post("/logout")
            before, foreign.inner.entries = foreign.inner.entries, before  # a replica that lags behind
            assert await one.who(session="derived-id-of-alice") == "nobody"
            foreign.inner.entries = before
            assert [await site.who(session="derived-id-of-alice") for site in (one, other)] == ["nobody", "nobody"]


async def test_a_logout_token_that_waited_for_the_store_takes_back_no_later_one() -> None:
    foreign = ForeignStore()
    here = Site(OUTSIDE, store=foreign, freshness=0)
    there = Site(OUTSIDE, beside=here, freshness=0)
    foreign.trouble = "raise"
    with pytest.raises(Exception, match="store"):
        await end_subject(here, at=100, received=1000)
    assert await end_subject(there, at=300, received=1000)
    foreign.trouble = None
    registry_of(here).store.breaker.close()
    await send_cookies(here, invented(1))
    assert not registry_of(here).store.ended.unwritten
    (key,) = foreign.names("ended_until:")
    assert (await foreign.record(key))["until"][""][0] == 300


@in_both_places
async def test_a_dead_cookie_of_ones_own_gets_nobody_past_a_store_that_is_down(place: str) -> None:
    """With "deny": one that this process knows to be dead, and a stolen one of which it knows nothing."""
    options: dict[str, Any] = {"remembers": False, "providers": providers()[:1], "on_store_error": "deny"}
    foreign = ForeignStore()
    here = Site(place, store=foreign, **options)
    there = Site(place, beside=here, **options)
    victim, mallory = await there.signed_in(), await here.signed_in(user="mallory")
    stolen, own = victim.cookies["session"], mallory.cookies["session"]
    await victim.post("/logout")
    await mallory.post("/logout")
    foreign.trouble = "raise"
    for values in ((own, stolen), (stolen, own)):
        answer = await send_cookies(here, "; ".join(f"session={value}" for value in values))
        assert answer.status == 503


@pytest.mark.parametrize("record", [{"login": 5}, {"login": [1]}, {"login": ["k", "x", 1, "", ""]}])
async def test_a_malformed_tie_is_an_error_of_the_store_and_not_of_the_request(record: dict[str, Any]) -> None:
    foreign = ForeignStore()
    site = Site(OUTSIDE, store=foreign, freshness=0)
    browser = await site.signed_in()
    (key,) = foreign.names("cookie:")
    await foreign.inner.put(key, record, ttl=100)
    assert (await browser.get("/")).status == 200
    assert (await browser.post("/logout")).status == 303


@in_virtual_time
async def test_requests_with_the_same_cookies_do_not_wait_for_each_other_in_a_row() -> None:
    """While a store does not answer, each waits for the first one, and then asks by itself: a second all in all."""
    foreign = ForeignStore()
    site = Site(OUTSIDE, store=foreign, freshness=60)
    header = invented(14)  # so many that a time-out does not open the breaker
    foreign.trouble = "hang"
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(send_cookies, site, header)
    assert anyio.current_time() - began < 1.5


@pytest.mark.parametrize("reads", ["the first", "the last", "the only"])
@pytest.mark.parametrize("companion", [True, False])
@pytest.mark.parametrize("how", ["logout", "token"])
async def test_a_cookie_that_changes_does_not_get_away_under_a_login_of_the_thiefs(
    reads: str, companion: bool, how: str
) -> None:
    """The answer that goes on with a stolen session would tie its new cookie to the login beside it."""
    site = Opaque()
    victim, thief = await site.signed_in("alice"), await site.signed_in("mallory")
    stolen, own = victim.cookies["session"], thief.cookies["session"]
    values = {"the first": (stolen, own), "the last": (own, stolen), "the only": (stolen,)}[reads]
    header = "; ".join(f"session={value}" for value in values)
    header += f"; rp_login={thief.cookies['rp_login']}" if companion else ""
    if reads == "the first":
        site.kept[own] = "alice"  # as if the application had read the first
    new = (await call(site.app, http_scope("/other", headers={"cookie": header}))).cookies().get("session", "")
    if how == "logout":
        await victim.post("/logout")
    else:
        await site.end("alice")
    assert await site.who(session=new) == "nobody"


@pytest.mark.parametrize("slow", [True, False])
@pytest.mark.parametrize("remembered", [True, False])
async def test_a_dead_cookie_of_ones_own_gets_no_answer_past_the_end_of_a_stolen_one(
    slow: bool, remembered: bool
) -> None:
    """What is dead is taken out of the request, and its answer is looked at as any other's."""
    site = Opaque()
    victim, thief = await site.signed_in("alice", sid="s" if remembered else ""), await site.signed_in("mallory")
    own, stolen = thief.cookies["session"], victim.cookies["session"]
    await thief.post("/logout")
    answers: list[Answer] = []

    async def ask() -> None:
        path = "/other?slow" if slow else "/other"
        answers.append(await call(site.app, http_scope(path, headers={"cookie": f"session={own}; session={stolen}"})))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        if slow:
            await site.arrived.wait()
            await victim.post("/logout")
            site.go_on.set()
    if not slow and remembered:
        await victim.post("/logout")
    if slow or remembered:
        assert await site.who(session=answers[0].cookies().get("session", "")) == "nobody"


async def test_a_second_login_keeps_the_session_cookie_that_it_does_not_set_again() -> None:
    """Of two that are declared, an application may keep the one and set the other."""
    seen: list[dict[str, str]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope)
        seen.append(dict(request.cookies))
        answer: Response = RedirectResponse("/bye", 303) if scope["path"] == "/logout" else PlainTextResponse("")
        if scope["path"] == "/login":
            remember_login(scope, id_token=id_token(request.query_params["user"]), provider="a")
            answer.set_cookie("auth", secrets.token_hex(16))
            if "session" not in request.cookies:
                answer.set_cookie("session", secrets.token_hex(16))
        await answer(scope, receive, send)

    names = ("session", "auth")
    browser = Browser(RPLogoutMiddleware(app, providers=providers(), freshness=0, session_cookie=names))
    await browser.get("/login?user=alice")
    first = browser.cookies["auth"]
    await browser.get("/login?user=bob")
    await browser.get("/")
    assert set(names) <= seen[-1].keys()
    copies = [{name: browser.cookies[name]} for name in names]
    await browser.post("/logout")
    for cookies in (*copies, {"auth": first}):
        await Browser(browser.app, cookies).get("/")
        assert seen[-1] == {}
