"""Step 5: the answer that this client understands."""

from __future__ import annotations

import html
import json
import secrets

from .asgi.types import Headers, Message
from .client import Client
from .messages import is_for_shared_caches, room_in
from .protocol.end_session import FormPost
from .resolve import Destination

_REPLACED = frozenset(
    (
        b"location",
        b"content-length",
        b"content-type",
        b"content-encoding",
        b"transfer-encoding",
        b"etag",
        b"last-modified",
        b"content-disposition",
        b"cache-control",
        b"expires",
        b"age",
        b"refresh",
        b"hx-redirect",
        b"hx-location",
        b"hx-refresh",
        b"x-inertia-location",
    )
)
"""Headers that spoke of the body or target that is no longer sent; htmx obeys the application's before ours."""

_IN_A_HEADER = {
    # 303 makes a GET of any request; 302 and 307 may carry the logout form, CSRF token and all, to the provider
    # (RFC 9700, section 4.12).
    Client.NAVIGATION: (303, b"location"),
    Client.HTMX: (200, b"hx-redirect"),
    Client.INERTIA: (409, b"x-inertia-location"),
}
"""The clients that read the URL in a header, with the status that it comes with."""

Answer = tuple[Message, bytes]


def room_for_url(client: Client, start: Message) -> int | None:
    """Return how long the URL may be in a header of the answer to this client, which may be less than nothing.

    None for a client that gets the URL in the body. See ``HEADERS_AT_MOST``.
    """
    if client not in _IN_A_HEADER:
        return None
    status, name = _IN_A_HEADER[client]
    return room_in(amended(start, status, [(name, b"")])[0])


def answer_for(
    client: Client, start: Message, destination: Destination, room: int | None = None, *, as_json: bool = False
) -> Answer | None:
    """Write the answer that takes a client to the provider.

    Takes the kind of client, the application's start message with its cookies expired, the destination, and the room
    that a header has for its URL, None for any length. Returns the amended start message and the whole body; None for
    a client that has to be answered otherwise.
    """
    url = destination.url.encode("ascii")
    if client is Client.NAVIGATION and destination.form is not None:
        return form_page(start, destination.form)
    if client is Client.NAVIGATION and room is not None and len(url) > room:
        return link_page(start, destination.url)
    if client in _IN_A_HEADER:
        status, name = _IN_A_HEADER[client]
        return amended(start, status, [(name, url)])
    if client is Client.TURBO:
        return turbo_stream(start, destination.url)
    if as_json and client is Client.FETCH:
        body = json.dumps({"logout_url": destination.url}).encode("ascii")
        return amended(start, 200, [(b"content-type", b"application/json")], body)
    return None


def turbo_stream(start: Message, url: str) -> Answer:
    """Write what makes Turbo leave the page: it follows redirects by fetch, which the browser blocks here.

    A stream may add an element to the page, and a browser obeys a refresh whenever it is added; no script is needed.
    """
    refresh = f'<meta http-equiv="refresh" content="0;url={html.escape(url)}">'
    stream = f'<turbo-stream action="append" targets="head"><template>{refresh}</template></turbo-stream>'
    headers = [(b"content-type", b"text/vnd.turbo-stream.html; charset=utf-8")]
    return amended(start, 200, headers, stream.encode("ascii"))


def turbo_reload(start: Message) -> Answer:
    """Write what makes a Turbo visit load this address once more as a document, which a deferred logout waits for."""
    page = b'<!doctype html><html><head><meta name="turbo-visit-control" content="reload"></head><body></body></html>'
    return amended(start, 200, [(b"content-type", b"text/html; charset=utf-8")], page)


def amended(start: Message, status: int, added: Headers, body: bytes = b"") -> Answer:
    """Amend a start message for another status and body; everything else in it stays, each Set-Cookie among it."""
    kept = [
        (name, value)
        for name, value in start.get("headers", ())
        if (lower := name.lower()) not in _REPLACED and not is_for_shared_caches(lower)
    ]
    headers = [
        *kept,
        *added,
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
        (b"content-length", str(len(body)).encode("ascii")),
    ]
    message = {**start, "status": status, "headers": headers}
    message.pop("trailers", None)
    return message, body


def form_page(start: Message, form: FormPost) -> Answer:
    """Write a page that posts a logout request by itself, or by its button where scripts do not run.

    The policy allows one script, known by its nonce: what is in the fields is an ID Token.
    """
    nonce = secrets.token_urlsafe(16)
    fields = "".join(
        f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">' for name, value in form.fields
    )
    body = (
        f'<form id="logout" method="post" action="{html.escape(form.action)}">{fields}'
        "<p>You are being signed out.</p><button>Continue</button></form>"
        f'<script nonce="{nonce}">document.getElementById("logout").submit()</script>'
    )
    return _page(start, body, f"script-src 'nonce-{nonce}'; ")


def link_page(start: Message, url: str) -> Answer:
    """Write a page that goes to a URL by itself, or by its link where browsers are told to obey no refresh.

    It holds a URL for which the headers have no room. It needs no script, and replaces itself in the history.
    """
    target = html.escape(url)
    refresh = f'<meta http-equiv="refresh" content="0;url={target}">'
    return _page(start, f'<p>You are being signed out.</p><a href="{target}">Continue</a>', head=refresh)


def _page(start: Message, body: str, policy: str = "", head: str = "") -> Answer:
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Signing out</title>'
        f'<meta name="viewport" content="width=device-width">{head}<body>{body}'
    )
    # No form-action: Chromium holds it against every redirect that follows, and the provider's are its own affair.
    policy = f"default-src 'none'; {policy}base-uri 'none'; frame-ancestors 'none'"
    kept = [pair for pair in start.get("headers", ()) if pair[0].lower() != b"content-security-policy"]
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-security-policy", policy.encode("ascii"))]
    return amended({**start, "headers": kept}, 200, headers, page.encode("utf-8"))
