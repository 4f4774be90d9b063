"""Drive an ASGI application in process, and see exactly what it sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from starlette.types import ASGIApp, Message, Scope

Pairs = Iterable[tuple[str | bytes, str | bytes]]
ENDS_RESPONSE = {"http.response.body", "http.response.pathsend", "http.response.zerocopysend"}


def _bytes(value: str | bytes) -> bytes:
    return value.encode("latin-1") if isinstance(value, str) else value


def http_scope(
    path: str = "/",
    method: str = "GET",
    headers: Mapping[str, str] | Pairs = (),
    scheme: str = "http",
    root_path: str = "",
    server: tuple[str, int | None] = ("127.0.0.1", 80),
    **more: Any,
) -> dict[str, Any]:
    """Give an HTTP scope as a server makes it: `path` is the whole path, root_path included, and may carry a query."""
    path, _, query = path.partition("?")
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": scheme,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": root_path,
        "headers": [(_bytes(name).lower(), _bytes(value)) for name, value in pairs],
        "client": ("127.0.0.1", 50000),
        "server": server,
        "state": {},
        "extensions": {},
    }
    if not any(name == b"host" for name, _ in scope["headers"]):
        default = {"http": 80, "https": 443}.get(scheme)
        host = server[0] if server[1] in (None, default) else f"{server[0]}:{server[1]}"
        scope["headers"].append((b"host", host.encode()))
    return scope | more


@dataclass
class Answer:
    """What came back: `messages` is the exact list of ASGI messages sent."""

    messages: list[Message] = field(default_factory=list)

    @property
    def start(self) -> Message:
        (start,) = [message for message in self.messages if message["type"] == "http.response.start"]
        return start

    @property
    def status(self) -> int:
        return int(self.start["status"])

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(bytes(name), bytes(value)) for name, value in self.start.get("headers", ())]

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.messages if m["type"] == "http.response.body")

    def all(self, name: str) -> list[str]:
        """Give the values of every header line of this name, in order."""
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == name.lower().encode()]

    def header(self, name: str) -> str | None:
        """Give the value of a header that may come at most once, or None."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    def set_cookies(self) -> dict[str, list[str]]:
        """Give the Set-Cookie lines by cookie name, in order."""
        lines: dict[str, list[str]] = {}
        for line in self.all("set-cookie"):
            lines.setdefault(line.partition("=")[0].strip(), []).append(line)
        return lines

    def cookies(self) -> dict[str, str]:
        """Give what a browser that had no cookies holds afterwards, by name; paths and domains are not looked at."""
        last = {name: lines[-1] for name, lines in self.set_cookies().items()}
        return {n: line.partition(";")[0].partition("=")[2] for n, line in last.items() if not _expires(line)}

    def expired(self) -> set[str]:
        """Give the names of the cookies whose last line deletes them."""
        return {name for name, lines in self.set_cookies().items() if _expires(lines[-1])}


def _expires(line: str) -> bool:
    attributes = [part.strip().lower() for part in line.split(";")[1:]]
    ages = [int(part.removeprefix("max-age=")) for part in attributes if part.startswith("max-age=")]
    if ages:
        return ages[-1] <= 0
    return any(part.startswith("expires=") and "1970" in part for part in attributes)


async def call(app: ASGIApp, scope: Scope, body: bytes = b"") -> Answer:
    """Send one request and give the answer; the client stays until the response is complete. App errors propagate."""
    answer = Answer()
    complete = anyio.Event()
    requests: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if requests:
            return requests.pop()
        await complete.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        answer.messages.append(message)
        if message["type"] in ENDS_RESPONSE and not message.get("more_body", False):
            complete.set()

    await app(scope, receive, send)
    return answer
