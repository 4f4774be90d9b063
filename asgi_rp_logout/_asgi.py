"""The words of ASGI that the other modules share. No logic of logout here."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

logger = logging.getLogger("asgi_rp_logout")


def header_values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """Give the values of every header called ``name`` (lower case), in order, decoded as latin-1."""
    return [value.decode("latin-1") for key, value in headers if key.lower() == name]


def route_path(scope: Scope) -> str:
    """Give the path below ``root_path``, whether or not the server left the prefix in ``path``."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :] or "/"
    return path


async def respond(send: Send, status: int, headers: Headers, body: bytes = b"") -> None:
    """Send one whole response: a start message and one body message."""
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
