"""The page that a provider shows in a hidden frame: Front-Channel Logout 1.0, section 3.

The request is unsigned, and comes without cookies where browsers partition them. So the session is found by its issuer
and sid. The answer is the same page whether or not that session is known, so nobody can use it to find out. Cookies
count only if the provider names no session, and only with ``frontchannel_session_required=False``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import anyio

from ..asgi.response import ResponseStart
from ..asgi.types import Headers, Receive, respond
from ..errors import LogoutTokenError, RPLogoutError
from ..events import LogoutEvent
from ..exchange import Exchange
from ..login import Login, LogoutIntent
from ..logins import app_session
from ..logins.registry import EndedSessions
from ..logout.end_and_expire import expire
from ..negotiation.request_kind import is_in_frame
from ..options import Options
from ..protocol.front_channel import frame_headers, read_front_channel
from ..providers.provider import Provider, issuer_of, learn_issuers, list_providers, name_of
from .intake import DEADLINE, notify_after_answer, refusals

PAGE = b"<!doctype html><title>Logout</title>"


async def front_channel(exchange: Exchange, receive: Receive) -> None:
    """Answer one front-channel logout request (Front-Channel Logout 1.0, section 3).

    Sends an empty page; 400 with the same page for a request that makes no sense. Then calls ``on_logout``, if anything
    has ended. Raises nothing. Never revokes tokens: the request proves nothing.
    """
    received, send, options = time.time(), exchange.send, exchange.options
    if exchange.request.method != "GET":
        await respond(send, 405, [(b"cache-control", b"no-store"), (b"allow", b"GET")])
        return
    event, headers, status = None, frame_headers(), 200
    try:
        named = read_front_channel(exchange.scope.get("query_string", b""))
        # Our own failures are logged and not shown: only a known sid can cause one, so the page would tell.
        with anyio.fail_after(DEADLINE, shield=True):
            if named is not None:
                iss, sid = named
                provider = _issued_by(await _providers(options, iss), iss)
                headers = frame_headers(iss)
                # An invented sid writes nothing: nobody can fill the store.
                ended = EndedSessions(iss, sid, None, None, received, "front-channel")
                if await exchange.registry.end_known_session(ended, exchange.budget):
                    event = LogoutEvent("front-channel", name_of(provider), iss, None, sid, received)
            elif not options.frontchannel_session_required:
                # The login ends first: it must not stay alive because the list or an issuer cannot be read.
                event, expiring = await _end_login_of_browser(exchange)
                headers = [*frame_headers(), *expiring]
                issuers = [issuer_of(provider) for provider in await _providers(options, None)]
                headers = [*frame_headers(*issuers), *expiring]
            # Otherwise nothing ends: the request names no session, and an image on any page could sign the user out.
    except LogoutTokenError as error:
        refusals.log("front-channel", error.code, str(error))
        status, headers = 400, frame_headers()
    except RPLogoutError as error:
        refusals.log("front-channel", error.code, str(error))
    except Exception as error:  # its message may hold anything, its type does not
        refusals.log("front-channel", "failed", f"stopped by {type(error).__name__}")
    await respond(send, status, headers, PAGE)
    if event is not None:
        await notify_after_answer(options, event)


async def _providers(options: Options, iss: str | None) -> Sequence[Provider]:
    listed = await list_providers(options.providers, options.http_client)
    await learn_issuers(listed, iss, level=logging.WARNING)
    return listed


def _issued_by(providers: Sequence[Provider], iss: str) -> Provider:
    for provider in providers:
        if issuer_of(provider) == iss:
            return provider
    raise LogoutTokenError("the iss is not the issuer of a configured provider", code="iss")


async def _end_login_of_browser(exchange: Exchange) -> tuple[LogoutEvent | None, Headers]:
    """End the login of the browser that shows the frame, if it has one here (Front-Channel Logout 1.0, section 2).

    Returns the event for ``on_logout``, None if no login was alive, and headers that expire the cookies.
    """
    request = exchange.request
    exchange.known = status = await exchange.services.recogniser.status_for_logout(request, exchange.budget)
    brings_login = status.live or status.credentials.cookies or request.session
    if not is_in_frame(request.headers) or not brings_login:
        return None, []
    start = expire(exchange, ResponseStart.of(200, []))
    headers = [pair for pair in start.headers if pair[0] != b"cache-control"]  # the page has its own
    if status.ended is not None:
        return None, headers
    login = status.login if status.live else None
    await exchange.registry.end_login_of(exchange, login, LogoutIntent(local=True), by="front-channel")
    app_session.empty(request)
    known = login or Login()
    name = known.provider
    return LogoutEvent("front-channel", name, known.iss, known.sub, known.sid, time.time()), headers
