"""A thousand, a hundred thousand and a million logins: the time of a request, the memory, and a storm of logouts."""

from __future__ import annotations

import asyncio
import gc
import random
import secrets
import statistics
import time

from asgi_rp_logout import Login, MemoryStore
from asgi_rp_logout.logins.handle import LoginHandle
from asgi_rp_logout.logins.records import LoginRecord, login_key
from tests.tokens import id_token

from .apps import PROVIDER, App, ask, hello, once, ours, request_scope, sign_in, tiny, who
from .idp import IdP
from .measure import Case, interleaved, resident, show

SIZES = (1_000, 100_000, 1_000_000)
SAMPLE = 1_000
STORM = 10_000


def _long_id_token(sub: str, sid: str) -> str:
    """Return an ID Token of 1.5 KB, a different one each time."""
    return id_token(sub, sid, PROVIDER, aud="app", iat=int(time.time()), exp=1 << 32, more=secrets.token_hex(500))


def _case(app: App, browsers: list[bytes]) -> Case:
    """Send a request of each browser in turn."""
    turns = [once(app, request_scope(cookies=cookies)) for cookies in browsers]

    async def case(number: int) -> float:
        began = time.perf_counter()
        for turn in range(number):
            await turns[turn % len(turns)]()
        return time.perf_counter() - began

    return case


async def _fill(store: MemoryStore, size: int) -> list[bytes]:
    """Remember so many logins, as the middleware does it; give the cookies of some of them, chosen at random."""
    chosen, browsers = set(random.Random(1).sample(range(size), SAMPLE)), []
    now, lifetime = time.time(), 15 * 24 * 3600
    for number in range(size):
        sub, sid = f"user{number}", f"sid{number}"
        login = Login(provider=PROVIDER, iss=PROVIDER, sub=sub, sid=sid, id_token=_long_id_token(sub, sid))
        handle = LoginHandle.new(login, now)
        await store.put(login_key(handle), LoginRecord(login, handle.at, now).to_json(), ttl=lifetime)
        if number in chosen:
            browsers.append(f"session={secrets.token_urlsafe(32)}; __Host-rp_login={handle.text}".encode())
    return browsers


async def _sizes() -> None:
    cases: dict[str, Case] = {}
    memory = {}
    for size in SIZES:
        gc.collect()
        before = resident()
        store = MemoryStore(max_logins=2 * size)
        browsers = await _fill(store, size)
        gc.collect()
        memory[size] = (resident() - before) / size
        if not await who(ours(hello, store=store), browsers[0]):
            raise RuntimeError("nobody is signed in")
        cases[f"{size}, status cached"] = _case(ours(tiny, store=store, freshness=3600.0), browsers)
        cases[f"{size}, store asked"] = _case(ours(tiny, store=store, freshness=0.0), browsers)
    taken = await interleaved(cases, rounds=20, number=2 * SAMPLE)
    rows = []
    for case, times in taken.items():
        first = taken[f"{SIZES[0]},{case.partition(',')[2]}"]
        ratios = [f"{min(times) / min(first):.2f}", "< 1.2"]
        rows.append([case, f"{min(times) * 1e6:.2f}", f"{statistics.median(times) * 1e6:.2f}", *ratios])
    show("scale: a request with a live login", ("logins", "min µs", "median µs", "ratio", "target"), rows)
    rows = [[f"{size}", f"{space / 1000:.2f}", "< 3"] for size, space in memory.items()]
    show("scale: a login with an ID Token of 1.5 KB", ("logins", "KB each", "target"), rows)


async def _storm() -> None:
    idp = IdP()
    app = ours(hello, providers=[idp.provider()], http_client=idp.client(), store=MemoryStore(max_logins=4 * STORM))
    browsers = [await sign_in(app, f"user{number}", f"sid{number}") for number in range(2 * STORM)]
    await ask(app, request_scope("/logout", method="POST", cookies=await sign_in(app, "first", "s")))  # discovery
    leaving, staying = browsers[:STORM], browsers[STORM:]
    posts = [request_scope("/logout", method="POST", cookies=cookies) for cookies in leaving]
    began = time.perf_counter()
    answers = await asyncio.gather(*(ask(app, scope) for scope in posts))
    seconds = time.perf_counter() - began
    sent = sum(dict(start["headers"]).get(b"location", b"").startswith(PROVIDER.encode()) for start, _ in answers)
    alive = sum([bool(await who(app, cookies)) for cookies in leaving])
    gone = sum([not await who(app, cookies) for cookies in staying])
    columns = ("logouts at once", "per second", "sent to the provider", "still signed in", "others signed out")
    show("scale: a storm", columns, [[f"{STORM}", f"{STORM / seconds:.0f}", f"{sent}", f"{alive}", f"{gone}"]])


def run() -> None:
    """Print the tables."""
    asyncio.run(_storm())
    asyncio.run(_sizes())
