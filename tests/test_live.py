"""WebSockets and streams over real connections: they end with their login, and nothing else is touched."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import urlencode

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

from asgi_rp_logout import (
    Login,
    MemoryStore,
    OIDCProvider,
    RPLogoutMiddleware,
    current_login,
    end_logins,
    remember_login,
)
from asgi_rp_logout.context import notice_login
from asgi_rp_logout.logins.live import TASK_NAME
from tests.asgi import Answer, call, http_scope
from tests.conftest import RedisServer, Serve
from tests.places import INSIDE, Browser, ForeignStore, in_both_places, providers
from tests.stub_provider import StubProvider
from tests.tokens import id_token
from tests.workers import wait_until

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
    """Stream without end, as server-sent events do; `silent`: only the first event ever comes, `idle`: none."""

    async def body() -> Any:
        if "idle" in request.query_params:
            await anyio.sleep_forever()
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
def test_a_stream_that_has_sent_only_its_headers_is_ended_too(serve: Serve, visitors: Any, place: str) -> None:
    alice = visitors(serve(make_app(place, MemoryStore())))
    alice.sign_in()
    with alice.http.stream("GET", "/events?idle") as mine:
        assert mine.status_code == 200
        alice.log_out()
        assert list(mine.iter_raw()) == []


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
def test_with_a_moment_the_connections_of_later_logins_go_on_at_every_server(
    serve: Serve, visitors: Any, redis_server: RedisServer, place: str
) -> None:
    """Also if an old moment is named once more, by a process of its own."""
    here, there = (serve(make_app(place, RedisStore(url=redis_server.url))) for _ in range(2))
    before, after = visitors(here), visitors(there)
    before.sign_in()
    moment = time.time()
    wait_until(lambda: int(time.time()) > moment)
    after.sign_in(sid="s2")

    async def end_up_to_the_moment() -> None:
        async with RedisStore(url=redis_server.url) as store:
            await end_logins(iss="https://a.example", sub="alice", not_after=moment, store=store)

    with before.socket() as old, after.socket() as new, after.http.stream("GET", "/events") as stream:
        assert (old.recv(timeout=SOON), new.recv(timeout=SOON)) == ("alice alice", "alice alice")
        asyncio.run(end_up_to_the_moment())
        assert closed_with(old) == 4401
        asyncio.run(end_up_to_the_moment())
        other = visitors(there)
        other.sign_in(sid="s3")
        with other.socket() as another:  # that it is closed shows that this server has looked at all connections
            another.recv(timeout=SOON)
            other.log_out(here)
            assert closed_with(another) == 4401
        new.send("still here")
        assert new.recv(timeout=SOON) == "still here"
        assert next(stream.iter_lines()) == "data: 0"


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


# In process: the exact messages, in their order

SIGNED_OUT = {"type": "websocket.close", "code": 4401, "reason": "signed out"}
DISCONNECT = {"type": "websocket.disconnect", "code": 4401, "reason": "signed out"}
END = {"type": "http.response.body", "body": b"", "more_body": False}

Script = Callable[[Any, Any], Awaitable[None]]


async def until(happened: Callable[[], object]) -> None:
    with anyio.fail_after(SOON):
        while not happened():
            await anyio.sleep(0.01)


async def listen(receive: Any, send: Any) -> None:
    """Accept a WebSocket, and wait until it is gone."""
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


class Live:
    """A server's side of a live connection; its client says nothing more."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.delay = 0.0
        self._requests: list[Any] = [{"type": "websocket.connect"}]

    async def receive(self) -> Any:
        if not self._requests:
            await anyio.sleep_forever()
        return self._requests.pop()

    async def send(self, message: Any) -> None:
        await anyio.sleep(self.delay)
        self.sent.append(message)


class House:
    """An application with a login and a logout; what it does at other paths is a script's affair."""

    def __init__(self, **options: Any) -> None:
        self.scripts: dict[str, Script] = {"/live": listen}
        self.app = RPLogoutMiddleware(self._app, **{"providers": providers(), "freshness": 0, **options})
        self.watch = self.app._dispatcher.services.live

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] in self.scripts:
            await self.scripts[scope["path"]](receive, send)
            return
        if scope["path"] == "/login":
            sid = scope["query_string"].decode() or "s1"
            remember_login(scope, id_token=id_token(iss=ISSUER, sid=sid))
        if scope["path"] == "/everywhere":
            await end_logins(scope)
        await PlainTextResponse("", 303 if scope["path"] == "/logout" else 200)(scope, receive, send)

    async def signed_in(self) -> Browser:
        browser = Browser(self.app)
        await browser.get("/login")
        return browser

    async def serve(self, live: Live, browser: Browser, path: str = "/live", method: str = "") -> None:
        """Serve a WebSocket, or a request if a method is named."""
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        scope = http_scope(path, method, {"cookie": cookie})
        await self.app(scope if method else {**scope, "type": "websocket", "scheme": "ws"}, live.receive, live.send)

    def watched(self) -> Any:
        return self.watch._watched.get()


ISSUER = "https://op.example/"


async def test_an_application_that_waits_for_its_client_learns_that_it_is_gone() -> None:
    """The close frame is out before the application's return lets the server close in its own way."""
    house, live, got = House(), Live(), []
    alice = await house.signed_in()

    async def wait(receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        live.delay = 0.3
        got.extend([await receive(), await receive()])
        raise OSError("the client is gone")

    house.scripts["/live"] = wait
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alice.post, "/logout")
        with anyio.fail_after(SOON):
            await house.serve(live, alice)
        assert live.sent == [{"type": "websocket.accept"}, SIGNED_OUT]
    assert got == [DISCONNECT, DISCONNECT]


async def test_the_end_of_a_stream_is_out_before_its_application_returns() -> None:
    """Else the server would break the response off."""
    house, live = House(), Live()
    alice = await house.signed_in()
    start = {"type": "http.response.start", "status": 200, "headers": []}

    async def stream(receive: Any, send: Any) -> None:
        await send(start)
        live.delay = 0.3
        with contextlib.suppress(OSError):
            while True:
                await anyio.sleep(0.01)
                await send({"type": "http.response.debug"})

    house.scripts["/events"] = stream
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alice.post, "/logout")
        with anyio.fail_after(SOON):
            await house.serve(live, alice, "/events", "GET")
        assert live.sent[-1] == END


@pytest.mark.parametrize("trailers", [False, True])
async def test_the_first_event_after_the_end_does_not_go_out(trailers: bool) -> None:
    house, live, event, failed = House(), Live(), anyio.Event(), []
    alice = await house.signed_in()
    start = {"type": "http.response.start", "status": 200, "headers": [], **({"trailers": True} if trailers else {})}

    async def stream(receive: Any, send: Any) -> None:
        await send(start)
        await event.wait()
        try:
            await send({"type": "http.response.body", "body": b"a secret", "more_body": True})
        except OSError as error:
            failed.append(error)
            raise

    house.scripts["/events"] = stream
    rest = [END, {"type": "http.response.trailers", "headers": [], "more_trailers": False}][: 1 + trailers]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.serve, live, alice, "/events", "GET")
        await until(lambda: live.sent)
        await alice.post("/logout")
        await until(lambda: len(live.sent) == 1 + len(rest))
        event.set()
    assert live.sent == [start, *rest]
    assert len(failed) == 1


@pytest.mark.parametrize(
    ("method", "status", "headers", "ends"),
    [
        ("HEAD", 200, [], "another request"),
        ("GET", 204, [], "another request"),
        ("GET", 304, [], "another request"),
        ("GET", 200, [(b"Content-Length", b"1")], "another request"),
        ("POST", 200, [(b"x-rp-logout", b"local")], "this answer"),
        ("GET", 200, [], "the login that this answer is"),
        ("GET", 200, [], "a login that is noticed"),
    ],
)
async def test_what_is_no_stream_of_that_login_is_let_through_to_its_end(
    method: str, status: int, headers: Any, ends: str
) -> None:
    """A WebSocket of the same login shows that the watch has looked."""
    house, live, control = House(), Live(), Live()
    alice = await house.signed_in()

    async def answer(receive: Any, send: Any) -> None:
        if ends == "the login that this answer is":
            remember_login(id_token=id_token(sid="s2"))
        if ends == "a login that is noticed":
            notice_login(Login(id_token=id_token(sid="s2")))
            headers.append((b"set-cookie", b"session=0123456789abcdef"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if ends == "another request":
            await alice.post("/logout")
        await until(lambda: SIGNED_OUT in control.sent)
        await send({"type": "http.response.body", "body": b"x"})

    house.scripts["/answer"] = answer
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.serve, control, alice)
        await until(lambda: control.sent)
        await house.serve(live, alice, "/answer", method)
    assert [message["type"] for message in live.sent] == ["http.response.start", "http.response.body"]
    assert live.sent[1]["body"] == b"x"


async def test_a_stream_that_was_opened_while_the_store_was_down_ends_as_well() -> None:
    store = ForeignStore()
    house, live = House(store=store), Live()
    alice = await house.signed_in()

    async def stream(receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await anyio.sleep_forever()

    house.scripts["/events"] = stream
    store.trouble = "raise"
    house.app._dispatcher.services.registry._cache.logins.entries.clear()  # nothing is known of anybody
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.serve, live, alice, "/events", "GET")
        await until(lambda: live.sent)
        store.trouble = None
        await alice.post("/logout")
        await until(lambda: END in live.sent)
        tasks.cancel_scope.cancel()


async def test_a_websocket_over_tls_belongs_to_the_login_of_its_https_cookie() -> None:
    house, live, seen = House(), Live(), []

    async def look(receive: Any, send: Any) -> None:
        seen.append(current_login())
        await listen(receive, send)

    house.scripts["/live"] = look
    cookies = (await call(house.app, http_scope("/login", scheme="https"))).cookies()
    assert list(cookies) == ["__Host-rp_login"]
    headers = {"cookie": f"__Host-rp_login={cookies['__Host-rp_login']}"}
    socket = {**http_scope("/live", headers=headers), "type": "websocket", "scheme": "wss"}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.app, socket, live.receive, live.send)
        await until(lambda: live.sent)
        await call(house.app, http_scope("/logout", "POST", headers, scheme="https"))
        await until(lambda: SIGNED_OUT in live.sent)
    assert [login.sub if login else None for login in seen] == ["alice"]


async def by_logout(there: House, alice: Browser, stub: StubProvider) -> Answer:
    return await alice.post("/logout")


async def by_a_new_login(there: House, alice: Browser, stub: StubProvider) -> Answer:
    return await alice.get("/login?s2")


async def by_logout_token(there: House, alice: Browser, stub: StubProvider) -> Answer:
    form = {"content-type": "application/x-www-form-urlencoded"}
    body = urlencode({"logout_token": stub.make_logout_token()}).encode()
    return await call(there.app, http_scope("/backchannel", "POST", form), body)


async def by_frame(there: House, alice: Browser, stub: StubProvider) -> Answer:
    return await call(there.app, http_scope(f"/frontchannel?{urlencode({'iss': ISSUER, 'sid': 's1'})}"))


async def by_frame_with_cookies(there: House, alice: Browser, stub: StubProvider) -> Answer:
    return await alice.get("/frontchannel", sec_fetch_dest="iframe")


async def by_a_call_for_all_devices(there: House, alice: Browser, stub: StubProvider) -> Answer:
    return await alice.get("/everywhere")


WAYS_TO_END = [by_logout, by_a_new_login, by_logout_token, by_frame, by_frame_with_cookies, by_a_call_for_all_devices]


@pytest.mark.parametrize("end", WAYS_TO_END)
async def test_every_way_to_end_a_login_is_news_to_every_worker(end: Any) -> None:
    """Without news the other worker would find the end only when it looks at everybody, which it does not do here."""
    stub, store, other = StubProvider(ISSUER, "rp"), ForeignStore(), ForeignStore()
    other.inner = store.inner  # what is one object is one process
    async with stub.client() as client:
        options: dict[str, Any] = {
            "providers": [OIDCProvider(ISSUER, "rp")],
            "http_client": client,
            "backchannel_path": "/backchannel",
            "frontchannel_path": "/frontchannel",
            "frontchannel_session_required": False,
        }
        here, there = House(store=store, **options), House(store=other, **options)
        here.watch.everybody_after = 1e9
        alice, live = await there.signed_in(), Live()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(here.serve, live, alice)
            await until(lambda: live.sent and not here.watched().new)
            reads = store.reads
            await until(lambda: store.reads > reads + 1)  # the look at a new connection is over
            answer = await end(there, alice, stub)
            assert answer.status in (200, 303)
            await until(lambda: SIGNED_OUT in live.sent)


# Nothing is added


@in_both_places
async def test_nothing_is_added_to_a_connection_without_a_login(place: str) -> None:
    server, given = Live(), []

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
    assert watching_tasks() == []


def watching_tasks() -> list[Any]:
    """Give the tasks of this event loop that look at connections."""
    return [task for task in asyncio.all_tasks() if task.get_name() == TASK_NAME]


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
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(browser.get, "/events")
        await until(watching_tasks)
        go_on.set()
    await until(lambda: not watching_tasks())


@pytest.mark.parametrize("method", ["GET", ""])
async def test_an_error_of_the_application_in_a_live_connection_is_its_own(method: str) -> None:
    """The connection's end hides what comes after it, and only that. And nothing is watched any longer."""
    house, live = House(), Live()
    alice = await house.signed_in()
    first = {"type": "http.response.start", "status": 200, "headers": []} if method else {"type": "websocket.accept"}

    async def fail(receive: Any, send: Any) -> None:
        await send(first)
        raise ZeroDivisionError

    house.scripts["/live"] = fail
    with pytest.raises(ZeroDivisionError):
        await house.serve(live, alice, method=method)
    assert live.sent == [first]
    assert house.watched().all == house.watched().new == set()


async def test_a_dead_cookie_beside_a_living_login_ends_no_connection() -> None:
    """Two browsers may hold the same signed cookie, made in the same second; the login is what counts."""
    house, mine, theirs = House(), Live(), Live()

    async def sign_in(receive: Any, send: Any) -> None:
        remember_login(id_token=id_token())
        answer = PlainTextResponse("")
        answer.set_cookie("session", "the-very-same-value")
        await answer({"type": "http"}, receive, send)

    house.scripts["/login"] = sign_in
    alice, other = await house.signed_in(), await house.signed_in()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.serve, theirs, other)
        await until(lambda: theirs.sent)
        await other.post("/logout")
        tasks.start_soon(house.serve, mine, alice)
        await until(lambda: SIGNED_OUT in theirs.sent and mine.sent)  # the watch has looked
        assert SIGNED_OUT not in mine.sent
        alice.cookies.pop("session")
        await alice.post("/logout")
        await until(lambda: SIGNED_OUT in mine.sent)


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
