"""One worker of many, as uvicorn imports it: the application of `tests.places`, everything shared in one Redis."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

import redis
from key_value.aio.stores.redis import RedisStore

from asgi_rp_logout.logins import guarded_store
from tests.places import Site
from tests.workers import naming_its_worker

guarded_store.STORE_DEADLINE = 10.0  # a busy machine is no outage


class SharedSessions:
    """The server-side sessions, as far as `ServerSideSessions` needs a dict."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)

    def get(self, key: str, default: dict[str, Any]) -> dict[str, Any]:
        value: Any = self.client.get(f"session:{key}") if key else None
        return dict(json.loads(value)) if value else default

    def __setitem__(self, key: str, value: dict[str, Any]) -> None:
        self.client.set(f"session:{key}", json.dumps(value))


def make_site() -> Site:
    url = os.environ["REDIS_URL"]
    shared: Any = SimpleNamespace(kept=SharedSessions(url), store=RedisStore(url=url))
    return Site(os.environ["PLACE"], beside=shared, freshness=float(os.environ["FRESHNESS"]))


app = naming_its_worker(make_site().app)
