"""The paths that the middleware answers itself, each with what stands behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from .._asgi import Receive, Send, logger
from ..ledger import Deadline, Ledger
from ..live import announce
from ..protocol.logout_token import LogoutToken
from ..providers.base import issuer_of, name_of
from ..request import Request
from ..resolve import list_providers
from ..revoke import AFTER_DEADLINE, How, LogoutEvent, tell
from ..settings import Settings
from ..verdict import FRONT_CHANNEL, before_key, digest
from ..warm import warm
from .back_channel import back_channel
from .callback import callback
from .front_channel import front_channel

Endpoint = Callable[[Request, Receive, Send], Awaitable[None]]


def owned_endpoints(settings: Settings, ledger: Ledger) -> dict[str, Endpoint]:
    """Give the endpoints by their path, as far as they are switched on."""

    async def answer_callback(request: Request, receive: Receive, send: Send) -> None:
        await callback(settings, ledger, request, send)

    async def answer_back_channel(request: Request, receive: Receive, send: Send) -> None:
        providers = await _providers(settings)

        ended: list[LogoutToken] = []

        async def end(token: LogoutToken, received: float) -> None:
            await end_by_token(ledger, token, received)
            ended.append(token)

        await back_channel(request.scope, receive, send, providers=providers, end=end)
        for token in ended:
            await _tell(settings, providers, "back-channel", token.iss, token.sub, token.sid)

    async def answer_front_channel(request: Request, receive: Receive, send: Send) -> None:
        providers = await _providers(settings)

        ended: list[tuple[str, str]] = []

        async def end(iss: str, sid: str, received: float) -> bool:
            known = await end_by_frame(ledger, iss, sid, received)
            if known:
                ended.append((iss, sid))
            return known

        await front_channel(request.scope, receive, send, providers=providers, end=end)
        for iss, sid in ended:
            await _tell(settings, providers, "front-channel", iss, None, sid)

    pairs = (
        (settings.callback_path, answer_callback),
        (settings.backchannel_path, answer_back_channel),
        (settings.frontchannel_path, answer_front_channel),
    )
    return {path: endpoint for path, endpoint in pairs if path is not None}


async def end_by_token(ledger: Ledger, token: LogoutToken, received: float) -> None:
    """End what a logout token means (Back-Channel Logout 1.0, sections 2.4 and 2.7). Raises ``StoreError``.

    With a sid it is that one session, and only if the subject beside it is the login's; without, it is every session
    of the subject. Never more than was there when the token was made, and never later than its receipt.
    """
    if token.sid is not None:
        key = before_key(token.iss, sid=token.sid)
        slot = digest(token.iss, "sub", token.sub) if token.sub is not None else ""
    else:
        key, slot = before_key(token.iss, sub=token.sub), ""
    deadline = Deadline()
    await ledger.end_before(key, slot, at=token.iat, received=received, by="back-channel", deadline=deadline)
    await announce(ledger, deadline)


async def end_by_frame(ledger: Ledger, iss: str, sid: str, received: float) -> bool:
    """End the session that a front-channel request names, if anybody here has it (Front-Channel Logout 1.0, section 3).

    The request is not signed, so an invented sid writes nothing: nobody can fill the store. Raises ``StoreError``.
    """
    deadline = Deadline()
    known = f"known:{digest(iss, 'sid', sid)}"
    if (await ledger.read([known], deadline))[known] is None:
        return False
    key = before_key(iss, sid=sid)
    await ledger.end_before(key, FRONT_CHANNEL, at=None, received=received, by="front-channel", deadline=deadline)
    await announce(ledger, deadline)
    return True


async def _providers(settings: Settings) -> tuple[Any, ...]:
    try:
        providers = await list_providers(settings)
    except Exception as error:  # a registry that fails has no provider to speak for
        logger.warning("the list of providers cannot be had: %s", type(error).__name__)
        return ()
    for provider in providers:
        # One that learns its issuer from a document may not have been asked yet in this process.
        if issuer_of(provider) is None:
            await warm(provider)
    return providers


async def _tell(
    settings: Settings, providers: tuple[Any, ...], how: How, iss: str, sub: str | None, sid: str | None
) -> None:
    if settings.on_logout is None:
        return
    name = next((name_of(provider) for provider in providers if issuer_of(provider) == iss), None)
    # The provider has its answer by now: an application's slow hook must not turn a logout into a failed one.
    with anyio.move_on_after(AFTER_DEADLINE, shield=True):
        await tell(settings.on_logout, LogoutEvent(how, name, iss, sub, sid))
