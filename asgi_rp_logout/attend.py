"""Attend to one connection: recognise who comes in, then answer it, or hand it on and look at what comes back."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from . import journal
from .arrival import Arrivals, is_recognisable, make_anonymous, refuse_for_now
from .asgi.types import ASGIApp, Message, Receive, Scope, Send, respond, route_path, without_header
from .client import Client, client_of, comes_from_own_page, is_prefetch, plays_deferred
from .context import SCOPE_KEY, Context, current
from .endpoints.owned import owned_endpoints
from .exchange import Exchange
from .later import cancel, is_login_response, note_return, play
from .ledger import Deadline, Ledger
from .live import TRY_AGAIN_LATER, Watch, WebSocketConnection, is_stream, logins_behind, watching
from .logins import ask_login_source, show
from .ordinary import has_just_ended
from .request import Request, session_as_it_is
from .settings import Settings
from .store import MemoryStore
from .verdict import Handle, Verdict

Arrived = tuple[Scope, str, dict[str, Any] | None, Verdict | None, Request | None]
"""A request as it came in: its scope, path and session, the verdict, and the whole request, if it was needed so far."""


class Attendant:
    """Do for one application what its middleware is there for."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._settings = settings
        self._ledger = Ledger(settings)
        self._arrivals = Arrivals(settings, self._ledger)
        self._watch = Watch(self._ledger)
        self._endpoints = owned_endpoints(settings, self._ledger, self._arrivals)
        self.paths = settings.logout_paths.with_exact(self._endpoints)
        # What is truthy here is worth a look at the cookies: an empty MemoryStore of our own knows nothing of anybody.
        store = settings.store
        self._marker = settings.marker
        self._lengths = frozenset((len(settings.marker or b""), len(b"set-cookie")))
        self.entries: Any = store.entries if isinstance(store, MemoryStore) else (True,)

    def glance(self, scope: Scope, send: Send, context: Context) -> Send | None:
        """Return the ``send`` with which a request can be handed on as it is; None if there is more to do.

        Nearly every request goes this way, so it is a plain function: it waits for nothing, and makes nothing before
        that is needed.
        """
        path = scope["path"]
        if path in self.paths or scope.get("root_path"):
            return None
        session = verdict = None
        if "session" in scope:
            session = session_as_it_is(scope)
        if self.entries:
            key = self._arrivals.key(scope, session)
            if key is not None:
                verdict = self._ledger.cached(key)
                if verdict is None or not verdict.plain:
                    return None
                context.recalled = verdict.login
        return self.scanning(send, context, (scope, path, session, verdict, None))

    def scanning(self, send: Send, context: Context, arrived: Arrived | None) -> Send:
        """Wrap ``send`` for a request that looks like any other, until its response says that it is not."""

        def scan(message: Message) -> Awaitable[None]:
            nonlocal send, arrived
            if arrived is not None and message["type"] == "http.response.start":
                (scope, path, session, verdict, request), arrived = arrived, None
                context.started = True
                telling, lengths = context.asked, self._lengths
                headers = message.get("headers", ())
                if type(headers) is not list and headers:  # ASGI asks for an iterable: one that is read once, maybe
                    headers = list(headers)
                    message = {**message, "headers": headers}
                for name, value in headers:
                    if len(name) in lengths and self._is_telling(name.lower(), verdict, value):
                        telling = True
                if session is not None and (self._is_telling(b"set-cookie", verdict) or has_just_ended(self._ledger)):
                    # Starlette says so since 1.0; of any other session it has to be assumed.
                    telling = telling or getattr(scope.get("session"), "modified", True)
                signed_in = verdict is not None and (verdict.login is not None or not verdict.known)
                if verdict is not None and signed_in and is_stream(scope["method"], message):
                    send = watching(send, scope["method"], verdict, self._watch, context)
                if telling:
                    request = request or self._keep(scope, path, "", session)
                    send = Exchange(self._settings, self._ledger, request, context, send, verdict).send
            return send(message)

        return scan

    def _is_telling(self, name: bytes, verdict: Verdict | None, value: bytes = b"") -> bool:
        """Return whether a header of the response may matter; a cookie does where a login could be behind it."""
        if name == self._marker:
            return True
        if name != b"set-cookie":
            return False
        if self.entries if verdict is None else verdict.keys:
            return True
        if value:
            self._ledger.note_issued(self._settings.session_cookies.issued([value]))
        return False

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
                await self._pass_on(request, receive, send, context, None)
            elif not verdict.known and self._settings.deny and is_recognisable(verdict):
                await refuse_for_now(send)
            else:
                show(context, verdict)
                await self._hand_on(request, receive, send, context, verdict, deadline)

    def _arrived(self, scope: Scope) -> Request:
        return self._keep(scope, route_path(scope), scope.get("root_path", ""), session_as_it_is(scope))

    def _keep(self, scope: Scope, path: str, root_path: str, session: dict[str, Any] | None) -> Request:
        own = self._arrivals.own_cookies(scope, root_path)
        return Request(scope, path, root_path, scope["headers"], session, own)

    async def _log_out(self, request: Request, receive: Receive, send: Send, context: Context) -> None:
        if request.method == "GET" and is_prefetch(request.headers):
            journal.is_prefetch(request)
            await respond(send, 503, [(b"cache-control", b"no-store")])
            return
        deadline = Deadline()
        verdict = await self._arrivals.fresh_verdict(request, deadline)
        exchange = Exchange(self._settings, self._ledger, request, context, send, verdict, deadline)
        show(context, exchange.verdict)
        make_anonymous(self._settings, request, exchange.verdict)
        if await self._play(exchange) or (exchange.is_second_click() and await exchange.second_click()):
            return
        await exchange.recall()
        if self._settings.defers(client_of(request.method, request.headers)):
            # What is compressed cannot be looked into: see peek.py.
            request.scope["headers"] = without_header(request.scope["headers"], b"accept-encoding")
        await self.app(request.scope, receive, exchange.send)

    async def _hand_on(
        self, request: Request, receive: Receive, send: Send, context: Context, verdict: Verdict, deadline: Deadline
    ) -> None:
        """Hand on a request of which something is known: its login is dead or alive, or a logout waits for it."""
        make_anonymous(self._settings, request, verdict)
        if verdict.has_dead or verdict.claim.later is not None:
            parts = (self._settings, self._ledger, request, context, send, verdict, deadline)
            if await self._play(Exchange(*parts)):
                return
        if context.exchange is None:
            await self._pass_on(request, receive, send, context, verdict)
        else:
            context.exchange.through(watching(send, request.method, verdict, self._watch, context))
            await self.app(request.scope, receive, context.exchange.send)

    async def _pass_on(
        self, request: Request, receive: Receive, send: Send, context: Context, verdict: Verdict | None
    ) -> None:
        arrived = (request.scope, request.path, request.session, verdict, request)
        await self.app(request.scope, receive, self.scanning(send, context, arrived))

    async def finish(self, context: Context) -> None:
        """Do what is left when the application is done."""
        if context.connection is not None:
            context.connection.leave()
        if context.exchange is not None:
            await context.exchange.finish()
        if context.connection is not None:
            await context.connection.closed()

    async def _play(self, exchange: Exchange) -> bool:
        """Answer a navigation with the logout that a fetch left behind; return whether it was answered."""
        request, waiting = exchange.request, exchange.verdict.claim.later
        if waiting is None or client_of(request.method, request.headers) is not Client.NAVIGATION:
            return False
        parts = (self._ledger, waiting, exchange.deadline)
        if request.method != "GET":
            # With a session the application is asked first: its own logout must not be left out.
            return not exchange.brings_session and await exchange.repeat()
        own_page = comes_from_own_page(request.headers)
        if is_login_response(request.scope):
            await cancel(*parts)
        elif not own_page and await note_return(*parts):
            return False
        elif not plays_deferred(request.method, request.headers):
            return False  # a link on another site must not start it
        elif exchange.verdict.live or await ask_login_source(self._settings, request.scope):
            await cancel(*parts)  # whoever has signed in since then does not want the logout of before
        else:
            deferred = await play(*parts, again=own_page)
            if deferred is not None and await exchange.play(waiting, deferred):
                return True
        exchange.also.append(request.own.deletion(request.own.later))
        return False

    async def attend_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on a WebSocket, and close it when its login ends."""
        context = Context()
        context.started = True  # no cookie can be set here
        scope[SCOPE_KEY] = context
        token = current.set(context)
        handles: tuple[Handle, ...] = ()
        try:
            request = self._arrived(scope)
            verdict = await self._arrivals.verdict(request, Deadline()) if self.entries else None
            if verdict is not None:
                if not verdict.known and self._settings.deny and is_recognisable(verdict):
                    await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
                    return
                show(context, verdict)
                make_anonymous(self._settings, request, verdict)
                handles = logins_behind(verdict)
            if handles:
                await self._serve_until_it_ends(WebSocketConnection(handles, receive, send), scope)
            else:
                await self.app(scope, receive, send)
        finally:
            current.reset(token)

    async def _serve_until_it_ends(self, connection: WebSocketConnection, scope: Scope) -> None:
        self._watch.add(connection)
        try:
            await self.app(scope, connection.receive, connection.send)
        except Exception:
            if not connection.ended:
                raise
        finally:
            connection.leave()
        await connection.closed()
