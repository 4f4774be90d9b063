"""What the token relay adds to a login, beside the same login that redeems its code at the provider itself."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable

from .idp import IdP
from .loopback import Client
from .measure import percentile, show
from .processes import Server, free_port, serving

PER_SECOND, SECONDS, ROUNDS, AT_ONCE = 100, 1, 8, 50
PATHS = {"at the provider, remember_login": "/direct", "the same twice": "/again", "at the token relay": "/relay"}
TARGET = 2.0


async def _login(port: int, path: str, number: int) -> float:
    client = Client(port)
    began = time.perf_counter()
    status, head, _ = await client.ask(f"{path}?code=c{number:08}-0123456789&state=s")
    seconds = time.perf_counter() - began
    if status != 200 or b"rp_login=" not in head:
        raise RuntimeError(f"a login at {path} was not remembered: {status}")
    client.close()
    return seconds


async def _at_rate(port: int, path: str, numbers: itertools.count[int]) -> list[float]:
    """Begin so many logins a second, whether or not the ones before have ended; give the seconds of each."""
    began, tasks = time.perf_counter(), []
    for turn in range(PER_SECOND * SECONDS):
        await asyncio.sleep(max(began + turn / PER_SECOND - time.perf_counter(), 0))
        tasks.append(asyncio.create_task(_login(port, path, next(numbers))))
    return await asyncio.gather(*tasks)


async def _in_turn(port: int, path: str, numbers: itertools.count[int]) -> list[float]:
    return [await _login(port, path, next(numbers)) for _ in range(AT_ONCE)]


Load = Callable[[int, str, "itertools.count[int]"], Awaitable[list[float]]]


async def _measure(
    server: Server, load: Load, numbers: itertools.count[int]
) -> dict[str, list[tuple[list[float], float]]]:
    """Give, for each path and round, the seconds of each login, and the processor time of the server for one."""
    paths = list(PATHS.values())
    taken: dict[str, list[tuple[list[float], float]]] = {path: [] for path in paths}
    for path in paths:
        await load(server.port, path, numbers)
    for turn in range(ROUNDS):
        shift = turn % len(paths)
        for path in paths[shift:] + paths[:shift]:
            before = server.cpu()
            seconds = await load(server.port, path, numbers)
            taken[path].append((seconds, (server.cpu() - before) / len(seconds)))
    return taken


def run() -> None:
    """Print a table for logins one after the other, and one for so many a second."""
    port, numbers = free_port(), itertools.count()
    env = {"BENCH_KEY": IdP().secret(), "BENCH_ISSUER": f"http://127.0.0.1:{port}", "BENCH_RELAY": str(free_port())}
    with serving("provider", env, port), serving("redeeming", env) as server:
        for load, what in ((_in_turn, "one after the other"), (_at_rate, f"{PER_SECOND} a second")):
            _show(what, asyncio.run(_measure(server, load, numbers)))


def _show(what: str, taken: dict[str, list[tuple[list[float], float]]]) -> None:
    bare = [statistics.median(seconds) for seconds, _ in taken["/direct"]]
    rows = []
    for name, path in PATHS.items():
        every = [one for seconds, _ in taken[path] for one in seconds]
        medians = [statistics.median(seconds) for seconds, _ in taken[path]]
        plus = statistics.median(mine - theirs for mine, theirs in zip(medians, bare, strict=True))
        cpu = statistics.median(cpu for _, cpu in taken[path])
        shown = [statistics.median(every), percentile(every, 99), cpu, min(medians) - min(bare), plus]
        target = f"<= {TARGET:g}" if path == "/relay" else ""
        rows.append([name, *(f"{seconds * 1e3:.2f}" for seconds in shown), target])
    columns = ("a login", "p50 ms", "p99 ms", "CPU ms", "adds, least", "adds, median", "target ms")
    show(f"relay: logins, {what}", columns, rows)
