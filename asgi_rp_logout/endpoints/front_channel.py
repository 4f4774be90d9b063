"""The page that a provider shows in a hidden frame: Front-Channel Logout 1.0, section 3.

The request is unsigned and comes without cookies where browsers partition them, so nothing here looks at cookies: the
session is found by its issuer and sid. The answer is the same page whether or not that session is known: it cannot be
used to ask. Only a provider that names no session, and for which the operator has said so, is answered by the cookies.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio

from ..asgi.types import Headers, Receive, Scope, Send, respond
from ..errors import LogoutTokenError, RPLogoutError
from ..protocol.front_channel import frame_headers, read_front_channel
from ..providers.provider import issuer_of, learn_issuers
from ._common import DEADLINE, refusals

PAGE = b"<!doctype html><title>Logout</title>"


async def front_channel(
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    providers: Callable[[], Awaitable[Sequence[Any]]],
    end: Callable[[str, str, float], Awaitable[bool]],
    end_of_browser: Callable[[], Awaitable[Headers]] | None = None,
    now: Callable[[], float] = time.time,
) -> None:
    """Answer one front-channel logout request (Front-Channel Logout 1.0, section 3).

    Takes the request, a function that gives the providers (those with an ``issuer``), and ``end``, which ends the
    logins of an issuer and sid, given the time of receipt in seconds since 1970, and writes only for a sid that is
    known. ``end_of_browser``, if requests without a sid count, ends the login of the browser that asks, and gives
    headers for the answer. Sends an empty page; 400 with the same page for a request that makes no sense. Raises
    nothing. Never revokes tokens: the request proves nothing.
    """
    received = now()
    if scope["method"] != "GET":
        await respond(send, 405, [(b"cache-control", b"no-store"), (b"allow", b"GET")])
        return
    headers: Headers = frame_headers()
    try:
        named = read_front_channel(scope.get("query_string", b""))
        # A failure of ours shows in the log and not on the page, where only a known sid can cause one.
        with anyio.fail_after(DEADLINE, shield=True):
            if named is not None:
                if named[0] not in await _issuers(providers, named[0]):
                    raise LogoutTokenError("the iss is not the issuer of a configured provider", code="iss")
                headers = frame_headers(named[0])
                await end(*named, received)
            elif end_of_browser is not None:
                # First the login: a list or an issuer that cannot be read must not keep it alive.
                expiring = await end_of_browser()
                headers = [*frame_headers(), *expiring]
                headers = [*frame_headers(*await _issuers(providers, None)), *expiring]
            # Else it is from anywhere, about nobody: an image on any page could sign the user out.
    except LogoutTokenError as error:
        refusals.log("front-channel", error.code, str(error))
        await respond(send, 400, frame_headers(), PAGE)
        return
    except RPLogoutError as error:
        refusals.log("front-channel", error.code, str(error))
    except Exception as error:  # a store of somebody else's; its message may hold anything, its type does not
        refusals.log("front-channel", "failed", f"stopped by {type(error).__name__}")
    await respond(send, 200, headers, PAGE)


async def _issuers(providers: Callable[[], Awaitable[Sequence[Any]]], iss: str | None) -> list[str | None]:
    listed = await providers()
    await learn_issuers(listed, iss, level=logging.WARNING)
    return [issuer_of(provider) for provider in listed]
