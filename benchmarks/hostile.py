"""What a stranger's request with a Cookie header full of inventions pays, as a multiple of what the application pays.

The application reads its session as most do: Starlette's SessionMiddleware, and for the comparison ``request.cookies``.
Its own time grows with the header as well, and so the ratio says whether anybody gains by sending more.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from .apps import BROWSER, App, ForeignStore, Pairs, once, ours, request_scope, sign_in
from .apps import hello as entrance
from .measure import Case, interleaved, show

SIZES = {"8 KB": 8 * 1024, "60 KB": 60 * 1024}
TARGET = 3.0


async def _me(request: Request) -> Response:
    return PlainTextResponse(request.cookies.get("theme") or "hello")


async def _signed(request: Request) -> Response:
    return PlainTextResponse(request.session.get("user") or "hello")


by_cookies = Starlette(routes=[Route("/", _me)])
by_session = Starlette(routes=[Route("/", _signed)], middleware=[Middleware(SessionMiddleware, secret_key="secret")])


def _filled(size: int, one: Callable[[], str], separator: str = "; ") -> bytes:
    """Give a Cookie header of about ``size`` bytes."""
    pairs: list[str] = []
    room = size
    while room > 0:
        pairs.append(one())
        room -= len(pairs[-1]) + len(separator)
    return separator.join(pairs).encode("latin-1")


def _session() -> str:
    return f"session={secrets.token_hex(8)}"


def _other() -> str:
    return f"{secrets.token_hex(4)}={secrets.token_hex(8)}"


def _headers(size: int) -> dict[str, list[bytes]]:
    """Give the Cookie headers of each kind of stranger."""
    sixteen = _filled(16 * 26, _session)
    return {
        "invented session cookies": [_filled(size, _session)],
        "sixteen of them, and other cookies": [sixteen + b"; " + _filled(size - len(sixteen), _other)],
        "other cookies": [_filled(size, _other)],
        "one long session cookie": [b"session=" + secrets.token_hex(size // 2).encode()],
        "one long cookie": [b"theme=" + secrets.token_hex(size // 2).encode()],
        "many Cookie headers": [_other().encode() for _ in range(size // 27)],
        "many headers, a session cookie in each": [_session().encode() for _ in range(size // 26)],
        "sessions behind blanks": [_filled(size, _session, " ")],
        "a session cookie after the other without a blank": [_filled(size, _session, ";")],
        "the same session cookie": [_filled(size, lambda: "session=0123456789abcdef", ";")],
        "an inner blank in each": [_filled(size, lambda: "session=0123456789 abcdef")],
        "sessions behind a blank, and other cookies": [_filled(size, lambda: f"{_other()} {_session()}")],
        "chunks": [_filled(size, lambda: f"session.{secrets.randbelow(1000)}={secrets.token_hex(8)}")],
        "percent-encoded names": [_filled(size, lambda: f"%73ession={secrets.token_hex(8)}")],
        "names that are nearly ours": [_filled(size, lambda: f"session{'0' * 200}=1")],
        "quotes and backslashes": [_filled(size, lambda: 'session="\\\\' + "\\;" * 20)],
        "percent signs": [b"theme=" + b"%" * size],
        "half an expiry date": [b"theme=" + b"GMT" * (size // 3)],
        "our own cookies": [_filled(size, lambda: f"__Host-rp_login={secrets.token_hex(8)}")],
    }


async def _timed(turn: Callable[[], Awaitable[object]], number: int) -> float:
    """Await ``turn()`` so many times; give the seconds of this process: other processes do not count."""
    began = time.process_time()
    for _ in range(number):
        await turn()
    return time.process_time() - began


def _asking(app: App, lines: list[bytes]) -> Callable[[], Awaitable[None]]:
    """Give a function that sends a request whose cookies have not been seen before."""
    numbers = itertools.count()

    def turn() -> Awaitable[None]:
        first, *more = lines
        headers: Pairs = [(b"cookie", line) for line in (b"n=%d; %b" % (next(numbers), first), *more)]
        return once(app, request_scope(headers=[*BROWSER, *headers]))()

    return turn


async def _measure(name: str, app: App, cookies: dict[str, list[bytes]], number: int) -> list[list[str]]:
    store = ForeignStore()
    await sign_in(ours(entrance, store=store), "alice", "s1")
    guarded = ours(app, store=store, freshness=0)
    rows = []
    for kind, lines in cookies.items():
        cases: dict[str, Case] = {
            "bare": partial(_timed, _asking(app, lines)),
            "ours": partial(_timed, _asking(guarded, lines)),
        }
        taken = await interleaved(cases, rounds=10, number=number)
        bare, mine = min(taken["bare"]), min(taken["ours"])
        middle = statistics.median(taken["ours"]) / statistics.median(taken["bare"])
        ratio = mine / bare
        verdict = "" if ratio <= TARGET else "not met"
        rows.append([kind, name, f"{bare * 1e6:.0f}", f"{mine * 1e6:.0f}", f"{ratio:.2f}", f"{middle:.2f}", verdict])
    return rows


async def _measure_all(size: str) -> None:
    cookies = _headers(SIZES[size])
    number = 30 if SIZES[size] < 10_000 else 10
    rows = []
    for name, app in (("request.cookies", by_cookies), ("SessionMiddleware", by_session)):
        rows += await _measure(name, app, cookies, number)
    columns = ("an anonymous request", "reads", "bare µs", "ours µs", "ratio", "by medians", f"target {TARGET:g}")
    show(f"hostile: {size} of cookies", columns, rows)


def run() -> None:
    """Print one table for each size."""
    for size in SIZES:
        asyncio.run(_measure_all(size))
