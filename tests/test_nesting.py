"""Several middlewares: one around another, and side by side."""

from __future__ import annotations

import logging
import secrets
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_rp_logout import (
    Login,
    MemoryStore,
    RPLogoutMiddleware,
    StaticProvider,
    current_login,
    remember_login,
    rp_logout,
)
from tests.apps import COOKIE, guarded, log_out, page, signs_out
from tests.asgi import call, http_scope
from tests.conftest import Log
from tests.places import Browser, destination, providers
from tests.tokens import id_token

INNER, OUTER = "https://inner.example/end", "https://outer.example/end"


def nested(app: ASGIApp, inner: dict[str, Any] | None = None, outer: dict[str, Any] | None = None) -> ASGIApp:
    within = guarded(app, **{"providers": [StaticProvider(INNER, name="in")], **(inner or {})})
    return guarded(within, **{"providers": [StaticProvider(OUTER, name="out")], **(outer or {})})


def host(answer: Any) -> str | None:
    """Give the first label of the host that an answer leads to, None for a path."""
    return (answer.header("location") or "").partition("//")[2].partition(".")[0] or None


@pytest.mark.parametrize("app", [signs_out(), signs_out("/x", ("x-rp-logout", "1"))])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_inner_one_that_handled_a_logout_is_passed_on_by_the_outer(app: ASGIApp, method: str) -> None:
    answer = await log_out(nested(app), method=method)
    assert host(answer) == "inner"
    assert all(len(lines) == 1 for lines in answer.set_cookies().values())


async def test_an_inner_one_that_finds_no_provider_has_handled_the_logout_as_well(log: Log) -> None:
    """Else the outer one's provider would get a user that is none of its own."""
    answer = await log_out(nested(signs_out(), inner={"providers": []}))
    assert (answer.header("location"), len(log())) == ("/login", 1)


async def test_an_inner_local_logout_stays_local() -> None:
    answer = await log_out(nested(signs_out("/x", ("x-rp-logout", "local"))))
    assert answer.header("location") == "/x"


async def test_a_logout_that_the_inner_one_does_not_see_is_the_outer_ones() -> None:
    app = nested(signs_out(), {"logout_path": "/in"}, {"logout_path": "/out"})
    for path, expected in (("/in", "inner"), ("/out", "outer"), ("/logout", None)):
        assert host(await log_out(app, path, headers={"cookie": f"session={path * 4}"})) == expected, path


async def test_a_decorator_is_heard_by_the_innermost() -> None:
    @rp_logout
    def endpoint(request: Request) -> Response:
        return RedirectResponse("/", 303)

    app = Starlette(routes=[Route("/bye", endpoint, methods=["POST"])])
    assert host(await log_out(nested(app), "/bye")) == "inner"


async def test_three_deep() -> None:
    assert host(await log_out(guarded(nested(signs_out())))) == "inner"


async def test_what_is_no_logout_passes_through_both_unchanged() -> None:
    app = page(200, [("set-cookie", "session=1"), ("x-a", "1")])
    for path in ("/", "/logout"):
        assert (await log_out(nested(app), path, "GET")).messages == (await log_out(app, path, "GET")).messages


async def test_one_scope_can_be_handed_in_twice() -> None:
    """As by an application that tries another handler after the first; nothing of the first time is left."""
    guard = guarded(signs_out())
    scope = http_scope("/logout", "POST", {"cookie": COOKIE})
    assert host(await call(guard, scope)) == "id"
    scope["headers"] = [(b"host", b"127.0.0.1"), (b"cookie", b"session=another-session-0000")]
    assert host(await call(guard, scope)) == "id"


# Side by side: two mounts of one origin


async def sign_in(request: Request) -> Response:
    remember_login(request, provider=request.query_params["at"], id_token=request.query_params["at"])
    return Response()


async def who(request: Request) -> Response:
    login = current_login(request)
    return Response(login.provider if login else "nobody")


async def sign_out(request: Request) -> Response:
    return RedirectResponse("bye", 303)


def two_mounts(scheme: str) -> ASGIApp:
    def one(name: str) -> ASGIApp:
        routes = [Route("/in", sign_in), Route("/who", who), Route("/logout", sign_out, methods=["POST"])]
        return guarded(Starlette(routes=routes), providers=[StaticProvider(f"https://{name}.example/end", name=name)])

    return Starlette(routes=[Mount("/red", app=one("red")), Mount("/blue", app=one("blue"))])


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_two_mounts_never_mix_up_their_cookies(scheme: str) -> None:
    """__Host- cookies have no path, so that the names have to differ."""
    app, jar = two_mounts(scheme), dict[str, str]()

    async def visit(path: str, method: str = "GET") -> Any:
        headers = {"cookie": "; ".join(f"{name}={value}" for name, value in jar.items())} if jar else {}
        answer = await call(app, http_scope(path, method, headers, scheme=scheme))
        for name in answer.expired():
            jar.pop(name, None)
        jar.update(answer.cookies())
        return answer

    await visit("/red/in?at=red")
    await visit("/blue/in?at=blue")
    assert len(jar) == 2
    assert all(name.startswith("__Host-") is (scheme == "https") for name in jar)
    assert [(await visit(f"/{name}/who")).body for name in ("red", "blue")] == [b"red", b"blue"]
    assert host(await visit("/red/logout", "POST")) == "red"
    assert [(await visit(f"/{name}/who")).body for name in ("red", "blue")] == [b"nobody", b"blue"]
    assert host(await visit("/blue/logout", "POST")) == "blue"
    assert jar == {}


async def test_nested_ones_over_one_store_handle_a_logout_once(log: Log) -> None:
    store = MemoryStore()
    events: list[Any] = []
    common: dict[str, Any] = {"store": store, "on_logout": events.append, "login_source": lambda _: Login("in")}
    answer = await log_out(nested(signs_out(), common, common))
    assert (host(answer), len(events), len(log(logging.INFO))) == ("inner", 1, 1)


# The default store: one for the process


def litestar_app(**options: Any) -> ASGIApp:
    """Make an application that builds its middlewares once for each route."""
    from litestar import Litestar, get, post
    from litestar import Request as LitestarRequest
    from litestar.middleware import DefineMiddleware
    from litestar.middleware.session.client_side import CookieBackendConfig
    from litestar.response import Redirect

    async def login(request: Any) -> Redirect:
        request.session.update(user="alice")
        remember_login(id_token=id_token())
        return Redirect("/")

    async def home(request: Any) -> str:
        return str(request.session.get("user", "nobody"))

    async def logout(request: Any) -> Redirect:
        request.clear_session()
        return Redirect("/", status_code=303)

    for handler, answer in ((login, Redirect), (home, str), (logout, Redirect)):
        handler.__annotations__ = {"request": LitestarRequest, "return": answer}
    ours: Any = RPLogoutMiddleware
    rp_logout = DefineMiddleware(ours, providers=providers(), freshness=60, **options)
    handlers = [get("/login")(login), get("/")(home), post("/logout")(logout)]
    return Litestar(handlers, middleware=[CookieBackendConfig(secret=b"s" * 32).middleware, rp_logout])  # type: ignore[return-value]


def starlette_app(**options: Any) -> ASGIApp:
    """Make an application whose middlewares are built anew for every request."""

    async def login(request: Request) -> Response:
        request.session["user"] = "alice"
        remember_login(request, id_token=id_token())
        return Response()

    async def home(request: Request) -> Response:
        return Response(request.session.get("user", "nobody"))

    async def logout(request: Request) -> Response:
        request.session.clear()
        return RedirectResponse("/", 303)

    routes = [Route("/login", login), Route("/", home), Route("/logout", logout, methods=["POST"])]
    rp_logout = Middleware(RPLogoutMiddleware, providers=providers(), freshness=60, **options)
    inner = Starlette(routes=routes, middleware=[Middleware(SessionMiddleware, secret_key="secret"), rp_logout])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await inner.build_middleware_stack()(scope, receive, send)

    return app


@pytest.mark.parametrize("make", [litestar_app, starlette_app])
@pytest.mark.parametrize("options", [{}, {"store": MemoryStore()}], ids=["default", "one given"])
async def test_the_middlewares_of_one_application_know_each_others_logins(make: Any, options: dict[str, Any]) -> None:
    """And what one has ended is news to all, long before their ``freshness`` is over."""
    app = make(**options)
    browser = Browser(app)
    await browser.get("/login")
    copy = browser.copy()
    assert (await copy.get("/")).body == b"alice"
    host, query = destination(await browser.post("/logout"))
    assert (host, query["id_token_hint"]) == ("a.example", id_token())
    assert (await copy.get("/")).body == b"nobody"


async def test_a_session_cookie_counts_within_one_application_where_no_store_is_given() -> None:
    """One list of providers makes one application; a given store is shared by all to whom it was given."""
    store, same = MemoryStore(), providers()
    for one, other, shared in (
        ({"providers": same}, {"providers": same}, True),
        ({"providers": same}, {"providers": providers()}, False),
        ({"store": store}, {"store": store}, True),
    ):
        cookie = f"session={secrets.token_hex(16)}"
        seen: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send, seen: list[str] = seen) -> None:
            seen.append(Request(scope).headers.get("cookie", "none"))
            await signs_out()(scope, receive, send)

        await log_out(guarded(app, **one), headers={"cookie": cookie})
        await call(guarded(app, **other), http_scope("/", headers={"cookie": cookie}))
        assert seen == [cookie, "none" if shared else cookie]
