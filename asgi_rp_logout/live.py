"""Live connections: a WebSocket or a streamed response does not outlive the login it was opened with.

One task per process looks at all of them together, every ``freshness`` seconds and at most four times a second, and
only while there are any. It runs under asyncio; elsewhere connections live on until they close by themselves.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Iterable, Mapping

from ._asgi import Message, Send, logger
from .context import Context
from .errors import StoreError
from .ledger import NEWS, Deadline, Ledger
from .store import Record
from .verdict import Claim, Handle, Verdict, judge

SIGNED_OUT = 4401
"""The close code of a WebSocket whose login has ended: 4000 to 4999 are for applications, 401 says why."""

TRY_AGAIN_LATER = 1013
"""The close code of a WebSocket whose login cannot be looked up (the registry of WebSocket close codes)."""

_BATCH = 1000

_EVERYBODY_AFTER = 5.0
"""Seconds after which all connections are looked at without news: news may get lost, tombstones do not."""


class ConnectionEndedError(OSError):
    """Report to the application that its connection is gone, as ASGI servers do (ASGI, "Disconnected client")."""


class Connection:
    """Stand between an application and a connection that has to end with its login, or any of ``handles``."""

    def __init__(self, handles: tuple[Handle, ...], send: Send, last: Message) -> None:
        self.handles = handles
        self.ended = False
        self._send = send
        self._last = last

    async def send(self, message: Message) -> None:
        """Pass a message on, or raise ``ConnectionEndedError`` once the login has ended."""
        if self.ended:
            raise ConnectionEndedError("the login of this connection has ended")
        await self._send(message)

    async def end(self) -> None:
        """Close the connection towards the browser."""
        self.ended = True
        try:
            await self._send(self._last)
        except Exception as error:  # closed by the other side in the same moment
            logger.debug("a connection was gone before it could be ended: %s", type(error).__name__)


def watched(verdict: Verdict) -> tuple[Handle, ...]:
    """Give the logins with which a connection ends: its own, and those of other users whose cookies came with it.

    Nobody can cover a stolen cookie by a login of their own. A dead cookie beside a living login ends nothing, nor does
    the end of another login of the same user that has the same cookie.
    """
    own = verdict.handle or verdict.claim.handle
    if own is None:
        return verdict.others
    return (own, *(other for other in verdict.others if other.sub_key != own.sub_key))


class Watch:
    """Watch over the live connections of one process."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._connections: set[Connection] = set()
        self._new: set[Connection] = set()
        self._task: asyncio.Task[None] | None = None
        self._interval = max(ledger.freshness, 0.25)

    def add(self, connection: Connection) -> None:
        """Begin to watch a connection."""
        self._connections.add(connection)
        self._new.add(connection)
        if self._task is None or self._task.done():
            try:
                self._task = asyncio.get_running_loop().create_task(self._look_on())
            except RuntimeError:  # another event loop than asyncio's
                self._connections.clear()
                self._new.clear()

    def discard(self, connection: Connection) -> None:
        """Watch a connection no longer."""
        self._connections.discard(connection)

    async def _look_on(self) -> None:
        seen: object = None
        looked_at = float("-inf")
        while self._connections:
            await asyncio.sleep(self._interval)
            news, now = await self._news(), time.monotonic()
            # A connection is opened on a verdict that may be a little old, so it is looked at once by itself.
            due, self._new = self._new & self._connections, set()
            if news != seen or now - looked_at > _EVERYBODY_AFTER:
                seen, looked_at, due = news, now, self._connections
            connections = iter(tuple(due))
            while batch := tuple(itertools.islice(connections, _BATCH)):
                await self._end_the_dead(batch)

    async def _news(self) -> object:
        """Give something that is different once a login has ended somewhere."""
        ends = self._ledger.ends
        if self._ledger.is_local:
            return ends
        try:
            return ends, (await self._ledger.read([NEWS], Deadline()))[NEWS]
        except StoreError:
            return object()

    async def _end_the_dead(self, connections: tuple[Connection, ...]) -> None:
        handles = (handle for connection in connections for handle in connection.handles)
        keys = {key for handle in handles for key in handle.record_keys() if not key.startswith("login:")}
        records: Mapping[str, Record | None]
        try:
            records = await self._ledger.read(keys, Deadline())
        except StoreError:
            records = self._ledger.ended_here(keys)
        if not any(records.values()):
            return
        for connection in connections:
            if connection in self._connections and _has_ended(connection.handles, records):
                self._connections.discard(connection)
                await connection.end()


def _has_ended(handles: tuple[Handle, ...], records: Mapping[str, Record | None]) -> bool:
    try:
        return any(judge(Claim(handle), records).ended is not None for handle in handles)
    except StoreError:  # a malformed record ends nobody's connection, and hides nobody else's end
        return False


def is_endless(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Tell whether a response does not say how long it is."""
    for name, _ in headers:  # noqa: SIM110  # every request with a login comes by; a generator takes twice the time
        if len(name) == 14 and name.lower() == b"content-length":
            return False
    return True


def watching(send: Send, handles: tuple[Handle, ...], watch: Watch, context: Context) -> Send:
    """Wrap ``send`` so that a response is watched from the moment it turns out to be a stream.

    From then on its connection stands in the context. A response that said how long it is is let through to its end:
    cut short it would be broken, and it ends by itself.
    """
    endless = True

    def wrapped(message: Message) -> Awaitable[None]:
        nonlocal endless
        connection: Connection | None = context.connection
        if connection is not None:
            return connection.send(message)
        if message["type"] == "http.response.start":
            endless = is_endless(message.get("headers", ()))
        elif endless and message.get("more_body") and message["type"] == "http.response.body":
            last = {"type": "http.response.body", "body": b"", "more_body": False}
            context.connection = connection = Connection(handles, send, last)
            context.matters = True
            watch.add(connection)
            return connection.send(message)
        return send(message)

    return wrapped
