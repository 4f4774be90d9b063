"""The one registered return address: it sends the browser on to the page it wanted.

RP-Initiated Logout 1.0, section 3. The state here protects nothing but the comfort of landing on the right page, and so
nothing about it is ever an error: missing, wrong, used up or another browser's, the browser goes to the default page.
It is used up a few seconds after its first use, since a browser may have dropped that answer and asks again.
"""

from __future__ import annotations

import hmac
import time
from urllib.parse import parse_qs

from ..asgi.types import Headers, Send, respond
from ..errors import StoreError
from ..later import REPLAYED_FOR, note_return
from ..ledger import Deadline, Ledger
from ..log import logger
from ..protocol.return_to import local_reference
from ..request import Request
from ..returns import TRIP_LIFETIME, browser_digest, default_target, read_trip_reference, trip_key
from ..settings import Settings
from ..verdict import cookie_key


async def callback(settings: Settings, ledger: Ledger, request: Request, send: Send) -> None:
    """Answer the browser that comes back from the provider: 303 to a path on this origin."""
    if request.method not in ("GET", "HEAD"):
        await respond(send, 405, [(b"allow", b"GET, HEAD"), (b"cache-control", b"no-store")])
        return
    target = await _target(ledger, request)
    if target is None:
        logger.debug(
            "a browser came back from the provider without its own, unused state, and goes to the default page"
        )
    headers: Headers = [
        (b"location", (target or default_target(settings, request)).encode("ascii")),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
    ]
    own = request.own
    if target is not None and request.method == "GET":
        headers.append((b"set-cookie", own.setting(own.trip, request.cookie(own.trip) or "", REPLAYED_FOR)))
        waiting = request.cookie(own.later)
        if waiting is not None:
            await note_return(ledger, waiting, Deadline())
    await respond(send, 303, headers)


async def _target(ledger: Ledger, request: Request) -> str | None:
    query = request.scope.get("query_string", b"").decode("latin-1")
    try:
        states = parse_qs(query, max_num_fields=50).get("state", [])
    except ValueError:
        return None
    browser = request.cookie(request.own.trip)
    # Only the right browser uses it up: somebody else's visit must not.
    if len(states) != 1 or browser is None:
        return None
    key, deadline = trip_key(states[0]), Deadline()
    end = read_trip_reference(browser, states[0])
    try:
        if end is not None:
            ended = (await ledger.read([cookie_key(end)], deadline, vital=True))[cookie_key(end)] or {}
            fresh = time.time() - float(ended.get("at", 0)) < TRIP_LIFETIME
            return local_reference(str(ended["to"]), own=()) if fresh and ended.get("to") else None
        record = (await ledger.read([key], deadline, vital=True))[key]
        if record is None or not hmac.compare_digest(str(record.get("browser")), browser_digest(browser)):
            return None
    except StoreError:
        return None
    if request.method == "GET" and "used" not in record:  # to look is not to come back
        await ledger.put(key, {**record, "used": True}, REPLAYED_FOR, deadline)
    # Looked at once more on its way out: a store is shared, and this is a redirect.
    return local_reference(str(record.get("to", "")), own=())
