"""The application of `test_servers`, as each server imports it: a login, a logout, and connections that stay open."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from asgi_rp_logout import Login, OIDCProvider, RPLogoutMiddleware, current_login, remember_login
from tests.stub_provider import StubProvider
from tests.tokens import id_token

provider = StubProvider("https://op.example/", "rp")
noted: list[str] = []


def known(connection: Any) -> Login:
    return current_login(connection) or Login(sid="nobody")


async def home(request: Request) -> Response:
    return PlainTextResponse(known(request).sid)


async def login(request: Request) -> Response:
    remember_login(request, id_token=id_token(iss=provider.issuer, sid=request.query_params["sid"]))
    return PlainTextResponse("welcome")


async def logout(request: Request) -> Response:
    return RedirectResponse("/", 303)


async def logout_token(request: Request) -> Response:
    """Give what the provider would post."""
    return PlainTextResponse(provider.make_logout_token(sid=request.query_params["sid"]))


async def what_was_noted(request: Request) -> Response:
    return JSONResponse(noted)


async def live(websocket: WebSocket) -> None:
    """Say hello, and wait for the client, as most applications do."""
    await websocket.accept()
    await websocket.send_text("hello")
    async for _ in websocket.iter_text():
        pass
    noted.append(f"{known(websocket).sid} has left")


async def stream(first: bytes, scope: Scope, receive: Receive, send: Send) -> None:
    """Begin a response, with trailers where the server sends them, and wait until the client has left."""
    trailers = "http.response.trailers" in (scope.get("extensions") or {})
    headers = [(b"content-type", b"text/event-stream"), (b"x-trailers", b"yes" if trailers else b"no")]
    start: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": headers}
    await send({**start, "trailers": True} if trailers else start)
    if first:
        await send({"type": "http.response.body", "body": first, "more_body": True})
    noted.append(f"{known(scope).sid} is here")
    while (await receive())["type"] != "http.disconnect":
        pass
    noted.append(f"{known(scope).sid} has left")


app = RPLogoutMiddleware(
    Starlette(
        routes=[
            Route("/", home),
            Route("/login", login),
            Route("/logout", logout, methods=["POST"]),
            Route("/logout-token", logout_token),
            Route("/noted", what_was_noted),
            WebSocketRoute("/live", live),
            Mount("/events", partial(stream, b"data: 0\n\n")),
            Mount("/idle", partial(stream, b"")),
        ]
    ),
    providers=[OIDCProvider(provider.issuer, "rp")],
    http_client=provider.client(),
    backchannel_path="/backchannel",
    freshness=0.1,
)
