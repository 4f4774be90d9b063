"""The smallest HTTP client: one connection, kept open, one request after the other. httpx takes a millisecond each."""

from __future__ import annotations

import asyncio


class Client:
    """Ask one server on 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, path: str, *, cookies: bytes = b"", form: bytes | None = None) -> tuple[int, bytes, bytes]:
        """Send a GET, or a POST of a form; give the status, the head of the answer, and its body."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        lines = [b"%s %s HTTP/1.1" % (b"GET" if form is None else b"POST", path.encode()), b"host: 127.0.0.1"]
        lines += [b"cookie: " + cookies] if cookies else []
        if form is not None:
            lines += [b"content-type: application/x-www-form-urlencoded", b"content-length: %d" % len(form)]
        self._writer.write(b"\r\n".join([*lines, b"", b""]) + (form or b""))
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        return int(head[9:12]), head, await self._reader.readexactly(length)

    def close(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()
