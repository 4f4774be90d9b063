"""WebSockets and streams over real connections: they end with their login, and nothing else is touched."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx
import pytest
from key_value.aio.stores.redis import RedisStore
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from asgi_rp_logout import MemoryStore, RPLogoutMiddleware, current_login, remember_login
from tests.conftest import RedisServer, Serve
from tests.places import INSIDE, Browser, ForeignStore, id_token, in_both_places, providers
from tests.virtual_time import in_virtual_time

SOON = 20.0
"""Seconds after which something that has to happen within a quarter of one has not happened."""


async def login(request: Request) -> Response:
    request.session["user"] = "alice"
    remember_login(request, {"id_token": id_token(sid=request.query_params.get("sid", "s1"))}, provider="a")
    return PlainTextResponse("welcome")


async def logout(request: Request) -> Response:
    request.session.clear()
    return RedirectResponse("/bye", 303)


async def socket(websocket: WebSocket) -> None:
    """Say who is there, then echo."""
    await websocket.accept()
    signed_in = current_login(websocket)
    await websocket.send_text(f"{websocket.session.get('user')} {signed_in.sub if signed_in else None}")
    async for text in websocket.iter_text():
        await websocket.send_text(text)


async def events(request: Request) -> Response:
    """Stream without end, as server-sent events do; `silent`: only the first event ever comes."""

    async def body() -> Any:
        yield b"data: 0\n\n"
        while True:
            await anyio.sleep(60 if "silent" in request.query_params else 0.02)
            yield b"data: more\n\n"

    return StreamingResponse(body(), media_type="text/event-stream")


async def download(request: Request) -> Response:
    """Stream a file whose length is known, slowly."""

    async def body() -> Any:
        for _ in range(60):
            yield b"x" * 10
            await anyio.sleep(0.02)

    return StreamingResponse(body(), headers={"content-length": "600"})


ROUTES = [
    Route("/login", login),
    Route("/logout", logout, methods=["POST"]),
    Route("/events", events),
    Route("/download", download),
    WebSocketRoute("/socket", socket),
]


def make_app(place: str, store: Any, **options: Any) -> ASGIApp:
    """Make the application; outside, too, it has signed sessions, which the companion cookie goes beside."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        yield
        if isinstance(store, RedisStore):
            await store.close()

    sessions = Middleware(SessionMiddleware, secret_key="secret")
    ours = {"providers": providers(), "store": store, "freshness": 0.05, **options}
    if place == INSIDE:
        return Starlette(
            routes=ROUTES, middleware=[sessions, Middleware(RPLogoutMiddleware, **ours)], lifespan=lifespan
        )
    return RPLogoutMiddleware(Starlette(routes=ROUTES, middleware=[sessions], lifespan=lifespan), **ours)


class Visitor:
    """A browser over real connections, at one of the servers that share a store."""

    def __init__(self, url: str) -> None:
        self.url, self.http = url, httpx.Client(base_url=url, timeout=SOON)

    @property
    def headers(self) -> dict[str, str]:
        return {"cookie": "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())}

    def sign_in(self, sid: str = "s1") -> None:
        assert self.http.get("/login", params={"sid": sid}).text == "welcome"

    def log_out(self, url: str | None = None) -> None:
        """Log out, at another server if one is named."""
        assert httpx.post(f"{url or self.url}/logout", headers=self.headers).status_code == 303

    def socket(self) -> ClientConnection:
        return connect(f"{self.url.replace('http', 'ws', 1)}/socket", additional_headers=self.headers)


@pytest.fixture
def visitors() -> Iterator[Any]:
    made: list[Visitor] = []

    def make(url: str) -> Visitor:
        made.append(Visitor(url))
        return made[-1]

    yield make
    for visitor in made:
        visitor.http.close()


def closed_with(connection: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosed) as caught:
        connection.recv(timeout=SOON)
    return caught.value.rcvd.code if caught.value.rcvd else None


@in_both_places
def test_a_websocket_is_closed_with_4401_when_its_login_ends(serve: Serve, visitors: Any, place: str) -> None:
    url = serve(make_app(place, MemoryStore()))
    alice, other = visitors(url), visitors(url)
    alice.sign_in()
    other.sign_in(sid="s2")
    with alice.socket() as mine, other.socket() as theirs:
        assert (mine.recv(timeout=SOON), theirs.recv(timeout=SOON)) == ("alice alice", "alice alice")
        mine.send("before")
        assert mine.recv(timeout=SOON) == "before"
        alice.log_out()
        assert closed_with(mine) == 4401
        theirs.send("still here")
        assert theirs.recv(timeout=SOON) == "still here"


@in_both_places
@pytest.mark.parametrize("query", ["", "?silent"])
def test_a_stream_is_ended_properly_when_its_login_ends(serve: Serve, visitors: Any, place: str, query: str) -> None:
    url = serve(make_app(place, MemoryStore()))
    alice, other = visitors(url), visitors(url)
    alice.sign_in()
    other.sign_in(sid="s2")
    with alice.http.stream("GET", f"/events{query}") as mine, other.http.stream("GET", "/events") as theirs:
        lines, others = mine.iter_lines(), theirs.iter_lines()
        assert next(lines) == next(others) == "data: 0"
        alice.log_out()
        assert "data: 1" not in list(lines)  # to its end, and without an error
        assert [next(others) for _ in range(5)]


@in_both_places
def test_a_login_that_ends_at_another_server_ends_its_connections_here(
    serve: Serve, visitors: Any, redis_server: RedisServer, place: str
) -> None:
    here, there = (serve(make_app(place, RedisStore(url=redis_server.url))) for _ in range(2))
    alice = visitors(here)
    alice.sign_in()
    with alice.socket() as mine, alice.http.stream("GET", "/events?silent") as stream:
        assert mine.recv(timeout=SOON) == "alice alice"
        lines = stream.iter_lines()
        assert next(lines) == "data: 0"
        alice.log_out(there)
        assert closed_with(mine) == 4401
        assert "data: more" not in list(lines)


@in_both_places
def test_a_new_login_ends_the_connections_of_the_old_one(serve: Serve, visitors: Any, place: str) -> None:
    alice = visitors(serve(make_app(place, MemoryStore())))
    alice.sign_in()
    with alice.socket() as mine:
        mine.recv(timeout=SOON)
        alice.sign_in(sid="s2")
        assert closed_with(mine) == 4401


@in_both_places
def test_a_dead_cookie_opens_a_websocket_for_an_anonymous_visitor(serve: Serve, visitors: Any, place: str) -> None:
    alice = visitors(serve(make_app(place, MemoryStore())))
    alice.sign_in()
    alice.log_out()
    with alice.socket() as mine:
        assert mine.recv(timeout=SOON) == "None None"


@pytest.mark.slow
@in_both_places
@pytest.mark.parametrize("beside", ["", "rp_later"])
def test_a_download_whose_length_is_known_is_let_through_to_its_end(
    serve: Serve, visitors: Any, place: str, beside: str
) -> None:
    """Also where the request has more about it: here a cookie of a deferred logout that there is not."""
    alice = visitors(serve(make_app(place, MemoryStore())))
    alice.sign_in()
    if beside:
        alice.http.cookies.set(beside, "nothing")
    got = b""
    with alice.http.stream("GET", "/download") as response, alice.socket() as mine:
        mine.recv(timeout=SOON)
        chunks = response.iter_raw()
        got += next(chunks)
        alice.log_out()
        assert closed_with(mine) == 4401  # the watch has looked by now
        assert len(got) < 600
        got += b"".join(chunks)
    assert got == b"x" * 600


@pytest.mark.slow
@in_both_places
def test_connections_survive_an_outage_of_the_store(
    serve: Serve, visitors: Any, redis_server: RedisServer, place: str
) -> None:
    alice = visitors(serve(make_app(place, RedisStore(url=redis_server.url))))
    alice.sign_in()
    with alice.socket() as mine:
        mine.recv(timeout=SOON)
        redis_server.kill()
        threading.Event().wait(0.6)  # the watch looks twice, in vain
        mine.send("still here")
        assert mine.recv(timeout=SOON) == "still here"
        alice.log_out()  # the store does not take it, but this process knows
        assert closed_with(mine) == 4401


# Nothing is added


class Messages:
    """A server's side of one connection, which keeps what was sent and by whom."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.send_given: Any = None

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def receive(self) -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}


@in_both_places
async def test_nothing_is_added_to_a_connection_without_a_login(place: str) -> None:
    server, given = Messages(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        given.append(send)
        await send({"type": "websocket.accept"})

    store = ForeignStore()
    wrapped = RPLogoutMiddleware(app, providers=providers(), store=store)
    scope: dict[str, Any] = {"type": "websocket", "path": "/", "headers": [], "scheme": "ws"}
    if place == INSIDE:
        scope["session"] = {}
    await wrapped(scope, server.receive, server.send)
    assert given == [server.send]
    assert server.sent == [{"type": "websocket.accept"}]
    assert store.calls == {}
    assert wrapped._attendant._watch._task is None


async def test_no_task_is_left_when_the_last_connection_has_closed() -> None:
    """A watch only runs while there is something to watch."""
    go_on = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/login":
            remember_login(scope, id_token=id_token())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"x", b"y"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if scope["path"] == "/events":
            await go_on.wait()
        await send({"type": "http.response.body", "body": b"y"})

    wrapped = RPLogoutMiddleware(app, providers=providers(), freshness=0.01)
    browser = Browser(wrapped)
    await browser.get("/login")
    watch = wrapped._attendant._watch
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(browser.get, "/events")
        with anyio.fail_after(SOON):
            while not watch._connections:
                await anyio.sleep(0.01)
        assert len(watch._connections) == 1
        go_on.set()
    assert watch._connections == set()
    with anyio.fail_after(SOON):
        await watch._task


async def test_an_error_of_the_application_in_a_stream_is_its_own() -> None:
    """The connection's end hides what comes after it, and only that."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/login":
            remember_login(scope, id_token=id_token())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": scope["path"] != "/login"})
        if scope["path"] == "/events":
            raise ZeroDivisionError

    browser = Browser(RPLogoutMiddleware(app, providers=providers()))
    await browser.get("/login")
    with pytest.raises(ZeroDivisionError):
        await browser.get("/events")


@in_virtual_time
async def test_a_dead_cookie_beside_a_living_login_ends_no_connection() -> None:
    """Two browsers may hold the same signed cookie, made in the same second; the login is what counts."""
    closed: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            with anyio.fail_after(SOON):
                while not closed:
                    await anyio.sleep(0.01)
            return
        if scope["path"] == "/login":
            remember_login(scope, id_token=id_token())
        await PlainTextResponse("", 303 if scope["method"] == "POST" else 200)(scope, receive, send)

    async def send(message: Any) -> None:
        if message["type"] == "websocket.close":
            closed.append(message["code"])

    wrapped = RPLogoutMiddleware(app, providers=providers(), freshness=0)
    browsers = [Browser(wrapped, {"session": "the-very-same-value"}) for _ in range(2)]
    for browser in browsers:
        await browser.get("/login")
    headers = [(b"cookie", f"session=the-very-same-value; rp_login={browsers[0].cookies['rp_login']}".encode())]
    scope = {"type": "websocket", "path": "/", "headers": headers, "scheme": "ws"}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wrapped, scope, Messages().receive, send)
        await browsers[1].post("/logout")
        await anyio.sleep(0.6)  # the watch has looked twice
        assert closed == []
        browsers[0].cookies.pop("session")
        await browsers[0].post("/logout")
    assert closed == [4401]


def test_a_body_in_many_pieces_comes_through_unchanged(serve: Serve, visitors: Any) -> None:
    pieces = [json.dumps(number).encode() * 100 for number in range(200)]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/login":
            remember_login(scope, id_token=id_token())
            await PlainTextResponse("welcome")(scope, receive, send)
        else:
            await StreamingResponse(iter(pieces))(scope, receive, send)

    alice = visitors(serve(RPLogoutMiddleware(app, providers=providers()), lifespan="off"))
    alice.sign_in()
    assert alice.http.get("/").content == b"".join(pieces)
