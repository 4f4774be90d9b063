"""Remembering a login: from every framework's callback, in both places, and what a logout then knows."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from asgi_rp_logout import (
    Login,
    RPLogoutError,
    RPLogoutMiddleware,
    StaticProvider,
    current_login,
    forget_login,
    remember_login,
)
from tests.asgi import call, http_scope
from tests.places import INSIDE, Browser, ForeignStore, Site, destination, in_both_places, providers
from tests.tokens import id_token

TOKEN = id_token("bob", "s2", "https://b.example")
HINT = {"id_token_hint": TOKEN, "client_id": "rp-b", "post_logout_redirect_uri": "http://127.0.0.1/bye"}


def wrap(app: ASGIApp, place: str, **options: Any) -> ASGIApp:
    """Put the middleware around an application, and signed sessions around both where it stands inside."""
    wrapped = RPLogoutMiddleware(app, **{"providers": providers(), **options})
    return SessionMiddleware(wrapped, secret_key="secret") if place == INSIDE else wrapped


async def assert_remembered(app: ASGIApp) -> None:
    """Sign in at /callback, log out at /logout, and see that the logout knew who it was about."""
    browser = Browser(app)
    assert (await browser.get("/callback")).status == 200
    thief = browser.copy()
    assert destination(await browser.post("/logout", content_length="0")) == ("b.example", HINT)
    assert browser.cookies == {}
    assert destination(await thief.post("/logout", content_length="0")) == ("b.example", HINT)  # the second click


# What is said, and how

WAYS: dict[str, Callable[[Request], None]] = {
    "Authlib's token dict": lambda request: remember_login(request, {"id_token": TOKEN}, provider="b"),
    "keywords": lambda request: remember_login(request, id_token=TOKEN, provider="b"),
    "without a provider's name": lambda request: remember_login(request, id_token=TOKEN),
    "the scope": lambda request: remember_login(request.scope, {"id_token": TOKEN}, provider="b"),
    "a copy of the scope": lambda request: remember_login(dict(request.scope), {"id_token": TOKEN}, provider="b"),
    "without a request": lambda request: remember_login(token={"id_token": TOKEN}, provider="b"),
    "twice, and the last one counts": lambda request: (
        remember_login(request, sub="mallory", provider="a"),
        remember_login(request, id_token=TOKEN, provider="b"),
    )[1],
    "after forgetting": lambda request: (forget_login(request), remember_login(request, id_token=TOKEN))[1],
}


@in_both_places
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("kind", ["async", "threadpool", "task", "dispatched"])
async def test_a_login_is_remembered_however_it_is_said(place: str, way: Callable[[Request], None], kind: str) -> None:
    async def callback(request: Request) -> Response:
        if kind == "task":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, way, request)
        else:
            way(request)
        return PlainTextResponse("welcome")

    def in_thread(request: Request) -> Response:
        way(request)
        return PlainTextResponse("welcome")

    async def dispatch(request: Request, call_next: Any) -> Response:
        answer: Response = await call_next(request)
        return answer

    routes = [
        Route("/callback", in_thread if kind == "threadpool" else callback),
        Route("/logout", lambda request: RedirectResponse("/bye"), methods=["POST"]),
    ]
    middleware = [Middleware(BaseHTTPMiddleware, dispatch=dispatch)] if kind == "dispatched" else []
    await assert_remembered(wrap(Starlette(routes=routes, middleware=middleware), place))


def fastapi_app(sync: bool) -> ASGIApp:
    from fastapi import FastAPI
    from fastapi import Request as FastAPIRequest
    from fastapi.responses import RedirectResponse as Redirect

    app = FastAPI()

    def callback(request: Any) -> str:
        remember_login(request if sync else None, {"id_token": TOKEN}, provider="b")
        return "welcome"

    async def async_callback(request: Any) -> str:
        return callback(request)

    async_callback.__annotations__["request"] = callback.__annotations__["request"] = FastAPIRequest
    app.get("/callback")(callback if sync else async_callback)
    app.post("/logout")(lambda: Redirect("/bye", 303))
    return app


def litestar_app(sync: bool) -> ASGIApp:
    from litestar import Litestar, get, post
    from litestar import Request as LitestarRequest
    from litestar.response import Redirect

    def callback(request: Any) -> str:
        remember_login(request if sync else None, {"id_token": TOKEN}, provider="b")
        return "welcome"

    async def async_callback(request: Any) -> str:
        return callback(request)

    async def logout() -> Any:
        return Redirect("/bye", status_code=303)

    annotated = {"request": LitestarRequest, "return": str}
    callback.__annotations__ = async_callback.__annotations__ = annotated
    logout.__annotations__ = {"return": Redirect}
    handler = get("/callback", sync_to_thread=True)(callback) if sync else get("/callback")(async_callback)
    return Litestar([handler, post("/logout")(logout)])  # type: ignore[return-value]


def quart_app(sync: bool) -> ASGIApp:
    from quart import Quart, redirect, request

    app = Quart("quart_app")

    def callback() -> str:
        remember_login(request if sync else None, {"id_token": TOKEN}, provider="b")
        return "welcome"

    async def async_callback() -> str:
        return callback()

    async def logout() -> Any:
        return redirect("/bye", 303)

    app.get("/callback")(callback if sync else async_callback)
    app.post("/logout")(logout)
    return app  # type: ignore[return-value]


def django_app(sync: bool) -> ASGIApp:
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import HttpResponse, HttpResponseRedirect
    from django.test.utils import override_settings
    from django.urls import path

    if not settings.configured:
        settings.configure(SECRET_KEY="secret", ALLOWED_HOSTS=["*"])

    def callback(request: Any) -> Any:
        remember_login(request if sync else None, {"id_token": TOKEN}, provider="b")
        return HttpResponse("welcome")

    async def async_callback(request: Any) -> Any:
        return callback(request)

    class Urls:
        urlpatterns = [
            path("callback", callback if sync else async_callback),
            path("logout", lambda request: HttpResponseRedirect("/bye")),
        ]

    with override_settings(ROOT_URLCONF=Urls, ALLOWED_HOSTS=["*"], MIDDLEWARE=[]):
        inner = get_asgi_application()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with override_settings(ROOT_URLCONF=Urls, ALLOWED_HOSTS=["*"], MIDDLEWARE=[]):
            await inner(scope, receive, send)

    return app


@in_both_places
@pytest.mark.parametrize("sync", [False, True], ids=["async without request", "sync with request"])
@pytest.mark.parametrize("framework", [fastapi_app, litestar_app, quart_app, django_app])
async def test_a_login_is_remembered_in_every_framework(place: str, sync: bool, framework: Any) -> None:
    await assert_remembered(wrap(framework(sync), place))


# What cannot be remembered

NOTHING: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "nothing at all": ((None,), {}, "token"),
    "an empty token": ((None, {}), {}, "token"),
    "a token of no use": ((None, {"access_token": "x", "expires_in": 60}), {}, "token"),
    "a token that is text": ((None, "x.y.z"), {}, "token"),
    "an id_token that is no text": ((None, {"id_token": 7}), {}, "token"),
    "bytes": ((None,), {"id_token": b"x.y.z"}, "token"),
    "a sub that is no text": ((None, {"userinfo": {"sub": 7}}), {}, "token"),
    "userinfo that is no mapping": ((None, {"userinfo": "alice"}), {}, "token"),
    "the token in place of the request": (("x.y.z",), {}, "not_a_request"),
}


@pytest.mark.parametrize(("args", "kwargs", "code"), NOTHING.values(), ids=NOTHING.keys())
async def test_what_is_no_login_raises(args: tuple[Any, ...], kwargs: dict[str, Any], code: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(RPLogoutError) as caught:
            remember_login(*args, **kwargs)
        assert caught.value.code == code
        assert "x.y.z" not in str(caught.value)
        await PlainTextResponse("done")(scope, receive, send)

    assert (await call(wrap(app, "outside"), http_scope("/"))).all("set-cookie") == []


def test_outside_of_the_middleware_it_raises() -> None:
    calls: list[Callable[[], None]] = [
        lambda: remember_login(sub="alice"),
        lambda: remember_login({"type": "http"}, sub="alice"),
        forget_login,
    ]
    for call_it in calls:
        with pytest.raises(RPLogoutError) as caught:
            call_it()
        assert caught.value.code == "no_middleware"
    assert current_login() is None


@in_both_places
async def test_after_the_response_has_started_it_raises(place: str) -> None:
    async def callback(request: Request) -> Response:
        async def body() -> Any:
            yield b"begun"
            calls: list[Callable[[], None]] = [lambda: remember_login(request, sub="alice"), forget_login]
            for call_it in calls:
                with pytest.raises(RPLogoutError) as caught:
                    call_it()
                assert caught.value.code == "too_late"
            yield b", refused"

        return StreamingResponse(body())

    app = wrap(Starlette(routes=[Route("/", callback), Route("/logout", callback)]), place)
    for path in ("/", "/logout"):
        answer = await call(app, http_scope(path))
        assert (answer.body, answer.all("set-cookie")) == (b"begun, refused", [])


@in_both_places
async def test_in_a_websocket_it_raises(place: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(RPLogoutError) as caught:
            remember_login(scope, sub="alice")
        assert caught.value.code == "too_late"
        await send({"type": "websocket.close"})

    scope = http_scope("/") | {"type": "websocket"}
    assert (await call(wrap(app, place), scope)).messages == [{"type": "websocket.close"}]


# New logins, old logins


ANSWERS: dict[str, tuple[Any, int, bool, str | None, bool]] = {
    "an error with a session": ("session", 403, True, "session", False),
    "an error of the server": ("session", 500, True, "session", False),
    "an error where no cookie was declared": ("session", 401, True, "token", False),
    "a redirect without any session": (["session"], 303, False, None, False),
    "a redirect with another cookie": (["session"], 303, False, "theme", False),
    "a redirect with the declared cookie": (["session"], 303, False, "session", True),
    "a page with the declared cookie": ("token", 200, False, "token", True),
    "a redirect where no cookie was declared": ("session", 303, False, None, True),
}


@in_both_places
@pytest.mark.parametrize(("declared", "status", "session", "cookie", "accepted"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_a_user_whom_the_application_refuses_is_not_remembered(
    place: str, declared: Any, status: int, session: bool, cookie: str | None, accepted: bool, log: Any
) -> None:
    """The token came, and then the application said no. Where no cookie is declared, its absence tells nothing."""

    async def callback(request: Request) -> Response:
        if session and place == INSIDE:
            request.session["user"] = "alice"
        remember_login(request, id_token=TOKEN)
        answer = Response(status_code=status)
        if cookie is not None:
            answer.set_cookie(cookie, "0123456789abcdef")
        return answer

    async def who(request: Request) -> Response:
        return PlainTextResponse(str(bool(current_login(request))))

    app = Starlette(routes=[Route("/callback", callback), Route("/", who)])
    name = "starlette" if cookie == "session" else "session"  # the session around us has a cookie of its own
    wrapped = RPLogoutMiddleware(app, providers=providers(), session_cookie=declared)
    around = SessionMiddleware(wrapped, secret_key="secret", session_cookie=name) if place == INSIDE else wrapped
    browser = Browser(around)
    await browser.get("/callback")
    assert (await browser.get("/")).body.decode() == str(accepted)
    assert any("a login was not remembered" in line for line in log(logging.DEBUG)) is not accepted


@in_both_places
async def test_a_provider_that_is_named_at_the_refresh_is_no_other_one(place: str) -> None:
    """With a function as ``providers`` nothing fills in the name at the login."""
    names = [None, "b", "a"]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/login":
            remember_login(scope, id_token=TOKEN, provider=names.pop(0))
        login = current_login(scope)
        await PlainTextResponse(f"{login.ended or login.provider}" if login is not None else "")(scope, receive, send)

    browser = Browser(wrap(app, place, providers=providers, freshness=0))
    await browser.get("/login")
    before = browser.copy()
    await browser.get("/login")
    assert (await before.get("/")).body == b"b"
    await browser.get("/login")
    assert (await before.get("/")).body == b"replaced"


@in_both_places
async def test_each_login_has_a_handle_of_its_own_and_ends_the_one_before(place: str) -> None:
    site = Site(place)
    browser = await site.signed_in()
    first, thief = site.handle(browser), browser.copy()
    await site.sign_in(browser, user="bob", provider="b", sid="s2")
    assert first is not None
    assert site.handle(browser) not in (None, first)
    assert await site.who(browser) == "bob"
    if place == INSIDE:
        assert json.loads((await thief.copy().get("/")).body)["ended"] == "replaced"
        assert await site.who(thief) == "anonymous"


@in_both_places
async def test_a_handle_planted_before_the_login_is_not_the_login(place: str) -> None:
    """Session fixation: what an attacker knows of before the login must be worth nothing after it."""
    site = Site(place)
    attacker = await site.signed_in(user="mallory", sid="s9")
    victim = attacker.copy()
    await site.sign_in(victim, user="alice")
    assert site.handle(victim) != site.handle(attacker)
    assert b'"login":["a","alice"' not in (await attacker.get("/")).body
    assert destination(await victim.post("/logout"))[1]["id_token_hint"] == id_token("alice", pad="")


@in_both_places
async def test_a_login_right_after_a_logout_is_not_dead(place: str) -> None:
    site = Site(place)
    browser = await site.signed_in()
    for _ in range(3):
        await browser.post("/logout")
        await site.sign_in(browser)
        assert await site.who(browser) == "alice"


# What a logout knows


@in_both_places
async def test_the_logout_knows_the_login_though_the_application_has_cleared_its_session(place: str) -> None:
    site = Site(place, post_logout_redirect_uri="/login")
    browser = await site.signed_in(user="bob", provider="b", sid="s2")
    host, query = destination(await browser.post("/logout"))
    assert host == "b.example"
    assert query == {
        "id_token_hint": id_token("bob", "s2", "https://b.example", pad=""),
        "client_id": "rp-b",
        "post_logout_redirect_uri": "http://127.0.0.1/login",
    }


@in_both_places
async def test_a_provider_of_ones_own_is_given_the_login(place: str) -> None:
    given: list[Any] = []

    class Own:
        name = "a"
        client_id = "rp"

        def get_end_session_url(self, login: Login | None, client_id: str) -> str:
            given.extend([login, client_id])
            return "https://own.example/logout"

    site = Site(place, providers=[Own()])
    browser = await site.signed_in()
    await browser.post("/logout")
    login, client_id = given
    assert (login.provider, login.sub, login.sid, login.iss) == ("a", "alice", "s1", "https://a.example")
    assert (login.refresh_token, client_id) == ("refresh-alice", "rp")


@in_both_places
@pytest.mark.parametrize("order", [1, -1])
async def test_the_user_of_the_second_provider_goes_to_the_second_never_the_first(place: str, order: int) -> None:
    asked: list[str] = []

    class Spy(StaticProvider):
        def url(self, *args: Any) -> str:
            asked.append(self.name)
            return super().url(*args)

    spies = [Spy(f"https://{name}.example/logout", name=name, issuer=f"https://{name}.example") for name in "ab"]
    site = Site(place, providers=spies[::order])
    for name in ("b", "a"):
        asked.clear()
        browser = await site.signed_in(provider=name)
        assert destination(await browser.post("/logout"))[0] == f"{name}.example"
        assert asked == [name]


@in_both_places
async def test_the_user_of_a_provider_that_is_not_in_the_list_goes_to_none(place: str, log: Any) -> None:
    site = Site(place, providers=providers()[:1])
    browser = await site.signed_in(provider="b")
    answer = await browser.post("/logout")
    assert (answer.header("location"), browser.cookies) == ("/bye", {})
    (line,) = log()
    assert "the login's own provider, 'https://b.example', is not in the list: 'https://a.example'" in line


@in_both_places
async def test_a_token_of_20_kilobytes_makes_no_request_longer(place: str) -> None:
    site = Site(place)
    small, large = await site.signed_in(), await site.signed_in(pad="20000")
    assert {name: len(value) for name, value in small.cookies.items()} == {
        name: len(value) for name, value in large.cookies.items()
    }
    answer = await large.post("/logout")
    # Too long for a URL: the provider is asked without it.
    assert destination(answer)[1].keys() == {"client_id", "post_logout_redirect_uri"}
    assert sum(len(name) + len(value) for name, value in answer.headers) < 2000


# current_login, forget_login


@in_both_places
async def test_current_login_tells_who_is_there_and_why_a_login_has_ended(place: str) -> None:
    site = Site(place, freshness=0)
    assert json.loads((await site.browser().get("/")).body) == {"user": "anonymous", "login": None, "ended": None}
    browser = await site.signed_in()
    thief = browser.copy()
    assert json.loads((await browser.get("/")).body) == {"user": "alice", "login": ["a", "alice", "s1"], "ended": None}
    await browser.post("/logout")
    assert json.loads((await thief.get("/")).body) == {"user": "anonymous", "login": None, "ended": "logout"}
    assert json.loads((await thief.get("/")).body)["ended"] is None  # once: its cookies are gone


@in_both_places
async def test_current_login_gives_what_was_remembered_or_forgotten_in_this_request(place: str) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(current_login())
        remember_login(scope, sub="alice", provider="a")
        seen.append(current_login(scope))
        forget_login()
        seen.append(current_login())
        await PlainTextResponse("done")(scope, receive, send)

    assert (await call(wrap(app, place), http_scope("/"))).all("set-cookie") == []
    assert seen == [None, Login("a", sub="alice"), None]


@in_both_places
async def test_forget_login_drops_the_login_and_ends_nothing(place: str) -> None:
    store = ForeignStore()
    site = Site(place, store=store, freshness=60)
    browser = await site.signed_in()
    before = browser.copy()
    assert (await browser.get("/forget")).body == b"forgotten"
    assert store.names("ended:") == store.names("login:") == []
    assert site.handle(browser) is None
    assert json.loads((await browser.get("/")).body) == {"user": "password-user", "login": None, "ended": None}
    # Who was signed in before is not signed out by it.
    assert await site.who(before) in ("alice", "password-user")
    # With two providers and no login nobody is sent anywhere.
    assert (await browser.post("/logout")).header("location") == "/bye"


async def test_current_login_is_forgotten_with_the_login() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/login":
            remember_login(sub="alice", provider="a")
        else:
            seen.append(current_login())
            forget_login()
            seen.append(current_login())
        await PlainTextResponse("done")(scope, receive, send)

    browser = Browser(wrap(app, "outside"))
    await browser.get("/login")
    await browser.get("/forget")
    assert seen == [Login("a", sub="alice", iss="https://a.example"), None]


# Mounts


async def test_two_mounts_never_mix_up_their_cookies() -> None:
    sites = {name: Site("outside", session_cookie=f"{name}_session") for name in ("one", "two")}
    app = Starlette(routes=[Mount(f"/{name}", site.app) for name, site in sites.items()])
    browser = Browser(app)
    for name, user, provider in (("one", "alice", "a"), ("two", "bob", "b")):
        await browser.get(f"/{name}/login?user={user}&provider={provider}")
    own = [name for name in browser.cookies if name.startswith("rp_login")]
    assert len(own) == 2
    host, query = destination(await browser.post("/one/logout"))
    assert (host, query["id_token_hint"]) == ("a.example", id_token("alice", pad=""))
    assert len([name for name in browser.cookies if name.startswith("rp_login")]) == 1
    assert json.loads((await browser.get("/two/")).body)["login"] == ["b", "bob", "s1"]
    assert destination(await browser.post("/two/logout"))[0] == "b.example"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_companion_cookie_is_out_of_reach_of_scripts_and_other_sites(scheme: str) -> None:
    site = Site("outside", session_lifetime=1000)
    answer = await call(site.app, http_scope("/login", scheme=scheme))
    prefix, suffix = ("__Host-", "; Secure") if scheme == "https" else ("", "")
    (line,) = answer.set_cookies()[f"{prefix}rp_login"]
    assert line.partition("; ")[2] == f"Path=/; Max-Age=1000; HttpOnly; SameSite=Lax{suffix}"


async def test_the_companion_is_set_again_with_each_session_cookie() -> None:
    """So that it lives as long as a session that is renewed while it is used."""
    site = Site("outside")
    browser = await site.signed_in()
    handle = site.handle(browser)

    async def rolling(scope: Any, receive: Any, send: Any) -> None:
        response = PlainTextResponse("hello")
        response.set_cookie("session", browser.cookies["session"], max_age=1000)
        response.set_cookie("theme", "dark")
        await response(scope, receive, send)

    app = RPLogoutMiddleware(rolling, providers=providers(), store=site.store)
    answer = await Browser(app, browser.cookies).get("/")
    assert answer.cookies() == {"session": browser.cookies["session"], "theme": "dark", "rp_login": handle}


async def test_a_session_that_cannot_be_read_counts_as_none() -> None:
    class Lazy(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            raise RuntimeError("not loaded yet")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/callback":
            remember_login(scope, id_token=TOKEN)
        await RedirectResponse("/bye", 303)(scope, receive, send)

    wrapped = RPLogoutMiddleware(app, providers=providers())
    answer = await call(wrapped, http_scope("/callback", session=Lazy()))
    cookie = {"cookie": f"rp_login={answer.cookies()['rp_login']}"}
    logout = await call(wrapped, http_scope("/logout", "POST", cookie, session=Lazy()))
    assert destination(logout) == ("b.example", HINT)


async def test_a_session_cookie_that_changes_during_a_login_is_warned_of_once(log: Any) -> None:
    """Copies of its earlier values outlive the logout if the session is in the cookie."""

    async def visit(request: Request) -> Response:
        request.session["n"] = request.session.get("n", 0) + 1
        return PlainTextResponse("ok")

    async def callback(request: Request) -> Response:
        request.session["user"] = "bob"
        remember_login(request, id_token=TOKEN)
        return PlainTextResponse("welcome")

    routes = [Route("/callback", callback), Route("/visit", visit)]
    signed = Starlette(routes=routes, middleware=[Middleware(SessionMiddleware, secret_key="secret")])
    browser = Browser(RPLogoutMiddleware(signed, providers=providers()))
    await browser.get("/callback")
    assert log() == []
    for _ in range(3):
        await browser.get("/visit")
    assert len(log()) == 1
    assert log()[0].startswith("the session cookie 'session' changed its value during a login")
    assert "inside the session middleware" in log()[0]
    assert browser.cookies["session"] not in log()[0]
    await Site("outside").signed_in()
    await Site(INSIDE).signed_in()
    assert len(log()) == 1


async def test_a_login_knows_its_provider_by_the_issuer_alone() -> None:
    """The hook and the page are told a name, though the application named none."""
    events: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/login":
            remember_login(scope, iss="https://b.example", sub="alice")
        await RedirectResponse("/", 303)(scope, receive, send)

    browser = Browser(RPLogoutMiddleware(app, providers=providers(), on_logout=events.append))
    await browser.get("/login")
    await browser.post("/logout")
    assert [(event.how, event.provider, event.iss) for event in events] == [("logout", "b", "https://b.example")]
