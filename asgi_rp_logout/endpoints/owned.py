"""The paths that the middleware answers itself, each with what stands behind it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from ..arrival import Arrivals
from ..asgi.types import Headers, Receive, Send
from ..client import is_in_frame
from ..ledger import Deadline, Ledger
from ..log import logger
from ..login import Login
from ..logins import empty_session, end_login, expire_cookies
from ..messages import headers_of
from ..protocol.logout_token import LogoutToken
from ..providers.provider import issuer_of, list_providers, name_of
from ..request import Request
from ..revoke import AFTER_DEADLINE, How, LogoutEvent, tell
from ..settings import Settings
from ..verdict import FRONT_CHANNEL, digest
from .back_channel import back_channel
from .callback import callback
from .front_channel import front_channel

Endpoint = Callable[[Request, Receive, Send], Awaitable[None]]


def owned_endpoints(settings: Settings, ledger: Ledger, arrivals: Arrivals) -> dict[str, Endpoint]:
    """Return the endpoints by their path, as far as they are switched on."""
    owned = Owned(settings, ledger, arrivals)
    pairs = (
        (settings.callback_path, owned.callback),
        (settings.backchannel_path, owned.back_channel),
        (settings.frontchannel_path, owned.front_channel),
    )
    return {path: endpoint for path, endpoint in pairs if path is not None}


class Owned:
    """Answer what comes to the middleware's own paths."""

    def __init__(self, settings: Settings, ledger: Ledger, arrivals: Arrivals) -> None:
        self._settings = settings
        self._ledger = ledger
        self._arrivals = arrivals

    async def callback(self, request: Request, receive: Receive, send: Send) -> None:
        """Send the browser on to the page that it wanted."""
        await callback(self._settings, self._ledger, request, send)

    async def back_channel(self, request: Request, receive: Receive, send: Send) -> None:
        """Take a logout token, and tell the application."""
        providers = _Listed(self._settings)
        ended: list[tuple[Login, float]] = []

        async def end(token: LogoutToken, received: float) -> None:
            if await end_by_token(self._ledger, token, received):
                ended.append((Login(iss=token.iss, sub=token.sub, sid=token.sid), min(token.iat, received)))

        await back_channel(request.scope, receive, send, providers=providers, end=end)
        await self._tell(providers.found, "back-channel", ended)

    async def front_channel(self, request: Request, receive: Receive, send: Send) -> None:
        """Show the page for a provider's frame, and tell the application."""
        providers = _Listed(self._settings)
        ended: list[tuple[Login, float]] = []

        async def end(iss: str, sid: str, received: float) -> bool:
            known = await end_by_frame(self._ledger, iss, sid, received)
            ended.extend([(Login(iss=iss, sid=sid), received)] if known else [])
            return known

        async def end_of_browser() -> Headers:
            login, headers = await end_by_browser(self._settings, self._ledger, self._arrivals, request)
            ended.extend([(login, time.time())] if login is not None else [])
            return headers

        unnamed = None if self._settings.frontchannel_session_required else end_of_browser
        await front_channel(request.scope, receive, send, providers=providers, end=end, end_of_browser=unnamed)
        await self._tell(providers.found, "front-channel", ended)

    async def _tell(self, providers: tuple[Any, ...], how: How, ended: list[tuple[Login, float]]) -> None:
        for one, until in ended:
            logger.debug("%s logout: a login at %s has ended", how, one.iss or "a provider")
            if self._settings.on_logout is None:
                continue
            names = [name_of(provider) for provider in providers if one.iss and issuer_of(provider) == one.iss]
            name = names[0] if names else None
            # The provider has its answer by now: an application's slow hook must not turn a logout into a failed one.
            with anyio.move_on_after(AFTER_DEADLINE, shield=True):
                await tell(self._settings, LogoutEvent(how, name, one.iss, one.sub, one.sid, until))


async def end_by_token(ledger: Ledger, token: LogoutToken, received: float) -> bool:
    """End what a logout token means (Back-Channel Logout 1.0, sections 2.4 and 2.7). Raises ``StoreError``.

    With a sid it is that one session, and only if the subject beside it is the login's; without, it is every session
    of the subject. Never more than was there when the token was made, and never later than its receipt. Returns whether
    the token has ended anything that was not ended before.
    """
    return await ledger.end_sessions(
        token.iss,
        sid=token.sid,
        sub=token.sub,
        at=token.iat,
        received=received,
        by="back-channel",
        deadline=Deadline(),
    )


async def end_by_frame(ledger: Ledger, iss: str, sid: str, received: float) -> bool:
    """End the session that a front-channel request names, if anybody here has it (Front-Channel Logout 1.0, section 3).

    The request is not signed, so an invented sid writes nothing: nobody can fill the store. Raises ``StoreError``.
    """
    deadline = Deadline()
    known = f"known:{digest(iss, 'sid', sid)}"
    if (await ledger.read([known], deadline))[known] is None:
        return False
    return await ledger.end_sessions(
        iss,
        sid=sid,
        sub=None,
        at=None,
        received=received,
        by="front-channel",
        slot=FRONT_CHANNEL,
        deadline=deadline,
    )


async def end_by_browser(
    settings: Settings, ledger: Ledger, arrivals: Arrivals, request: Request
) -> tuple[Login | None, Headers]:
    """End the login of the browser that shows the frame, if it has one here (Front-Channel Logout 1.0, section 2).

    Returns what is known of the login, None if there was none that lived, and headers that expire the cookies.
    """
    deadline = Deadline()
    verdict = await arrivals.fresh_verdict(request, deadline)
    if not is_in_frame(request.headers) or not (verdict.live or verdict.claim.cookies or request.session):
        return None, []
    start = expire_cookies(settings, request, verdict.claim, {"headers": []})
    headers = [pair for pair in headers_of(start) if pair[0] != b"cache-control"]  # the page has its own
    if verdict.ended is not None:
        return None, headers
    login = verdict.login if verdict.live else None
    word = {"local": True, "provider": None, "to": None}
    await end_login(ledger, request, verdict, login, word, deadline, by="front-channel")
    empty_session(request)
    return login or Login(), headers


class _Listed:
    """List the providers once a request turns out to be worth it, and keep them for what follows."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.found: tuple[Any, ...] = ()

    async def __call__(self) -> tuple[Any, ...]:
        """Return the providers. Raises ``ProviderError``."""
        self.found = await list_providers(self._settings.providers, self._settings.http_client)
        return self.found
