"""What the endpoints share: a body that is read within limits, and warnings that a flood cannot multiply."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..asgi.types import Receive
from ..errors import LogoutTokenError
from ..log import WarningLimiter

DEADLINE = 2.0
"""Seconds for the work on one request: less than the 2.5 s after which a provider may hang up."""

MAX_BODY = 64 * 1024
"""Bytes of a request body."""


class Refusals:
    """Log refused requests, at most one line a second for each code, and count what was left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._flood = WarningLimiter(clock)

    def log(self, channel: str, code: str, sentence: str) -> None:
        """Log one refusal by the code and the sentence of its error, neither of which holds anything secret."""
        self._flood.warning(f"{channel} {code}", f"{channel} logout refused ({code}): {sentence}")


refusals = Refusals()


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
