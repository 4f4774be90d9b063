"""Attend to one connection: recognise who comes in, then answer it, or hand it on and look at what comes back."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from ._asgi import ASGIApp, Message, Receive, Scope, Send, respond, route_path
from .arrival import Arrivals, is_recognisable, make_anonymous, refuse_for_now
from .client import is_prefetch, plays_deferred
from .context import SCOPE_KEY, Context, current
from .endpoints.owned import owned_endpoints
from .exchange import Exchange
from .later import take
from .ledger import Deadline, Ledger
from .live import SIGNED_OUT, TRY_AGAIN_LATER, Connection, Watch, watching
from .logins import ask_login_source, show, writes_session
from .request import Request, readable_session
from .settings import Settings
from .store import MemoryStore
from .verdict import Verdict


class Attendant:
    """Do for one application what its middleware is there for."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._settings = settings
        self._ledger = Ledger(settings)
        self._arrivals = Arrivals(settings, self._ledger)
        self._watch = Watch(self._ledger)
        self._endpoints = owned_endpoints(settings, self._ledger)
        self.paths = frozenset((*settings.logout_paths, *self._endpoints))
        # What is truthy here is worth a look at the cookies: an empty MemoryStore of our own knows nothing of anybody.
        store = settings.store
        self.entries: Any = store.entries if isinstance(store, MemoryStore) else (True,)

    def scanning(
        self, scope: Scope, send: Send, context: Context, request: Request | None, verdict: Verdict | None
    ) -> Send:
        """Wrap ``send`` for a request that looks like any other, until its response says that it is not.

        This is what every request goes through, so it is a plain function over local names, and makes nothing before it
        is needed.
        """
        marker, entries, path = self._settings.marker, self.entries, scope["path"]
        length = len(marker or b"")

        def scan(message: Message) -> Awaitable[None]:
            exchange: Exchange | None = context.exchange
            if exchange is not None:
                return exchange.send(message)
            if message["type"] == "http.response.start":
                context.started = True
                telling = context.asked
                sensitive = entries if verdict is None else verdict.claim.keys
                headers = message.get("headers", ())
                if headers and type(headers) is not list:  # ASGI asks for an iterable: one that is read once, maybe
                    headers = list(headers)
                    message = {**message, "headers": headers}
                for name, _ in headers:
                    size = len(name)
                    if (size == length and name.lower() == marker) or (
                        size == 10 and sensitive and name.lower() == b"set-cookie"
                    ):
                        telling = True
                if telling or (request is not None and sensitive and writes_session(request)):
                    kept = request or self._keep(scope, path, "", None)
                    exchange = context.exchange = Exchange(self._settings, self._ledger, kept, context, send, verdict)
                    return exchange.send(message)
            return send(message)

        return scan

    async def attend(self, scope: Scope, receive: Receive, send: Send, context: Context) -> None:
        """Recognise who comes in, and answer or hand on."""
        request = self._arrived(scope)
        if request.path in self._endpoints:
            context.started = True
            await self._endpoints[request.path](request, receive, send)
        elif request.path in self._settings.logout_paths:
            await self._log_out(request, receive, send, context)
        else:
            deadline = Deadline()
            verdict = await self._arrivals.verdict(request, deadline) if self.entries else None
            if verdict is None:
                await self.app(scope, receive, self.scanning(scope, send, context, request, None))
            elif not verdict.known and self._settings.deny and is_recognisable(verdict):
                await refuse_for_now(send)
            else:
                show(context, verdict)
                await self._hand_on(request, receive, send, context, verdict, deadline)

    def _arrived(self, scope: Scope) -> Request:
        session = readable_session(scope)
        kept = dict(session) if session is not None else None
        return self._keep(scope, route_path(scope), scope.get("root_path", ""), kept)

    def _keep(self, scope: Scope, path: str, root_path: str, session: dict[str, Any] | None) -> Request:
        own = self._arrivals.own_cookies(scope, root_path)
        return Request(scope, path, root_path, scope["headers"], session, own)

    async def _log_out(self, request: Request, receive: Receive, send: Send, context: Context) -> None:
        if request.method == "GET" and is_prefetch(request.headers):
            await respond(send, 503, [(b"cache-control", b"no-store")])  # a hover must log nobody out
            return
        deadline = Deadline()
        verdict = await self._arrivals.fresh_verdict(request, deadline) if self.entries else None
        exchange = context.exchange = Exchange(self._settings, self._ledger, request, context, send, verdict, deadline)
        show(context, exchange.verdict)
        make_anonymous(request, exchange.verdict)
        if await self._play(exchange) or (exchange.is_second_click() and await exchange.second_click()):
            return
        await exchange.recall()
        await self.app(request.scope, receive, exchange.send)

    async def _hand_on(
        self, request: Request, receive: Receive, send: Send, context: Context, verdict: Verdict, deadline: Deadline
    ) -> None:
        """Hand on a request of which something is known: its login is dead or alive, or a logout waits for it."""
        if verdict.dead or verdict.ended is not None or verdict.claim.later is not None:
            parts = (self._settings, self._ledger, request, context, send, verdict, deadline)
            exchange = context.exchange = Exchange(*parts)
            make_anonymous(request, verdict)
            if await self._play(exchange):
                return
        if verdict.live:
            await self._alive(request, receive, send, context, verdict)
        elif context.exchange is not None:
            await self.app(request.scope, receive, context.exchange.send)
        else:
            await self.app(request.scope, receive, self.scanning(request.scope, send, context, request, verdict))

    async def _play(self, exchange: Exchange) -> bool:
        """Answer a navigation with the logout that a fetch left behind; tell whether it was answered."""
        request, waiting = exchange.request, exchange.verdict.claim.later
        if waiting is None or not plays_deferred(request.method, request.headers):
            return False
        exchange.also.append(request.own.deletion(request.own.later))
        deferred = await take(self._ledger, waiting, exchange.deadline)
        # Whoever has signed in since then does not want the logout of before.
        if deferred is None or exchange.verdict.live or await ask_login_source(self._settings, request.scope):
            return False
        return await exchange.play(*deferred)

    async def _alive(self, request: Request, receive: Receive, send: Send, context: Context, verdict: Verdict) -> None:
        """Hand on a request with a living login, whose response must not outlive it."""
        send, connection_of = watching(send, verdict.claim, self._watch)
        exchange: Exchange | None = context.exchange
        if exchange is not None:
            exchange.through(send)
        answer = exchange.send if exchange else self.scanning(request.scope, send, context, request, verdict)
        try:
            await self.app(request.scope, receive, answer)
        except Exception:
            connection = connection_of()
            if connection is None or not connection.ended:
                raise
        finally:
            connection = connection_of()
            if connection is not None:
                self._watch.discard(connection)

    async def attend_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on a WebSocket, and close it when its login ends."""
        context = Context()
        context.started = True  # no cookie can be set here
        scope[SCOPE_KEY] = context
        token = current.set(context)
        connection: Connection | None = None
        try:
            request = self._arrived(scope)
            verdict = await self._arrivals.verdict(request, Deadline()) if self.entries else None
            if verdict is not None:
                if not verdict.known and self._settings.deny and is_recognisable(verdict):
                    await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
                    return
                show(context, verdict)
                make_anonymous(request, verdict)
                if verdict.live:
                    last = {"type": "websocket.close", "code": SIGNED_OUT, "reason": "signed out"}
                    connection = Connection(verdict.claim, send, last)
                    self._watch.add(connection)
            await self.app(scope, receive, connection.send if connection is not None else send)
        except Exception:
            if connection is None or not connection.ended:
                raise
        finally:
            current.reset(token)
            if connection is not None:
                self._watch.discard(connection)
