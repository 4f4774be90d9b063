"""Discovery fetched while the application starts, so that the first logout does not wait for it."""

from __future__ import annotations

import anyio

from .asgi.types import Message, Send
from .log import logger
from .providers.provider import list_providers
from .providers.transport import why
from .settings import Settings

WARM_FOR = 1.0
"""Seconds by which the start of an application may be delayed."""


def warmed(settings: Settings, send: Send) -> Send:
    """Wrap the ``send`` of a lifespan: what comes from the providers is fetched before the start is reported."""

    async def wrapped(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete" and not callable(settings.providers):
            with anyio.move_on_after(WARM_FOR):
                await _warm(settings)
        await send(message)

    return wrapped


async def _warm(settings: Settings) -> None:
    async with anyio.create_task_group() as group:
        for provider in await list_providers(settings.providers, settings.http_client):
            group.start_soon(warm, provider)


async def warm(provider: object) -> None:
    """Let a provider fetch what it will need, if it can; a failure is for the first logout to report."""
    fetch = getattr(provider, "warm", None)
    if fetch is None:
        return
    try:
        await fetch()
    except Exception as error:
        logger.info(
            "a provider could not be reached at startup, and is tried again at the first logout: %s", why(error)
        )
