"""After a logout: a copied cookie is worth nothing, and a slow answer signs nobody back in."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_rp_logout import MemoryStore, RPLogoutMiddleware, StaticProvider
from asgi_rp_logout.logins.guarded_store import StoreBudget
from asgi_rp_logout.logins.registry import EndedSessions
from tests.asgi import Answer, call, http_scope
from tests.places import (
    INSIDE,
    OUTSIDE,
    Browser,
    ForeignStore,
    Site,
    destination,
    in_both_places,
    providers,
)
from tests.tokens import id_token
from tests.virtual_time import in_virtual_time, let_time_pass

HINT = id_token(pad="")
STORES = pytest.mark.parametrize("store", [MemoryStore, ForeignStore])


# The copied cookie


@STORES
@in_both_places
async def test_no_copy_of_the_cookies_from_any_moment_works_after_the_logout(place: str, store: Any) -> None:
    """Alone and together, each copy; with the positive control that each of them worked before."""
    site = Site(place, store=store(), freshness=0)
    browser = await site.signed_in()
    copies = [dict(browser.cookies)]
    for _ in range(3):
        await browser.get("/touch")
        copies.append(dict(browser.cookies))
    copies += [{name: value} for copy in copies for name, value in copy.items() if name != "rp_login"]
    for copy in copies:
        assert await site.who(Browser(site.app, copy)) == "alice"
    await browser.post("/logout")
    for copy in copies:
        assert await site.who(Browser(site.app, copy)) == "anonymous"
    together = "; ".join(f"{name}={value}" for copy in copies for name, value in copy.items())
    answer = await call(site.app, http_scope("/", headers={"cookie": together}))
    assert b'"user":"anonymous"' in answer.body


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "quoted": lambda value: f'"{value}"',
    "quoted, one character in octal": lambda value: f'"\\{ord(value[0]):03o}{value[1:]}"',
    "quoted, all in octal": lambda value: '"' + "".join(f"\\{ord(character):03o}" for character in value) + '"',
    "quoted, with a backslash before each": lambda value: '"' + "".join(f"\\{c}" for c in value) + '"',
    "percent-encoded": lambda value: f"%{ord(value[0]):02x}{value[1:]}",
    "percent-encoded whole": lambda value: "".join(f"%{ord(character):02X}" for character in value),
    "percent-encoded inside quotes": lambda value: f'"{quote(value, safe="")[:-1]}%{ord(value[-1]):02x}"',
    "percent-encoded quotes": lambda value: f"%22\\{ord(value[0]):03o}{value[1:]}%22",
    "percent-encoded twice": lambda value: f"%25{ord(value[0]):02x}{value[1:]}",
    "octal that spells percent": lambda value: f'"\\045{ord(value[0]):02x}{value[1:]}"',
    "with spaces around": lambda value: f"  {value}\t ",
    "with a space that is no ASCII": lambda value: f"\xa0{value}\xa0",
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS.keys())
async def test_no_other_spelling_of_a_revoked_cookie_works(spell: Callable[[str], str]) -> None:
    """An application that decodes cookies in any of the usual ways, and shows what it is left with."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append("; ".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"cookie"))
        await PlainTextResponse("", 303 if scope["method"] == "POST" else 200)(scope, receive, send)

    wrapped = RPLogoutMiddleware(app, providers=providers(), store=MemoryStore())
    value = "deadbeefcafe-" + "abcdefghij" * 2
    headers = {"cookie": f"session={value}"}
    for name in ("session", "__Host-session", "__Secure-session"):
        await call(wrapped, http_scope("/", headers={"cookie": f"theme=dark; {name}={spell(value)}; a=b"}))
        assert name in seen[-1]
    await call(wrapped, http_scope("/logout", "POST", headers))
    for name in ("session", "__Host-session", "__Secure-session"):
        await call(wrapped, http_scope("/", headers={"cookie": f"theme=dark; {name}={spell(value)}; a=b"}))
        assert seen[-1] == "theme=dark; a=b"


@in_both_places
async def test_in_several_cookie_headers_a_dead_cookie_is_found_too(place: str) -> None:
    site = Site(place, freshness=0)
    browser = await site.signed_in()
    pairs = [("cookie", f"{name}={value}") for name, value in browser.cookies.items()]
    await browser.post("/logout")
    answer = await call(site.app, http_scope("/", headers=[("cookie", "theme=dark"), *pairs, ("cookie", "a=b")]))
    assert b"anonymous" in answer.body
    if place == OUTSIDE:
        assert site.seen[-1].keys() == {"theme", "rp_login", "a"}


@in_both_places
async def test_an_application_that_never_remembers_logins_gets_its_cookie_revoked_too(place: str) -> None:
    site = Site(place, remembers=False, freshness=0, providers=providers()[:1])
    browser = await site.signed_in()
    copy = dict(browser.cookies)
    assert await site.who(Browser(site.app, copy)) == "alice"
    assert destination(await browser.post("/logout"))[0] == "a.example"
    thief = Browser(site.app, copy)
    if place == OUTSIDE:
        assert await site.who(thief) == "anonymous"
        assert thief.cookies == {}
    await site.sign_in(browser, user="bob")
    assert await site.who(browser) == "bob"


async def test_logouts_with_invented_cookies_push_out_nobodys_tombstone() -> None:
    site = Site(OUTSIDE, store=MemoryStore(max_logins=100), freshness=0)
    browsers = [await site.signed_in(sid=f"s{number}") for number in range(20)]
    copies = [browser.copy() for browser in browsers]
    for browser in browsers[:10]:
        await browser.post("/logout")
    handle = "x" * 43 + ".1700000000.1700000000000.."
    for number in range(500):
        invented = {"session": f"invented-session-{number:016}", "rp_login": f"{number:04}{handle[4:]}"}
        await Browser(site.app, invented).post("/logout")
    alone = [Browser(site.app, {"session": copy.cookies["session"]}) for copy in copies[:10]]
    assert {await site.who(thief) for thief in (*copies[:10], *alone)} == {"anonymous"}
    assert {await site.who(browser) for browser in copies[10:]} == {"alice"}
    assert len(site.store) <= 20 + 20 + 10 + 100


async def test_a_cookie_of_clear_cookies_never_identifies_anybody() -> None:
    shared = {"logged_in": "1", "csrf": "a-token-that-is-long-enough-to-be-an-id"}
    site = Site(OUTSIDE, clear_cookies=tuple(shared), freshness=0)
    alice, bob = await site.signed_in(), await site.signed_in(user="bob", sid="s2")
    for browser in (alice, bob):
        browser.cookies |= shared
    await alice.post("/logout")
    assert alice.cookies == {}
    assert await site.who(bob) == "bob"
    assert site.seen[-1].keys() == {"session", "rp_login", *shared}


async def test_a_session_cookie_too_short_to_be_anybodys_own_is_not_revoked() -> None:
    site = Site(OUTSIDE, session_cookie=("session", "flag"))
    alice, bob = await site.signed_in(), await site.signed_in(user="bob", sid="s2")
    alice.cookies["flag"] = bob.cookies["flag"] = "1"
    await alice.post("/logout")
    await site.who(bob)
    assert site.seen[-1]["flag"] == "1"


async def test_a_thief_with_a_login_of_his_own_cannot_bring_a_revoked_cookie_back() -> None:
    site = Site(OUTSIDE, freshness=0)
    alice, mallory = await site.signed_in(), await site.signed_in(user="mallory", sid="s9")
    copy = dict(alice.cookies)
    await alice.post("/logout")
    assert await site.who(Browser(site.app, {**mallory.cookies, "session": copy["session"]})) == "anonymous"
    assert await site.who(mallory) == "mallory"


# Dead at the start of a request


@STORES
@in_both_places
async def test_a_dead_request_is_anonymous_and_its_cookies_are_expired(place: str, store: Any) -> None:
    site = Site(place, store=store(), freshness=0)
    browser = await site.signed_in()
    thief = browser.copy()
    await browser.post("/logout")
    thief.cookies["theme"] = "dark"
    assert await site.who(thief) == "anonymous"
    assert thief.cookies == {"theme": "dark"}


@in_both_places
async def test_what_the_application_sets_for_the_anonymous_is_kept(place: str) -> None:
    site = Site(place, freshness=0)
    browser = await site.signed_in()
    thief = browser.copy()
    await browser.post("/logout")
    answer = await thief.get("/touch")
    assert answer.body == b"touched"
    assert "session" in answer.cookies()
    before = dict(thief.cookies)
    assert await site.who(thief) == "anonymous"
    assert thief.cookies == before != {}
    await thief.get("/touch")
    assert await site.who(thief) == "anonymous"


async def test_of_two_cookies_of_one_name_only_the_dead_one_is_taken_out() -> None:
    site = Site(OUTSIDE, freshness=0)
    dead, living = await site.signed_in(), await site.signed_in(user="bob", sid="s2")
    old, new = dead.cookies["session"], living.cookies["session"]
    await dead.post("/logout")
    for pair in ((old, new), (new, old)):
        header = "; ".join(f"session={value}" for value in pair)
        answer = await call(site.app, http_scope("/", headers={"cookie": f"a=b; {header}"}))
        assert b'"user":"bob"' in answer.body
        assert site.seen[-1] == {"a": "b", "session": new}
        assert answer.all("set-cookie") == []


@in_both_places
async def test_a_request_that_signs_in_is_no_dead_one(place: str) -> None:
    site = Site(place, freshness=0)
    browser = await site.signed_in()
    stale = browser.copy()
    await browser.post("/logout")
    await site.sign_in(stale, user="bob", sid="s2")
    assert await site.who(stale) == "bob"


# Died while the application was at work


async def slow_request(site: Site, browser: Browser, meanwhile: Callable[[], Any], path: str = "/slow") -> Answer:
    """Send a request whose answer waits until `meanwhile` is done; the answer is not given to the browser."""
    answers = []
    slow = browser.copy()
    async with anyio.create_task_group() as tasks:

        @tasks.start_soon
        async def _() -> None:
            answers.append(await slow.get(path))

        await site.arrived.wait()
        await meanwhile()
        site.go_on.set()
    return answers[0]


@STORES
@in_both_places
async def test_a_slow_answer_sets_no_cookie_after_the_logout_and_deletes_none(place: str, store: Any) -> None:
    site = Site(place, store=store(), freshness=60)
    browser = await site.signed_in()
    answer = await slow_request(site, browser, lambda: browser.post("/logout"))
    assert (answer.status, answer.body, answer.all("set-cookie")) == (200, b"touched", [])
    browser.take(answer)
    assert browser.cookies == {}
    assert await site.who(browser) == "anonymous"


@in_both_places
async def test_the_same_slow_answer_sets_its_cookie_without_a_logout(place: str) -> None:
    """The control of the test above."""
    site = Site(place)
    browser = await site.signed_in()

    async def nothing() -> None: ...

    answer = await slow_request(site, browser, nothing)
    assert "session" in answer.cookies()


@STORES
@in_both_places
async def test_a_slow_answer_does_not_hurt_a_newer_login_of_the_same_browser(place: str, store: Any) -> None:
    site = Site(place, store=store(), freshness=0)
    browser = await site.signed_in()

    async def again() -> None:
        await browser.post("/logout")
        await site.sign_in(browser, user="bob", sid="s2")

    answer = await slow_request(site, browser, again)
    before = dict(browser.cookies)
    browser.take(answer)
    assert (answer.all("set-cookie"), browser.cookies) == ([], before)
    assert await site.who(browser) == "bob"


@in_both_places
async def test_an_answer_to_the_cookies_of_before_a_new_login_does_not_hurt_that_login(place: str) -> None:
    """A page that polls: its request was on the way when the same browser signed in again."""
    site = Site(place, freshness=0)
    browser = await site.signed_in()
    polling = browser.copy()
    await site.sign_in(browser, user="bob", sid="s2")
    answer = await polling.get("/")
    assert b'"user":"anonymous"' in answer.body
    assert answer.all("set-cookie") == []
    browser.take(answer)
    assert await site.who(browser) == "bob"


async def test_a_slow_answer_is_held_back_where_nothing_was_remembered_when_it_began() -> None:
    """The very first logout of a process, in an application that never remembers."""
    site = Site(OUTSIDE, remembers=False, providers=providers()[:1])
    browser = await site.signed_in()
    assert site.store.empty
    answer = await slow_request(site, browser, lambda: browser.post("/logout"))
    assert answer.all("set-cookie") == []


@in_both_places
async def test_a_slow_login_is_a_new_login_whatever_happened_meanwhile(place: str) -> None:
    site = Site(place, freshness=0)
    browser = await site.signed_in()
    answer = await slow_request(site, browser, lambda: browser.post("/logout"), "/both?user=bob")
    browser.take(answer)
    assert await site.who(browser) == "bob"
    assert site.handle(browser) is not None


async def test_a_slow_answer_keeps_its_other_cookies() -> None:
    arrived, go_on = anyio.Event(), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        response = PlainTextResponse("", 303 if scope["method"] == "POST" else 200)
        if scope["path"] == "/slow":
            arrived.set()
            await go_on.wait()
            for name in ("session", "session.0", "__Host-session", "theme", "session_hint"):
                response.set_cookie(name, "set-late")
            response.delete_cookie("flash")
        await response(scope, receive, send)

    wrapped = RPLogoutMiddleware(app, providers=providers())
    answers = []
    headers = {"cookie": "session=0123456789abcdef0123"}
    async with anyio.create_task_group() as tasks:

        @tasks.start_soon
        async def _() -> None:
            answers.append(await call(wrapped, http_scope("/slow", headers=headers)))

        await arrived.wait()
        await call(wrapped, http_scope("/logout", "POST", headers))
        go_on.set()
    assert (set(answers[0].cookies()), answers[0].expired()) == ({"theme", "session_hint"}, {"flash"})


# The second click


@STORES
@in_both_places
async def test_the_second_click_of_a_guarded_logout_goes_to_the_provider_as_the_first(place: str, store: Any) -> None:
    site = Site(place, guard=True, store=store())
    browser = await site.signed_in()
    second = browser.copy()
    first = destination(await browser.post("/logout"))
    answer = await second.post("/logout")
    assert destination(answer) == first
    assert first[1]["id_token_hint"] == HINT
    assert second.cookies == {}
    assert (await site.browser().post("/logout")).status == 401


@in_both_places
async def test_the_second_click_of_a_local_logout_stays_here(place: str) -> None:
    site = Site(place, guard=True)
    browser = await site.signed_in()
    second = browser.copy()
    assert (await browser.post("/local")).header("location") == "/bye"
    assert (await second.post("/local")).status == 401


@in_both_places
@pytest.mark.parametrize(
    ("method", "seconds", "status"), [("POST", 119, 303), ("POST", 121, 401), ("GET", 0, 401), ("DELETE", 1, 303)]
)
@in_virtual_time
async def test_a_second_click_counts_for_two_minutes_and_on_unsafe_methods(
    place: str, method: str, seconds: float, status: int
) -> None:
    site = Site(place, guard=True)
    browser = await site.signed_in()
    second = browser.copy()
    await browser.post("/logout")
    let_time_pass(seconds)
    assert (await second.request(method, "/logout", {})).status == status


@in_both_places
async def test_a_second_click_by_fetch_is_left_to_the_application(place: str) -> None:
    """A redirect would be blocked by the browser; the deferred one of the first click is waiting anyway."""
    site = Site(place, guard=True)
    browser = await site.signed_in()
    second = browser.copy()
    fetch = {"sec_fetch_mode": "cors", "sec_fetch_dest": "empty", "sec_fetch_site": "same-origin"}
    await browser.post("/logout", **fetch)
    assert "rp_later" in browser.cookies
    assert (await second.post("/logout", **fetch)).status == 401


@in_virtual_time
@in_both_places
async def test_clicks_at_the_same_moment_all_go_to_the_provider(place: str) -> None:
    store = ForeignStore()
    site = Site(place, store=store)
    browser = await site.signed_in()
    store.delay = 0.02
    answers: list[Answer] = []
    async with anyio.create_task_group() as tasks:
        for _ in range(3):

            @tasks.start_soon
            async def _() -> None:
                answers.append(await browser.copy().post("/logout"))

    assert {destination(answer)[1]["id_token_hint"] for answer in answers} == {HINT}


# Two of the middleware


async def test_a_second_click_is_not_taken_for_a_logout_by_a_middleware_further_out() -> None:
    site = Site(OUTSIDE, guard=True)
    browser = await site.signed_in()
    outer = StaticProvider("https://outer.example/logout")
    nested = Browser(RPLogoutMiddleware(site.app, providers=[outer]), browser.cookies)
    second = nested.copy()
    assert destination(await nested.post("/logout"))[0] == "a.example"
    assert destination(await second.post("/logout"))[0] == "a.example"


async def test_a_logout_at_one_mount_kills_nothing_at_the_other() -> None:
    names = ("one", "two")
    sites = {name: Site(OUTSIDE, session_cookie=f"{name}_session", freshness=0) for name in names}
    app = Starlette(routes=[Mount(f"/{name}", site.app) for name, site in sites.items()])
    browser = Browser(app)
    for name in names:
        await browser.get(f"/{name}/login")
    copy, whole = browser.copy(), set(browser.cookies)
    await browser.post("/one/logout")
    answer = await copy.get("/one/")
    assert b'"ended":"logout"' in answer.body
    for one in (browser, copy):
        assert len(whole - set(one.cookies)) == 2
        assert b'"user":"alice","login":["a"' in (await one.get("/two/")).body


async def test_who_signs_in_again_within_the_same_second_is_signed_in() -> None:
    """Without a remembered login, Starlette's signed cookie has the same value, which has just been revoked."""
    site = Site(INSIDE, remembers=False, freshness=0)
    browser = Browser(site.app, {"theme": "dark"})
    sessions = set()
    for _ in range(5):
        await site.sign_in(browser)
        sessions.add(browser.cookies["session"])
        copy = browser.copy()
        assert await site.who(browser) == "alice"
        assert (await browser.post("/logout")).status == 303
        assert await site.who(copy) == "anonymous"
    assert len(sessions) == 5


# A session that is not the application's alone


class Tracking:
    """A middleware that keeps an id in every session, as NiceGUI's does."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"].setdefault("id", "of the browser")
        await self.app(scope, receive, send)


class Tracked(Site):
    """A site inside of such a middleware, whose front page needs the id."""

    def __init__(self, **options: Any) -> None:
        super().__init__(INSIDE, **options)
        self.middleware = RPLogoutMiddleware(
            Starlette(routes=self.app.routes),  # type: ignore[attr-defined]
            providers=providers(),
            freshness=0,
            store=self.store,
        )
        self.sessions = SessionMiddleware(Tracking(self.middleware), secret_key="secret")
        self.app = self.serve

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Be a server to whom an application may raise."""
        with contextlib.suppress(KeyError):
            await self.sessions(scope, receive, send)

    async def home(self, request: Request) -> Response:
        return await super().home(request) if request.session["id"] else Response()


async def end_elsewhere(how: str, browser: Browser, site: Tracked) -> None:
    """End a browser's login without its doing."""
    if how == "logout":
        await browser.copy().post("/logout")
        return
    ended = EndedSessions("https://a.example", "s1", "alice", None, time.time(), how)
    await site.middleware._dispatcher.services.registry.end_sessions(ended, StoreBudget())


BOTH_WAYS = pytest.mark.parametrize("how", ["logout", "back-channel"])


@BOTH_WAYS
async def test_a_dead_session_keeps_what_a_middleware_puts_into_every_session(how: str) -> None:
    """An application that counts on it would raise at every request of that browser."""
    site = Tracked()
    await site.browser().get("/")
    browser = await site.signed_in()
    await end_elsewhere(how, browser, site)
    for _ in range(2):
        assert await site.who(browser) == "anonymous"


@BOTH_WAYS
async def test_a_dead_session_that_makes_the_application_raise_is_expired_by_the_error(how: str) -> None:
    """So it does not raise for ever. No visitor without a session has shown yet what is in every session."""
    site = Tracked()
    browser = Browser(site.app, {"theme": "dark"})
    await site.sign_in(browser)
    await end_elsewhere(how, browser, site)
    answer = await browser.get("/")
    assert (answer.status, browser.cookies) == (500, {"theme": "dark"})
    assert await site.who(browser) == "anonymous"


@pytest.mark.parametrize(
    "earlier", ["a login with another sid", "a session from before the middleware", "a forgotten login"]
)
async def test_what_a_user_had_in_the_session_before_a_login_dies_with_it(earlier: str) -> None:
    """A second login leaves the user as it was, and that is not everybody's for it."""
    site = Site(INSIDE, freshness=0)
    if earlier == "a session from before the middleware":
        browser = Browser(site.app, (await Site(INSIDE, remembers=False).signed_in()).cookies)
    else:
        browser = await site.signed_in(user="password-user", sid="s0")
    if earlier == "a forgotten login":
        await browser.get("/forget")
        await site.sign_in(browser, user="password-user", sid="s2")
    else:
        await site.sign_in(browser, user=await site.who(browser), sid="s2")
    copy = browser.copy()
    assert await site.who(copy) in ("alice", "password-user")
    await browser.post("/logout")
    assert await site.who(copy) == "anonymous"
