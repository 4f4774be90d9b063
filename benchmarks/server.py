"""Requests per second of a uvicorn worker over loopback, with the middleware and without."""

from __future__ import annotations

import asyncio
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable

from .loopback import Client
from .measure import show
from .processes import Server, serving

SECONDS, CLIENTS = 1, 16
STARTS, ROUNDS = 8, 4
"""A process is faster or slower than its twin for as long as it lives, by some percent: so there are several pairs."""


def _by_wrk(port: int) -> float:
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{SECONDS}s", f"http://127.0.0.1:{port}/"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said:
        raise RuntimeError(said)
    return float(re.findall(r"Requests/sec: +([\d.]+)", said)[0])


def _by_asyncio(port: int) -> float:
    async def keep_asking(until: float) -> int:
        client, count = Client(port), 0
        while time.perf_counter() < until:
            await client.ask("/")
            count += 1
        client.close()
        return count

    async def ask_together() -> float:
        until = time.perf_counter() + SECONDS
        return sum(await asyncio.gather(*(keep_asking(until) for _ in range(CLIENTS)))) / SECONDS

    return asyncio.run(ask_together())


def _round(load: Callable[[int], float], server: Server) -> tuple[float, float]:
    """Give requests per second, and the requests that a second of the server's processor time is enough for."""
    before = server.cpu()
    rate = load(server.port)
    return rate, rate * SECONDS / (server.cpu() - before)


def run() -> None:
    """Print the table."""
    load = _by_wrk if shutil.which("wrk") else _by_asyncio
    kinds = {
        "bare beside bare": ("bare", "bare"),
        "a tiny ASGI application": ("bare", "wrapped"),
        "Starlette": ("hello_bare", "hello_wrapped"),
    }
    rows = []
    for kind, names in kinds.items():
        pairs = []
        for _ in range(STARTS):
            with serving(names[0]) as bare, serving(names[1]) as ours:
                for turn in range(ROUNDS):
                    first, second = (bare, ours) if turn % 2 else (ours, bare)
                    rounds = {first: _round(load, first), second: _round(load, second)}
                    pairs.append((rounds[bare], rounds[ours]))
        for number, what in enumerate(("per second", "per second of its CPU")):
            theirs, mine = zip(*((one[number], two[number]) for one, two in pairs), strict=True)
            ratio = statistics.median(two / one for one, two in zip(theirs, mine, strict=True))
            best = f"{max(mine) / max(theirs):.3f}"
            middle = (f"{statistics.median(rates):.0f}" for rates in (theirs, mine))
            rows.append([f"{kind}, {what}", *middle, f"{ratio:.3f}", best, ">= 0.97"])
    tool = "wrk" if load is _by_wrk else "a client in Python, which is the bottleneck: install wrk"
    columns = ("requests", "bare", "ours", "ratio", "of the best", "target")
    show(f"server: uvicorn, one worker, {CLIENTS} connections, {tool}", columns, rows)
