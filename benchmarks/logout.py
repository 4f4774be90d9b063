"""What a whole logout adds to the application's own, with the provider's discovery document at hand."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Any

from starlette.middleware.sessions import Session

from asgi_rp_logout import MemoryStore

from .apps import App, ForeignStore, Scope, ask, hello, once, ours, request_scope, sign_in
from .idp import IdP
from .measure import Case, added, interleaved, show


def _post(cookies: bytes = b"") -> Scope:
    return request_scope("/logout", method="POST", cookies=cookies)


async def _drive(app: App, scopes: list[Scope]) -> float:
    turns = [once(app, scope) for scope in scopes]
    began = time.perf_counter()
    for turn in turns:
        await turn()
    return time.perf_counter() - began


async def _middleware(idp: IdP, store: Any, **options: Any) -> App:
    """Give ours with a provider that is found by discovery, warm, and make sure that it does what is measured."""
    providers = [idp.provider()]
    app = ours(hello, providers=providers, store=store, http_client=idp.client(), **options)
    start, _ = await ask(app, _post(await sign_in(app, "alice", "s", idp.signed_id_token("alice", "s"))))
    location = dict(start["headers"]).get(b"location", b"")
    if not location.startswith(idp.end_session.encode() + b"?id_token_hint="):
        raise RuntimeError("this is no whole logout")
    return app


def _outside(app: App, idp: IdP) -> Case:
    token = idp.signed_id_token("alice", "s1")

    async def case(number: int) -> float:
        return await _drive(app, [_post(await sign_in(app, "alice", "s1", token)) for _ in range(number)])

    return case


def _inside(app: App, idp: IdP) -> Case:
    token = idp.signed_id_token("alice", "s1")

    async def case(number: int) -> float:
        scopes = []
        for _ in range(number):
            session = Session()
            await sign_in(_with_session(app, session), "alice", "s1", token)
            scopes.append({**_post(), "session": session})
        return await _drive(app, scopes)

    return case


def _with_session(app: App, session: Session) -> App:
    return lambda scope, receive, send: app({**scope, "session": session}, receive, send)


async def _measure() -> None:
    idp = IdP()
    bare: Callable[[int], Any] = lambda number: _drive(hello, [_post(b"session=" + b"x" * 43)] * number)  # noqa: E731
    cases: dict[str, Case] = {"the application's own": bare}
    for kind, make in (("MemoryStore", MemoryStore), ("shared store", ForeignStore)):
        cases[f"ours, {kind}, outside"] = _outside(await _middleware(idp, make()), idp)
        cases[f"ours, {kind}, inside a session"] = _inside(await _middleware(idp, make()), idp)
    with_callback = await _middleware(idp, MemoryStore(), callback_path="/signed-out")
    cases["ours, MemoryStore, outside, callback_path"] = _outside(with_callback, idp)
    taken = await interleaved(cases, rounds=20, number=200)
    rows = []
    for case, times in taken.items():
        least, middle = added(taken, case, "the application's own")
        values = ["", "", ""] if case.startswith("the") else [f"{least * 1e6:+.0f}", f"{middle * 1e6:+.0f}", "< 150"]
        rows.append([case, f"{min(times) * 1e6:.0f}", f"{statistics.median(times) * 1e6:.0f}", *values])
    show("logout: discovery warm", ("a logout", "min µs", "median µs", "adds µs", "by medians", "target"), rows)


def run() -> None:
    """Print the table."""
    asyncio.run(_measure())
