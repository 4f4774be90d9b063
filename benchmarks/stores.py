"""How often a request goes to the store and back: all trips, and those that wait for one another.

A proxy before the store counts what clients send, and holds each piece back for a moment: the time that a request takes
says how many pieces waited for an answer to the one before. What is shown is what most rounds say, since connections
prepare their statements first, and of these the quickest.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.middleware.sessions import Session

from asgi_rp_logout import MemoryStore
from asgi_rp_logout.guard import Deadline

from .apps import BROWSER, PROVIDER, App, Pairs, ask, cookies_of, hello, ours, request_scope, sign_in
from .measure import show
from .processes import free_port, redis, running

HELD = 0.025
ROUNDS = 8

FETCH: Pairs = [(b"sec-fetch-site", b"same-origin"), (b"sec-fetch-mode", b"cors"), (b"sec-fetch-dest", b"empty")]
PAGE: Pairs = [pair for pair in BROWSER if not pair[0].startswith(b"sec-fetch-mode")] + [
    (b"sec-fetch-mode", b"navigate")
]
INVENTED = b"session=0123456789abcdef"


class Proxy:
    """Stand before a store on ``port``, and count what its clients send."""

    def __init__(self, port: int) -> None:
        self.sent = 0
        self.held = 0.0
        self._port = port

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Give the port on which clients find the store."""
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours_ = await asyncio.open_connection("127.0.0.1", self._port)
        with contextlib.suppress(asyncio.CancelledError):  # at the end of the program
            await asyncio.gather(self._pump(reader, ours_, counted=True), self._pump(theirs, writer, counted=False))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if counted:
                    self.sent += 1
                    await asyncio.sleep(self.held)
                writer.write(data)
        writer.close()


class Inside:
    """Stand for a session middleware around an application, with a session that stays."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.session: dict[str, Any] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one connection."""
        scope = {**scope, "session": Session(self.session)}
        await self.app(scope, receive, send)
        self.session = scope["session"]


Turn = Callable[[], Awaitable[object]]
Make = Callable[[], Any]


async def _cases(make: Make) -> AsyncIterator[tuple[str, Turn]]:
    """Give what is measured, each prepared anew: ``make`` gives the store of another process over the same data."""
    options: dict[str, Any] = {"freshness": 0.0, "callback_path": "/back", "backchannel_path": None}
    here, there = ours(hello, store=make(), **options), ours(hello, store=make(), **options)
    number = f"{time.monotonic_ns()}"
    invented = INVENTED + number.encode()
    cookies = await sign_in(here, "alice", number)
    inside = Inside(ours(hello, store=make(), **options))
    await sign_in(inside, "alice", number)
    await ask(here, request_scope(cookies=cookies))
    yield "a request without cookies", lambda: ask(here, request_scope())
    yield "an anonymous request with a session cookie", lambda: ask(here, request_scope(cookies=invented))
    yield "a live login, inside", lambda: ask(inside, request_scope())
    yield "a live login, outside", lambda: ask(here, request_scope(cookies=cookies))
    alone = b"; ".join(one for one in cookies.split(b"; ") if one.startswith(b"session="))
    yield "a copy without the companion, new to the process", lambda: ask(there, request_scope(cookies=alone))
    yield "the same once more", lambda: ask(there, request_scope(cookies=alone))
    yield "a login", lambda: sign_in(here, "bob", number)
    yield "an anonymous logout", lambda: ask(here, request_scope("/logout", method="POST", cookies=invented))
    post = request_scope("/logout", method="POST", cookies=cookies)
    yield "a logout, inside", lambda: ask(inside, request_scope("/logout", method="POST"))
    yield "a logout, outside", lambda: ask(here, post)
    cookies = await sign_in(here, "carol", number)
    trip: list[tuple[bytes, bytes]] = []

    async def leave(cookies: bytes, headers: Pairs) -> None:
        start, _ = await ask(here, request_scope("/logout", method="POST", cookies=cookies, headers=headers))
        trip[:] = [(cookies_of(start), dict(start["headers"]).get(b"location", b""))]

    fetch = [*BROWSER[:4], *FETCH]
    yield "a logout by fetch", lambda: leave(cookies, fetch)
    later = b"; ".join(one for one in trip[0][0].split(b"; ") if b"rp_later" in one)
    played: list[tuple[bytes, bytes]] = []

    async def play() -> None:
        start, _ = await ask(here, request_scope(cookies=later, headers=PAGE))
        played[:] = [(cookies_of(start), dict(start["headers"]).get(b"location", b""))]

    yield "the next page, which goes by way of the provider", play
    state = parse_qs(urlsplit(played[0][1].decode()).query)["state"][0]
    back = request_scope("/back", query=f"state={state}".encode(), cookies=played[0][0])
    yield "the way back", lambda: ask(here, back)
    ledger: Any = here._attendant._ledger
    now = time.time()
    token = {"sid": number, "sub": "carol", "at": now, "received": now, "by": "back-channel"}
    yield "a logout token with a sid and a sub", lambda: ledger.end_sessions(PROVIDER, **token, deadline=Deadline())


async def _measure(make: Make, proxy: Proxy) -> dict[str, tuple[int, int]]:
    rounds: dict[str, list[tuple[int, int]]] = {}
    for turn in range(ROUNDS):
        async for name, case in _cases(make):
            await asyncio.sleep(0)
            proxy.sent, proxy.held = 0, HELD if turn else 0
            began = time.perf_counter()
            await case()
            waited = time.perf_counter() - began
            await asyncio.sleep(2 * proxy.held)
            if turn:
                rounds.setdefault(name, []).append((proxy.sent, int(waited / HELD)))
            proxy.held = 0
    usual = {name: statistics.mode(sent for sent, _ in some) for name, some in rounds.items()}
    return {name: min(one for one in some if one[0] == usual[name]) for name, some in rounds.items()}


class Counted(MemoryStore):
    """The store in memory, with all that is asked of it counted."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, int]] = []

    async def get_many(self, keys: Any, *, collection: Any = None) -> Any:
        """Count, and give."""
        self.asked.append(("read", len(keys)))
        return await super().get_many(keys)

    async def put(self, key: str, value: Any, *, collection: Any = None, ttl: Any = None) -> None:
        """Count, and keep."""
        self.asked.append(("written", 1))
        await super().put(key, value, ttl=ttl)

    async def delete(self, key: str, *, collection: Any = None) -> bool:
        """Count, and remove."""
        self.asked.append(("removed", 1))
        return await super().delete(key)


class Batching:
    """A store that reads and writes in batches, over one in memory."""

    def __init__(self, inner: Counted) -> None:
        self.get, self.get_many, self.put, self.delete = inner.get, inner.get_many, inner.put, inner.delete


async def _records() -> dict[str, str]:
    """Count the records that each case reads, writes and removes: of any store, they are the same."""
    inner, found = Counted(), {}
    async for name, case in _cases(lambda: Batching(inner)):
        inner.asked.clear()
        await case()
        found[name] = ", ".join(
            f"{sum(number for kind, number in inner.asked if kind == one)} {one}"
            for one in ("read", "written", "removed")
            if any(kind == one for kind, _ in inner.asked)
        )
    return found


@contextmanager
def postgresql() -> Iterator[int | None]:
    """Run a PostgreSQL of our own; give its port, or None where there is none."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        as_user: list[str] = []
        if os.getuid() == 0:  # it does not run as root
            shutil.chown(folder, "postgres")
            as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        data = ["-D", f"{folder}/data"]
        options = [*data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(
            [*as_user, str(programs[-1] / "initdb"), *options], check=True, cwd=folder, stdout=subprocess.DEVNULL
        )
        settings = [
            f"-c{one}" for one in ("listen_addresses=127.0.0.1", "unix_socket_directories=", "log_min_messages=panic")
        ]
        with running([*as_user, str(programs[-1] / "postgres"), *data, "-p", str(port), *settings], port):
            yield port


async def _over(kind: str, port: int) -> dict[str, tuple[int, int]]:
    stores: list[Any] = []
    proxy = Proxy(port)
    async with proxy.listening() as before:

        def make() -> Any:
            # Three for each round: a process opens its store once, and so do these.
            if len(stores) < 3:
                stores.append(_store(kind, before))
            stores.append(stores.pop(0))
            return stores[-1]

        for _ in range(3):
            make()
        for store in stores:
            await store.setup()
        found = await _measure(make, proxy)
        for store in stores:
            await store.close()
    return found


def _store(kind: str, port: int) -> Any:
    if kind == "Redis":
        from key_value.aio.stores.redis import RedisStore  # only where there is a server

        return RedisStore(url=f"redis://127.0.0.1:{port}/0")
    from key_value.aio.stores.postgresql import PostgreSQLStore

    warnings.simplefilter("ignore", UserWarning)  # that its interface may change

    return PostgreSQLStore(url=f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable")


def run() -> None:
    """Print the table."""
    records = asyncio.run(_records())
    found: dict[str, dict[str, tuple[int, int]]] = {}
    with redis() as url, postgresql() as port:
        if url is not None:
            found["Redis"] = asyncio.run(_over("Redis", urlsplit(url).port or 0))
        if port is not None:
            time.sleep(1)
            found["PostgreSQL"] = asyncio.run(_over("PostgreSQL", port))
    rows = []
    for name, of_store in records.items():
        trips = [f"{one[name][0]} / {one[name][1]}" for one in found.values()]
        rows.append([name, of_store, *trips])
    show("stores: trips / in sequence", ("what", "records", *found), rows)
