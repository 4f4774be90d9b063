"""The endpoint to which a provider posts logout tokens: Back-Channel Logout 1.0, sections 2.5 to 2.8.

Anybody can post here, so each answer is cheap, bounded in time and size, and the same whether or not a session was
there. It is 200, or 400 for anything doubtful, also if the store failed: section 2.8 has no other status. A post
without the form of a logout token is refused before anything is looked up or fetched for it.
"""

from __future__ import annotations

import json
import logging
import time

import anyio

from ..asgi.types import Headers, Receive, Send, header_values, respond
from ..errors import LogoutTokenError, RPLogoutError
from ..events import LogoutEvent
from ..exchange import Exchange
from ..login import unverified_claims
from ..logins.registry import EndedSessions
from ..options import Options
from ..protocol.logout_token import LogoutToken, parse_form, unverified_issuer
from ..providers.provider import issuer_of, learn_issuers, list_providers, name_of
from ..providers.token_verifier import is_encrypted
from .intake import DEADLINE, notify_after_answer, read_body, refusals

NO_STORE: Headers = [(b"cache-control", b"no-store")]


async def back_channel(exchange: Exchange, receive: Receive) -> None:
    """Answer one back-channel logout request (Back-Channel Logout 1.0, sections 2.5 to 2.8).

    Sends 200, or 400 with a JSON object that says what was wrong. Then calls ``on_logout``, if anything has ended.
    Raises nothing.
    """
    received, send, options = time.time(), exchange.send, exchange.options
    if exchange.request.method != "POST":
        await respond(send, 405, [*NO_STORE, (b"allow", b"POST")])
        return
    event = None
    try:
        with anyio.move_on_after(DEADLINE) as limit:
            body = await read_body(receive)
            if body is None:
                return
            # The deadline starts anew: a slow sender must not leave too little time for the one fetch of keys in 30 s.
            # It is shielded: once the token is here, a provider that hangs up must not stop its own logout half-way.
            limit.deadline, limit.shield = anyio.current_time() + DEADLINE, True
            content_type = next(iter(header_values(exchange.request.headers, b"content-type")), "")
            token, name = await _verified(options, parse_form(body, content_type), received)
            if await exchange.registry.end_sessions(_sessions_of(token, received), exchange.budget):
                until = min(token.iat, received)
                event = LogoutEvent("back-channel", name, token.iss, token.sub, token.sid, until)
        if limit.cancelled_caught:
            raise TimeoutError
    except RPLogoutError as error:
        await _refuse(send, error.code, str(error))
    except TimeoutError:
        await _refuse(send, "deadline", f"not done within {DEADLINE:.0f} seconds")
    except Exception as error:  # its message may hold anything, its type does not
        await _refuse(send, "failed", f"stopped by {type(error).__name__}")
    else:
        await respond(send, 200, NO_STORE)
    if event is not None:
        await notify_after_answer(options, event)


async def _verified(options: Options, text: str, received: float) -> tuple[LogoutToken, str | None]:
    """Return a verified logout token, and the name of its provider. Raises ``RPLogoutError``."""
    issuer = unverified_issuer(text)
    if issuer is None and not is_encrypted(text):
        code = "iss" if unverified_claims(text) else "malformed"
        raise LogoutTokenError("the token is not a signed JWT with an iss", code=code)
    listed = await list_providers(options.providers, options.http_client)
    able = [provider for provider in listed if hasattr(provider, "verify_logout_token")]
    if issuer is not None:
        await learn_issuers(able, issuer, level=logging.WARNING)
    # An encrypted token need not show its iss. Then it can only be for the one provider, if there is just one.
    chosen = able if issuer is None and len(able) == 1 else [one for one in able if issuer_of(one) == issuer]
    refusal = LogoutTokenError("the iss is not the issuer of a configured provider", code="iss")
    for provider in chosen:
        try:
            verified: LogoutToken = await getattr(provider, "verify_logout_token")(text, received)  # noqa: B009
        except LogoutTokenError as error:
            # Two clients may have the same issuer: a token that is wrong for one may be right for the other.
            refusal = error
        else:
            return verified, name_of(provider)
    raise refusal


def _sessions_of(token: LogoutToken, received: float) -> EndedSessions:
    """Return the sessions that a logout token ends (Back-Channel Logout 1.0, sections 2.4 and 2.7).

    With a sid, it ends that one session; if there is a sub too, only if it is the login's. With a sub alone, it ends
    every session of the subject. It never ends a session that began after the token was made or received.
    """
    return EndedSessions(token.iss, token.sid, token.sub, token.iat, received, "back-channel")


async def _refuse(send: Send, code: str, sentence: str) -> None:
    refusals.log("back-channel", code, sentence)
    body = json.dumps({"error": "invalid_request", "error_description": sentence}).encode()
    await respond(send, 400, [*NO_STORE, (b"content-type", b"application/json")], body)
