"""What the relay answers: the provider's discovery document, and token requests, which it passes on.

Nothing of ours stops a login. A token request goes to the provider as it came, and the provider's answer goes back as
it is, also if the ID Token in it cannot be verified, or its login cannot be kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import anyio
from starlette.background import BackgroundTask
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router

from ..asgi.types import ASGIApp, Headers, Message, Receive, Scope, Send, respond
from ..errors import ProviderError, RPLogoutError
from ..log import WarningLimiter
from ..login import Login
from ..protocol.discovery import check_issuer, required_endpoint
from ..protocol.id_token import ExpectedToken, check_id_token
from ..protocol.token_request import passed_on, redeemed_code, tokens_in
from ..providers.oidc import Discovery, OIDCProvider
from ..providers.transport import Forwarded, HTTPClient, fetch_json

METADATA_PATH, TOKEN_PATH = "/.well-known/openid-configuration", "/token"

MAX_BODY = 64 * 1024
"""Bytes of a token request. One with a client assertion has about three thousand."""

FORWARD_WITHIN = 30.0
"""Seconds for a token request that is passed on, all in all; clients of applications wait for five to ten."""

NOTICE_WITHIN = 2.0
"""Seconds that a login waits at most for the provider's keys, which are fetched at most once in half a minute."""

NO_STORE = {"cache-control": "no-store"}


class Deliver(Protocol):
    """Describe where logins go."""

    def wants(self, code: str) -> bool:
        """Return whether anybody may expect this code."""
        ...

    async def deliver(self, code: str, login: Login) -> None:
        """Give the login of a code to whoever expects it."""
        ...


class Upstream(Protocol):
    """Describe the way to the provider."""

    @property
    def client(self) -> HTTPClient:
        """The client that fetches the provider's documents."""
        ...

    async def post(self, endpoint: str, headers: Headers, body: bytes) -> Forwarded:
        """Pass on one token request. Raises ``ProviderError``."""
        ...


class WholeDocument(Discovery):
    """Keep the whole discovery document of a provider, for the application's client."""

    async def load(self) -> dict[str, Any]:
        """Fetch the document; its issuer must be ours (Discovery 1.0, section 4.3). Raises ``ProviderError``."""
        document = await fetch_json(self.address, client=self.http_client)
        check_issuer(document, self.issuer)
        return document


class Endpoints:
    """Answer the application's client."""

    def __init__(self, provider: OIDCProvider, logins: Deliver, address: str, upstream: Upstream) -> None:
        self._provider = provider
        self._logins = logins
        self._address = address
        self._upstream = upstream
        self._document = WholeDocument(provider.issuer)
        self._verifier = provider.verifier.for_another_loop(self._jwks_uri)
        self._document.http_client = self._verifier.keys.http_client = upstream.client
        self._log = WarningLimiter()

    def app(self, identity: str) -> ASGIApp:
        """Return the ASGI application; at ``/`` it says which relay it is."""

        async def who(request: Request) -> Response:
            return JSONResponse({"relay": identity}, headers=NO_STORE)

        routes = [
            Route("/", who),
            Route(METADATA_PATH, self.metadata),
            Route(TOKEN_PATH, self.token, methods=["POST"]),
        ]
        hosts = ["127.0.0.1", "localhost"]  # whatever else a name leads here, such as a page that rebinds its own
        router = Router(routes, redirect_slashes=False)
        return LoopbackOnly(TrustedHostMiddleware(router, allowed_hosts=hosts, www_redirect=False))

    async def metadata(self, request: Request) -> Response:
        """Answer with the provider's document, in which only the token endpoint is another."""
        try:
            document = await self._document.get()
        except ProviderError as error:
            return self._failed("the provider's metadata cannot be read, so the relay has none", error)
        answer = {**document, "token_endpoint": f"{self._address}{TOKEN_PATH}"}
        return JSONResponse(answer, headers=NO_STORE, background=BackgroundTask(self._document.refresh))

    async def token(self, request: Request) -> Response:
        """Pass on a token request, and give its login to the request that waits for it."""
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    return JSONResponse({"error": "invalid_request"}, 413, NO_STORE)
        except ClientDisconnect:  # else the server logs a traceback, as often as somebody does this
            return Response(status_code=400)
        try:
            endpoint = await self._token_endpoint()
            posting = self._upstream.post(endpoint, passed_on(request.headers.raw), bytes(body))
            answer = await _unless_gone(request, posting)
            if answer.status > 599:  # which is none (RFC 9110, section 15), and uvicorn cannot send it
                raise ProviderError(f"the provider answered with status {answer.status}", code="fetch_status")
        except ProviderError as error:
            return self._failed("a token request could not be passed on, so its login has failed", error)
        tokens = tokens_in(answer.status, answer.body)
        code = redeemed_code(request.headers.get("content-type", "").encode("latin-1"), bytes(body))
        if tokens is not None and code is not None and self._logins.wants(code):
            await self._notice(code, tokens)
        response = Response(answer.body, answer.status, background=BackgroundTask(self._document.refresh))
        length = (b"content-length", str(len(answer.body)).encode())
        response.raw_headers = [*passed_on(answer.headers), length]
        return response

    async def _notice(self, code: str, tokens: Any) -> None:
        """Deliver the login of a token response; a failure is logged, and the login goes on."""
        why = f"not done within {NOTICE_WITHIN:.0f} s"
        with anyio.move_on_after(NOTICE_WITHIN):
            try:
                await self._logins.deliver(code, await self._verified(tokens))
                return
            except RPLogoutError as error:
                why = str(error)
            except Exception as error:  # its message may hold anything
                why = type(error).__name__
        self._log.warning("notice", f"a login goes on, but the relay could not keep it for its logout: {why}")

    async def _verified(self, tokens: Any) -> Login:
        """Return the login of a token response. Raises ``LogoutTokenError`` or ``ProviderError`` for a bad ID Token."""
        provider, id_token, refresh_token = self._provider, tokens["id_token"], tokens.get("refresh_token")
        _, claims = await self._verifier.verify(id_token)
        check_id_token(claims, ExpectedToken(provider.issuer, str(provider.client_id)), now=time.time())
        sid = claims.get("sid")
        return Login(
            provider.name,
            id_token,
            claims["sub"],
            sid if isinstance(sid, str) else None,
            provider.issuer,
            refresh_token if isinstance(refresh_token, str) else None,
            known_by="relay",
        )

    async def _token_endpoint(self) -> str:
        document, name = await self._document.get(), self._provider.name
        return required_endpoint(document, "token_endpoint", name, code="no_endpoint")

    async def _jwks_uri(self) -> str:
        document, name = await self._document.get(), self._provider.name
        return required_endpoint(document, "jwks_uri", name, code="no_jwks_uri")

    async def prefetch(self) -> None:
        """Fetch the document and the keys before the first login; it is logged there if they cannot be fetched."""
        try:
            await self._document.prefetch()
            await self._verifier.keys.get()
        except RPLogoutError:
            return

    def _failed(self, what: str, error: ProviderError) -> Response:
        self._log.warning(what, f"{what}: {error}")
        return JSONResponse({"error": "temporarily_unavailable"}, 502, NO_STORE)


async def _unless_gone(request: Request, posting: Coroutine[Any, Any, Forwarded]) -> Forwarded:
    """Wait for the provider's answer in time, and not for longer than the client does. Raises ``ProviderError``."""
    leaving = asyncio.ensure_future(_disconnect(request))
    with anyio.move_on_after(FORWARD_WITHIN) as waiting:
        leaving.add_done_callback(lambda left: None if left.cancelled() else waiting.cancel())
        try:
            return await posting
        finally:
            leaving.cancel()
    if leaving.done() and not leaving.cancelled():
        raise ProviderError("the application has not waited for the answer", code="gone")
    raise ProviderError(f"the provider did not answer within {FORWARD_WITHIN:g} s", code="fetch_timeout")


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class LoopbackOnly:
    """Refuse requests that no client library on this machine has sent, and close every connection after its answer.

    A rule of the network may lead other machines to a loopback address, and a browser on this machine opens pages of
    anybody. A connection that is kept open may be closed in the moment in which the client sends a code.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        peer = (scope.get("client") or ("",))[0]
        names = {name for name, _ in scope["headers"]}
        if peer.startswith("127.") and not {b"origin", b"sec-fetch-site"} & names:
            await self._app(scope, receive, closing)
        else:
            await respond(closing, 403, [])


Prefetch = Callable[[], Coroutine[Any, Any, None]]

MakeApp = Callable[[Upstream], tuple[ASGIApp, Prefetch]]
"""Given the way to the provider from the relay's thread, returns the application, and what to do once it listens."""
