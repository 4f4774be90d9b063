"""The test rig itself: what the other tests stand on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import ssl
import time
from contextlib import ExitStack

import anyio
import httpx
import pytest
import redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from asgi_rp_logout import MemoryStore
from demo.serving import ListeningSocket, Server
from tests.asgi import call, http_scope
from tests.conftest import Certificate, Log, RedisServer, Serve, _served
from tests.virtual_time import in_virtual_time

PATIENCE = 20.0  # seconds until something that has to come counts as missing


OPEN_WEBSOCKET = (
    b"GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def echo(request: Request) -> Response:
    response = JSONResponse([request.method, str(request.url), (await request.body()).decode()], status_code=201)
    response.set_cookie("kept", "1")
    response.set_cookie("gone", "1")
    response.delete_cookie("gone")
    return response


async def live(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive()


def make_app() -> ASGIApp:
    return Starlette(routes=[Route("/echo", echo, methods=["GET", "POST"]), WebSocketRoute("/live", live)])


async def test_call_gives_the_exact_messages_and_the_cookies_that_live_on() -> None:
    answer = await call(
        make_app(), http_scope("/echo?a=b", "POST", {"X-A": "1"}, server=("app.example", 8000)), b"hello"
    )
    assert [message["type"] for message in answer.messages] == ["http.response.start", "http.response.body"]
    assert (answer.status, answer.header("content-type")) == (201, "application/json")
    assert answer.body == b'["POST","http://app.example:8000/echo?a=b","hello"]'
    assert (answer.cookies(), answer.expired()) == ({"kept": "1"}, {"gone"})


async def test_call_lets_an_error_of_the_app_through() -> None:
    async def broken(scope: object, receive: object, send: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await call(broken, http_scope())


def test_serve_runs_two_apps_at_once_and_runs_their_lifespan(serve: Serve) -> None:
    events: list[str] = []

    async def lifespan_app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            events.append((await receive())["type"])
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await PlainTextResponse("second")(scope, receive, send)

    first, second = serve(make_app()), serve(lifespan_app, host="localhost", lifespan="on")
    assert httpx.get(f"{first}/echo").status_code == 201
    assert httpx.get(second).text == "second"
    assert second.startswith("http://localhost:")
    assert events == ["lifespan.startup"]


def test_serve_speaks_https_with_the_certificate(serve: Serve, certificate: Certificate) -> None:
    url = serve(make_app(), host="localhost", certificate=certificate)
    assert httpx.get(f"{url}/echo", verify=certificate.client_context()).json()[1] == f"{url}/echo"


@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("after", range(8))
async def test_a_server_that_stops_leaves_no_connection_open(before: int, after: int) -> None:
    """Whatever turn of the event loop a client comes in at: in some of them, asyncio would lose its connection."""
    with ListeningSocket() as listener, ExitStack() as clients:
        listener.bind(("127.0.0.1", 0))
        server = Server(make_app(), log_config=None, timeout_graceful_shutdown=1)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await server.ready.wait()
        come = [clients.enter_context(socket.create_connection(listener.getsockname()))]
        for _ in range(before):
            await asyncio.sleep(0)
        stopping = asyncio.create_task(server.shutdown([listener]))
        for _ in range(after):
            await asyncio.sleep(0)
        if listener.fileno() >= 0:
            come.append(clients.enter_context(socket.create_connection(listener.getsockname())))
        await stopping
        serving.cancel()
        for client in come:
            client.settimeout(PATIENCE)
            try:
                assert client.recv(1) == b""
            except ConnectionResetError:
                pass


def test_a_server_that_stops_closes_a_tls_connection_whose_client_takes_no_notice(certificate: Certificate) -> None:
    with _served(make_app(), certificate=certificate, timeout_graceful_shutdown=1) as url:
        port = int(url.rpartition(":")[2])
        client = certificate.client_context().wrap_socket(
            socket.create_connection(("127.0.0.1", port)), server_hostname="localhost"
        )
        client.sendall(b"GET /echo HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert client.recv(4) == b"HTTP"
    with client:
        client.settimeout(PATIENCE)
        with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
            while client.recv(1000):
                pass
    gc.collect()  # an open transport would complain here


def test_a_server_that_stops_closes_a_websocket_over_tls_whose_client_takes_no_notice(certificate: Certificate) -> None:
    """It was left open when the browser was slow to say goodbye, and complained in whatever test came later."""
    with ExitStack() as stack:
        with _served(make_app(), certificate=certificate) as url:
            port = int(url.rpartition(":")[2])
            client = certificate.client_context().wrap_socket(
                stack.enter_context(socket.create_connection(("127.0.0.1", port))), server_hostname="localhost"
            )
            stack.enter_context(client)
            client.settimeout(PATIENCE)
            client.sendall(OPEN_WEBSOCKET)
            assert client.recv(12) == b"HTTP/1.1 101"
        with contextlib.suppress(ConnectionResetError, ssl.SSLError):
            while client.recv(1000):
                pass
    gc.collect()  # an open transport would complain here


def test_a_killed_redis_comes_back_empty_on_the_same_port(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.set("name", "value")
        redis_server.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("name")
        redis_server.start()
        assert client.get("name") is None


@in_virtual_time
async def test_virtual_time_passes_only_while_everybody_waits() -> None:
    """The package's clocks go with the event loop's, its deadlines too."""
    store, real = MemoryStore(), time.monotonic()
    await store.put("key", {}, ttl=3600)
    await anyio.sleep(3599)
    assert await store.get("key") == {}
    await anyio.sleep(1)
    assert await store.get("key") is None
    with anyio.move_on_after(3600) as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert time.monotonic() - real < 3600


def test_log_gives_warnings_of_the_library_only(log: Log) -> None:
    logging.getLogger("asgi_rp_logout.resolve").warning("ours %s", 1)
    logging.getLogger("asgi_rp_logout").info("quiet")
    logging.getLogger("asgi_rp_logout_other").warning("theirs")
    assert log() == ["ours 1"]
    assert log(logging.INFO) == ["ours 1", "quiet"]
