"""Requests that the hot path cannot pass on: our own addresses, logout paths, dead or unknown logins, WebSockets."""

from __future__ import annotations

from . import log
from .asgi.types import ASGIApp, Headers, Receive, Scope, Send, respond, without_header
from .context import SCOPE_KEY, Phase, current
from .endpoints.routes import endpoints_of
from .exchange import Exchange, Services
from .hot_path import HotPath
from .logins.handle import LoginHandle
from .logins.live import TRY_AGAIN_LATER, LiveConnections, WebSocketConnection, logins_behind
from .logins.recognise import Recogniser
from .logins.registry import LoginRegistry
from .logout.deferred import cancel, is_login_response, note_return, take
from .logout.evidence import ask_before_application, ask_login_source
from .logout.flow import finish_deferred
from .logout.second_click import answer_repeated_request, answer_second_click, is_second_click
from .negotiation.request_kind import RequestKind, comes_from_own_page, is_prefetch, may_finish_deferred
from .options import Options
from .responses.inspect import inspecting


class Dispatcher:
    """Recognise requests, and answer them or hand them to one application."""

    def __init__(self, app: ASGIApp, options: Options) -> None:
        self.app = app
        self._options = options
        registry = LoginRegistry(
            options.store,
            session_cookies=options.session_cookie,
            session_lifetime=options.session_lifetime,
            freshness=options.freshness,
            keeps_sids=options.frontchannel_path is not None,
            notices=options.notices,
        )
        live = LiveConnections(registry)
        self.services = Services(options, registry, Recogniser(options, registry), live)
        self._endpoints = endpoints_of(options)
        self.hot_path = HotPath(self.services, options.logout_path.with_exact(self._endpoints))

    async def dispatch(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        """Recognise who sent a request, and answer it or hand it on."""
        exchange.begin(scope, send)
        request = exchange.take_snapshot()
        endpoint = self._endpoints.get(request.path)
        if endpoint is not None:
            exchange.phase = Phase.REPLACED
            await endpoint(exchange, receive)
        elif request.path in self._options.logout_path:
            await self._log_out(exchange, receive)
        else:
            await self._recognise(exchange, receive)

    async def _recognise(self, exchange: Exchange, receive: Receive) -> None:
        status = None
        if self.hot_path.anything_remembered:
            status = await self.services.recogniser.status(exchange.request, exchange.budget)
        if status is not None:
            if not status.known and self._options.denies and status.credentials.recognisable:
                await _refuse_for_now(exchange.send)
                return
            exchange.learn(status)
            self.services.recogniser.make_anonymous(exchange.request, status)
            if status.has_dead or status.credentials.deferred_key is not None:
                send = inspecting(exchange)
                if not await self._finish_deferred(exchange):
                    await self.app(exchange.scope, receive, send)
                return
        scan = self.hot_path.scan_response(exchange, exchange.scope, exchange.send, exchange.session, status)
        await self.app(exchange.scope, receive, scan)

    async def _log_out(self, exchange: Exchange, receive: Receive) -> None:
        """Hand on a request for a logout path; its login is looked up before the application clears the session."""
        request = exchange.request
        if request.method == "GET" and is_prefetch(request.headers):
            log.prefetch(request.path)
            await respond(exchange.send, 503, [(b"cache-control", b"no-store")])
            return
        send = inspecting(exchange)
        status = await self.services.recogniser.status_for_logout(request, exchange.budget)
        exchange.learn(status)
        self.services.recogniser.make_anonymous(request, status)
        if await self._finish_deferred(exchange):
            return
        if is_second_click(exchange) and await answer_second_click(exchange):
            return
        await ask_before_application(exchange)
        if exchange.waits:  # a compressed body cannot be read: see negotiation.json_body
            request.scope["headers"] = without_header(request.scope["headers"], b"accept-encoding")
        await self.app(exchange.scope, receive, send)

    async def _finish_deferred(self, exchange: Exchange) -> bool:
        """Answer a navigation with the logout that a fetch left behind; return whether it was answered."""
        request, key = exchange.request, exchange.status.credentials.deferred_key
        if key is None or exchange.kind is not RequestKind.NAVIGATION:
            return False
        if request.method != "GET":
            # With a session the application is called first: its own logout must not be skipped.
            return not exchange.brings_session and await answer_repeated_request(exchange)
        stored = (exchange.registry, key, exchange.budget)
        own_page = comes_from_own_page(request.headers)
        if is_login_response(request.scope):
            await cancel(*stored)
        elif not own_page and await note_return(*stored):
            return False
        elif not may_finish_deferred(request.method, request.headers):
            return False  # a link on another site must not start it
        elif exchange.status.live or await ask_login_source(self._options, request.scope):
            await cancel(*stored)  # the user has signed in since, and does not want the earlier logout
        else:
            deferred = await take(*stored, again=own_page)
            if deferred is not None and await finish_deferred(exchange, key, deferred):
                return True
        exchange.extra_cookies = (request.own.deletion(request.own.deferred),)
        return False

    async def handle_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on a WebSocket, and close it when its login ends."""
        exchange = Exchange()
        exchange.services = self.services
        exchange.begin(scope, send)
        exchange.phase = Phase.STARTED  # no cookie can be set here
        scope[SCOPE_KEY] = exchange
        token = current.set(exchange)
        try:
            request = exchange.take_snapshot()
            status = None
            if self.hot_path.anything_remembered:
                status = await self.services.recogniser.status(request, exchange.budget)
            handles: tuple[LoginHandle, ...] = ()
            if status is not None:
                if not status.known and self._options.denies and status.credentials.recognisable:
                    await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
                    return
                exchange.learn(status)
                self.services.recogniser.make_anonymous(request, status)
                handles = logins_behind(status)
            if handles:
                exchange.connection = connection = WebSocketConnection(handles, receive, send)
                await self._serve_until_it_ends(connection, scope)
            else:
                await self.app(scope, receive, send)
        finally:
            current.reset(token)

    async def _serve_until_it_ends(self, connection: WebSocketConnection, scope: Scope) -> None:
        self.services.live.add(connection)
        try:
            await self.app(scope, connection.receive, connection.send)
        except Exception:
            if not connection.ended:
                raise
        finally:
            connection.leave()
        await connection.closed()


async def _refuse_for_now(send: Send) -> None:
    """Answer 503, because the store cannot say who is signed in; no cookie is expired."""
    headers: Headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    headers.append((b"retry-after", b"1"))
    await respond(send, 503, headers, b"The session cannot be checked right now. Please try again.\n")
