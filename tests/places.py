"""One application in the two places that the middleware can have, a browser, and a store of somebody else's."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_rp_logout import (
    MemoryStore,
    RPLogoutMiddleware,
    StaticProvider,
    current_login,
    forget_login,
    remember_login,
)
from tests.asgi import Answer, call, http_scope
from tests.tokens import id_token

INSIDE, OUTSIDE = "inside", "outside"
in_both_places = pytest.mark.parametrize("place", [INSIDE, OUTSIDE])


def providers() -> list[StaticProvider]:
    """Give two providers, `a` and `b`."""
    return [
        StaticProvider(
            f"https://{name}.example/logout", name=name, client_id=f"rp-{name}", issuer=f"https://{name}.example"
        )
        for name in ("a", "b")
    ]


def destination(answer: Answer) -> tuple[str, dict[str, str]]:
    """Give host and query of the redirect to a provider."""
    assert answer.status == 303, (answer.status, answer.body)
    url = urlsplit(answer.header("location") or "")
    return url.netloc, {name: values[0] for name, values in parse_qs(url.query).items()}


class Browser:
    """Keep cookies, as far as these applications need: one host, no paths."""

    def __init__(self, app: ASGIApp, cookies: Mapping[str, str] | None = None) -> None:
        self.app = app
        self.cookies = dict(cookies or {})

    def copy(self) -> Browser:
        """Give a thief with the same cookies."""
        return Browser(self.app, self.cookies)

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.request("GET", path, headers)

    async def post(self, path: str, **headers: str) -> Answer:
        return await self.request("POST", path, headers)

    async def request(self, method: str, path: str, headers: Mapping[str, str]) -> Answer:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
        answer = await call(self.app, http_scope(path, method, [*pairs, *([("cookie", cookie)] if cookie else [])]))
        self.take(answer)
        return answer

    def take(self, answer: Answer) -> None:
        """Obey an answer's Set-Cookie lines, in their order."""
        for name in answer.expired():
            self.cookies.pop(name, None)
        self.cookies |= answer.cookies()


class ServerSideSessions:
    """Keep sessions here, under opaque ids, a new one for each user; a logout only makes the browser forget its id."""

    def __init__(self, app: ASGIApp, kept: dict[str, dict[str, Any]], cookie: str) -> None:
        self.app, self.kept, self.cookie = app, kept, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        session_id = HTTPConnection(scope).cookies.get(self.cookie, "")
        scope["session"] = before = dict(self.kept.get(session_id, {}))
        before = dict(before)

        async def send_with_session(message: Message) -> None:
            if message["type"] == "http.response.start" and scope["session"] != before:
                headers = MutableHeaders(scope=message)
                if scope["session"]:
                    same_user = before.get("user") == scope["session"].get("user")
                    kept_as = session_id if before and same_user else secrets.token_hex(16)
                    self.kept[kept_as] = scope["session"]
                    headers.append("set-cookie", f"{self.cookie}={kept_as}; Path=/; HttpOnly")
                else:
                    headers.append("set-cookie", f"{self.cookie}=; Path=/; Max-Age=0")
            await send(message)

        await self.app(scope, receive, send_with_session)


class Site:
    """An application with a login and a logout, and the middleware in one of its places.

    `remembers=False`: it never calls `remember_login`. `guard=True`: its logout answers 401 to anonymous visitors.
    `beside`: another process of the same application, with its store and its server-side sessions.
    """

    def __init__(
        self, place: str, *, remembers: bool = True, guard: bool = False, beside: Site | None = None, **options: Any
    ) -> None:
        self.place, self.remembers, self.guard = place, remembers, guard
        self.kept: dict[str, dict[str, Any]] = beside.kept if beside else {}
        self.arrived, self.go_on = anyio.Event(), anyio.Event()
        self.seen: list[dict[str, str]] = []
        # A process has a store object of its own: nothing that one knows in memory is known to another.
        theirs = copy.copy(beside.store) if beside and isinstance(beside.store, ForeignStore) else None
        self.store: Any = options.setdefault("store", theirs or (beside.store if beside else MemoryStore()))
        options = {"providers": providers(), "logout_path": ("/logout", "/local"), **options}
        routes = [
            Route(path, getattr(self, path.strip("/") or "home"), methods=["GET", "POST"])
            for path in ("/", "/login", "/logout", "/local", "/touch", "/slow", "/forget", "/both")
        ]
        inner = [Middleware(RPLogoutMiddleware, **options)]
        sessions: list[Middleware] = [Middleware(SessionMiddleware, secret_key="secret")]
        cookie = options.get("session_cookie", "session")
        if place == INSIDE:
            self.app: ASGIApp = Starlette(routes=routes, middleware=[*sessions, *inner], lifespan=self.lifespan)
        else:
            served = ServerSideSessions(Starlette(routes=routes, lifespan=self.lifespan), self.kept, cookie)
            self.app = RPLogoutMiddleware(served, **options)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: ASGIApp) -> AsyncIterator[None]:
        """Close the store's connections when the server stops."""
        yield
        if hasattr(self.store, "close"):
            await self.store.close()

    def browser(self) -> Browser:
        return Browser(self.app)

    async def signed_in(self, **query: str) -> Browser:
        """Give a browser that has just signed in; `query` as for `/login`."""
        browser = self.browser()
        await self.sign_in(browser, **query)
        return browser

    async def sign_in(self, browser: Browser, **query: str) -> None:
        answer = await browser.get("/login?" + "&".join(f"{name}={value}" for name, value in query.items()))
        assert answer.status == 303

    async def who(self, browser: Browser) -> str:
        """Give the user that the application sees."""
        return str(json.loads((await browser.get("/")).body)["user"])

    def handle(self, browser: Browser) -> str | None:
        """Give the handle that a browser carries."""
        if self.place == OUTSIDE:
            return browser.cookies.get("rp_login")
        payload = browser.cookies.get("session", "").partition(".")[0]
        return json.loads(base64.b64decode(payload)).get("_rp_login") if payload else None

    async def home(self, request: Request) -> Response:
        login = current_login(request)
        self.seen.append(dict(request.cookies))
        return JSONResponse(
            {
                "user": request.session.get("user", "anonymous"),
                "login": [login.provider, login.sub, login.sid] if login else None,
                "ended": login.ended if login is not None else None,
            }
        )

    async def login(self, request: Request) -> Response:
        query = request.query_params
        user, provider = query.get("user", "alice"), query.get("provider", "a")
        request.session.update(user=user)
        if self.remembers:
            claims = {"iat": int(query["iat"])} if "iat" in query else {}
            token = id_token(
                user,
                query.get("sid", "s1"),
                f"https://{provider}.example",
                pad="x" * int(query.get("pad", 0)),
                **claims,
            )
            remember_login(request, {"id_token": token, "refresh_token": f"refresh-{user}"}, provider=provider)
        return RedirectResponse("/", 303)

    async def logout(self, request: Request) -> Response:
        if self.guard and "user" not in request.session:
            return PlainTextResponse("who are you?", 401)
        request.session.clear()
        return RedirectResponse("/bye", 303)

    async def local(self, request: Request) -> Response:
        answer = await self.logout(request)
        answer.headers["x-rp-logout"] = "local"
        return answer

    async def touch(self, request: Request) -> Response:
        request.session["touched"] = request.session.get("touched", 0) + 1
        return PlainTextResponse("touched")

    async def slow(self, request: Request) -> Response:
        self.arrived.set()
        await self.go_on.wait()
        return await self.touch(request)

    async def forget(self, request: Request) -> Response:
        request.session.update(user="password-user")
        forget_login(request)
        return PlainTextResponse("forgotten")

    async def both(self, request: Request) -> Response:
        """Sign in slowly: a new login that began before somebody logged out."""
        self.arrived.set()
        await self.go_on.wait()
        return await self.login(request)


class ForeignStore:
    """A store of somebody else's: it counts what is asked, and it raises, hangs or takes its time when told to."""

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.calls: Counter[str] = Counter()
        self.trouble: Literal["raise", "hang", "short", None] = None
        self.delay = 0.0
        self.broken: tuple[str, ...] = ("get", "get_many", "put", "delete")

    @property
    def reads(self) -> int:
        return self.calls["get"] + self.calls["get_many"]

    def names(self, kind: str = "") -> list[str]:
        """Give the keys that are kept, all or of one kind."""
        return [key for keys in self.inner.entries.values() for key in keys if key.startswith(kind)]

    async def record(self, key: str) -> dict[str, Any]:
        """Return a record that must be there, without counting."""
        record = await self.inner.get(key)
        assert record is not None, key
        return record

    async def get(self, key: str, *, collection: str | None = None) -> Any:
        return await self._do("get", key, collection=collection)

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> Any:
        found = await self._do("get_many", keys, collection=collection)
        return found[1:] if self.trouble == "short" else found

    async def put(self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: Any = None) -> Any:
        json.dumps(value)  # a real one would do that
        return await self._do("put", key, value, collection=collection, ttl=ttl)

    async def delete(self, key: str, *, collection: str | None = None) -> Any:
        return await self._do("delete", key, collection=collection)

    async def _do(self, name: str, *args: Any, **kwargs: Any) -> Any:
        self.calls[name] += 1
        if name in self.broken:
            if self.trouble == "raise":
                raise OSError("password=hunter2")
            if self.trouble == "hang":
                await anyio.sleep_forever()
        await anyio.sleep(self.delay)
        return await getattr(self.inner, name)(*args, **kwargs)
