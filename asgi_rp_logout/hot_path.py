"""The path of nearly every request: a look at the path and the cached status, and a scan of the response's headers.

Nearly every request is no logout, and its login is cached. So this code waits for nothing, asks no store, and makes no
object before it is needed. A request that needs more is handed to ``dispatch`` before the application is called, or to
``responses.inspect`` when the response starts.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from .asgi.request import session_as_it_is
from .asgi.types import Message, Scope, Send
from .context import Phase
from .exchange import Exchange, Services
from .logins.app_session import may_be_modified
from .logins.live import is_stream
from .logins.status import LoginStatus
from .responses.inspect import inspecting
from .store import MemoryStore

STARTED = Phase.STARTED

Session = dict[str, Any] | None


class HotPath:
    """Look at requests and responses as cheaply as possible. ``paths`` are those that need a look."""

    def __init__(self, services: Services, paths: Any) -> None:
        options, store = services.options, services.options.store
        self._registry = services.registry
        self._recogniser = services.recogniser
        self._cookies = options.session_cookie
        self._marker = options.marker_header
        self._lengths = frozenset((len(self._marker or b""), len(b"set-cookie")))
        self._paths = paths
        self.anything_remembered: Any = store.entries if isinstance(store, MemoryStore) else (True,)
        """Truthy if a request can have a login: an empty ``MemoryStore`` has none."""

    def fast_path(self, exchange: Exchange, scope: Scope, send: Send) -> Send | None:
        """Return the ``send`` with which a request can be handed on as it is; None if there is more to do."""
        exchange.path = path = scope["path"]
        if path in self._paths or scope.get("root_path"):
            return None
        session = status = None
        if "session" in scope:
            exchange.session = session = session_as_it_is(scope)
        if self.anything_remembered:
            key = self._recogniser.key(scope, session)
            if key is not None:
                entry = self._registry.cached(key)
                if entry is None or not entry.passes:
                    return None
                status = entry.status
                exchange.current = status.login
        return self.scan_response(exchange, scope, send, session, status)

    def scan_response(
        self, exchange: Exchange, scope: Scope, send: Send, session: Session = None, status: LoginStatus | None = None
    ) -> Send:
        """Return a ``send`` that passes the response on, unless its headers show that it has to be inspected.

        Takes the application's session as it came in, and the status of the request's login as far as it is known.
        """
        waiting = True

        def scan(message: Message) -> Awaitable[None]:
            nonlocal send, waiting
            if waiting and message["type"] == "http.response.start":
                waiting = False
                exchange.phase = STARTED
                needs_look, lengths = exchange.called, self._lengths
                headers = message.get("headers", ())
                if type(headers) is not list and headers:  # ASGI allows any iterable, also one that is read only once
                    headers = list(headers)
                    message = {**message, "headers": headers}
                for name, value in headers:
                    if len(name) in lengths and self._needs_look(name.lower(), status, value):
                        needs_look = True
                if session is not None and not needs_look:
                    needs_look = self._may_write_session(scope, status)
                if needs_look:
                    exchange.known = exchange.known or status  # the application may have ended the login meanwhile
                    send = inspecting(exchange.begin(scope, send))
                elif status is not None and _may_outlive_login(status, scope, message):
                    send = exchange.begin(scope, send).watch(status)
            return send(message)

        return scan

    def _may_write_session(self, scope: Scope, status: LoginStatus | None) -> bool:
        """Return whether the session middleware around us may be about to set a cookie that matters."""
        if not (self._needs_look(b"set-cookie", status) or self._registry.has_just_ended_one):
            return False
        return may_be_modified(scope.get("session"))

    def _needs_look(self, name: bytes, status: LoginStatus | None, value: bytes = b"") -> bool:
        """Return whether a header of the response may matter; a cookie does if there may be a login."""
        if name == self._marker:
            return True
        if name != b"set-cookie":
            return False
        if self.anything_remembered if status is None else status.record_keys:
            return True
        if value:
            self._registry.note_issued(self._cookies.issued([value]))
        return False


def _may_outlive_login(status: LoginStatus, scope: Scope, message: Message) -> bool:
    """Return whether a response is a stream, and its request may have a login."""
    return (status.login is not None or not status.known) and is_stream(scope["method"], message)
