"""Measure cases side by side: in rounds, one after the other in each, so that a slow moment meets all of them."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

Case = Callable[[int], Awaitable[float]]
"""Do something so many times, and give the seconds that it took, preparations left out."""


async def interleaved(cases: dict[str, Case], *, rounds: int, number: int) -> dict[str, list[float]]:
    """Give the seconds per turn of each case, one value for each round."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    names = list(cases)
    for name in names:
        await cases[name](max(number // 10, 1))
    for turn in range(rounds):
        shift = turn % len(names)  # nobody always comes first
        for name in names[shift:] + names[:shift]:
            gc.collect()
            gc.disable()
            try:
                taken[name].append(await cases[name](number) / number)
            finally:
                gc.enable()
    return taken


def added(taken: dict[str, list[float]], name: str, over: str) -> tuple[float, float]:
    """Give what a case adds to another in seconds: the difference of the minima, and the median of the differences."""
    pairs = zip(taken[name], taken[over], strict=True)
    return min(taken[name]) - min(taken[over]), statistics.median(mine - theirs for mine, theirs in pairs)


async def timed(turn: Callable[[], Awaitable[object]], number: int) -> float:
    """Await ``turn()`` so many times; give the seconds."""
    began = time.perf_counter()
    for _ in range(number):
        await turn()
    return time.perf_counter() - began


def percentile(values: Sequence[float], percent: float) -> float:
    """Give the value below which so many percent of the values are."""
    ranked = sorted(values)
    return ranked[min(int(len(ranked) * percent / 100), len(ranked) - 1)]


def resident() -> int:
    """Give the memory of this process in bytes, as the kernel counts it."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: its first column to the left, the others to the right."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=130).print(table)
