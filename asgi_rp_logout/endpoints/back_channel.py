"""The endpoint to which a provider posts logout tokens: Back-Channel Logout 1.0, sections 2.5 to 2.8.

Anybody can post here, so each answer is cheap, bounded in time and size, and the same whether or not a session was
there. It is 200, or 400 for anything doubtful, a store that failed included: section 2.8 knows no other. What has not
the form of a logout token is refused before anything is looked up or fetched for it.
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

    Sends 200, or 400 with a JSON object that says what was wrong. Then tells the application, if anything has ended.
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
            # Anew: a sender who dawdles must not leave too little time for the one fetch of keys in 30 s. And shielded:
            # once the token is here, a provider that hangs up must not stop its own logout half way.
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
    except Exception as error:  # of somebody else's store or provider; its message may hold anything, its type not
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
    # An encrypted token need not show its iss: then the only provider there is may be meant.
    chosen = able if issuer is None and len(able) == 1 else [one for one in able if issuer_of(one) == issuer]
    refusal = LogoutTokenError("the iss is not the issuer of a configured provider", code="iss")
    for provider in chosen:
        try:
            verified: LogoutToken = await getattr(provider, "verify_logout_token")(text, received)  # noqa: B009
        except LogoutTokenError as error:
            # One issuer may be there for two clients: what is wrong for the one may be right for the other.
            refusal = error
        else:
            return verified, name_of(provider)
    raise refusal


def _sessions_of(token: LogoutToken, received: float) -> EndedSessions:
    """Return what a logout token means (Back-Channel Logout 1.0, sections 2.4 and 2.7).

    With a sid it is that one session, and only if the subject beside it is the login's; without, it is every session of
    the subject. Never more than was there when the token was made, and never later than its receipt.
    """
    return EndedSessions(token.iss, token.sid, token.sub, token.iat, received, "back-channel")


async def _refuse(send: Send, code: str, sentence: str) -> None:
    refusals.log("back-channel", code, sentence)
    body = json.dumps({"error": "invalid_request", "error_description": sentence}).encode()
    await respond(send, 400, [*NO_STORE, (b"content-type", b"application/json")], body)
