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

SECONDS, ROUNDS, CLIENTS = 1, 40, 16
PAIRS = {"a tiny ASGI application": ("/tiny", "/tiny/ours"), "Starlette": ("/hello", "/hello/ours")}


def _by_wrk(port: int, path: str) -> float:
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{SECONDS}s", f"http://127.0.0.1:{port}{path}"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said:
        raise RuntimeError(said)
    return float(re.findall(r"Requests/sec: +([\d.]+)", said)[0])


def _by_asyncio(port: int, path: str) -> float:
    async def keep_asking(until: float) -> int:
        client, count = Client(port), 0
        while time.perf_counter() < until:
            await client.ask(path)
            count += 1
        client.close()
        return count

    async def ask_together() -> float:
        until = time.perf_counter() + SECONDS
        return sum(await asyncio.gather(*(keep_asking(until) for _ in range(CLIENTS)))) / SECONDS

    return asyncio.run(ask_together())


def _round(load: Callable[[int, str], float], server: Server, path: str) -> tuple[float, float]:
    """Give requests per second, and the requests that a second of the server's processor time is enough for."""
    before = server.cpu()
    rate = load(server.port, path)
    return rate, rate * SECONDS / (server.cpu() - before)


def run() -> None:
    """Print the table.

    One process serves all: two processes of one program differ by some percent for as long as they live. The first path
    is measured twice, to show what is noise, and with a scanner written by hand, to show what any wrapper takes.
    """
    load = _by_wrk if shutil.which("wrk") else _by_asyncio
    pairs = {"the same twice": ("/tiny", "/tiny/again"), "ten lines by hand": ("/tiny", "/tiny/scanner"), **PAIRS}
    paths = list(dict.fromkeys(path for pair in pairs.values() for path in pair))
    taken: dict[str, list[tuple[float, float]]] = {path: [] for path in paths}
    with serving("side_by_side") as server:
        for turn in range(ROUNDS):
            shift = turn % len(paths)
            for path in paths[shift:] + paths[:shift]:
                taken[path].append(_round(load, server, path))
    rows = []
    for kind, (bare, ours) in pairs.items():
        for number, what in enumerate(("per second", "per second of its CPU")):
            theirs, mine = ([one[number] for one in taken[path]] for path in (bare, ours))
            ratio = statistics.median(two / one for one, two in zip(theirs, mine, strict=True))
            middle = (f"{statistics.median(rates):.0f}" for rates in (theirs, mine))
            rows.append([f"{kind}, {what}", *middle, f"{ratio:.3f}", ">= 0.97" if kind in PAIRS else ""])
    tool = "wrk" if load is _by_wrk else "a client in Python, which is the bottleneck: install wrk"
    columns = ("requests", "bare", "wrapped", "ratio", "target")
    show(f"server: uvicorn, one worker, {CLIENTS} connections, {tool}", columns, rows)
