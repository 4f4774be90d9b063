"""The types of ASGI, and functions for its headers, paths and messages that every module needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


def without_header(headers: Headers, name: bytes) -> Headers:
    """Return headers without those of one name, given in lower case."""
    return [pair for pair in headers if pair[0].lower() != name]


def header_values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """Return the values of every header called ``name`` (lower case), in order, decoded as latin-1."""
    return [value.decode("latin-1") for key, value in headers if key.lower() == name]


def route_path(scope: Scope) -> str:
    """Return the path that routes are compared with: the one below ``root_path``, exactly as Starlette reads it.

    Starlette's own function is private. This must find a logout wherever the application sees one. So a slash at the
    end of ``root_path`` is part of it here too: servers write ``/app//logout`` for the root path ``/app/``.
    """
    path: str = scope["path"]
    root_path: str = scope.get("root_path", "")
    if root_path and path.startswith(root_path) and path[len(root_path) : len(root_path) + 1] in ("", "/"):
        return path[len(root_path) :]
    return path


async def respond(send: Send, status: int, headers: Headers, body: bytes = b"") -> None:
    """Send one whole response: a start message and one body message."""
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
