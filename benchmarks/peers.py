"""Wrappers to compare with: nothing, and the ten lines that anybody would write."""

from __future__ import annotations

from typing import Any

from .apps import App, Message, Scope, Send


class NoOp:
    """Wrap ``send``, and do nothing."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """Answer one connection."""

        async def wrapped(message: Message) -> None:
            await send(message)

        await self.app(scope, receive, wrapped)


class Scanner:
    """Look for the marker among the headers of the response, as a hand-written middleware would."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.found = 0

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def wrapped(message: Message) -> None:
            if message["type"] == "http.response.start":
                for name, _ in message["headers"]:
                    if name.lower() == b"x-rp-logout":
                        self.found += 1
            await send(message)

        await self.app(scope, receive, wrapped)


class TunedScanner(Scanner):
    """Do the same with every trick: a plain function, length before ``lower()``. The floor."""

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """Answer one connection."""

        def wrapped(message: Message) -> Any:
            if message["type"] == "http.response.start":
                for name, _ in message["headers"]:
                    if len(name) == 11 and name.lower() == b"x-rp-logout":
                        self.found += 1
            return send(message)

        await self.app(scope, receive, wrapped)
