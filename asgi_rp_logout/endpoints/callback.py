"""The one registered return address: it sends the browser on to the page it wanted, or first to the provider again.

RP-Initiated Logout 1.0, section 3. The state only decides on which page the user lands. So a state that is missing,
wrong, used up or another browser's is not an error: the browser goes to the default page. A state is used up a few
seconds after its first use, because a browser may drop the first answer and ask again.

With a provider's ``silent_hint``, the answers to authorization requests arrive here too: see ``logout.silent_trip``.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import replace
from urllib.parse import parse_qs

from ..asgi.response import ResponseStart
from ..asgi.types import Headers, Receive, respond
from ..errors import StoreError
from ..exchange import Exchange
from ..log import logger
from ..logins.records import Ended, ReturnTripRecord, cookie_key, read
from ..logout.deferred import REPLAYED_FOR, note_return
from ..logout.flow import Logout, try_to_send
from ..logout.return_plan import (
    RETURN_LIFETIME,
    browser_digest,
    fallback_target,
    read_return_reference,
    return_trip_key,
)
from ..logout.silent_trip import Return, come_back, revoke_after_answer
from ..protocol.return_target import local_reference


async def callback(exchange: Exchange, receive: Receive) -> None:
    """Answer the browser that comes back from the provider: 303 to a path on this origin, or to its logout."""
    request = exchange.request
    if request.method not in ("GET", "HEAD"):
        await respond(exchange.send, 405, [(b"allow", b"GET, HEAD"), (b"cache-control", b"no-store")])
        return
    trip = await come_back(exchange)
    if trip is not None:
        await _go_on(exchange, trip)
        return
    target = await _target(exchange)
    if target is None:
        logger.debug(
            "a browser came back from the provider without its own, unused state, and goes to the default page"
        )
    await _to_page(exchange, target, await _used_cookie(exchange, target))


async def _go_on(exchange: Exchange, trip: Return) -> None:
    """Send a browser that has asked for an ID Token to the end-session endpoint; if there is none, to its page."""
    own = exchange.request.own
    cookies: Headers = [(b"set-cookie", own.deletion(own.silent_trip))] if trip.bound else []
    exchange.is_repeat = True
    logout = Logout(exchange, trip.intent, trip.login, after_trip=True)
    if not await try_to_send(logout, ResponseStart.of(303, cookies)):
        await _to_page(exchange, trip.intent.return_to, cookies)
    await revoke_after_answer(trip)


async def _to_page(exchange: Exchange, target: str | None, cookies: Headers) -> None:
    headers: Headers = [
        (b"location", (target or fallback_target(exchange.options, exchange.request)).encode("ascii")),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
    ]
    await respond(exchange.send, 303, [*headers, *cookies])


async def _used_cookie(exchange: Exchange, target: str | None) -> Headers:
    """Return the binding cookie of a return trip that is used up, and note that the browser is back."""
    request, own = exchange.request, exchange.request.own
    headers: Headers = []
    if target is not None and request.method == "GET":
        binding = own.setting(own.return_trip, request.cookie(own.return_trip) or "", REPLAYED_FOR)
        headers.append((b"set-cookie", binding))
        waiting = request.cookie(own.deferred)
        if waiting is not None:
            await note_return(exchange.registry, waiting, exchange.budget)
    return headers


async def _target(exchange: Exchange) -> str | None:
    """Return where this browser goes: a path on this origin, None if it is not known."""
    request, store, budget = exchange.request, exchange.registry.store, exchange.budget
    query = request.scope.get("query_string", b"").decode("latin-1")
    try:
        states = parse_qs(query, max_num_fields=50).get("state", [])
    except ValueError:
        return None
    browser = request.cookie(request.own.return_trip)
    # Only the right browser uses it up: somebody else's visit must not.
    if len(states) != 1 or browser is None:
        return None
    tombstone = read_return_reference(browser, states[0])
    key = return_trip_key(states[0]) if tombstone is None else cookie_key(tombstone)
    try:
        json = (await store.read([key], budget, vital=True))[key]
        if tombstone is not None:
            return _target_in_tombstone(read(Ended.from_json, json))
        record = read(ReturnTripRecord.from_json, json)
    except StoreError:
        return None
    if record is None or not hmac.compare_digest(record.browser, browser_digest(browser)):
        return None
    if request.method == "GET" and not record.used:  # a HEAD does not use it up
        await store.put(key, replace(record, used=True).to_json(), REPLAYED_FOR, budget)
    # Checked once more: others may write to the store, and this is a redirect.
    return local_reference(record.target, own=())


def _target_in_tombstone(ended: Ended | None) -> str | None:
    if ended is None or ended.intent.return_to is None or time.time() - ended.at >= RETURN_LIFETIME:
        return None
    return local_reference(ended.intent.return_to, own=())
