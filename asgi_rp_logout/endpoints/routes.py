"""Which path is answered by which endpoint."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..asgi.types import Receive
from ..exchange import Exchange
from ..options import Options
from .back_channel import back_channel
from .callback import callback
from .front_channel import front_channel

Endpoint = Callable[[Exchange, Receive], Awaitable[None]]


def endpoints_of(options: Options) -> dict[str, Endpoint]:
    """Return the endpoints by their path: those whose path is configured."""
    pairs: tuple[tuple[str | None, Endpoint], ...] = (
        (options.callback_path, callback),
        (options.backchannel_path, back_channel),
        (options.frontchannel_path, front_channel),
    )
    return {path: endpoint for path, endpoint in pairs if path is not None}
