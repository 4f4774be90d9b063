"""What nearly every request meets, whole: a look at the path and the cached status, and a scan of the response.

Nearly every request is no logout, and its login is known. So this waits for nothing, asks no store, and makes nothing
before it is needed. Whatever needs more is handed to ``dispatch`` before the application is called, or to
``inspect_response`` when the response starts.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from .asgi.request import session_as_it_is
from .asgi.types import Message, Send
from .context import Phase
from .exchange import Exchange, Services
from .inspect_response import inspecting
from .logins.live import is_stream
from .logins.status import LoginStatus
from .store import MemoryStore


class HotPath:
    """Look at requests and responses as cheaply as possible. ``paths`` are those that need a look."""

    def __init__(self, services: Services, paths: Any) -> None:
        options, store = services.options, services.options.store
        self._registry = services.registry
        self._recogniser = services.recogniser
        self._cookies = options.session_cookie
        self._marker = options.marker_header
        self._lengths = frozenset((len(self._marker or b""), len(b"set-cookie")))
        self.paths = paths
        self.anything_remembered: Any = store.entries if isinstance(store, MemoryStore) else (True,)
        """Truthy if a request can have a login: an empty ``MemoryStore`` knows nobody."""

    def fast_path(self, exchange: Exchange) -> Send | None:
        """Return the ``send`` with which a request can be handed on as it is; None if there is more to do."""
        scope = exchange.scope
        exchange.path = path = scope["path"]
        if path in self.paths or scope.get("root_path"):
            return None
        session = None
        if "session" in scope:
            exchange.session = session = session_as_it_is(scope)
        if self.anything_remembered:
            key = self._recogniser.key(scope, session)
            if key is not None:
                entry = self._registry.cached(key)
                if entry is None or not entry.passes:
                    return None
                exchange.known = status = entry.status
                exchange.current = status.login
        return self.scan_response(exchange)

    def scan_response(self, exchange: Exchange) -> Send:
        """Return a ``send`` for a request that looks like any other, until its response says that it is not."""
        send, waiting = exchange.send, True

        def scan(message: Message) -> Awaitable[None]:
            nonlocal send, waiting
            if waiting and message["type"] == "http.response.start":
                waiting = False
                exchange.phase = Phase.STARTED
                message, send = self._on_start(exchange, message)
            return send(message)

        return scan

    def _on_start(self, exchange: Exchange, message: Message) -> tuple[Message, Send]:
        status, session = exchange.known, exchange.session
        needs_look, lengths = exchange.called, self._lengths
        headers = message.get("headers", ())
        if type(headers) is not list and headers:  # ASGI asks for an iterable: one that is read once, maybe
            headers = list(headers)
            message = {**message, "headers": headers}
        for name, value in headers:
            if len(name) in lengths and self._needs_look(name.lower(), status, value):
                needs_look = True
        if session is not None and (self._needs_look(b"set-cookie", status) or self._registry.has_just_ended_one):
            # Starlette says so since 1.0; of any other session it has to be assumed.
            needs_look = needs_look or getattr(exchange.scope.get("session"), "modified", True)
        if needs_look:
            return message, inspecting(exchange)
        may_be_signed_in = status is not None and (status.login is not None or not status.known)
        if status is not None and may_be_signed_in and is_stream(exchange.scope["method"], message):
            exchange.watch(status)
        return message, exchange.send

    def _needs_look(self, name: bytes, status: LoginStatus | None, value: bytes = b"") -> bool:
        """Return whether a header of the response may matter; a cookie does where a login could be behind it."""
        if name == self._marker:
            return True
        if name != b"set-cookie":
            return False
        if self.anything_remembered if status is None else status.record_keys:
            return True
        if value:
            self._registry.note_issued(self._cookies.issued([value]))
        return False
