"""One worker of many with a token relay, as uvicorn imports it; the provider sees which process asks it."""

from __future__ import annotations

import os

import httpx
from key_value.aio.stores.redis import RedisStore

from asgi_rp_logout import OIDCProvider, TokenRelay
from asgi_rp_logout.logins import guarded_store
from asgi_rp_logout.relay import endpoints, token_relay
from tests.test_token_relay import App
from tests.workers import naming_its_worker

# A busy machine is no outage.
guarded_store.STORE_DEADLINE = token_relay.HAND_OVER_WITHIN = endpoints.NOTICE_WITHIN = 10.0

provider = OIDCProvider(os.environ["ISSUER"], "rp", "s3cret", name="acme")
client = httpx.AsyncClient(headers={"x-relay": str(os.getpid())}, trust_env=False)
relay = TokenRelay(provider, int(os.environ["RELAY_PORT"]), http_client=client)
store = RedisStore(url=os.environ["REDIS_URL"])
app = naming_its_worker(
    App(relay.token_url).around({"providers": [provider], "token_relay": relay, "store": store, "freshness": 0.3})
)
