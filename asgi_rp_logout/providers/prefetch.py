"""Fetch the providers' metadata while the application starts, so that the first logout does not wait for it."""

from __future__ import annotations

import anyio

from ..asgi.types import Message, Send
from ..log import logger
from .provider import Providers, list_providers
from .silent_hint import SilentHint
from .transport import HTTPClient, why

PREFETCH_FOR = 1.0
"""Seconds by which the start of an application may be delayed."""


def prefetched_at_startup(
    providers: Providers, http_client: HTTPClient | None, send: Send, callback_url: str | None = None
) -> Send:
    """Wrap the ``send`` of a lifespan: before the application reports its start, the providers fetch their metadata.

    Those with a ``silent_hint`` are probed as well, if the address of the callback path is known. A function given as
    ``providers`` is not called: it may list nothing until the application has started.
    """

    async def wrapped(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete" and not callable(providers):
            with anyio.move_on_after(PREFETCH_FOR):
                async with anyio.create_task_group() as group:
                    for provider in await list_providers(providers, http_client):
                        group.start_soon(prefetch, provider, callback_url)
        await send(message)

    return wrapped


async def prefetch(provider: object, callback_url: str | None = None) -> None:
    """Call the provider's ``prefetch()``, if it has one. A failure is logged at INFO: the first logout tries again."""
    silent = getattr(provider, "silent", None)
    fetch = getattr(provider, "prefetch", None)
    if fetch is None:
        return
    try:
        await fetch()
        if isinstance(silent, SilentHint) and callback_url is not None:
            await silent.prefetch(callback_url)
    except Exception as error:
        logger.info(
            "a provider could not be reached at startup, and is tried again at the first logout: %s", why(error)
        )
