"""The endpoint to which a provider posts logout tokens: Back-Channel Logout 1.0, sections 2.5 to 2.8.

Anybody can post here, so each answer is cheap, bounded in time and size, and the same whether or not a session was
there. It is 200, or 400 for anything doubtful, a store that failed included: section 2.8 knows no other. What has not
the form of a logout token is refused before anything is looked up or fetched for it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio

from ..asgi.types import Headers, Receive, Scope, Send, header_values, respond
from ..errors import LogoutTokenError, RPLogoutError
from ..login import unverified_claims
from ..protocol.logout_token import LogoutToken, parse_form, unverified_issuer
from ..providers.provider import issuer_of, learn_issuers
from ..providers.token_verifier import is_encrypted
from ._common import DEADLINE, read_body, refusals

NO_STORE: Headers = [(b"cache-control", b"no-store")]


async def back_channel(
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    providers: Callable[[], Awaitable[Sequence[Any]]],
    end: Callable[[LogoutToken, float], Awaitable[None]],
    now: Callable[[], float] = time.time,
) -> None:
    """Answer one back-channel logout request (Back-Channel Logout 1.0, sections 2.5 to 2.8).

    Takes the request; a function that gives the providers (those that may send logout tokens have an ``issuer`` and an
    async ``verify_logout_token(token, now)``); and ``end``, which ends the logins that a valid token
    means, given the token and the time of receipt in seconds since 1970. Sends 200, or 400 with a JSON object that says
    what was wrong. Raises nothing.
    """
    received = now()
    if scope["method"] != "POST":
        await respond(send, 405, [*NO_STORE, (b"allow", b"POST")])
        return
    try:
        with anyio.move_on_after(DEADLINE) as limit:
            body = await read_body(receive)
            if body is None:
                return
            # Anew: a sender who dawdles must not leave too little time for the one fetch of keys in 30 s. And shielded:
            # once the token is here, a provider that hangs up must not stop its own logout half way.
            limit.deadline, limit.shield = anyio.current_time() + DEADLINE, True
            text = parse_form(body, next(iter(header_values(scope["headers"], b"content-type")), ""))
            await end(await _verify(text, providers, received), received)
        if limit.cancelled_caught:
            raise TimeoutError
    except RPLogoutError as error:
        await _refuse(send, error.code, str(error))
    except TimeoutError:
        await _refuse(send, "deadline", f"not done within {DEADLINE:.0f} seconds")
    except Exception as error:  # of somebody else's store or provider; its message may hold anything, its type not
        await _refuse(send, "failed", f"stopped by {type(error).__name__}")
    else:
        await respond(send, 200, NO_STORE)


async def _verify(token: str, providers: Callable[[], Awaitable[Sequence[Any]]], received: float) -> LogoutToken:
    issuer = unverified_issuer(token)
    if issuer is None and not is_encrypted(token):
        code = "iss" if unverified_claims(token) else "malformed"
        raise LogoutTokenError("the token is not a signed JWT with an iss", code=code)
    able = [provider for provider in await providers() if hasattr(provider, "verify_logout_token")]
    if issuer is not None:
        await learn_issuers(able, issuer, level=logging.WARNING)
    # An encrypted token need not show its iss: then the only provider there is may be meant.
    chosen = able if issuer is None and len(able) == 1 else [one for one in able if issuer_of(one) == issuer]
    refusal = LogoutTokenError("the iss is not the issuer of a configured provider", code="iss")
    for provider in chosen:
        try:
            verified: LogoutToken = await provider.verify_logout_token(token, received)
        except LogoutTokenError as error:
            # One issuer may be there for two clients: what is wrong for the one may be right for the other.
            refusal = error
        else:
            return verified
    raise refusal


async def _refuse(send: Send, code: str, sentence: str) -> None:
    refusals.log("back-channel", code, sentence)
    body = json.dumps({"error": "invalid_request", "error_description": sentence}).encode()
    await respond(send, 400, [*NO_STORE, (b"content-type", b"application/json")], body)
