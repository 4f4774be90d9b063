"""Several ASGI apps in one process and one event loop, and an orderly end on Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import uvicorn
from starlette.types import ASGIApp

Listener = list[socket.socket]
CLOSED_WITHIN = 30.0
"""Seconds in which every connection of a server that stops must be closed."""


class ListeningSocket(socket.socket):
    """A listening socket that remembers the connections it accepted, for as long as they are open."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._accepted: list[socket.socket] = []

    def accept(self) -> tuple[socket.socket, Any]:
        connection, address = super().accept()
        self._accepted = [*self.still_open(), connection]
        return connection, address

    def still_open(self) -> list[socket.socket]:
        return [connection for connection in self._accepted if connection.fileno() >= 0]


class Server(uvicorn.Server):
    """A server with an event for when it is ready. It handles no signals, and leaves no connection open."""

    def __init__(self, app: ASGIApp, **options: Any) -> None:
        super().__init__(uvicorn.Config(app, **{"ws": "websockets-sansio", **options}))
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Accepting ends first. A connection that is accepted in the moment in which an asyncio server closes is lost:
        # nobody answers it and nobody closes it (Python 3.11).
        for listener in sockets or ():
            with contextlib.suppress(NotImplementedError):  # Windows accepts in another way
                asyncio.get_running_loop().remove_reader(listener)
        await _settle()
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):  # of clients that take no notice of a goodbye
            connection.transport.abort()
        await _hang_up([listener for listener in sockets or () if isinstance(listener, ListeningSocket)])

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _settle() -> None:
    """Let the event loop finish what it has begun: a connection takes three turns to be made, and two to be lost."""
    for _ in range(5):
        await asyncio.sleep(0)


async def _hang_up(listeners: Sequence[ListeningSocket]) -> None:
    """Close the connections that are still open, and wait until they are.

    uvicorn closes a WebSocket twice, and after a second close() asyncio's TLS transport ignores abort(): while the
    client does not say goodbye, that connection stays open. One without a finished TLS handshake uvicorn never knew.
    """
    for connection in [connection for listener in listeners for connection in listener.still_open()]:
        with contextlib.suppress(OSError):  # the other side was faster
            connection.shutdown(socket.SHUT_RDWR)
    async with asyncio.timeout(CLOSED_WITHIN):
        while any(listener.still_open() for listener in listeners):
            await _settle()


def listen(host: str, port: int) -> Listener:
    """Open `host` at `port`, or at a free port if that one is taken; 0 asks for a free one.

    "localhost" is opened on IPv4 and IPv6 at the same port, because a browser may choose either.
    """
    for candidate in (port, *[0] * 20):
        with contextlib.suppress(OSError):
            return _open(host, candidate)
    raise OSError(f"no free port at {host}")


def port_of(listener: Listener) -> int:
    return int(listener[0].getsockname()[1])


def _open(host: str, port: int) -> Listener:
    first = _bind(socket.AF_INET, "127.0.0.1", port)
    if host != "localhost" or not _has_ipv6():
        return [first]
    try:
        return [first, _bind(socket.AF_INET6, "::1", port_of([first]))]
    except OSError:
        first.close()
        raise


def _bind(family: socket.AddressFamily, address: str, port: int) -> ListeningSocket:
    sock = ListeningSocket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere this option lets two servers share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(128)
    except OSError:
        sock.close()
        raise
    return sock


def _has_ipv6() -> bool:
    try:
        _bind(socket.AF_INET6, "::1", 0).close()
    except OSError:
        return False
    return True


@contextlib.asynccontextmanager
async def serving(apps: Sequence[tuple[ASGIApp, Listener]], *, log_level: str = "warning") -> AsyncIterator[None]:
    """Serve the apps while the block runs, then let open requests end for at most a second."""
    options = {"log_level": log_level, "lifespan": "off", "timeout_graceful_shutdown": 1}
    servers = [Server(app, **options) for app, _ in apps]
    tasks = [asyncio.create_task(server.serve(sockets)) for server, (_, sockets) in zip(servers, apps, strict=True)]
    try:
        for server in servers:
            await server.ready.wait()
        yield
    finally:
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)


async def interrupted() -> None:
    """Wait for Ctrl-C or a request to terminate."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: asyncio.run cancels us instead
            loop.add_signal_handler(number, stop.set)
    await stop.wait()
