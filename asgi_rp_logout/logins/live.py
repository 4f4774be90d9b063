"""Live connections: a WebSocket or a streamed response does not outlive the login it was opened with.

One task per event loop looks at all of them together, every ``freshness`` seconds and at most four times a second, and
only while there are any. It never waits for a single connection: each is closed in a task of its own, with a deadline.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import RunVar

from ..asgi.types import Message, Receive, Send
from ..errors import StoreError
from ..log import logger
from ..store import Record
from .credentials import Credentials
from .guarded_store import StoreBudget
from .handle import LoginHandle
from .registry import LoginRegistry
from .status import LoginStatus, evaluate

SIGNED_OUT = 4401
"""The close code of a WebSocket whose login has ended: 4000 to 4999 are for applications, 401 says why."""

TRY_AGAIN_LATER = 1013
"""The close code of a WebSocket whose login cannot be looked up (the registry of WebSocket close codes)."""

TASK_NAME = "asgi_rp_logout: live connections"

SPARED = 5.0
"""Seconds for which the connection that ended its own login stays open."""

_BATCH = 1000

_BODY_ENDS: Message = {"type": "http.response.body", "body": b"", "more_body": False}
_TRAILERS_END: Message = {"type": "http.response.trailers", "headers": [], "more_trailers": False}
_DENIAL_ENDS: Message = {"type": "websocket.http.response.body", "body": b"", "more_body": False}
_CLOSE: Message = {"type": "websocket.close", "code": SIGNED_OUT, "reason": "signed out"}
_DISCONNECT: Message = {"type": "websocket.disconnect", "code": SIGNED_OUT, "reason": "signed out"}


class ConnectionEndedError(OSError):
    """Report to the application that its connection is gone, as ASGI servers do (ASGI, "Disconnected client")."""


class Connection:
    """A connection that has to end when any of the logins of ``handles`` ends.

    ``rest`` are the messages that it still needs for an orderly end; ``started`` is called after its first message.
    """

    def __init__(
        self,
        handles: tuple[LoginHandle, ...],
        send: Send,
        rest: tuple[Message, ...] = (),
        started: Callable[[Connection], None] | None = None,
    ) -> None:
        self.ended = False
        self.spared_until = float("-inf")
        self.handles = handles
        self._send = send
        self._rest = rest
        self._started = started
        self._closed: anyio.Event | None = None
        self._watched: _OfOneLoop | None = None

    def may_be_cut(self, now: float) -> bool:
        """Return whether the application has not sent its last message yet, and no time to do so was given to it."""
        return bool(self._rest) and now >= self.spared_until

    async def send(self, message: Message) -> None:
        """Pass a message on, or raise ``ConnectionEndedError`` once the login has ended."""
        if self.ended:
            raise ConnectionEndedError("the login of this connection has ended")
        self._rest = _rest_after(message, self._rest)
        await self._send(message)
        if self._started is not None:  # nothing may be sent before the first message is out
            started, self._started = self._started, None
            started(self)

    def spare(self) -> None:
        """Stay open for ``SPARED`` seconds, once, although the login ends now: the application has something to say."""
        if self.spared_until == float("-inf"):
            self.spared_until = time.monotonic() + SPARED

    def enter(self, watched: _OfOneLoop) -> None:
        """Start to be watched."""
        self._watched = watched
        watched.all.add(self)
        watched.new.add(self)

    def leave(self) -> None:
        """Stop being watched."""
        if self._watched is not None:
            self._watched.all.discard(self)
            self._watched.new.discard(self)

    def cut(self) -> None:
        """Let nothing more through."""
        self.leave()
        self.ended = True
        self._closed = anyio.Event()

    async def close(self, turns: anyio.Semaphore, within: float) -> None:
        """Send what the protocol still needs, so that the client sees an orderly end; ``within`` is in seconds."""
        try:
            async with turns:
                with anyio.fail_after(within):
                    for message in self._rest:
                        await self._send(dict(message))
        except Exception as error:  # closed by the other side in the same moment, or not reading
            logger.debug("a connection could not be closed: %s", type(error).__name__)
        finally:
            if self._closed is not None:
                self._closed.set()

    async def closed(self) -> None:
        """Wait until the last message is out: a server closes a connection its own way when the application returns."""
        if self._closed is not None:
            await self._closed.wait()


class WebSocketConnection(Connection):
    """A WebSocket: the application also waits for messages, and learns there that the connection is gone."""

    def __init__(self, handles: tuple[LoginHandle, ...], receive: Receive, send: Send) -> None:
        super().__init__(handles, send, (_CLOSE,))
        self._receive = receive
        self._waiting: set[anyio.CancelScope] = set()

    async def receive(self) -> Message:
        """Wait for a message of the client; once the login has ended, the client is gone."""
        if not self.ended:
            with anyio.CancelScope() as waiting:
                self._waiting.add(waiting)
                try:
                    return await self._receive()
                finally:
                    self._waiting.discard(waiting)
        return dict(_DISCONNECT)

    def cut(self) -> None:
        """Let nothing more through, in either direction."""
        super().cut()
        for waiting in tuple(self._waiting):  # granian closes nothing while a handler waits for a message
            waiting.cancel()


def _rest_after(message: Message, rest: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the messages that are still needed to end a connection properly, after one more message."""
    kind = message["type"]
    if kind == "http.response.start":
        return (_BODY_ENDS, _TRAILERS_END) if message.get("trailers") else (_BODY_ENDS,)
    if kind == "websocket.http.response.start":
        return (_DENIAL_ENDS,)
    if kind in ("http.response.body", "http.response.zerocopysend", "websocket.http.response.body"):
        return rest if message.get("more_body") else rest[1:]
    if kind == "http.response.pathsend":
        return rest[1:]
    if kind == "http.response.trailers":
        return rest if message.get("more_trailers") else ()
    return () if kind == "websocket.close" else rest


class _OfOneLoop:
    """The connections of one event loop."""

    def __init__(self) -> None:
        self.all: set[Connection] = set()
        self.new: set[Connection] = set()
        self.task: object = None

    def due(self, *, everybody: bool) -> Iterator[tuple[Connection, ...]]:
        """Return the connections to look at, in batches."""
        due, self.new = tuple(self.all if everybody else self.new), set()
        connections = iter(due)
        while batch := tuple(itertools.islice(connections, _BATCH)):
            yield batch


class LiveConnections:
    """Watch over the live connections of one process.

    Takes the registry. After ``everybody_after`` seconds all connections are looked at even without news of an end,
    because news may get lost and tombstones do not. A connection has ``closing`` seconds to take its last message,
    because a client that does not read would hold it for ever. At most ``at_once`` connections are closed at the same
    time.
    """

    _numbers = itertools.count()

    def __init__(
        self, registry: LoginRegistry, *, everybody_after: float = 5.0, closing: float = 5.0, at_once: int = 1000
    ) -> None:
        self.everybody_after = everybody_after
        self._closing = closing
        self._at_once = at_once
        self._registry = registry
        self._interval = max(registry.freshness, 0.25)
        self._watched: RunVar[_OfOneLoop] = RunVar(f"{TASK_NAME} {next(self._numbers)}")

    def add(self, connection: Connection) -> None:
        """Begin to watch a connection."""
        watched = self._watched.get(None)
        if watched is None:
            self._watched.set(watched := _OfOneLoop())
        connection.enter(watched)
        if watched.task is None:
            watched.task = _spawn(self._look_on, watched)

    async def _look_on(self, watched: _OfOneLoop) -> None:
        seen: object = None
        looked_at = float("-inf")
        turns = anyio.Semaphore(self._at_once)
        async with anyio.create_task_group() as closing:
            try:
                while True:
                    await anyio.sleep(self._interval)
                    if not watched.all:
                        break
                    news, now = await self._news(), time.monotonic()
                    everybody = news != seen or now - looked_at > self.everybody_after
                    if everybody:
                        seen, looked_at = news, now
                    # A connection is opened with a status that may be a little old, so a new one is looked at once.
                    for batch in watched.due(everybody=everybody):
                        if not await self._end_the_dead(batch, watched, closing, turns):
                            seen = object()  # look at everybody again
            finally:
                watched.task = None

    async def _news(self) -> object:
        """Return a value that changes once a login has ended at any worker."""
        try:
            return await self._registry.last_end(StoreBudget())
        except StoreError:
            return object()

    async def _end_the_dead(
        self, connections: tuple[Connection, ...], watched: _OfOneLoop, closing: TaskGroup, turns: anyio.Semaphore
    ) -> bool:
        """End the connections whose login has ended; return whether the store answered."""
        handles = (handle for connection in connections for handle in connection.handles)
        keys = {key for handle in handles for key in handle.record_keys() if not key.startswith("login:")}
        records: Mapping[str, Record | None]
        answered = True
        try:
            records = await self._registry.store.read(keys, StoreBudget())
        except StoreError:
            records, answered = self._registry.store.ended.among(keys), False
        if any(records.values()):
            now = time.monotonic()
            dead = [
                one
                for one in connections
                if one in watched.all and one.may_be_cut(now) and _has_ended(one.handles, records)
            ]
            for connection in dead:
                connection.cut()
                closing.start_soon(connection.close, turns, self._closing)
        return answered


def _spawn(work: Any, *args: Any) -> object:
    """Start a task that belongs to the event loop, and to no connection of it."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        task: object = trio.lowlevel.spawn_system_task(work, *args, name=TASK_NAME)
        return task
    return asyncio.get_running_loop().create_task(work(*args), name=TASK_NAME, context=contextvars.Context())


def _has_ended(handles: tuple[LoginHandle, ...], records: Mapping[str, Record | None]) -> bool:
    try:
        return any(evaluate(Credentials(handle), records).ended is not None for handle in handles)
    except StoreError:  # a malformed record ends no connection, and hides no other end
        return False


def logins_behind(status: LoginStatus) -> tuple[LoginHandle, ...]:
    """Return the logins that a connection ends with: its own, and those whose session cookies it came with.

    A login of another user counts: otherwise a thief could send a stolen cookie with a login of their own, and stay
    connected. A dead cookie beside a living login does not count, and neither does another login of the same user with
    the same cookie. While the store is down nobody can tell who is signed in, so every connection that may have a login
    is watched.
    """
    if not status.live and status.known:
        return ()
    own = status.own_handle
    if own is None:
        return tuple(status.ties.values())
    return (own, *(other for other in status.ties.values() if other.sub != own.sub))


def is_stream(method: str, start: Message) -> bool:
    """Return whether a response has a body and does not say how long it is."""
    for name, _ in start.get("headers", ()):
        if len(name) == 14 and name.lower() == b"content-length":
            return False
    return method != "HEAD" and start["status"] not in (204, 304)
