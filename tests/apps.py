"""The smallest applications, providers and requests that a logout needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_rp_logout import RPLogoutMiddleware, StaticProvider
from tests.asgi import Answer, Pairs, call, http_scope

END = "https://id.example/end"
COOKIE = "session=0123456789abcdef0123"
SECRET = "0123456789abcdef0123"
FETCH = {"cookie": COOKIE, "sec-fetch-mode": "cors", "sec-fetch-dest": "empty", "sec-fetch-site": "same-origin"}


def page(status: int = 200, headers: Pairs = (), body: bytes = b"the page") -> ASGIApp:
    """Make an app that answers every HTTP request the same, without touching anything else."""
    pairs = [(_raw(name), _raw(value)) for name, value in (headers.items() if isinstance(headers, dict) else headers)]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(pairs)})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return app


def signs_out(location: str = "/login", *more: tuple[str, str], status: int = 303) -> ASGIApp:
    """Make an app whose answer is the common one to a logout: a redirect."""
    return page(status, [("location", location), *more], b"")


def saying(messages: Sequence[Message]) -> ASGIApp:
    """Make an app that sends exactly these messages."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def guarded(app: ASGIApp, **options: Any) -> RPLogoutMiddleware:
    """Put the middleware around an app, with one provider at ``END`` unless others are given."""
    options.setdefault("providers", [StaticProvider(END, client_id="rp", name="idp")])
    options.setdefault("provider_timeout", 30)  # a busy machine is no provider that hangs
    return RPLogoutMiddleware(app, **options)


async def log_out(app: ASGIApp, path: str = "/logout", method: str = "POST", **more: Any) -> Answer:
    """Send a signed-in browser's logout; ``headers`` replace its cookie."""
    return await call(app, http_scope(path, method, more.pop("headers", {"cookie": COOKIE}), **more))


def went_to_provider(answer: Answer) -> bool:
    """Tell whether a browser was sent to the provider at ``END``."""
    return answer.status == 303 and (answer.header("location") or "").startswith(END)


def parameters(answer: Answer) -> dict[str, str]:
    """Give the query of the redirect, each name once."""
    pairs = parse_qsl(urlsplit(answer.header("location") or "").query, keep_blank_values=True)
    assert len(dict(pairs)) == len(pairs), pairs
    return dict(pairs)


def names(lines: Iterable[bytes]) -> list[str]:
    """Give the cookie names of Set-Cookie lines."""
    return [line.partition(b"=")[0].decode() for line in lines]


def _raw(value: str | bytes) -> bytes:
    return value.encode("latin-1") if isinstance(value, str) else value
