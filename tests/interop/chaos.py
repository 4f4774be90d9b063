"""A TCP proxy between an application and its store, for bad days: it delays, drops and cuts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

Mode = Literal["pass", "delay", "drop", "cut"]


@dataclass(frozen=True)
class Weather:
    """What happens for a while: `delay` holds every piece back for `by` seconds, `drop` swallows it, `cut` refuses."""

    mode: Mode
    seconds: float
    by: float = 0.0

    def __str__(self) -> str:
        by = f" by {self.by:.2f} s" if self.mode == "delay" else ""
        return f"{self.mode}{by} for {self.seconds:.1f} s"


def schedule(rng: random.Random, seconds: float) -> list[Weather]:
    """Draw weather for so many seconds; it is fair at first and at last, and between any two troubles."""
    made = [Weather("pass", 1.5)]
    while sum(weather.seconds for weather in made) < seconds:
        mode: Mode = rng.choice(["delay", "drop", "cut"])
        made += [
            Weather(mode, rng.uniform(0.3, 3), rng.choice([0.05, 0.3, 0.6, 1.2]) if mode == "delay" else 0),
            Weather("pass", rng.uniform(0.2, 2)),
        ]
    return made


class Proxy:
    """Pass connections on to `port`, as the weather of the moment allows; `.port` is its own.

    A connection that lost a byte is of no more use to anybody: it is cut when the weather changes.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self.weather = Weather("pass", 0)
        self._behind = port
        self._relays: set[asyncio.Task[None]] = set()
        self.lost: set[asyncio.Task[None]] = set()
        """The connections that have lost something."""

    def turn(self, weather: Weather) -> None:
        """Change the weather, for all connections at once."""
        was, self.weather = self.weather, weather
        for relay in self._relays if weather.mode == "cut" else self.lost if was.mode == "drop" else ():
            relay.cancel()

    async def follow(self, weathers: list[Weather]) -> None:
        """Go through a schedule, and end in fair weather."""
        for weather in weathers:
            self.turn(weather)
            await asyncio.sleep(weather.seconds)
        self.turn(Weather("pass", 0))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        """Take connections while the block runs."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for relay in self._relays:
                relay.cancel()
            await asyncio.gather(*self._relays, return_exceptions=True)
            await server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay = asyncio.current_task()
        assert relay
        self._relays.add(relay)
        writers = [writer]
        try:
            if self.weather.mode == "cut":
                return
            behind, to_behind = await asyncio.open_connection("127.0.0.1", self._behind)
            writers.append(to_behind)
            async with asyncio.TaskGroup() as group:
                for source, target in ((reader, to_behind), (behind, writer)):
                    group.create_task(self._pass_on(source, target, relay))
        except* (OSError, EOFError):
            pass
        except* asyncio.CancelledError:  # by `turn` or at the end
            pass
        finally:
            self._relays.discard(relay)
            self.lost.discard(relay)
            for each in writers:
                each.transport.abort()

    async def _pass_on(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, relay: asyncio.Task[None]
    ) -> None:
        while data := await source.read(65536):
            weather = self.weather
            if weather.mode == "drop":
                self.lost.add(relay)
                continue
            if weather.mode == "delay":
                await asyncio.sleep(weather.by)
            target.write(data)
            await target.drain()
        raise EOFError
