"""The relay's way to its provider: a connection of its own for each token request, or the application's client.

A server may close an idle connection just when the next code is sent on it, and a code cannot be sent twice. So there
is nothing to pool, and what a client does beside sending would make up nearly half of what the relay adds to a login.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

import h11

from ..asgi.types import Headers
from ..errors import ProviderError, without_query
from ..providers.transport import Forwarded, HTTPClient, check_size, forward_token_request

NEXT_ADDRESS_AFTER = 0.25
"""Seconds until another address of the provider is tried as well (RFC 8305, section 5)."""

MAX_HEADERS = 100 * 1024
"""Bytes of an answer's headers, as httpx takes them; h11 alone takes 16 KB of what has not come whole."""


class ThroughClient(NamedTuple):
    """Send everything through the client that the application has given."""

    client: HTTPClient

    async def post(self, endpoint: str, headers: Headers, body: bytes) -> Forwarded:
        """Pass on one token request. Raises ``ProviderError``."""
        return await forward_token_request(endpoint, headers, body, client=self.client)


class OwnConnections(NamedTuple):
    """Send each token request over a connection of its own, through no proxy; ``client`` fetches the documents."""

    client: HTTPClient
    certificates: ssl.SSLContext

    async def post(self, endpoint: str, headers: Headers, body: bytes) -> Forwarded:
        """Pass on one token request. Raises ``ProviderError``: not reached, or an answer that is too large."""
        where, parts = without_query(endpoint), urlsplit(endpoint)
        try:
            reader, writer = await self._connected(parts)
            try:
                connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADERS)
                writer.write(b"".join(connection.send(event) or b"" for event in _request(parts, headers, body)))
                return await _answer(connection, reader, where)
            finally:
                writer.transport.abort()  # closing waits for a peer that reads nothing more
        except (OSError, UnicodeError, h11.ProtocolError) as error:  # UnicodeError: no name can be like this host
            # The system's own words show whether the name, the port or the certificate is at fault.
            words = f" ({error})" if isinstance(error, OSError) else ""
            message = f"{where} cannot be reached: {type(error).__name__}{words}"
            raise ProviderError(message, code="fetch_failed") from error

    async def _connected(self, parts: SplitResult) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, is_https = parts.hostname or "", parts.scheme == "https"
        return await asyncio.open_connection(
            host,
            parts.port or (443 if is_https else 80),
            ssl=self.certificates if is_https else None,
            server_hostname=host if is_https else None,
            happy_eyeballs_delay=None if _is_address(host) else NEXT_ADDRESS_AFTER,
        )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _request(parts: SplitResult, headers: Headers, body: bytes) -> list[h11.Event]:
    host = parts.netloc.removesuffix(":443" if parts.scheme == "https" else ":80").removesuffix(":")
    own = {"host": host, "accept-encoding": "identity", "connection": "close", "content-length": len(body)}
    fields = [*((name.encode(), str(value).encode()) for name, value in own.items()), *headers]
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return [h11.Request(method="POST", target=target, headers=fields), h11.Data(data=body), h11.EndOfMessage()]


async def _answer(connection: h11.Connection, reader: asyncio.StreamReader, where: str) -> Forwarded:
    body = bytearray()
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(64 * 1024))
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            body += event.data
            check_size(body, where)
    return Forwarded(response.status_code, list(response.headers), bytes(body))
