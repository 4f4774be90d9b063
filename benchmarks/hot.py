"""What a request that is no logout pays, as a multiple of what a hand-written scanner of response headers pays."""

from __future__ import annotations

import asyncio
import base64
import json
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import itsdangerous
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.sessions import Session, SessionMiddleware

from asgi_rp_logout import MemoryStore

from .apps import BROWSER, OTHER_COOKIES, App, ForeignStore, Scope, hello, once, ours, request_scope, sign_in, tiny
from .measure import Case, added, interleaved, show, timed
from .peers import NoOp, Scanner, TunedScanner

OPTIONS: dict[str, Any] = {"callback_path": "/signed-out", "freshness": 3600.0}
SCANNER = "scanner, ten lines by hand"


class SessionAround:
    """Stand for a session middleware around us whose session is read already: what it costs itself is not ours."""

    def __init__(self, app: App, session: dict[str, Any]) -> None:
        self.app = app
        self.session = session

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer one connection."""
        scope["session"] = Session(self.session)
        await self.app(scope, receive, send)


async def _in_use(app: App, store: Any) -> tuple[Any, bytes]:
    """Give ours around an application, with one login in its store, and that login's cookies."""
    entrance = ours(hello, store=store, **OPTIONS)
    cookies = await sign_in(entrance, "alice", "s1")
    return ours(app, store=store, **OPTIONS), cookies


async def _inside(app: App, store: Any) -> tuple[App, App]:
    """Give the bare application and ours, both inside a session that holds the handle of a live login."""
    session: dict[str, Any] = {"user": "alice"}
    entrance = ours(hello, store=store, **OPTIONS)

    async def keeping(scope: Scope, receive: Any, send: Any) -> None:
        scope["session"] = kept
        await entrance(scope, receive, send)

    kept = Session(session)
    await sign_in(keeping, "alice", "s1")
    return SessionAround(app, dict(kept)), SessionAround(ours(app, store=store, **OPTIONS), dict(kept))


def _peers(app: App) -> dict[str, tuple[App, Scope]]:
    async def dispatch(request: Any, call_next: Callable[[Any], Any]) -> Any:
        return await call_next(request)

    payload = base64.b64encode(json.dumps({"user": "alice"}).encode())
    signed = b"session=" + itsdangerous.TimestampSigner("secret").sign(payload)
    cross = request_scope(headers=[*BROWSER, (b"origin", b"https://other.example.com")])
    return {
        "Starlette SessionMiddleware, no cookie": (SessionMiddleware(app, "secret"), request_scope()),
        "Starlette SessionMiddleware, signed in": (SessionMiddleware(app, "secret"), request_scope(cookies=signed)),
        "Starlette CORSMiddleware, with Origin": (CORSMiddleware(app, ["https://other.example.com"]), cross),
        "Starlette BaseHTTPMiddleware": (BaseHTTPMiddleware(app, dispatch), request_scope()),
    }


async def _measure(name: str, app: App, number: int) -> None:
    plain = request_scope()
    others = request_scope(cookies=OTHER_COOKIES)
    pairs: dict[str, tuple[App, Scope]] = {
        "bare": (app, plain),
        "no-op wrapper": (NoOp(app), plain),
        SCANNER: (Scanner(app), plain),
        "scanner, tuned": (TunedScanner(app), plain),
        "ours, nothing remembered": (ours(app, **OPTIONS), plain),
        "ours, nothing remembered, some cookies": (ours(app, **OPTIONS), others),
    }
    targets = {"ours, nothing remembered": 1.8, "ours, nothing remembered, some cookies": 1.8}
    bare = dict.fromkeys(pairs, "bare")
    for kind, make in (("MemoryStore", MemoryStore), ("shared store", ForeignStore)):
        middleware, cookies = await _in_use(app, make())
        pairs[f"ours, {kind} in use, no cookie"] = (middleware, plain)
        pairs[f"ours, {kind} in use, other cookies"] = (middleware, others)
        targets |= dict.fromkeys(list(pairs)[-2:], 2.6)
        pairs[f"ours, {kind}, live login, outside"] = (middleware, request_scope(cookies=cookies))
        without, inside = await _inside(app, make())
        pairs |= {"bare, inside a session": (without, plain), f"ours, {kind}, live login, inside": (inside, plain)}
        bare[f"ours, {kind}, live login, inside"] = "bare, inside a session"
        targets |= {f"ours, {kind}, live login, {place}": 4 for place in ("outside", "inside")}
    pairs |= _peers(app)
    cases: dict[str, Case] = {case: partial(timed, once(*pair)) for case, pair in pairs.items()}
    taken = await interleaved(cases, rounds=30, number=number)
    least, middle = added(taken, SCANNER, "bare")
    rows = []
    for case, times in taken.items():
        mine = added(taken, case, bare.get(case, "bare"))
        ratios = ["", ""] if case.startswith("bare") else [f"{mine[0] / least:.2f}", f"{mine[1] / middle:.2f}"]
        target = f"{targets[case]}" if case in targets else ""
        plus = f"{mine[0] * 1e6:+.2f}" if ratios[0] else ""
        rows.append([case, f"{min(times) * 1e6:.2f}", f"{statistics.median(times) * 1e6:.2f}", plus, *ratios, target])
    columns = ("a request, no logout", "min µs", "median µs", "adds µs", "scanners", "by medians", "target")
    show(f"hot: over {name}", columns, rows)


def run() -> None:
    """Print one table for each application."""
    asyncio.run(_measure("a tiny ASGI application", tiny, 3000))
    asyncio.run(_measure("a Starlette application", hello, 500))
