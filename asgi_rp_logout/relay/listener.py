"""The relay's thread: an event loop of its own, in which uvicorn's protocol answers on one loopback port.

It has a thread of its own because an application may block its event loop in the callback, and would wait for itself.
Several workers listen on one port. Two relays of different providers must not, because each would get the codes and
secrets of the other: so whoever comes second asks first who is there.

This is the only module that listens on a socket. It needs uvicorn, which is an extra.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import threading
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from ..errors import ProviderError
from ..log import logger
from ..providers.transport import HTTPClient, certificates, client_for_many_users, fetch_json
from .endpoints import MakeApp, Prefetch
from .upstream import OwnConnections, ThroughClient

HOST = "127.0.0.1"

CONNECTIONS = 128
"""Connections at a time; more are closed at once, because they take file descriptors from the application.

Each may have one to the provider, and Windows waits for 512 sockets at most.
"""

CONNECTION_AT_MOST = 60.0
"""Seconds after which a connection is closed, whatever it does."""

LOOKS = 8
"""Connections that are made to see who else listens on the port: the system spreads them over all who do."""

LOOK_WITHIN = 3.0
"""Seconds for one of them."""

TRIES = 3
"""Connections without an answer after which it is no relay."""

AGAIN = 5.0
"""Seconds until a port that was taken is tried again."""

STOP_WITHIN = 2.0
"""Seconds for the answers that are on their way when the relay stops."""


class Connection(H11Protocol):
    """One connection: without a line in the access log of the application's own uvicorn, limited in time and number."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.access_log = False

    def connection_made(self, transport: Any) -> None:
        """Begin, and end in time."""
        super().connection_made(transport)
        is_one_too_many = len(self.connections) > CONNECTIONS
        self._end = self.loop.call_later(0 if is_one_too_many else CONNECTION_AT_MOST, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._end.cancel()
        super().connection_lost(exc)


class Listener:
    """Listen on ``port`` in a thread, until ``stop()``. ``settled`` is set once it listens, or knows that it cannot."""

    def __init__(self, port: int, identity: str, make_app: MakeApp, client: HTTPClient | None) -> None:
        self.settled = threading.Event()
        self.shares_port = False
        self._port, self._identity = port, identity
        self._make_app, self._client = make_app, client
        self._loop = asyncio.SelectorEventLoop()  # whichever the application has chosen: others lack what is used here
        self._stop = asyncio.Event()
        self._socket: socket.socket | None = None
        self._said = ""
        self._thread = threading.Thread(target=self._run, name="asgi-rp-logout-relay", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, and wait for the answers that are on their way."""
        with contextlib.suppress(RuntimeError):  # it has stopped by itself
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(2 * STOP_WITHIN)

    def forget(self) -> None:
        """Close the socket of the parent in a forked process, where no thread answers it."""
        if self._socket is not None:
            self._socket.close()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._listen_until_stopped())
        except Exception as error:
            logger.error("the token relay has stopped, so no login can complete: %s", type(error).__name__)
        finally:
            self.settled.set()

    async def _listen_until_stopped(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            trusted = certificates()
            own = await stack.enter_async_context(client_for_many_users(trusted))
            app, prefetch = self._make_app(
                ThroughClient(self._client) if self._client else OwnConnections(own, trusted)
            )
            config = uvicorn.Config(
                app,
                interface="asgi3",
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,  # uvicorn's loggers belong to the application
                proxy_headers=False,
                server_header=False,
            )
            config.load()
            while not self._stop.is_set():
                await self._listen(config, own, prefetch)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), AGAIN * (1 + random.random()))  # noqa: S311

    async def _listen(self, config: uvicorn.Config, client: HTTPClient, prefetch: Prefetch) -> None:
        """Listen until stopped; return at once if somebody else has the port.

        The client for that is our own: the application's may go through a proxy, or have credentials.
        """
        try:
            shares_port = not await self._nobody_listens()
            if shares_port and not await self._are_like_this(client, 1):
                return
            self._socket = _bind(self._port)
        except OSError as error:
            self._cannot(f"port {self._port} cannot be opened ({error.strerror})")
            return
        state = ServerState()
        server = await self._loop.create_server(lambda: Connection(config, state, {}), sock=self._socket)
        try:
            if not await self._are_like_this(client, LOOKS):
                return
            self.shares_port = shares_port
            if self._said:
                logger.warning("the token relay listens on port %d now", self._port)
                self._said = ""
            self.settled.set()
            fetching = asyncio.create_task(prefetch())
            await self._stop.wait()
            fetching.cancel()
        finally:
            # Accepting ends first: a connection that is accepted while a server closes is lost (Python 3.11).
            self._loop.remove_reader(self._socket)
            await _settle()
            server.close()
            await _finish(state)
            self._socket = None

    def _cannot(self, problem: str) -> None:
        if problem != self._said:
            logger.error("the token relay does not listen, so logins through it fail: %s", problem)
            self._said = problem
        self.settled.set()

    async def _nobody_listens(self) -> bool:
        try:
            async with asyncio.timeout(LOOK_WITHIN):
                _, writer = await asyncio.open_connection(HOST, self._port)
        except (OSError, TimeoutError) as error:
            return isinstance(error, ConnectionRefusedError)
        writer.close()
        return False

    async def _are_like_this(self, client: HTTPClient, looks: int) -> bool:
        """Return whether everybody who answers on the port is a relay like this one; log who is not."""
        for _ in range(looks):
            found = await self._look(client)
            if found != self._identity:
                who = "another program" if found is None else "the relay of another provider"
                self._cannot(f"{who} has port {self._port}; pass port= another one to TokenRelay")
                return False
        return True

    async def _look(self, client: HTTPClient) -> object:
        """Return which relay answers on the port, None if it is another program."""
        for _ in range(TRIES):  # a relay that is stopping right now gives no answer, and then listens no more
            with contextlib.suppress(ProviderError, TimeoutError):
                async with asyncio.timeout(LOOK_WITHIN):
                    return (await fetch_json(f"http://{HOST}:{self._port}/", client=client)).get("relay")
            if await self._nobody_listens():
                return self._identity
            await asyncio.sleep(0.1)
        return None


def _bind(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere this option lets anybody take the port as well
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):  # for processes of one user only
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


async def _finish(state: ServerState) -> None:
    for connection in list(state.connections):
        connection.shutdown()
    if state.tasks:
        await asyncio.wait(list(state.tasks), timeout=STOP_WITHIN)
    for connection in list(state.connections):
        connection.transport.abort()
    await _settle()


async def _settle() -> None:
    for _ in range(5):  # a connection takes three turns of the event loop to be made, and two to be lost
        await asyncio.sleep(0)
