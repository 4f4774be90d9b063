"""How live connections are watched: by one key while nothing happens, and without losing an end."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from asgi_rp_logout import Login, StaticProvider, live
from asgi_rp_logout.ledger import Deadline, Ledger
from asgi_rp_logout.live import Connection, Watch, announce
from asgi_rp_logout.middleware import RPLogoutMiddleware
from asgi_rp_logout.verdict import Claim, Handle
from tests.places import ForeignStore
from tests.virtual_time import in_virtual_time


class Reading(ForeignStore):
    """A store of somebody else that notes which keys are read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[list[str]] = []

    async def get_many(self, keys: Any, *, collection: str | None = None) -> Any:
        self.read.append(list(keys))
        return await super().get_many(keys, collection=collection)


class Scene:
    """Two workers with one store; connections are opened at the first one, logins end at the second."""

    def __init__(self) -> None:
        self.store = Reading()
        self.here, self.there = self._ledger(), self._ledger()
        self.watch = Watch(self.here)
        self.closed: list[Handle] = []
        self.connections: list[Connection] = []

    def _ledger(self) -> Ledger:
        async def app(scope: Any, receive: Any, send: Any) -> None: ...

        provider = StaticProvider("https://id.example.com/logout")
        return Ledger(RPLogoutMiddleware(app, providers=[provider], store=self.store, freshness=0)._settings)

    def open(self) -> Handle:
        handle = Handle.new(Login(sub="alice"), time.time())

        async def send(message: Any) -> None:
            self.closed.append(handle)

        self.connections.append(Connection(Claim.of(handle, ()), send, {"type": "websocket.close", "code": 4401}))
        self.watch.add(self.connections[-1])
        return handle

    async def looked(self) -> None:
        """Wait until the watch has looked around once more."""
        before = len(self.store.read)
        with anyio.fail_after(10):
            while len(self.store.read) == before:
                await anyio.sleep(0.01)
        await anyio.sleep(0.05)


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """Give the scene; nobody is looked at without a reason in it."""
    monkeypatch.setattr(live, "_EVERYBODY_AFTER", 1e9)
    scene = Scene()
    yield scene
    for connection in scene.connections:
        scene.watch.discard(connection)
    await anyio.sleep(0.4)  # the watch ends with its last connection


@in_virtual_time
async def test_while_nothing_ends_one_key_is_read_and_then_all(scene: Scene) -> None:
    handles = [scene.open() for _ in range(3)]
    await scene.looked()
    await scene.looked()
    scene.store.read.clear()
    await scene.looked()
    assert {len(keys) for keys in scene.store.read} == {1}
    await scene.there.end(handles[1], None, "logout", Deadline())
    await announce(scene.there, Deadline())
    with anyio.fail_after(10):
        while not scene.closed:
            await anyio.sleep(0.01)
    assert scene.closed == [handles[1]]


@in_virtual_time
async def test_a_connection_opened_on_an_old_verdict_is_looked_at_by_itself(scene: Scene) -> None:
    """Its login ended a moment before, and that news is known already."""
    scene.open()
    await scene.looked()
    gone = Handle.new(Login(sub="bob"), time.time())
    await scene.there.end(gone, None, "logout", Deadline())
    await announce(scene.there, Deadline())
    await scene.looked()
    late = scene.open()
    await scene.there.end(late, None, "logout", Deadline())  # and no news of it
    with anyio.fail_after(10):
        while not scene.closed:
            await anyio.sleep(0.01)
    assert scene.closed == [late]


@in_virtual_time
async def test_an_end_whose_news_was_lost_is_found_all_the_same(scene: Scene, monkeypatch: Any) -> None:
    monkeypatch.setattr(live, "_EVERYBODY_AFTER", 0.6)
    handle = scene.open()
    await scene.looked()
    await scene.looked()
    await scene.there.end(handle, None, "logout", Deadline())
    with anyio.fail_after(10):
        while not scene.closed:
            await anyio.sleep(0.01)
    assert scene.closed == [handle]
