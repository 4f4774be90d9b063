# pyright: strict
"""What the public names look like to an application's type checker. Never run: scripts/lint reads it.

mypy and pyright, both strict, must find every name here fully typed; `assert_type` says what an expression must be.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, assert_type

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from asgi_rp_logout import (
    AuthlibProvider,
    ConfigurationError,
    Cookie,
    Login,
    LogoutEvent,
    LogoutTokenError,
    MemoryStore,
    OIDCProvider,
    ProviderError,
    RPLogoutError,
    RPLogoutMiddleware,
    StaticProvider,
    StoreError,
    current_login,
    end_logins,
    forget_login,
    local_logout_only,
    remember_login,
    rp_logout,
)
from asgi_rp_logout.testing import EndSessionRequest, FakeProvider


class OwnProvider:
    name = "own"

    async def get_end_session_url(self, *, id_token_hint: str | None = None) -> str | None:
        return None


async def source(connection: HTTPConnection) -> Login | None:
    return Login(provider="own", id_token=connection.headers.get("x-token"))


def told(event: LogoutEvent) -> None:
    assert_type(event.provider, str | None)
    assert_type(event.sid, str | None)


def middleware(app: Starlette, registered: object, store: MemoryStore) -> None:
    oidc = OIDCProvider("https://id.example.com", client_id="app", client_secret="...", parameters={"state": None})
    static = StaticProvider("https://id.example.com/logout", client_id="app", extra={"federated": ""})
    RPLogoutMiddleware(app, providers=[oidc, static, AuthlibProvider(registered), OwnProvider()])
    RPLogoutMiddleware(app, providers=[oidc], http_client=httpx.AsyncClient())
    RPLogoutMiddleware(
        app, providers=lambda: [oidc], store=store, session_cookie=["a", Cookie("b", domain="x.example")]
    )
    app.add_middleware(RPLogoutMiddleware, providers=[oidc], login_source=source, freshness=0.5)
    Middleware(RPLogoutMiddleware, providers=[oidc], on_logout=told, on_store_error="deny")
    assert_type(oidc.issuer, str)


@rp_logout
async def plain(request: Request) -> Response:
    return Response()


@rp_logout(provider="own")
def named(request: Request, flag: bool = False) -> Response:
    return Response()


@local_logout_only
async def local(request: Request) -> Response:
    return Response()


async def endpoints(request: Request, token: Mapping[str, Any]) -> None:
    assert_type(await plain(request), Response)
    assert_type(named(request, flag=True), Response)
    assert_type(await local(request), Response)
    remember_login(request, token, provider="own")
    remember_login(id_token="...", sid="...")
    forget_login(request)
    await end_logins(request, iss="https://id.example.com", sub="...", not_after=1764162000)
    await end_logins(iss="https://id.example.com", sid="...", not_after=datetime.now(UTC), store=MemoryStore())
    login = current_login(request)
    assert_type(login, Login | None)
    if login is not None:
        assert_type(login.sub, str | None)


async def tests(response: httpx.Response) -> None:
    fake = FakeProvider(client_id="app", post_logout_redirect_uris=["https://app.example.com/"])
    RPLogoutMiddleware(Starlette(), providers=[fake.oidc_provider(name="fake")], http_client=fake.http_client)
    assert_type(fake.sign_in(response, sub="alice"), str)
    request = fake.assert_logged_out(response, sub="alice")
    assert_type(request, EndSessionRequest)
    assert_type(request.return_url, str | None)
    assert_type(fake.logout_token(sid="session-1"), str)
    httpx.AsyncClient(transport=fake.transport)
    httpx.AsyncClient(transport=httpx.ASGITransport(app=fake))


def errors(error: RPLogoutError) -> None:
    assert_type(error.code, str)
    if isinstance(error, ConfigurationError | ProviderError | LogoutTokenError | StoreError):
        raise error
