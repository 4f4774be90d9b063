"""Ten thousand open WebSockets of remembered logins: what it takes to watch over them."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from typing import Any

from asgi_rp_logout import MemoryStore

from .apps import App, ForeignStore, Message, ask, hello, ours, request_scope, sign_in
from .measure import show
from .processes import redis

OPEN, SECONDS, ENDED = 10_000, 5.0, 100


async def _socket(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await hello(scope, receive, send)
        return
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


class _Browser:
    """Hold one end of a WebSocket."""

    __slots__ = ("closed", "task", "waiting")

    def __init__(self, app: App, cookies: bytes) -> None:
        scope = {**request_scope(cookies=cookies), "type": "websocket", "scheme": "wss", "subprotocols": []}
        self.waiting: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.closed = 0.0
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        return await self.waiting

    async def _send(self, message: Message) -> None:
        if message["type"] == "websocket.close":
            self.closed = time.perf_counter()
            self.leave()

    def leave(self) -> None:
        """Go away."""
        if not self.waiting.done():
            self.waiting.set_result({"type": "websocket.disconnect", "code": 1000})


async def _opened(app: App, browsers: list[bytes]) -> list[_Browser]:
    """Open a socket for each browser, twenty at a time: a Redis client has a hundred connections."""
    sockets = []
    for first in range(0, len(browsers), 20):
        sockets += [_Browser(app, cookies) for cookies in browsers[first : first + 20]]
        await asyncio.sleep(0.02)
    return sockets


async def _weight(app: App, browsers: list[bytes]) -> float:
    """Give the bytes that an open socket takes."""
    gc.collect()
    tracemalloc.start()
    sockets = await _opened(app, browsers)
    gc.collect()
    size = tracemalloc.get_traced_memory()[0] / len(sockets)
    tracemalloc.stop()
    await _close(sockets)
    return size


async def _close(sockets: list[_Browser]) -> None:
    for socket in sockets:
        socket.leave()
    await asyncio.gather(*(socket.task for socket in sockets))


async def _measure(store: Any) -> list[str]:
    app = ours(_socket, store=store)
    browsers = [await sign_in(app, f"user{number}", f"sid{number}") for number in range(OPEN)]
    without, space = await _weight(_socket, browsers[:1000]), await _weight(app, browsers[:1000])
    sockets = await _opened(app, browsers)
    await asyncio.sleep(1)
    busy, began = time.process_time(), time.perf_counter()
    await asyncio.sleep(SECONDS)
    share = (time.process_time() - busy) / (time.perf_counter() - began)
    leaving, posted = range(0, OPEN, OPEN // ENDED), []
    for number in leaving:
        posted.append(time.perf_counter())
        await ask(app, request_scope("/logout", method="POST", cookies=browsers[number]))
    await asyncio.sleep(2.5)
    late = [sockets[number].closed - at for number, at in zip(leaving, posted, strict=True) if sockets[number].closed]
    ended = sum(socket.closed > 0 for socket in sockets)
    await _close(sockets)
    values = [f"{share * 100:.1f}", "< 5", f"{space / 1000:.1f}", f"{without / 1000:.1f}"]
    return [*values, f"{ended} of {ENDED}", f"{max(late, default=0):.2f}"]


def run() -> None:
    """Print the table."""
    rows = [["MemoryStore", *asyncio.run(_measure(MemoryStore()))]]
    rows.append(["shared store, in this process", *asyncio.run(_measure(ForeignStore()))])
    with redis() as url:
        if url is not None:
            rows.append(["Redis", *asyncio.run(_measure_redis(url))])
    columns = ("store", "% of a core", "target", "KB each", "KB without us", "closed by a logout", "after s at most")
    show(f"sockets: {OPEN} open, freshness 1 s", columns, rows)


async def _measure_redis(url: str) -> list[str]:
    from key_value.aio.stores.redis import RedisStore

    async with RedisStore(url=url) as store:
        return await _measure(store)
