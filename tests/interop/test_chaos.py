"""The store on bad days: honest users, thieves and strangers at once, while a proxy delays, drops and cuts.

Each run is drawn from CHAOS_SEED and lasts CHAOS_SECONDS.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
import pytest
from key_value.aio.stores.postgresql import PostgreSQLStore
from key_value.aio.stores.redis import RedisStore

from tests.asgi import Answer, call, http_scope
from tests.conftest import RedisServer
from tests.interop.chaos import Proxy, Weather, schedule
from tests.interop.conftest import PATIENCE, PostgreSQLServer
from tests.places import Browser, Site, in_both_places, providers

SEED = int(os.environ.get("CHAOS_SEED", "1"))
SECONDS = float(os.environ.get("CHAOS_SECONDS", "15"))

NEWS_TRAVELS = 120
"""Seconds after which another process has to know of every end."""

T = TypeVar("T")

DEAD_COPY = "1: a copy of an ended login was served as signed in"
SIGNED_OUT = "2: an honest user was signed out"
LOST = "3: another process does not know that a login has ended, though the store is back"
ERROR = "0: somebody got an error"
FETCH = {"sec_fetch_mode": "cors", "sec_fetch_dest": "empty", "sec_fetch_site": "same-origin"}


@dataclass
class User:
    """One login, and copies of the browser's cookies from all of its life."""

    name: str
    browser: Browser
    copies: list[Browser] = field(default_factory=list)
    ended: str = ""
    """When, and in which weather."""


class Storm:
    """Everybody who is out there, and what went wrong."""

    def __init__(self, site: Site, proxy: Proxy, seed: str, weathers: list[Weather]) -> None:
        self.site, self.proxy, self.seed, self.weathers = site, proxy, seed, weathers
        self.living: list[User] = []
        self.ended: list[User] = []
        self.wrong: dict[str, list[str]] = {}
        self.began = anyio.current_time()
        self.over = False

    @property
    def now(self) -> str:
        return f"{anyio.current_time() - self.began:.2f} s ({self.proxy.weather})"

    def expect(self, holds: bool, rule: str, what: str) -> None:
        if not holds:
            self.wrong.setdefault(rule, []).append(f"at {self.now}: {what}")

    def served(self, answer: Answer, what: str) -> None:
        self.expect(answer.status < 500, ERROR, f"{answer.status} for {what}")

    async def who(self, browser: Browser) -> str:
        """Give the user that the application sees, or the status that is in the way."""
        answer = await browser.get("/")
        return str(json.loads(answer.body)["user"]) if answer.status == 200 else str(answer.status)

    async def come(self, person: Callable[[random.Random], Any], rng: random.Random) -> None:
        """Be somebody, again and again until the storm is over."""
        while not self.over:
            try:
                await person(rng)
            except Exception as error:
                self.expect(False, ERROR, f"{error!r} for the {person.__name__}")

    async def honest(self, rng: random.Random) -> None:
        """Sign in, click around, and log out, most of the time."""
        name = f"user-{rng.getrandbits(32):x}"
        user = User(name, await self.site.signed_in(user=name, sid=name))
        signed_in = self.now
        for _ in range(rng.randrange(1, 6)):
            user.copies.append(user.browser.copy())
            await anyio.sleep(rng.uniform(0, 0.3))
            if rng.random() < 0.3:
                self.served(await user.browser.get("/touch"), "a click")
            seen = await self.who(user.browser)
            self.expect(seen == name, SIGNED_OUT, f"{name} is {seen}; signed in at {signed_in}")
        if rng.random() < 0.2:
            self.living.append(user)
        else:
            await self.log_out(user)

    async def log_out(self, user: User) -> None:
        """Log out, while another tab of the same browser asks for a page."""
        other_tab = user.browser.copy()
        async with anyio.create_task_group() as tabs:
            tabs.start_soon(other_tab.get, "/touch")
            answer = await user.browser.post("/logout")
        self.expect(answer.status == 303 and not user.browser.cookies, ERROR, f"logout of {user.name}: {answer.status}")
        user.copies.append(other_tab)
        user.ended = self.now
        self.ended.append(user)

    async def regular(self, rng: random.Random) -> None:
        """Click once more as a user who did not log out."""
        await anyio.sleep(rng.uniform(0, 0.1))
        if self.living:
            user = rng.choice(self.living)
            seen = await self.who(user.browser)
            self.expect(seen == user.name, SIGNED_OUT, f"{user.name} is {seen}, after a while")

    async def thief(self, rng: random.Random) -> None:
        """Replay what was copied: all cookies of a moment, or the session's alone."""
        await anyio.sleep(rng.uniform(0, 0.05))
        if self.ended:
            user = rng.choice(self.ended)
            copy = rng.choice(user.copies).copy()
            if rng.random() < 0.3:
                copy.cookies = {name: value for name, value in copy.cookies.items() if name == "session"}
            asked = self.now
            seen = await self.who(copy)
            self.expect(seen == "anonymous", DEAD_COPY, f"{seen} ended at {user.ended}; asked at {asked}")

    async def stranger(self, rng: random.Random) -> None:
        """Send what costs the most: 8 KB of invented session cookies, logouts of nobody, garbage."""
        await anyio.sleep(rng.uniform(0, 0.2))
        invented = "; ".join(f"session={rng.getrandbits(128):032x}" for _ in range(rng.choice([1, 195])))
        headers = {"cookie": rng.choice([invented, rng.randbytes(300).decode("latin-1"), ""])}
        if rng.random() < 0.3:
            headers |= {name.replace("_", "-"): value for name, value in FETCH.items()}
        path, method = rng.choice([("/", "GET"), ("/logout", "POST"), ("/logout", "GET"), ("/%00", "BREW")])
        self.served(await call(self.site.app, http_scope(path, method, headers)), f"{method} {path}")

    async def rage(self) -> None:
        """Let everybody come for as long as the weather is bad."""
        people: list[tuple[Callable[[random.Random], Any], int]] = [
            (self.honest, 8), (self.regular, 2), (self.thief, 4), (self.stranger, 2),
        ]  # fmt: skip
        async with anyio.create_task_group() as crowd:
            for person, count in people:
                for number in range(count):
                    crowd.start_soon(self.come, person, random.Random(f"{self.seed} {person.__name__} {number}"))
            await self.proxy.follow(self.weathers)
            self.over = True

    async def aftermath(self, elsewhere: Site) -> None:
        """Look at another process, which asks the store itself; this one goes on being used."""
        self.over = False
        async with anyio.create_task_group() as crowd:
            crowd.start_soon(self.come, self.regular, random.Random(self.seed))
            remaining: list[tuple[User, Browser]] = [
                (user, Browser(elsewhere.app, copy.cookies)) for user in self.ended for copy in user.copies
            ]
            with anyio.move_on_after(NEWS_TRAVELS):
                while remaining:  # one by one: a busy machine needs its time to ask about them all
                    if await elsewhere.who(remaining[-1][1].copy()) == "anonymous":
                        remaining.pop()
                    else:
                        remaining.insert(0, remaining.pop())  # one that is lost hides none that are not
                        await anyio.sleep(0.2)
            self.over = True
        for user, copy in remaining:
            self.expect(False, LOST, f"{user.name} ended at {user.ended}; cookies {sorted(copy.cookies)}")
        for user in self.living:
            seen = await elsewhere.who(Browser(elsewhere.app, user.browser.cookies))
            self.expect(seen == user.name, SIGNED_OUT, f"{user.name} is {seen} at another process")


def in_a_loop_of_its_own(what: Coroutine[Any, Any, T]) -> T:
    """Run this in another thread, for Playwright holds the main thread's event loop.

    Not with anyio's plugin: asyncpg leaves the errors of calls that were given up to nobody, and the plugin takes them
    for the test's own.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, what).result()


def make_store(kind: str, port: int) -> Any:
    if kind == "redis":
        return RedisStore(url=f"redis://127.0.0.1:{port}/0")
    return PostgreSQLStore(url=f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable")


@pytest.fixture(params=["redis", "postgresql"])
def behind(request: pytest.FixtureRequest) -> tuple[str, RedisServer | PostgreSQLServer]:
    """Start the store, and give its kind."""
    return request.param, request.getfixturevalue(f"{request.param}_server")


async def storm_over(kind: str, server: RedisServer | PostgreSQLServer, place: str) -> Storm:
    """Let everybody loose on an application whose store is behind the proxy, and look at what is left."""
    seed = f"{SEED} {kind} {place}"
    weathers = schedule(random.Random(seed), SECONDS)
    async with Proxy(server.port).running() as proxy:
        stores = make_store(kind, proxy.port), make_store(kind, server.port)
        try:
            for store in stores:
                await store.setup()
            site = Site(place, store=stores[0], providers=providers()[:1], on_store_error="allow")
            storm = Storm(site, proxy, seed, weathers)
            await storm.rage()
            await storm.aftermath(Site(place, beside=site, store=stores[1], freshness=0))
        finally:
            for store in stores:
                with anyio.move_on_after(PATIENCE), suppress(OSError):
                    await store.close()
    return storm


@pytest.mark.filterwarnings("ignore:A configured store is unstable:UserWarning")  # PostgreSQLStore says so of itself
@in_both_places
def test_in_any_weather_the_dead_stay_dead_and_the_living_signed_in(
    behind: tuple[str, RedisServer | PostgreSQLServer], place: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # a broken connection has many words for it
    storm = in_a_loop_of_its_own(storm_over(*behind, place))
    assert len(storm.ended) > SECONDS
    assert storm.living
    if storm.wrong:
        lines = [f"CHAOS_SEED={SEED} CHAOS_SECONDS={SECONDS:g}, {behind[0]}, {place}"]
        lines += [", ".join(map(str, storm.weathers))]
        for rule, cases in sorted(storm.wrong.items()):
            lines += [f"{rule}: {len(cases)} times", *(f"    {case}" for case in cases[:5])]
        pytest.fail("\n".join(lines), pytrace=False)


# The proxy itself


class Echo:
    """A server that sends everything back, behind a proxy; `got` is what it was sent."""

    def __init__(self) -> None:
        self.got = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            self.got += data
            writer.write(data)
        writer.close()


@asynccontextmanager
async def through_the_proxy() -> AsyncIterator[tuple[Proxy, Echo, asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection to an Echo, and see that the first word comes back."""
    echo = Echo()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]).running() as proxy, asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        yield proxy, echo, reader, writer
        writer.close()


def test_the_proxy_holds_everything_back() -> None:
    async def look() -> None:
        async with through_the_proxy() as (proxy, _, reader, writer):
            proxy.turn(Weather("delay", 0, by=0.1))
            began = asyncio.get_running_loop().time()
            writer.write(b"again")
            assert await reader.readexactly(5) == b"again"
            assert asyncio.get_running_loop().time() - began > 0.19  # there and back

    in_a_loop_of_its_own(look())


def test_the_proxy_swallows_everything_and_then_cuts_the_connection_that_lost_something() -> None:
    async def look() -> None:
        async with through_the_proxy() as (proxy, echo, reader, writer):
            proxy.turn(Weather("drop", 0))
            writer.write(b"again")
            while not any(proxy.lost):
                await anyio.sleep(0.01)
            proxy.turn(Weather("pass", 0))
            assert await end_of(reader) == b""
            assert echo.got == b"hello"

    in_a_loop_of_its_own(look())


def test_the_proxy_cuts_all_connections_and_takes_no_new_one() -> None:
    async def look() -> None:
        async with through_the_proxy() as (proxy, _, reader, _writer):
            proxy.turn(Weather("cut", 0))
            assert await end_of(reader) == b""
            new, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            assert await end_of(new) == b""
            writer.close()

    in_a_loop_of_its_own(look())


async def end_of(reader: asyncio.StreamReader) -> bytes:
    """Give what comes before the end of a connection, however it ends."""
    with suppress(ConnectionResetError):
        return await reader.read()
    return b""
