"""Several middlewares: one around another, and side by side."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from asgi_rp_logout import Login, MemoryStore, StaticProvider, current_login, remember_login, rp_logout
from tests.apps import COOKIE, guarded, log_out, page, signs_out
from tests.asgi import call, http_scope

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


async def test_an_inner_one_that_finds_no_provider_has_handled_the_logout_as_well(log) -> None:
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


async def test_nested_ones_over_one_store_handle_a_logout_once(log) -> None:
    store = MemoryStore()
    events: list[Any] = []
    common: dict[str, Any] = {"store": store, "on_logout": events.append, "login_source": lambda _: Login("in")}
    answer = await log_out(nested(signs_out(), common, common))
    assert (host(answer), len(events), log(logging.INFO)) == ("inner", 1, [])
