"""The answer that each kind of request understands: one row a kind. Pure.

A row says how the library in the page redirects by itself, and how it is sent to the provider.
"""

from __future__ import annotations

import html
import json
from dataclasses import dataclass

from ..asgi.response import ResponseStart
from ..asgi.types import Headers
from ..protocol.end_session import FormPost
from .request_kind import RequestKind


@dataclass(frozen=True, slots=True)
class Row:
    """How one kind of request is answered.

    ``status`` and ``header`` send it to the provider by a URL in a header. ``redirects`` are the headers by which its
    applications redirect, and ``redirect_status`` the status that is a redirect only for this kind. ``obeys`` are other
    headers that would lead somewhere else. ``waits`` says that the next page finishes the logout instead, None that
    the option ``for_fetch`` decides.
    """

    status: int = 200
    header: bytes | None = None
    redirects: tuple[bytes, ...] = ()
    redirect_status: int | None = None
    obeys: tuple[bytes, ...] = ()
    waits: bool | None = False


ROWS = {
    # 303 makes a GET of any request; 302 and 307 may carry the logout form, CSRF token and all, to the provider
    # (RFC 9700, section 4.12).
    RequestKind.NAVIGATION: Row(303, b"location", redirects=(b"location",), obeys=(b"refresh",)),
    # htmx obeys the headers of the application before ours.
    RequestKind.HTMX: Row(200, b"hx-redirect", redirects=(b"hx-redirect", b"hx-location"), obeys=(b"hx-refresh",)),
    RequestKind.INERTIA: Row(409, b"x-inertia-location", redirects=(b"x-inertia-location",), redirect_status=409),
    RequestKind.TURBO: Row(),  # by a <turbo-stream> in the body
    RequestKind.TURBO_VISIT: Row(waits=True),
    RequestKind.FETCH: Row(waits=None),
    RequestKind.CROSS_SITE: Row(),  # never sent anywhere
    RequestKind.PREFETCH: Row(),  # never sent anywhere
}

_TARGETS = frozenset(name for row in ROWS.values() for name in row.redirects)
_GO_ELSEWHERE = _TARGETS.union(*(row.obeys for row in ROWS.values()))
_REDIRECT_STATUSES = {row.redirect_status: row.redirects for row in ROWS.values() if row.redirect_status}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    start: ResponseStart
    body: bytes


def redirect_target(start: ResponseStart) -> str | None:
    """Return where a response leads, by HTTP or by a library in the page; decoded as latin-1."""
    return next((value.decode("latin-1") for name, value in start.headers if name.lower() in _TARGETS), None)


def http_status(start: ResponseStart) -> int:
    """Return the status in HTTP's terms: Inertia redirects by a 409 with the target in a header of its own."""
    names = _REDIRECT_STATUSES.get(start.status, ())
    return 303 if any(name.lower() in names for name, _ in start.headers) else start.status


def room_for_url(kind: RequestKind, start: ResponseStart) -> int | None:
    """Return how long the URL may be in a header of the answer, which may be less than nothing.

    None for a kind that gets the URL in the body. See ``asgi.response.HEADERS_AT_MOST``.
    """
    row = ROWS[kind]
    return _answer(start, row.status, [(row.header, b"")]).start.room if row.header is not None else None


def answer_for(kind: RequestKind, start: ResponseStart, url: str) -> Answer | None:
    """Return the answer that sends a request of this kind to ``url``; None for one that has to be answered otherwise.

    Takes the application's start message with its cookies expired.
    """
    row = ROWS[kind]
    if row.header is not None:
        return _answer(start, row.status, [(row.header, url.encode("ascii"))])
    return turbo_stream(start, url) if kind is RequestKind.TURBO else None


def json_answer(start: ResponseStart, url: str) -> Answer:
    """Return the URL as JSON, for a script that goes there by itself."""
    body = json.dumps({"logout_url": url}).encode("ascii")
    return _answer(start, 200, [(b"content-type", b"application/json")], body)


def turbo_stream(start: ResponseStart, url: str) -> Answer:
    """Return what makes Turbo leave the page: it follows redirects by fetch, which the browser blocks here.

    A stream may add an element to the page, and a browser obeys a refresh whenever it is added; no script is needed.
    """
    refresh = f'<meta http-equiv="refresh" content="0;url={html.escape(url)}">'
    stream = f'<turbo-stream action="append" targets="head"><template>{refresh}</template></turbo-stream>'
    headers = [(b"content-type", b"text/vnd.turbo-stream.html; charset=utf-8")]
    return _answer(start, 200, headers, stream.encode("ascii"))


def turbo_reload(start: ResponseStart) -> Answer:
    """Return what makes a Turbo visit load this address once more as a document, which a deferred logout waits for."""
    page = b'<!doctype html><html><head><meta name="turbo-visit-control" content="reload"></head><body></body></html>'
    return _answer(start, 200, [(b"content-type", b"text/html; charset=utf-8")], page)


def form_page(start: ResponseStart, form: FormPost, nonce: str) -> Answer:
    """Return a page that posts a logout request by itself, or by its button where scripts do not run.

    The policy allows one script, known by its ``nonce``, because the fields hold an ID Token.
    """
    fields = "".join(
        f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">' for name, value in form.fields
    )
    body = (
        f'<form id="logout" method="post" action="{html.escape(form.action)}">{fields}'
        "<p>You are being signed out.</p><button>Continue</button></form>"
        f'<script nonce="{nonce}">document.getElementById("logout").submit()</script>'
    )
    return _page(start, body, f"script-src 'nonce-{nonce}'; ")


def link_page(start: ResponseStart, url: str) -> Answer:
    """Return a page that goes to a URL by itself, or by its link where browsers are told to obey no refresh.

    It holds a URL for which the headers have no room. It needs no script, and replaces itself in the history.
    """
    target = html.escape(url)
    refresh = f'<meta http-equiv="refresh" content="0;url={target}">'
    return _page(start, f'<p>You are being signed out.</p><a href="{target}">Continue</a>', head=refresh)


def _page(start: ResponseStart, body: str, policy: str = "", head: str = "") -> Answer:
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Signing out</title>'
        f'<meta name="viewport" content="width=device-width">{head}<body>{body}'
    )
    # No form-action: Chromium holds it against every redirect that follows, and the provider's are its own affair.
    policy = f"default-src 'none'; {policy}base-uri 'none'; frame-ancestors 'none'"
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-security-policy", policy.encode("ascii"))]
    return _answer(start.without_header(b"content-security-policy"), 200, headers, page.encode("utf-8"))


def _answer(start: ResponseStart, status: int, added: Headers, body: bytes = b"") -> Answer:
    return Answer(start.replaced(status, added, without=_GO_ELSEWHERE, length=len(body)), body)
