"""A logout by fetch that waits for the next navigation: how often it is finished, what ends it, when none is needed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_rp_logout import Login, StaticProvider, remember_login
from asgi_rp_logout.logout.deferred import LATER_LIFETIME, MOST_PLAYS
from tests.apps import END, guarded, page, parameters, saying, signs_out, went_to_provider
from tests.asgi import Answer, call, http_scope
from tests.places import Browser, ForeignStore
from tests.virtual_time import in_virtual_time, let_time_pass

FETCH = {"sec_fetch_mode": "cors", "sec_fetch_dest": "empty", "sec_fetch_site": "same-origin"}
CLICK = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document", "sec_fetch_site": "same-origin"}
SECRET = "0123456789abcdef0123"


async def site(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that logs out at /logout, signs in at /login, and answers every other path with a page."""
    if scope["path"] == "/logout":
        await signs_out("/login")(scope, receive, send)
    elif scope["path"] == "/callback":
        await RedirectResponse("/", 303, {"set-cookie": "session=another-session-0123"})(scope, receive, send)
    elif scope["path"] == "/signs-in":
        remember_login(scope, sub="bob")
        await PlainTextResponse("signed in")(scope, receive, send)
    else:
        await page(200, (), scope["path"].encode())(scope, receive, send)


async def guarding(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that refuses whoever is not signed in."""
    cookies = [value for name, value in scope["headers"] if name == b"cookie"]
    answers = signs_out("/login") if any(b"session=" in value for value in cookies) else page(401)
    await answers(scope, receive, send)


def alice(connection: Any) -> Login | None:
    """Say who is signed in."""
    return Login("idp", id_token="a.b.c") if "session" in connection.cookies else None


async def after_fetch(app: ASGIApp | None = None, **options: Any) -> Browser:
    """Give a browser whose page has just logged out by fetch."""
    browser = Browser(app or guarded(site, **options), {"session": SECRET})
    await browser.post("/logout", **FETCH)
    assert set(browser.cookies) == {"rp_later"}
    return browser


# An answer that the browser has dropped


async def test_a_click_whose_first_answer_was_dropped_goes_to_the_provider_too() -> None:
    """The cookie lives for seconds after the first answer, whether or not the browser has seen that."""
    browser = await after_fetch()
    dropped = browser.copy()
    first, second = await browser.get("/login", **CLICK), await dropped.get("/login", **CLICK)
    third = await browser.get("/login", **CLICK)
    for answer in (first, second, third):
        assert went_to_provider(answer)
        assert parameters(answer) == parameters(first)
        (line,) = answer.set_cookies()["rp_later"]
        assert "; Max-Age=10; HttpOnly" in line


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_a_second_click_on_a_form_or_link_goes_there_though_the_first_took_the_session_away(method: str) -> None:
    """The browser has obeyed the first answer's cookies and dropped the rest; the application would refuse it."""
    browser = Browser(guarded(guarding, login_source=alice), {"session": SECRET})
    answers = [await browser.request(method, "/logout", CLICK) for _ in range(MOST_PLAYS + 1)]
    for answer in answers[:-1]:
        assert parameters(answer) == parameters(answers[0])
        assert set(answer.cookies()) == {"rp_later"}
    assert parameters(answers[0])["id_token_hint"] == "a.b.c"
    assert answers[-1].status == 401


@pytest.mark.parametrize(
    ("method", "path", "headers", "cookies"),
    [
        ("POST", "/logout", CLICK | {"sec_fetch_site": "cross-site"}, {}),
        ("POST", "/logout", CLICK | {"sec_fetch_site": "same-site"}, {}),
        ("POST", "/logout", CLICK | {"sec_fetch_dest": "iframe"}, {}),
        ("POST", "/logout", FETCH, {}),
        ("POST", "/logout", {"accept": "text/html"}, {}),
        ("POST", "/logout", CLICK, {"session": "another-0123456789abcdef"}),  # signed in again: the application ends it
        ("POST", "/order", CLICK, {}),
        ("DELETE", "/logout", CLICK, {}),
        ("HEAD", "/logout", CLICK, {}),
    ],
)
async def test_what_is_no_second_click_is_the_applications_affair(
    method: str, path: str, headers: dict[str, str], cookies: dict[str, str]
) -> None:
    asked: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        await guarding(scope, receive, send)

    browser = Browser(guarded(app), {"session": SECRET})
    assert went_to_provider(await browser.post("/logout", **CLICK))
    browser.cookies |= cookies
    asked.clear()
    await browser.request(method, path, headers)
    assert asked == [path]


async def test_a_second_click_on_a_logout_that_only_a_marker_tells_goes_there_too() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        cookies = [value for name, value in scope["headers"] if name == b"cookie"]
        known = any(b"session=" in value for value in cookies)
        await (signs_out("/login", ("x-rp-logout", "1")) if known else page(401))(scope, receive, send)

    browser = Browser(guarded(app, logout_path=()), {"session": SECRET})
    for _ in range(2):
        assert went_to_provider(await browser.post("/account/sign-out", **CLICK))
    assert (await browser.post("/account", **CLICK)).status == 401


async def test_a_second_click_is_known_beside_what_a_logout_has_put_into_the_session() -> None:
    """A message for the next page, say. The application is asked, and refuses it."""

    async def enter(request: Request) -> Response:
        request.session["user"] = "alice"
        remember_login(request, {"id_token": "a.b.c"}, provider="idp")
        return PlainTextResponse("signed in")

    async def leave(request: Request) -> Response:
        if "user" not in request.session:
            return PlainTextResponse("who are you?", 401)
        request.session.clear()
        request.session["message"] = "You are signed out."
        return RedirectResponse("/login", 303)

    routes = [Route("/enter", enter), Route("/logout", leave, methods=["POST"]), Route("/x", leave, methods=["POST"])]
    browser = Browser(SessionMiddleware(guarded(Starlette(routes=routes)), secret_key="secret"))
    await browser.get("/enter")
    answers = [await browser.post("/logout", **CLICK) for _ in range(2)]
    assert parameters(answers[1]) == parameters(answers[0])
    assert parameters(answers[0])["id_token_hint"] == "a.b.c"
    assert set(browser.cookies) == {"session", "rp_later"}
    assert (await browser.post("/x", **CLICK)).status == 401
    assert (await browser.post("/logout", **CLICK | {"sec_fetch_site": "cross-site"})).status == 401


@pytest.mark.parametrize("callback_path", [None, "/back"])
async def test_back_from_the_provider_only_the_second_click_itself_goes_there(callback_path: str | None) -> None:
    """The browser may drop the last answer of the way back as well. A page of the application is a page again."""
    browser = Browser(guarded(guarding, callback_path=callback_path), {"session": SECRET})
    first = await browser.post("/logout", **CLICK)
    back = f"/back?state={parameters(first)['state']}" if callback_path else "/login"
    await browser.get(back, **CLICK | {"sec_fetch_site": "cross-site"})
    copy = browser.copy()
    assert went_to_provider(await browser.post("/logout", **CLICK))
    for one in (browser, copy):
        assert (await one.get("/", **CLICK)).status == 401


@pytest.mark.parametrize("headers", [{}, {"accept": "text/html"}, FETCH | {"hx_request": "true"}])
async def test_a_client_whose_next_click_could_not_be_told_leaves_nothing_in_the_store(headers: dict[str, str]) -> None:
    store = ForeignStore()
    browser = Browser(guarded(site, store=store), {"session": SECRET})
    await browser.post("/logout", **headers)
    assert (browser.cookies, store.names("deferred:")) == ({}, [])


async def test_another_worker_knows_that_it_was_finished() -> None:
    store = ForeignStore()
    browser = await after_fetch(store=store)
    other = Browser(guarded(site, store=store), browser.cookies)
    assert went_to_provider(await browser.get("/", **CLICK))
    assert went_to_provider(await other.copy().get("/", **CLICK))
    answer = await other.get("/", **CLICK | {"sec_fetch_site": "cross-site"})
    assert answer.body == b"/"
    assert (await browser.get("/", **CLICK)).body == b"/"


@in_virtual_time
async def test_it_is_finished_again_for_a_few_seconds_only() -> None:
    """Not after the last one: a user who goes on clicking gets through."""
    browser = await after_fetch()
    copy = browser.copy()
    for seconds, plays in ((0.0, True), (6.0, True), (3.9, True), (0.2, False)):
        let_time_pass(seconds)
        assert went_to_provider(await copy.copy().get("/", **CLICK)) is plays, seconds


async def test_it_is_finished_a_few_times_only() -> None:
    """Whatever sends the browser back here: nobody is in a loop."""
    browser = await after_fetch()
    for _ in range(MOST_PLAYS):
        assert went_to_provider(await browser.get("/", **CLICK))
    answer = await browser.get("/", **CLICK)
    assert (answer.body, browser.cookies) == (b"/", {})


@pytest.mark.parametrize(
    "arrival",
    [
        {"sec_fetch_site": "cross-site"},  # back from the provider, by whatever redirects
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
        {"sec_fetch_dest": "empty"},  # the same, passed on by a service worker
    ],
)
async def test_a_browser_that_comes_back_is_not_sent_there_again(arrival: dict[str, str]) -> None:
    """Neither then nor by the user's next click, in whatever second that comes."""
    browser = await after_fetch()
    assert went_to_provider(await browser.get("/", **CLICK))
    for headers in (arrival, arrival, {}, {}):
        assert (await browser.get("/", **CLICK | headers)).body == b"/"
    assert browser.cookies == {}


async def test_a_browser_that_says_nothing_of_its_navigations_is_sent_there_once() -> None:
    """Plain http off loopback: it cannot be told from one that comes back."""
    browser = await after_fetch()
    copy = browser.copy()
    assert went_to_provider(await browser.get("/", accept="text/html"))
    assert (await copy.get("/", accept="text/html")).body == b"/"


async def test_back_at_the_callback_path_it_is_over() -> None:
    browser = await after_fetch(callback_path="/back")
    answer = await browser.get("/page", **CLICK)
    assert "rp_later" in browser.cookies
    state = parameters(answer)["state"]
    back = await browser.get(f"/back?state={state}", **CLICK | {"sec_fetch_site": "cross-site"})
    assert back.header("location") == "/page"
    assert (await browser.get("/page", **CLICK)).body == b"/page"


async def test_the_callback_of_another_logout_leaves_a_waiting_one_alone() -> None:
    guard = guarded(site, callback_path="/back")
    first = Browser(guard, {"session": SECRET})
    state = parameters(await first.post("/logout"))["state"]
    second = await after_fetch(guard)
    browser = Browser(guard, first.cookies | second.cookies)
    assert (await browser.get(f"/back?state={state}")).header("location") == "/login"
    assert went_to_provider(await browser.get("/", **CLICK))


async def test_a_provider_on_this_very_origin_is_asked_once() -> None:
    """The browser comes back from there like from a page of the application."""
    provider = StaticProvider("http://127.0.0.1/realms/acme/logout", client_id="rp")
    browser = await after_fetch(providers=[provider])
    assert (await browser.get("/", **CLICK)).status == 303
    answer = await browser.get("/login", **CLICK)
    assert (answer.body, browser.cookies) == (b"/login", {})


async def test_a_store_that_cannot_note_it_plays_it_once() -> None:
    """Else nothing would bound it."""
    store = ForeignStore()
    browser = await after_fetch(store=store)
    store.trouble, store.broken = "raise", ("put",)
    assert went_to_provider(await browser.get("/", **CLICK))
    assert browser.cookies == {}


async def test_an_invented_cookie_writes_nothing() -> None:
    store = ForeignStore()
    guard = guarded(site, store=store)
    for headers in (CLICK, CLICK | {"sec_fetch_site": "cross-site"}, {"accept": "text/html"}):
        await Browser(guard, {"rp_later": "invented"}).get("/?code=x&state=y", **headers)
        await Browser(guard, {"rp_later": "invented"}).get("/", **headers)
    assert (store.calls["put"], store.calls["delete"], store.names()) == (0, 0, [])


# What ends it


@pytest.mark.parametrize("played", [False, True])
async def test_a_new_login_ends_it(played: bool) -> None:
    browser = await after_fetch()
    copy = browser.copy()
    if played:
        await browser.get("/", **CLICK)
    assert (await browser.get("/signs-in", **FETCH)).body == b"signed in"
    assert "rp_later" not in browser.cookies
    assert (await copy.get("/", **CLICK)).body == b"/"


@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin"])
async def test_the_callback_of_a_login_ends_it(site: str) -> None:
    """A provider of the same site, too: its answer must reach the application. Nothing need be remembered for this."""
    browser = await after_fetch()
    answer = await browser.get("/callback?code=x&state=y", **CLICK | {"sec_fetch_site": site})
    assert (answer.header("location"), set(browser.cookies)) == ("/", {"session"})
    assert (await browser.get("/", **CLICK)).body == b"/"


@pytest.mark.parametrize("query", ["", "?code=x", "?state=y", "?code=&state=", "?" + "a=b&" * 60 + "code=x&state=y"])
async def test_the_control_other_queries_do_not_end_it(query: str) -> None:
    browser = await after_fetch()
    assert went_to_provider(await browser.get(f"/callback{query}", **CLICK))


@in_virtual_time
async def test_a_link_on_another_site_neither_plays_nor_ends_what_has_not_begun() -> None:
    browser = await after_fetch()
    assert (await browser.get("/", **CLICK | {"sec_fetch_site": "cross-site"})).body == b"/"
    let_time_pass(60)
    assert went_to_provider(await browser.get("/", **CLICK))


@in_virtual_time
async def test_it_waits_for_ten_minutes() -> None:
    """A click that comes later is about something else."""
    assert LATER_LIFETIME == 600
    for seconds, plays in ((599.0, True), (601.0, False)):
        browser = await after_fetch()
        let_time_pass(seconds)
        assert went_to_provider(await browser.get("/", **CLICK)) is plays


# An application that tells its page the provider's address


JSON = ("content-type", "application/json")
OWN = f"{END}?id_token_hint=x.y.z&post_logout_redirect_uri=https://app.example/"


def answering(value: Any, *headers: tuple[str, str], chunks: int = 1) -> ASGIApp:
    """Make an application that answers with JSON, or with the given bytes, in one message or several."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    size = max(-(-len(body) // chunks), 1)
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    start = {"type": "http.response.start", "status": 200}
    start["headers"] = [(name.encode(), text.encode()) for name, text in headers or (JSON,)]
    bodies = [{"type": "http.response.body", "body": part, "more_body": True} for part in parts]
    return saying([start, *bodies, {"type": "http.response.body", "body": b""}])


async def fetch(app: ASGIApp, **options: Any) -> Answer:
    headers = {name.replace("_", "-"): value for name, value in FETCH.items()}
    return await call(
        guarded(app, **options), http_scope("/logout", "POST", {"cookie": f"session={SECRET}", **headers})
    )


KNOWN = len(json.dumps({"redirect_url": OWN}))


@pytest.mark.parametrize(
    "app",
    [
        answering({"redirect_url": OWN}),
        answering({"status": True, "data": [{"a": 1, "to": END}]}),
        answering([OWN]),
        answering(OWN),
        answering(b'{"to": "' + OWN.replace("/", "\\/").encode() + b'"}'),
        answering({"home": "https://app.example/", "x": f"{END}/other", "to": OWN}),
        answering({"redirect_url": OWN}, JSON, ("content-length", str(KNOWN)), chunks=4),
        answering({"redirect_url": OWN}, ("content-type", "application/json; charset=utf-8")),
        answering({"redirect_url": OWN}, JSON, ("content-encoding", "identity")),
        JSONResponse({"redirect_url": OWN}),
    ],
)
async def test_a_json_answer_with_the_providers_address_needs_no_deferred_logout(app: ASGIApp) -> None:
    """The page goes there by itself, and the next click is about something else."""
    answer = await fetch(app)
    assert "rp_later" not in answer.cookies()
    assert "session" in answer.expired()
    alone = await call(app, http_scope("/logout", "POST"))
    assert answer.messages[1:] == alone.messages[1:]


@pytest.mark.parametrize(
    "app",
    [
        answering({"redirect_url": "/login"}),
        answering({"redirect_url": f"{END}/other"}),
        answering({"redirect_url": "https://evil.example/end"}),
        answering({OWN: 1, "text": f"go to {OWN}"}),
        answering({"redirect_url": OWN}, ("content-type", "text/plain")),
        answering({"redirect_url": OWN}, JSON, ("content-encoding", "gzip")),
        answering({"redirect_url": OWN}, JSON, ("content-length", "16385")),
        answering({"redirect_url": OWN, "pad": "x" * 16384}),
        answering({"redirect_url": OWN}, chunks=2),  # a stream: what comes first is no JSON yet
        answering(b'{"redirect_url": "' + OWN.encode()),
        answering(b"[" * 16000),
        answering(b""),
        answering(b"\xff"),
        saying([{"type": "http.response.start", "status": 204}, {"type": "http.response.body"}]),
    ],
)
async def test_any_other_answer_to_a_fetch_leaves_the_logout_waiting(app: ASGIApp) -> None:
    """Message by message as the application sent it, with our cookies in the start message."""
    answer = await fetch(app)
    assert "rp_later" in answer.cookies()
    alone = await call(app, http_scope("/logout", "POST"))
    assert answer.messages[1:] == alone.messages[1:]
    assert len(alone.messages) > 1


@pytest.mark.parametrize("raises", [True, False])
async def test_an_application_that_leaves_before_its_body_has_logged_out_all_the_same(raises: bool) -> None:
    """What was held back of its answer goes out, with the cookies that it expires."""
    sent: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        if raises:
            raise ZeroDivisionError

    async def send(message: Any) -> None:
        sent.append(message)

    headers = {name.replace("_", "-"): value for name, value in FETCH.items()}
    scope = http_scope("/logout", "POST", {"cookie": f"session={SECRET}", **headers})
    nothing: Any = lambda: None  # noqa: E731
    if raises:
        with pytest.raises(ZeroDivisionError):
            await guarded(app)(scope, nothing, send)
    else:
        await guarded(app)(scope, nothing, send)
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert {"session"} <= Answer(sent).expired()
    assert "rp_later" in Answer(sent).cookies()


async def test_a_provider_that_fails_leaves_the_logout_waiting() -> None:
    class Failing:
        def get_end_session_url(self) -> str:
            raise OSError

    assert "rp_later" in (await fetch(answering({"to": OWN}), providers=[Failing()])).cookies()


async def test_of_several_providers_the_address_tells_which_one_is_meant() -> None:
    several = [StaticProvider(url, name=url[8:9]) for url in ("https://a.example/end", "https://b.example/end", END)]
    assert "rp_later" not in (await fetch(answering({"to": OWN}), providers=several)).cookies()
    theirs = {"providers": several, "login_source": lambda _: Login("a")}
    assert "rp_later" in (await fetch(answering({"to": OWN}), **theirs)).cookies()


async def test_middleware_that_streams_an_answer_changes_nothing() -> None:
    """BaseHTTPMiddleware says that more follows, and then sends nothing more."""

    async def endpoint(request: Request) -> Response:
        return JSONResponse({"redirect_url": OWN})

    async def pass_on(request: Request, call_next: Any) -> Response:
        answer: Response = await call_next(request)
        return answer

    app = Starlette(routes=[Route("/logout", endpoint, methods=["POST"])])
    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    assert "rp_later" not in (await fetch(app)).cookies()


async def test_an_application_that_compresses_its_answers_is_asked_for_a_plain_one() -> None:
    """Only there: a page is compressed as ever."""
    seen: list[str | None] = []

    async def endpoint(request: Request) -> Response:
        seen.append(request.headers.get("accept-encoding"))
        return JSONResponse({"redirect_url": OWN})

    compressed = GZipMiddleware(Starlette(routes=[Route("/{path}", endpoint, methods=["POST"])]), minimum_size=10)
    browser = Browser(guarded(compressed), {"session": SECRET})
    answer = await browser.post("/logout", **FETCH, accept_encoding="gzip")
    assert (answer.header("content-encoding"), "rp_later" in answer.cookies()) == (None, False)
    assert (await browser.post("/other", **FETCH, accept_encoding="gzip")).header("content-encoding") == "gzip"
    await browser.post("/logout", **CLICK, accept_encoding="gzip")
    assert seen == [None, "gzip", "gzip"]


async def test_a_stream_of_json_waits_for_its_first_message_and_no_longer() -> None:
    arrived: list[int] = []
    answer = Answer()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        for part in (b"", b"{}\n", b"{}\n"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
            arrived.append(len(answer.messages))
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        answer.messages.append(message)

    headers = {"cookie": f"session={SECRET}", **{name.replace("_", "-"): value for name, value in FETCH.items()}}

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    await guarded(app)(http_scope("/logout", "POST", headers), receive, send)
    assert arrived == [0, 3, 4]
    assert answer.body == b"{}\n{}\n"


async def test_a_navigation_and_an_answer_as_json_are_not_looked_into() -> None:
    app = answering({"redirect_url": OWN})
    assert went_to_provider(await Browser(guarded(app), {"session": SECRET}).post("/logout", **CLICK))
    told = json.loads((await fetch(app, for_fetch="json")).body)
    assert told["logout_url"].startswith(END)
