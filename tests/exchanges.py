"""An exchange by itself, for tests of one step: the request, the options, and a registry of the test's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from starlette.types import Scope, Send

from asgi_rp_logout import MemoryStore, RPLogoutMiddleware
from asgi_rp_logout.exchange import Exchange


async def _application(scope: Any, receive: Any, send: Any) -> None: ...


def exchange_of(scope: Scope, send: Send, *, registry: Any = None, **options: Any) -> Exchange:
    """Give the exchange of a request, as `dispatch` makes it."""
    services = RPLogoutMiddleware(_application, **{"store": MemoryStore(), **options})._dispatcher.services
    exchange = Exchange()
    exchange.services = replace(services, registry=registry or services.registry)
    exchange.begin(scope, send)
    exchange.take_snapshot()
    return exchange
