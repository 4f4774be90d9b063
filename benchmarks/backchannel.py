"""From the provider's POST at one worker to a request at another that is anonymous, over Redis."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from urllib.parse import urlencode

from .idp import IdP
from .loopback import Client
from .measure import percentile, show
from .processes import redis, serving

WORKERS, TRIALS, AT_ONCE, PAUSE = 4, 200, 10, 0.01
FRESHNESS = 1.0


async def _trial(ports: list[int], idp: IdP, number: int) -> float:
    """Sign somebody in, let every worker see it, and give the seconds until another worker takes it back."""
    workers = [Client(port) for port in ports]
    first, second = random.sample(workers, 2)
    _, head, _ = await first.ask(f"/callback?sub=user{number}&sid=sid{number}")
    lines = [line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"set-cookie:")]
    cookies = b"; ".join(line.split(b";")[0].strip() for line in lines)
    until = time.perf_counter() + random.uniform(0.1, 1.1)
    while time.perf_counter() < until:
        if (await second.ask("/who", cookies=cookies))[2] != b"user%d" % number:
            raise RuntimeError("nobody was signed in")
        await asyncio.sleep(PAUSE)
    form = urlencode({"logout_token": idp.logout_token(f"user{number}", f"sid{number}")}).encode()
    began = time.perf_counter()
    status, _, body = await first.ask("/backchannel", form=form)
    if status != 200:
        raise RuntimeError(f"refused: {body!r}")
    while (await second.ask("/who", cookies=cookies))[2]:  # noqa: ASYNC110  # another process is asked
        await asyncio.sleep(PAUSE)
    seconds = time.perf_counter() - began
    for worker in workers:
        worker.close()
    return seconds


async def _measure(ports: list[int], idp: IdP) -> list[float]:
    numbers = iter(range(TRIALS))

    async def keep_trying() -> list[float]:
        return [await _trial(ports, idp, number) for number in numbers]

    return [seconds for some in await asyncio.gather(*(keep_trying() for _ in range(AT_ONCE))) for seconds in some]


def run() -> None:
    """Print the table."""
    idp = IdP()
    with redis() as url, contextlib.ExitStack() as stack:
        if url is None:
            print("backchannel: left out, there is no redis-server")
            return
        env = {"BENCH_REDIS": url, "BENCH_KEY": idp.secret()}
        ports = [stack.enter_context(serving("worker", env)).port for _ in range(WORKERS)]
        taken = asyncio.run(_measure(ports, idp))
    values = [f"{percentile(taken, percent) * 1e3:.0f}" for percent in (50, 99, 100)]
    columns = ("logouts", "p50 ms", "p99 ms", "most ms", "target ms")
    title = f"backchannel: {WORKERS} workers over Redis, freshness {FRESHNESS:g} s, asked every {PAUSE * 1e3:g} ms"
    show(title, columns, [[f"{TRIALS}", *values, f"p99 < {FRESHNESS * 1e3 + 50:.0f}"]])
