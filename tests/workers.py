"""Servers of several worker processes, and what a test of them needs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SOON = 30.0
"""Seconds after which something that has to happen within one second has not happened."""

StartWorkers = Callable[..., str]


@contextmanager
def served_by_two_workers(app: str, port: int, environment: dict[str, str]) -> Iterator[str]:
    """Serve an application by its import string, in two processes; give the URL."""
    command = [sys.executable, "-m", "uvicorn", app, "--workers", "2", "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(command, cwd=Path(__file__).parent.parent, env=os.environ | environment)
    try:
        wait_until(lambda: connects(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=SOON)


def connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def naming_its_worker(app: ASGIApp) -> ASGIApp:
    """Answer as `app`, and say in `x-worker` which process did."""

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        async def signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"], (b"x-worker", str(os.getpid()).encode())]
                message = {**message, "headers": headers}
            await send(message)

        await app(scope, receive, signed)

    return named
