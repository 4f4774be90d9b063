"""Requests per second of a uvicorn worker over loopback, with the middleware and without."""

from __future__ import annotations

import asyncio
import re
import shutil
import statistics
import subprocess
import time

from .loopback import Client
from .measure import show
from .processes import serving

SECONDS, ROUNDS, CLIENTS = 2, 10, 16


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


def run() -> None:
    """Print the table."""
    load = _by_wrk if shutil.which("wrk") else _by_asyncio
    rows = []
    for kind, names in {
        "a tiny ASGI application": ("bare", "wrapped"),
        "Starlette": ("hello_bare", "hello_wrapped"),
    }.items():
        with serving(names[0]) as bare, serving(names[1]) as ours:
            pairs = []
            for turn in range(ROUNDS):
                ports = (bare, ours) if turn % 2 else (ours, bare)
                rates = {port: load(port) for port in ports}
                pairs.append((rates[bare], rates[ours]))
        ratios = [mine / theirs for theirs, mine in pairs]
        most = [max(rates) for rates in zip(*pairs, strict=True)]
        middle = [statistics.median(rates) for rates in zip(*pairs, strict=True)]
        best, median = f"{most[1] / most[0]:.3f}", f"{statistics.median(ratios):.3f}"
        rows.append([kind, *(f"{rate:.0f}" for rate in (*middle, *most)), median, best, ">= 0.97"])
    tool = "wrk" if load is _by_wrk else "a client in Python, which is the bottleneck: install wrk"
    columns = ("requests per second", "bare", "ours", "bare, best", "ours, best", "ratio", "of the best", "target")
    show(f"server: uvicorn, one worker, {CLIENTS} connections, {tool}", columns, rows)
