"""What is measured: two small applications, a browser's request, wrappers to compare with, and a way to drive them."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from asgi_rp_logout import RPLogoutMiddleware, StaticProvider, current_login, remember_login

Scope = dict[str, Any]
Message = dict[str, Any]
Send = Callable[[Any], Awaitable[None]]
App = Callable[..., Awaitable[None]]
Pairs = list[tuple[bytes, bytes]]

PROVIDER = "https://id.example.com"

BROWSER: Pairs = [
    (b"host", b"app.example.com"),
    (b"connection", b"keep-alive"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"sec-fetch-site", b"same-origin"),
    (b"sec-fetch-mode", b"navigate"),
    (b"sec-fetch-dest", b"document"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"accept-language", b"en-GB,en;q=0.9"),
]
OTHER_COOKIES = b"_ga=GA1.1.1234567890.1700000000; theme=dark"

_HEADERS: Pairs = [(b"content-type", b"text/plain"), (b"content-length", b"5"), (b"x-frame-options", b"DENY")]


async def tiny(scope: Scope, receive: object, send: Send) -> None:
    """Answer with three headers and a body."""
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": b"hello", "more_body": False})


async def _hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def _login(request: Request) -> Response:
    """Sign in whoever asks: a session id in a cookie, and the login remembered."""
    sub, sid = request.query_params["sub"], request.query_params["sid"]
    login: dict[str, Any] = {"sub": sub, "sid": sid, "iss": PROVIDER, "id_token": request.headers.get("x-id-token")}
    remember_login(request, provider=PROVIDER, **login)
    response = RedirectResponse("/", status_code=303)
    response.set_cookie("session", secrets.token_urlsafe(32), httponly=True)
    return response


async def _logout(request: Request) -> Response:
    response = RedirectResponse("/login", status_code=303)
    response.delete_cookie("session")
    return response


async def _who(request: Request) -> Response:
    login = current_login(request)
    return PlainTextResponse(str(login.sub) if login else "")


ROUTES = [
    Route("/", _hello),
    Route("/callback", _login),
    Route("/logout", _logout, methods=["POST"]),
    Route("/who", _who),
]
hello = Starlette(routes=ROUTES)


def ours(app: App, **options: Any) -> RPLogoutMiddleware:
    """Wrap an application in the middleware, with a provider whose endpoint is given."""
    providers = [StaticProvider(f"{PROVIDER}/logout", client_id="app", name=PROVIDER)]
    return RPLogoutMiddleware(app, **{"providers": providers, "post_logout_redirect_uri": "/login", **options})


def request_scope(
    path: str = "/", *, method: str = "GET", cookies: bytes = b"", headers: Pairs = BROWSER, query: bytes = b""
) -> Scope:
    """Give the scope of a browser's request."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": [*headers, (b"cookie", cookies)] if cookies else list(headers),
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }


def once(app: App, scope: Scope) -> Callable[[], Awaitable[None]]:
    """Give a function that sends one request, from a fresh copy of the scope each time, and drops the answer."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        pass

    return lambda: app(dict(scope), receive, send)


async def ask(app: App, scope: Scope, body: bytes = b"") -> tuple[Message, bytes]:
    """Send one request; give the start of the answer, and its body."""
    answer: list[Message] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        answer.append(message)

    await app(scope, receive, send)
    return answer[0], b"".join(message.get("body", b"") for message in answer[1:])


async def sign_in(app: App, sub: str, sid: str, id_token: str | None = None, path: str = "/callback") -> bytes:
    """Sign somebody in, and give the Cookie header that the browser sends from then on."""
    headers = [*BROWSER, (b"x-id-token", id_token.encode())] if id_token else BROWSER
    start, _ = await ask(app, request_scope(path, headers=headers, query=f"sub={sub}&sid={sid}".encode()))
    return cookies_of(start)


def cookies_of(start: Message) -> bytes:
    """Give the Cookie header that follows from an answer's Set-Cookie lines."""
    lines = [value for name, value in start["headers"] if name.lower() == b"set-cookie"]
    return b"; ".join(line.partition(b";")[0] for line in lines)


async def who(app: App, cookies: bytes) -> str:
    """Give who is signed in behind these cookies, as the application sees it."""
    return (await ask(app, request_scope("/who", cookies=cookies)))[1].decode()


class ForeignStore:
    """Be the simplest store that is not ours: nobody but its methods can tell what is in it."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    async def get(self, key: str, *, collection: str | None = None) -> Any:
        """Give a value, or None."""
        return self.values.get(key)

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[Any]:
        """Give several values."""
        return [self.values.get(key) for key in keys]

    async def put(self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: Any = None) -> None:
        """Keep a value."""
        self.values[key] = value

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Remove a value."""
        return self.values.pop(key, None) is not None
