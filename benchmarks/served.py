"""The applications that are served by processes of their own."""

from __future__ import annotations

import os
from typing import Any

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


def __getattr__(name: str) -> Any:
    if name != "worker":
        raise AttributeError(name)
    from key_value.aio.stores.redis import RedisStore

    idp = IdP(os.environ["BENCH_KEY"])
    store = RedisStore(url=os.environ["BENCH_REDIS"])
    options = {"backchannel_path": "/backchannel", "http_client": idp.client(), "providers": [idp.provider()]}
    return ours(hello, store=store, **options)
