"""A login that the user does not see, while a logout waits for the next page: it does not count."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_rp_logout import Cookie, current_login, remember_login
from asgi_rp_logout.logout.deferred import MOST_PLAYS
from asgi_rp_logout.store import UNKNOWN
from tests.apps import SECRET, guarded, page, parameters, signs_out, went_to_provider
from tests.asgi import call, http_scope
from tests.conftest import Log
from tests.places import INSIDE, OUTSIDE, Browser, ForeignStore, Site, destination, in_both_places, providers
from tests.test_deferred import CLICK, FETCH, alice
from tests.test_noticed_logins import Application, known_to
from tests.virtual_time import in_virtual_time, let_time_pass

BACK = {"sec_fetch_site": "cross-site"}
IMAGE = BACK | {"sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"}
FRAME = BACK | {"sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"}
UNSEEN = [
    IMAGE,
    IMAGE | {"sec_fetch_dest": "script", "sec_fetch_site": "same-origin"},
    IMAGE | {"sec_fetch_dest": "empty"},
    FRAME,
    CLICK | {"sec_purpose": "prefetch"},
]
SEEN = [
    CLICK | BACK,
    FETCH,
    FRAME | {"sec_fetch_user": "?1"},
    {"accept": "image/avif,*/*"},  # a browser without Sec-Fetch headers does not tell
]
NEW = "another-session-0123"
CALLBACK = "/callback?code=x&state=y"


async def waiting(site: Site) -> Browser:
    """Give a browser whose page has just logged out by fetch."""
    browser = await site.signed_in(sid="s1")
    await browser.post("/logout", **FETCH)
    assert "rp_later" in browser.cookies
    return browser


def signing_in(line: str = f"session={NEW}; Path=/", *, remembers: bool = False, seen: Any = None) -> ASGIApp:
    """Make an application that logs out at /logout, and answers the path /callback with a session."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/logout":
            await signs_out("/login")(scope, receive, send)
        elif scope["path"] == "/callback":
            if remembers:
                remember_login(scope, sub="alice", iss="https://id.example", provider="idp")
            await RedirectResponse("/", 303, {"set-cookie": line} if line else {})(scope, receive, send)
        else:
            cookies = b"".join(value for name, value in scope["headers"] if name == b"cookie")
            await page(200, (), cookies)(scope, receive, send)

    return app


async def after_fetch(app: ASGIApp, **options: Any) -> Browser:
    browser = Browser(guarded(app, **options), {"session": SECRET})
    await browser.post("/logout", **FETCH)
    assert set(browser.cookies) == {"rp_later"}
    return browser


@in_both_places
@pytest.mark.parametrize("headers", UNSEEN)
async def test_it_signs_nobody_in_and_the_next_page_goes_to_the_provider(place: str, headers: dict[str, str]) -> None:
    site = Site(place, store=ForeignStore())
    browser = await waiting(site)
    before = site.store.names("login:")
    assert (await browser.get("/login?user=alice&sid=s2", **headers)).status == 303
    assert await site.who(browser) == "anonymous"
    assert "rp_login" not in browser.cookies
    assert site.store.names("login:") == before
    host, query = destination(await browser.get("/", **CLICK))
    assert (host, query["client_id"], "id_token_hint" in query) == ("a.example", "rp-a", True)


@in_both_places
@pytest.mark.parametrize("headers", SEEN)
async def test_the_control_a_login_that_the_user_sees_counts(place: str, headers: dict[str, str]) -> None:
    site = Site(place)
    browser = await waiting(site)
    await browser.get("/login?user=alice&sid=s2", **headers)
    assert "rp_later" not in browser.cookies
    assert await site.who(browser) == "alice"
    assert (await browser.get("/", **CLICK)).status == 200


@in_both_places
@pytest.mark.parametrize("headers", UNSEEN)
async def test_it_signs_nobody_in_where_nobody_remembers_it(place: str, headers: dict[str, str]) -> None:
    site = Site(place, remembers=False, providers=providers()[:1])
    browser = await waiting(site)
    await browser.get("/login?user=bob&code=x&state=y", **headers)
    assert await site.who(browser) == "anonymous"
    assert destination(await browser.get("/", **CLICK))[0] == "a.example"


@in_both_places
async def test_the_control_without_code_and_state_it_is_the_applications_affair(place: str) -> None:
    site = Site(place, remembers=False, providers=providers()[:1])
    browser = await waiting(site)
    await browser.get("/login?user=alice&code=x", **IMAGE)
    assert await site.who(browser) == "alice"
    assert destination(await browser.get("/", **CLICK))[0] == "a.example"


@pytest.mark.parametrize("headers", UNSEEN)
async def test_the_answer_to_a_login_is_one_though_nobody_remembers_it(headers: dict[str, str]) -> None:
    browser = await after_fetch(signing_in())
    answer = await browser.get(CALLBACK, **headers)
    assert (answer.status, answer.header("location"), answer.cookies()) == (303, "/", {})
    assert went_to_provider(await browser.get("/", **CLICK))


async def test_the_control_other_answers_to_subresources_keep_their_session_cookie() -> None:
    """A captcha on the page where users log in, say."""
    browser = await after_fetch(signing_in())
    assert (await browser.get("/callback", **IMAGE)).cookies() == {"session": NEW}
    assert went_to_provider(await browser.get("/", **CLICK))


async def test_a_session_whose_id_the_login_has_kept_is_over() -> None:
    """The application has put the user into the session that the request came with, and sets no cookie."""
    browser = await after_fetch(signing_in("", remembers=True))
    browser.cookies["session"] = NEW
    await browser.get(CALLBACK, **IMAGE)
    thief = browser.copy()
    assert NEW.encode() not in (await thief.get("/", **FETCH)).body
    assert "session" not in thief.cookies
    assert went_to_provider(await browser.get("/", **CLICK))


@in_both_places
async def test_an_address_with_a_code_ends_no_session_of_somebody_who_has_signed_in_since(place: str) -> None:
    """By a password, say, which nobody remembers: whoever writes a comment can put the address of an image there."""
    site = Site(place, remembers=False)
    browser = await waiting(site)
    await browser.get("/login?user=bob", **FETCH)
    for path in ("/?code=x&state=y", "/touch?code=x&state=y"):
        answer = await browser.get(path, **IMAGE)
        assert "session" not in answer.cookies() or path.startswith("/touch")
        assert await site.who(browser) == "bob"


async def test_a_login_that_authlib_completes_is_not_noticed() -> None:
    app = Application()
    browser = await app.signed_in()
    await browser.post("/logout", **FETCH)
    await browser.get("/login", **IMAGE)
    assert await known_to(browser) is None
    assert destination(await browser.get("/", **CLICK))[0] == "a.example"


@in_both_places
async def test_without_a_waiting_logout_it_is_the_applications_affair(place: str) -> None:
    site = Site(place)
    for cookies in ({}, {"rp_later": "invented"}, {"rp_later": "~invented"}):
        browser = Browser(site.app, cookies)
        await browser.get("/login?user=alice", **IMAGE)
        assert await site.who(browser) == "alice"


async def test_the_request_of_somebody_who_has_signed_in_since_is_a_renewal() -> None:
    """With a login at the provider that posts its answer, the browser has kept the cookie of the deferred logout."""
    site = Site(OUTSIDE)
    browser = await waiting(site)
    other = await site.signed_in(sid="s2")
    browser.cookies |= other.cookies
    await browser.get("/login?user=alice&sid=s2", **IMAGE)
    assert await site.who(browser) == "alice"
    assert (await browser.get("/", **CLICK)).status == 200


# After a logout by form or link


@in_virtual_time
async def test_after_a_form_it_does_not_count_for_as_long_as_the_form_may_be_repeated() -> None:
    for seconds, counts in ((0.0, False), (9.0, False), (11.0, True)):
        site = Site(INSIDE)
        browser = await site.signed_in()
        assert destination(await browser.post("/logout", **CLICK))[0] == "a.example"
        let_time_pass(seconds)
        await browser.get("/login?user=alice", **IMAGE)
        assert (await site.who(browser) == "alice") is counts, seconds


async def test_after_a_logout_that_was_finished_for_the_last_time_it_counts() -> None:
    site = Site(INSIDE)
    browser = await waiting(site)
    last = browser.copy()
    for _ in range(MOST_PLAYS):
        assert destination(await browser.copy().get("/", **CLICK))[0] == "a.example"
    await last.get("/login?user=alice", **IMAGE)
    assert await site.who(last) == "alice"


async def test_it_does_not_count_either_where_only_the_application_knows_who_is_signed_in() -> None:
    """Else the application's word would cancel the logout at the next page."""
    browser = await after_fetch(signing_in(), login_source=alice)
    await browser.get(CALLBACK, **IMAGE)
    assert parameters(await browser.get("/", **CLICK))["id_token_hint"] == "a.b.c"


# What is left


async def test_the_limit_where_the_cookie_does_not_come_along_it_counts() -> None:
    """A Lax cookie, with an application whose SameSite=None session cookie is not declared so."""
    site = Site(OUTSIDE)
    browser = await waiting(site)
    later = browser.cookies.pop("rp_later")
    await browser.get("/login?user=alice", **IMAGE)
    browser.cookies["rp_later"] = later
    assert (await browser.get("/", **CLICK)).status == 200
    assert await site.who(browser) == "alice"


@pytest.mark.parametrize(
    ("headers", "options"),
    [
        (FETCH | {"hx_request": "true"}, {}),
        (FETCH | {"x_inertia": "true"}, {}),
        (FETCH | {"accept": "text/vnd.turbo-stream.html, text/html"}, {}),
        (FETCH, {"for_fetch": "json"}),
    ],
)
async def test_the_limit_after_a_logout_that_leaves_no_cookie_it_counts(
    headers: dict[str, str], options: dict[str, Any]
) -> None:
    site = Site(INSIDE, **options)
    browser = await site.signed_in()
    await browser.post("/logout", **headers)
    assert "rp_later" not in browser.cookies
    await browser.get("/login?user=alice", **IMAGE)
    assert await site.who(browser) == "alice"


# The store, the log, the cookie


async def test_a_store_that_fails_lets_no_login_count_and_ends_no_session() -> None:
    store = ForeignStore()
    browser = await after_fetch(signing_in(remembers=True), store=store)
    browser.cookies["session"] = NEW
    store.trouble = "raise"
    assert (await browser.get(CALLBACK, **IMAGE)).cookies() == {}
    store.trouble = None
    assert NEW.encode() in (await browser.get("/", **FETCH)).body


async def test_a_strangers_invented_cookie_costs_one_read_and_a_request_without_it_none() -> None:
    reads = []
    for cookies in ({}, {"rp_later": "invented"}):
        store = ForeignStore()
        await Browser(guarded(signing_in(), store=store), cookies).get(CALLBACK, **IMAGE)
        assert (store.calls["put"], store.names()) == (0, [])
        reads.append(store.reads)
    assert reads[1] - reads[0] == 1


@pytest.mark.parametrize("remembers", [True, False])
async def test_for_a_stranger_one_small_record_is_written_at_most(remembers: bool) -> None:
    """With a logout of their own that waits; the record has the place of any anonymous logout's."""
    store = ForeignStore()
    browser = await after_fetch(signing_in("", remembers=remembers), store=store)
    before = set(store.names())
    store.calls.clear()
    browser.cookies["session"] = NEW
    await browser.get(CALLBACK, **IMAGE)
    names = set(store.names()) - before
    assert len(names) == store.calls["put"] + store.calls["put_many"] == int(remembers)
    for name in names:
        record = await store.record(name)
        assert (record["of"], len(json.dumps(record)) < 300) == (UNKNOWN, True)


async def test_the_log_says_why(log: Log) -> None:
    browser = await after_fetch(signing_in())
    await browser.get(CALLBACK, **IMAGE)
    (line,) = [line for line in log(logging.DEBUG) if "does not count" in line]
    assert "'/callback'" in line
    assert "code=" not in line


async def test_the_handler_is_asked_first_and_sees_the_login() -> None:
    """What the request itself does is not changed: only what is left of it."""
    seen: list[str | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/logout":
            await signs_out()(scope, receive, send)
        else:
            remember_login(scope, sub="alice")
            login = current_login(scope)
            seen.append(login.sub if login else None)
            await PlainTextResponse("in", headers={"set-cookie": f"session={NEW}"})(scope, receive, send)

    browser = await after_fetch(app)
    assert (await browser.get("/", **IMAGE)).body == b"in"
    assert (seen, set(browser.cookies)) == (["alice"], {"rp_later"})


@pytest.mark.parametrize(
    ("scheme", "samesite", "expected"),
    [
        ("https", "none", "; HttpOnly; SameSite=None; Secure"),
        ("https", "lax", "; HttpOnly; SameSite=Lax; Secure"),
        ("https", "strict", "; HttpOnly; SameSite=Lax; Secure"),
        ("http", "none", "; HttpOnly; SameSite=Lax"),
    ],
)
@pytest.mark.parametrize("headers", [FETCH, CLICK])
async def test_its_cookie_goes_wherever_the_session_cookie_goes(
    headers: dict[str, str], scheme: str, samesite: Any, expected: str
) -> None:
    """Else a page of another site could sign the user in by a request that does not show what is waiting."""
    app = guarded(signing_in(), session_cookie=Cookie("session", samesite=samesite), callback_path="/back")
    pairs = {"cookie": f"session={SECRET}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    answer = await call(app, http_scope("/logout", "POST", pairs, scheme=scheme))
    own = [line for name, lines in answer.set_cookies().items() if "rp_later" in name for line in lines]
    assert [line[line.index("; HttpOnly") :] for line in own] == [expected]
    others = [line for name, lines in answer.set_cookies().items() if "rp_return" in name for line in lines]
    assert len(others) == (headers is CLICK)
    assert all("; SameSite=Lax" in line for line in others)
