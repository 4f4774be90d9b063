"""What the token relay adds to a login, beside the same login that redeems its code at the provider itself."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time

from .idp import IdP
from .loopback import Client
from .measure import percentile, show
from .processes import free_port, serving

PER_SECOND, SECONDS, ROUNDS = 100, 1, 15
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


async def _turn(port: int, path: str, numbers: itertools.count[int]) -> list[float]:
    """Begin so many logins a second, whether or not the ones before have ended; give the seconds of each."""
    began, tasks = time.perf_counter(), []
    for turn in range(PER_SECOND * SECONDS):
        await asyncio.sleep(max(began + turn / PER_SECOND - time.perf_counter(), 0))
        tasks.append(asyncio.create_task(_login(port, path, next(numbers))))
    return await asyncio.gather(*tasks)


async def _measure(port: int) -> dict[str, list[list[float]]]:
    numbers = itertools.count()
    taken: dict[str, list[list[float]]] = {path: [] for path in PATHS.values()}
    for path in PATHS.values():
        await _turn(port, path, numbers)
    paths = list(PATHS.values())
    for turn in range(ROUNDS):
        shift = turn % len(paths)
        for path in paths[shift:] + paths[:shift]:
            taken[path].append(await _turn(port, path, numbers))
    return taken


def run() -> None:
    """Print the table."""
    port = free_port()
    env = {"BENCH_KEY": IdP().secret(), "BENCH_ISSUER": f"http://127.0.0.1:{port}", "BENCH_RELAY": str(free_port())}
    with serving("provider", env, port), serving("redeeming", env) as server:
        taken = asyncio.run(_measure(server.port))
    bare = [statistics.median(one) for one in taken["/direct"]]
    rows = []
    for what, path in PATHS.items():
        every = [seconds for one in taken[path] for seconds in one]
        medians = [statistics.median(one) for one in taken[path]]
        plus = statistics.median(mine - theirs for mine, theirs in zip(medians, bare, strict=True))
        least = min(medians) - min(bare)
        target = f"<= {TARGET:g}" if path == "/relay" else ""
        shown = [statistics.median(every), percentile(every, 99), least, plus]
        rows.append([what, *(f"{seconds * 1e3:.2f}" for seconds in shown), target])
    columns = ("a login", "p50 ms", "p99 ms", "adds, least", "adds, median", "target ms")
    show(f"relay: {PER_SECOND} logins a second, each case for a second in turn", columns, rows)
