"""The layer between the middleware and the application: it sees which request brings a code.

Every other request passes without a coroutine of its own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from ..asgi.types import ASGIApp, Message, Receive, Scope, Send, route_path
from ..context import SCOPE_KEY, RequestContext
from ..login import Login
from ..protocol.token_request import codes_in
from .codes import ExpectedCodes

MAX_FORM = 64 * 1024
"""Bytes of a posted callback that are looked at."""


class HandOver(Protocol):
    """Describe how workers hand over the logins whose code another one of them expects: through their store."""

    async def put(self, code: str, login: Login) -> None:
        """Keep a login for the worker that expects its code."""
        ...

    async def take(self, code: str, since: float) -> Login | None:
        """Take the login of a code, if it was kept after ``since``, in seconds since the epoch."""
        ...


class Running(Protocol):
    """Describe the relay as this layer sees it."""

    codes: ExpectedCodes
    hand_over: HandOver | None
    form_post_path: str | None
    is_started: bool

    async def start(self) -> None:
        """Start it, and wait until it listens or cannot."""
        ...

    async def serve_lifespan(self, lifespan: Callable[[Send], Awaitable[None]], send: Send) -> None:
        """Run while an application runs."""
        ...


class Watch:
    """Expect the codes of an application's requests."""

    def __init__(self, app: ASGIApp, relay: Running) -> None:
        self.app = app
        self._relay = relay
        self._passes = relay.form_post_path is None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Hand on one ASGI connection; nearly every request has no query, and passes at once."""
        if scope.get("query_string") == b"" and self._passes and self._relay.is_started:
            return self.app(scope, receive, send)
        return self._look_at(scope, receive, send)

    def _look_at(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if not self._relay.is_started or scope["type"] == "lifespan":
            return self._start(scope, receive, send)
        if scope["type"] == "http":
            if scope["method"] == "POST" and self._relay.form_post_path == route_path(scope):
                return self._expect_form(scope, receive, send)
            codes = codes_in(scope.get("query_string", b""))
            if codes:
                return self._expect(codes, scope, receive, send)
        return self.app(scope, receive, send)

    async def _start(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._relay.serve_lifespan(lambda stopping: self.app(scope, receive, stopping), send)
        else:
            await self._relay.start()
            await self(scope, receive, send)

    async def _expect(self, codes: list[str], scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.ExitStack() as stack:
            await self.app(scope, receive, self._expected(stack, codes, scope, send) or send)

    async def _expect_form(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read along while the application reads a posted callback (OAuth 2.0 Form Post Response Mode, section 2)."""
        body, to_client = bytearray(), send

        async def reading() -> Message:
            nonlocal to_client
            message = await receive()
            if message["type"] == "http.request" and len(body) <= MAX_FORM:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False) and len(body) <= MAX_FORM:
                    codes = codes_in(scope.get("query_string", b"")) + codes_in(body)
                    to_client = self._expected(stack, codes, scope, send) or send
                    body.extend(bytes(MAX_FORM))  # it was read: whoever asks again gets a disconnect
            return message

        async def sending(message: Message) -> None:
            await to_client(message)

        with contextlib.ExitStack() as stack:
            await self.app(scope, reading, sending)

    def _expected(self, stack: contextlib.ExitStack, codes: list[str], scope: Scope, send: Send) -> Send | None:
        """Expect the codes of a request until its end; return the ``send`` for its answer, if it needs one.

        Another worker may redeem the code. It then puts the login into the store, which is asked if the answer may
        begin a session.
        """
        context = scope.get(SCOPE_KEY)
        if not isinstance(context, RequestContext):
            return None
        alone = len(codes) == 1
        for code in set(codes):
            waiting = stack.enter_context(self._relay.codes.expected(code, context, alone=alone))
        hand_over, began = self._relay.hand_over, time.time()
        if hand_over is None or not alone:
            return None

        async def taking_over(message: Message) -> None:
            if message["type"] == "http.response.start" and waiting.takes and _may_begin_session(scope, message):
                login = await hand_over.take(code, began)
                if login is not None:
                    waiting.give(login)
            await send(message)

        return taking_over


def _may_begin_session(scope: Scope, start: Message) -> bool:
    headers = start.get("headers", ())
    readable = isinstance(headers, list | tuple)  # others may be read once only
    sets_cookie = not readable or any(name.lower() == b"set-cookie" for name, _ in headers)
    return start["status"] < 400 and ("session" in scope or sets_cookie)
