"""The applications that are served by processes of their own."""

from __future__ import annotations

import os
from typing import Any

from .apps import hello, ours, tiny
from .idp import IdP

bare = tiny
wrapped = ours(tiny, callback_path="/signed-out")
hello_bare = hello
hello_wrapped = ours(hello, callback_path="/signed-out")


def __getattr__(name: str) -> Any:
    if name != "worker":
        raise AttributeError(name)
    from key_value.aio.stores.redis import RedisStore

    idp = IdP(os.environ["BENCH_KEY"])
    store = RedisStore(url=os.environ["BENCH_REDIS"])
    options = {"backchannel_path": "/backchannel", "http_client": idp.client(), "providers": [idp.provider()]}
    return ours(hello, store=store, **options)
