"""How live connections are watched: by one key while nothing happens, without losing an end or waiting for anybody."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from asgi_rp_logout import Login, MemoryStore, StoreError
from asgi_rp_logout.logins.guarded_store import StoreBudget
from asgi_rp_logout.logins.handle import LoginHandle
from asgi_rp_logout.logins.live import Connection, ConnectionEndedError, LiveConnections, WebSocketConnection
from asgi_rp_logout.logins.records import Ended
from asgi_rp_logout.logins.registry import Ending, LoginRegistry
from asgi_rp_logout.protocol.cookies import Cookie, CookieSet
from asgi_rp_logout.store import COLLECTION
from tests.places import ForeignStore

SOON = 20.0
"""Seconds after which something that has to happen within a quarter of one has not happened."""

on_both_event_loops = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


class Reading(ForeignStore):
    """A store of somebody else that notes which keys are read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[list[str]] = []

    async def get_many(self, keys: Any, *, collection: str | None = None) -> Any:
        self.read.append(list(keys))
        return await super().get_many(keys, collection=collection)


async def until(happened: Callable[[], object]) -> None:
    with anyio.fail_after(SOON):
        while not happened():
            await anyio.sleep(0.01)


async def nothing_to_receive() -> Any:
    await anyio.sleep_forever()


class Scene:
    """Two workers with one store; connections are opened at the first one, logins end at the second."""

    def __init__(self, store: Any = None, **watching: Any) -> None:
        self.store: Any = store if store is not None else Reading()
        self.here = self._registry(self.store)
        self.there = self.here
        if store is None:
            other = ForeignStore()
            other.inner = self.store.inner  # what is one object is one process
            self.there = self._registry(other)
        # Nobody is looked at without a reason, unless a test says so.
        self.watch = LiveConnections(self.here, **{"everybody_after": 1e9, **watching})
        self.closed: list[LoginHandle] = []
        self.stuck, self.let_go = 0, anyio.Event()
        self.connections: dict[LoginHandle, WebSocketConnection] = {}

    def _registry(self, store: Any) -> LoginRegistry:
        cookies = CookieSet([Cookie("session")])
        return LoginRegistry(store, session_cookies=cookies, session_lifetime=14 * 24 * 3600, freshness=0)

    @property
    def watched(self) -> Any:
        """What is watched in this event loop."""
        return self.watch._watched.get()

    def open(self, *, reads: bool = True) -> LoginHandle:
        """Open a connection; `reads=False`: its client takes no message."""
        handle = LoginHandle.new(Login(sub="alice"), time.time())

        async def send(message: Any) -> None:
            if not reads:
                self.stuck += 1
                try:
                    await self.let_go.wait()
                finally:
                    self.stuck -= 1
            self.closed.append(handle)

        self.connections[handle] = connection = WebSocketConnection((handle,), nothing_to_receive, send)
        self.watch.add(connection)
        return handle

    async def end(self, *handles: LoginHandle) -> None:
        """End logins at the other worker."""
        for handle in handles:
            await self.there.end(Ending(handle, Ended("logout", time.time())), StoreBudget())

    async def end_without_news(self, handle: LoginHandle) -> None:
        """End a login at the other worker, whose news of it gets lost."""
        tombstone = Ended("logout", time.time()).to_json()
        await self.there.store.store.put(f"ended:{handle.key}", tombstone, collection=COLLECTION)

    async def looked(self) -> None:
        """Wait until the watch has looked around once more."""
        before = len(self.store.read)
        await until(lambda: len(self.store.read) > before)
        await anyio.sleep(0.05)

    async def close(self) -> None:
        """Let everything come to its end, the watch too."""
        self.let_go.set()
        for connection in self.connections.values():
            connection.leave()
        await until(lambda: self.watched.task is None)


@pytest.fixture
async def make_scene() -> AsyncIterator[Callable[..., Scene]]:
    scenes: list[Scene] = []

    def make(*args: Any, **options: Any) -> Scene:
        scenes.append(Scene(*args, **options))
        return scenes[-1]

    yield make
    for scene in scenes:
        await scene.close()


@pytest.fixture
async def scene(make_scene: Callable[..., Scene]) -> Scene:
    return make_scene()


@on_both_event_loops
async def test_while_nothing_ends_one_key_is_read_and_then_all(scene: Scene) -> None:
    handles = [scene.open() for _ in range(3)]
    await scene.looked()
    await scene.looked()
    scene.store.read.clear()
    await scene.looked()
    assert {len(keys) for keys in scene.store.read} == {1}
    await scene.end(handles[1])
    await until(lambda: scene.closed)
    assert scene.closed == [handles[1]]


async def test_a_connection_opened_on_an_old_status_is_looked_at_by_itself(scene: Scene) -> None:
    """Its login ended a moment before, and that news is known already."""
    scene.open()
    await scene.looked()
    await scene.end(LoginHandle.new(Login(sub="bob"), time.time()))
    await scene.looked()
    late = scene.open()
    await scene.end_without_news(late)
    await until(lambda: scene.closed)
    assert scene.closed == [late]


async def test_an_end_whose_news_was_lost_is_found_all_the_same(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(everybody_after=0.6)
    handle = scene.open()
    await scene.looked()
    await scene.looked()
    await scene.end_without_news(handle)
    await until(lambda: scene.closed)
    assert scene.closed == [handle]


async def test_an_end_that_the_store_could_not_give_is_found_at_the_next_look(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The news of it has been read by then, and does not come again."""
    handle = scene.open()
    await scene.looked()
    await scene.looked()
    failed: list[list[str]] = []
    read = scene.here.store.read

    async def fail_once(keys: Any, deadline: StoreBudget) -> Any:
        if not failed and f"ended:{handle.key}" in keys:
            failed.append(list(keys))
            raise StoreError("no answer")
        return await read(keys, deadline)

    monkeypatch.setattr(scene.here.store, "read", fail_once)
    await scene.end(handle)
    await until(lambda: scene.closed)
    assert failed
    assert scene.closed == [handle]


async def test_an_end_is_news_to_everybody_who_shares_a_store_in_this_process(
    make_scene: Callable[..., Scene],
) -> None:
    scene = make_scene(MemoryStore())
    handle, other = scene.open(), scene.open()
    await until(lambda: not scene.watched.new)
    await scene.end(handle)
    await until(lambda: scene.closed)
    assert scene.closed == [handle]
    assert not scene.connections[other].ended


# Nobody waits for anybody


@on_both_event_loops
async def test_a_client_that_takes_no_message_holds_up_no_other_end(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(closing=1e9)
    stuck, other = scene.open(reads=False), scene.open()
    await scene.end(stuck)
    await until(lambda: scene.stuck)
    await scene.end(other)
    await until(lambda: scene.closed)
    assert scene.closed == [other]


@on_both_event_loops
async def test_a_client_that_takes_no_message_is_given_up(make_scene: Callable[..., Scene]) -> None:
    """Its turn is the next one's then, and the application is told."""
    scene = make_scene(closing=0.3, at_once=1)
    stuck = scene.open(reads=False)
    await scene.end(stuck)
    await until(lambda: scene.stuck)
    other = scene.open()
    await scene.end(other)
    await until(lambda: scene.closed)
    assert (scene.closed, scene.stuck) == ([other], 0)
    given_up = scene.connections[stuck]
    with anyio.fail_after(SOON):
        await given_up.closed()
        assert await given_up.receive() == {"type": "websocket.disconnect", "code": 4401, "reason": "signed out"}
        with pytest.raises(ConnectionEndedError):
            await given_up.send({"type": "websocket.send", "text": "too late"})


async def test_only_so_many_connections_are_closed_at_the_same_time(make_scene: Callable[..., Scene]) -> None:
    """Yet nothing goes out at any of them from the same moment on."""
    scene = make_scene(closing=1e9, at_once=2)
    handles = [scene.open(reads=False) for _ in range(5)]
    await scene.end(*handles)
    await until(lambda: scene.stuck)
    await anyio.sleep(0.1)
    assert scene.stuck == 2
    assert all(connection.ended for connection in scene.connections.values())
    scene.let_go.set()
    await until(lambda: len(scene.closed) == 5)


async def test_a_task_that_waits_for_the_client_is_told_of_the_end(scene: Scene) -> None:
    """Each one, if several wait."""
    handle = scene.open()
    connection = scene.connections[handle]
    got: list[Any] = []

    async def wait() -> None:
        got.append(await connection.receive())

    with anyio.fail_after(SOON):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            tasks.start_soon(wait)
            await scene.end(handle)
    assert got == [{"type": "websocket.disconnect", "code": 4401, "reason": "signed out"}] * 2


@on_both_event_loops
async def test_the_watch_keeps_nothing_of_the_request_that_came_first(make_scene: Callable[..., Scene]) -> None:
    """It may run for days, and with it would live whatever that request's context variables hold."""
    of_request, seen = ContextVar[str | None]("of_request", default=None), []

    async def send(message: Any) -> None:
        seen.append(of_request.get())

    scene = make_scene()
    of_request.set("a database connection")
    handle = LoginHandle.new(Login(sub="alice"), time.time())
    scene.connections[handle] = WebSocketConnection((handle,), nothing_to_receive, send)
    scene.watch.add(scene.connections[handle])
    await scene.end(handle)
    await until(lambda: seen)
    assert seen == [None]


# The protocol's last word

START: Any = {"type": "http.response.start", "status": 200, "headers": []}
TRAILERS: Any = {**START, "trailers": True}
MORE: Any = {"type": "http.response.body", "body": b"x", "more_body": True}
LAST: Any = {"type": "http.response.body", "body": b"x"}
END: Any = {"type": "http.response.body", "body": b"", "more_body": False}
END_OF_TRAILERS: Any = {"type": "http.response.trailers", "headers": [], "more_trailers": False}
MORE_TRAILERS: Any = {"type": "http.response.trailers", "headers": [(b"a", b"b")], "more_trailers": True}
LAST_TRAILERS: Any = {"type": "http.response.trailers", "headers": [(b"a", b"b")]}
PIECE_OF_A_FILE: Any = {"type": "http.response.zerocopysend", "file": 0, "more_body": True}
FILE: Any = {"type": "http.response.zerocopysend", "file": 0}
PATH: Any = {"type": "http.response.pathsend", "path": "/file"}
PUSH: Any = {"type": "http.response.push", "path": "/style.css", "headers": []}


@pytest.mark.parametrize(
    ("sent", "rest"),
    [
        ([START], [END]),
        ([START, PUSH], [END]),
        ([START, MORE, MORE], [END]),
        ([START, PIECE_OF_A_FILE], [END]),
        ([START, LAST], []),
        ([START, MORE, LAST], []),
        ([START, PIECE_OF_A_FILE, FILE], []),
        ([START, PATH], []),
        ([TRAILERS], [END, END_OF_TRAILERS]),
        ([TRAILERS, MORE], [END, END_OF_TRAILERS]),
        ([TRAILERS, LAST], [END_OF_TRAILERS]),
        ([TRAILERS, FILE], [END_OF_TRAILERS]),
        ([TRAILERS, PATH], [END_OF_TRAILERS]),
        ([TRAILERS, LAST, MORE_TRAILERS], [END_OF_TRAILERS]),
        ([TRAILERS, LAST, LAST_TRAILERS], []),
    ],
)
async def test_a_response_gets_what_it_still_needs_to_be_complete(sent: list[Any], rest: list[Any]) -> None:
    out: list[Any] = []

    async def send(message: Any) -> None:
        out.append(message)

    await _send_and_end(Connection((), send), sent)
    assert out == [*sent, *rest]


CLOSE = {"type": "websocket.close", "code": 4401, "reason": "signed out"}
DENIAL: Any = {"type": "websocket.http.response.start", "status": 403, "headers": []}
DENIAL_BODY: Any = {"type": "websocket.http.response.body", "body": b"no"}
DENIAL_END: Any = {"type": "websocket.http.response.body", "body": b"", "more_body": False}


@pytest.mark.parametrize(
    ("sent", "rest"),
    [
        ([], [CLOSE]),
        ([{"type": "websocket.accept"}], [CLOSE]),
        ([{"type": "websocket.accept"}, {"type": "websocket.send", "text": "x"}], [CLOSE]),
        ([{"type": "websocket.accept"}, {"type": "websocket.close"}], []),
        ([DENIAL], [DENIAL_END]),
        ([DENIAL, {**DENIAL_BODY, "more_body": True}], [DENIAL_END]),
        ([DENIAL, DENIAL_BODY], []),
    ],
)
async def test_a_websocket_gets_what_it_still_needs_to_be_closed(sent: list[Any], rest: list[Any]) -> None:
    out: list[Any] = []

    async def send(message: Any) -> None:
        out.append(message)

    await _send_and_end(WebSocketConnection((), nothing_to_receive, send), sent)
    assert out == [*sent, *rest]


async def _send_and_end(connection: Connection, sent: list[Any]) -> None:
    for message in sent:
        await connection.send(message)
    connection.cut()
    await connection.close(anyio.Semaphore(1), SOON)


async def test_a_connection_that_is_over_is_left_alone(scene: Scene) -> None:
    """The application may go on working after its last message."""
    over, other = scene.open(), scene.open()
    await scene.connections[over].send({"type": "websocket.close"})
    await scene.end(over, other)
    await until(lambda: other in scene.closed)
    assert scene.closed == [over, other]
    assert not scene.connections[over].ended
