"""Inspect a response: a logout goes to ``logout.flow``, any other response to ``responses.no_logout``."""

from __future__ import annotations

import functools

from .. import log
from ..asgi.response import ResponseStart
from ..asgi.types import Message, Send
from ..context import Phase
from ..exchange import Exchange
from ..logout.afterwards import after_logout
from ..logout.detect import detect, read_marker
from ..logout.flow import let_go, log_out
from ..logout.return_plan import is_canonical_redirect
from ..logout.second_click import answer_repeated_request, answer_second_click, is_second_click
from ..logout.silent_trip import probe_after_answer
from ..negotiation.answers import http_status
from .no_logout import apply_to_response, deletes_session


def inspecting(exchange: Exchange) -> Send:
    """Return the ``send`` for an application whose response has to be inspected."""
    exchange.matters = exchange.inspected = True
    return functools.partial(_on_message, exchange)


async def _on_message(exchange: Exchange, message: Message) -> None:
    """Pass on a message of the application as it is or changed, hold it back, or drop it."""
    if message["type"] == "http.response.start":
        exchange.phase = Phase.STARTED
        await _on_start(exchange, ResponseStart.read(message))
    elif exchange.held is not None:
        if exchange.held.body.add(message):
            await let_go(exchange)
    elif exchange.phase is not Phase.REPLACED:
        await exchange.send(message)


async def _on_start(exchange: Exchange, start: ResponseStart) -> None:
    options, request = exchange.options, exchange.request
    marker = start.values(options.marker_header) if options.marker_header is not None else []
    if marker:
        start = start.without_header(options.marker_header)
    start = start.with_cookies(exchange.extra_cookies)
    on_path = exchange.on_logout_path
    ends_session = on_path and deletes_session(exchange, start)
    intent = detect(
        http_status(start),
        request.method,
        on_logout_path=on_path and not is_canonical_redirect(options, request, start, ends_session=ends_session),
        said=read_marker(marker[0].decode("latin-1")) if marker else exchange.intent,
        ends_session=ends_session,
    )
    if intent is not None and not exchange.handled_inside:
        exchange.tell_outer()
        await log_out(exchange, intent, start)
    elif on_path and intent is None and await _answer_overtaken_click(exchange, start.status):
        return
    else:
        await exchange.send_start(await apply_to_response(exchange, start))


async def _answer_overtaken_click(exchange: Exchange, status: int) -> bool:
    """Answer a second click that came in before the first one had ended the login; return whether it was one."""
    log.no_logout(exchange.request.method, exchange.request.path, status)
    registry = exchange.registry
    if exchange.status.ended is None and not registry.is_empty:
        exchange.known = await registry.status_at_response(exchange.status, exchange.budget)
        if is_second_click(exchange) and await answer_second_click(exchange):
            return True
    return await answer_repeated_request(exchange)


async def fail(exchange: Exchange) -> None:
    """Answer 500 for an application that raised on a request from which something dead was removed.

    The server's own error page does not go through the session middleware. So the browser would keep its dead session,
    and cause the same error with every request. A response to a logout that was held back is sent first.
    """
    if exchange.held is not None:
        await let_go(exchange)
    if exchange.phase is not Phase.OPEN or not exchange.status.hides:
        return
    send = inspecting(exchange)
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    await send(ResponseStart.of(500, headers).message)
    await send({"type": "http.response.body", "body": b"Internal Server Error", "more_body": False})


async def finish(exchange: Exchange) -> None:
    """Do what is left when the application is done."""
    if exchange.connection is not None:
        exchange.connection.leave()
    if exchange.held is not None:  # the application has left without a body
        await let_go(exchange)
    if exchange.ended_login is not None and not exchange.told:
        await after_logout(exchange.options, exchange.ended_login, exchange.asked, exchange.outcome)
    if exchange.probe_at is not None:
        await probe_after_answer(exchange)
    if exchange.connection is not None:
        await exchange.connection.closed()
