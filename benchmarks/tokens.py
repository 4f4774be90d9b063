"""Logout tokens per second through the back-channel endpoint, beside the bare verification of the same tokens."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any
from urllib.parse import urlencode

from joserfc import jwt

from asgi_rp_logout import MemoryStore

from .apps import ForeignStore, ask, hello, ours, request_scope
from .idp import IdP
from .measure import Case, interleaved, show

FORM = [(b"host", b"app.example.com"), (b"content-type", b"application/x-www-form-urlencoded")]


def _ours(idp: IdP, bodies: list[bytes], store: Any) -> Case:
    app = ours(
        hello, providers=[idp.provider()], store=store, http_client=idp.client(), backchannel_path="/backchannel"
    )

    async def case(number: int) -> float:
        scopes = [request_scope("/backchannel", method="POST", headers=FORM) for _ in range(number)]
        began = time.perf_counter()
        answers = [await ask(app, scope, body) for scope, body in zip(scopes, bodies, strict=False)]
        seconds = time.perf_counter() - began
        if any(start["status"] != 200 for start, _ in answers):
            raise RuntimeError("a logout token was refused")
        return seconds

    return case


async def _measure() -> None:
    idp = IdP()
    tokens = [idp.logout_token(f"user{number}", f"sid{number}") for number in range(300)]
    bodies = [urlencode({"logout_token": token}).encode() for token in tokens]

    async def bare(number: int) -> float:
        began = time.perf_counter()
        for token in tokens[:number]:
            jwt.decode(token, idp.key, algorithms=["RS256"])
        return time.perf_counter() - began

    cases: dict[str, Case] = {"joserfc alone": bare}
    cases["ours, MemoryStore"] = _ours(idp, bodies, MemoryStore())
    cases["ours, shared store"] = _ours(idp, bodies, ForeignStore())
    taken = await interleaved(cases, rounds=20, number=len(tokens))
    rows = []
    for case, times in taken.items():
        least, middle = min(times), statistics.median(times)
        ratios = [f"{min(taken['joserfc alone']) / least:.2f}", ">= 0.8"] if case.startswith("ours") else ["", ""]
        rows.append([case, f"{least * 1e6:.1f}", f"{middle * 1e6:.1f}", f"{1 / least:.0f}", *ratios])
    columns = ("a logout token (RS256, 2048 bits)", "min µs", "median µs", "per second", "ratio", "target")
    show("tokens: from the POST to the 200", columns, rows)


def run() -> None:
    """Print the table."""
    asyncio.run(_measure())
