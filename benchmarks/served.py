"""The applications that are served by processes of their own."""

from __future__ import annotations

import os
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asgi_rp_logout import TokenRelay, current_login, remember_login

from .apps import App, Scope, hello, ours, tiny
from .idp import IdP
from .peers import Scanner

_APPS: dict[str, App] = {
    "/tiny": tiny,
    "/tiny/again": tiny,
    "/tiny/scanner": Scanner(tiny),
    "/tiny/ours": ours(tiny, callback_path="/signed-out"),
    "/hello": hello,
    "/hello/ours": ours(hello, callback_path="/signed-out"),
}


async def side_by_side(scope: Scope, receive: Any, send: Any) -> None:
    """Hand on to the application that the path names, as a request for its front page."""
    app = _APPS[scope["path"]]
    scope["path"] = "/"
    await app(scope, receive, send)


def _redeeming() -> App:
    """Give an application that redeems codes: at its provider and calls ``remember_login``, or at a token relay."""
    provider = IdP(os.environ["BENCH_KEY"], os.environ["BENCH_ISSUER"]).provider()
    relay = TokenRelay(provider, int(os.environ["BENCH_RELAY"]))
    addresses = {"/direct": f"{provider.issuer}/token", "/again": f"{provider.issuer}/token", "/relay": relay.token_url}
    http = httpx.AsyncClient(limits=httpx.Limits(max_connections=None, max_keepalive_connections=0))

    async def callback(request: Request) -> Response:
        form = {"grant_type": "authorization_code", "code": request.query_params["code"], "client_id": "app"}
        token = (await http.post(addresses[request.url.path], data=form)).json()
        if request.url.path != "/relay":
            remember_login(request, token)
        response = PlainTextResponse("")
        response.set_cookie("session", request.query_params["code"])
        return response

    async def known(request: Request) -> Response:
        login = current_login(request)
        return PlainTextResponse(str(login.known_by) if login else "")

    app = Starlette(routes=[*(Route(path, callback) for path in addresses), Route("/known", known)])
    return ours(app, providers=[provider], token_relay=relay)


def __getattr__(name: str) -> Any:
    if name == "provider":
        return IdP(os.environ["BENCH_KEY"], os.environ["BENCH_ISSUER"]).app()
    if name == "redeeming":
        return _redeeming()
    if name != "worker":
        raise AttributeError(name)
    from key_value.aio.stores.redis import RedisStore

    idp = IdP(os.environ["BENCH_KEY"])
    store = RedisStore(url=os.environ["BENCH_REDIS"])
    options = {"backchannel_path": "/backchannel", "http_client": idp.client(), "providers": [idp.provider()]}
    return ours(hello, store=store, **options)
