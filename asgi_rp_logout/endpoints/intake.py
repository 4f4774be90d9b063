"""What the channels share: reading a body within limits, logging refusals within limits, and reporting a logout."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio

from ..asgi.types import Receive
from ..errors import LogoutTokenError
from ..events import LogoutEvent, notify
from ..log import WarningLimiter
from ..options import Options

DEADLINE = 2.0
"""Seconds for the work on one request: less than the 2.5 s after which a provider may hang up."""

NOTIFY_DEADLINE = 5.0
"""Seconds for the application's hook."""

MAX_BODY = 64 * 1024
"""Bytes of a request body."""


class RefusalLog:
    """Log refused requests, at most one line a second for each code, and count what was left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._limiter = WarningLimiter(clock)

    def log(self, channel: str, code: str, sentence: str) -> None:
        """Log one refusal by the code and the sentence of its error, neither of which holds anything secret."""
        self._limiter.warning(f"{channel} {code}", f"{channel} logout refused ({code}): {sentence}")


refusals = RefusalLog()


async def read_body(receive: Receive, limit: int = MAX_BODY) -> bytes | None:
    """Read a whole request body.

    Takes the ASGI ``receive`` and the most bytes to take. Returns the body, or None if the client has gone. Raises
    ``LogoutTokenError`` with the code ``too_large``.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > limit:
            raise LogoutTokenError(f"the body is over {limit} bytes", code="too_large")
        if not message.get("more_body", False):
            return bytes(body)


async def notify_after_answer(options: Options, event: LogoutEvent) -> None:
    """Log a logout of the provider's, and call ``on_logout``; the provider has its answer by now.

    The hook has ``NOTIFY_DEADLINE`` seconds, so a slow one cannot make the logout fail.
    """
    with anyio.move_on_after(NOTIFY_DEADLINE, shield=True):
        await notify(options, event)
