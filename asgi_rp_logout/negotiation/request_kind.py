"""How a request was made, and therefore which answer is understood. Pure: a method and headers in, one kind out.

``Sec-Fetch-*``, ``Origin`` and ``Referer`` are set by the browser, and no page can forge them. ``HX-Request`` and its
like are set by a script, and say only which answer that script will understand. So the browser's headers are looked at
first. Browsers leave ``Sec-Fetch-*`` out on plain http off loopback, as does Safari before 16.4. Their absence proves
nothing, and only then do ``Accept`` and the older signs decide (Fetch Metadata, section 2).

The two mistakes are not equally bad. A fetch that is answered with a redirect to the provider loses the logout, because
the browser blocks it. A navigation that is taken for a fetch only has its logout deferred. So a header that contradicts
itself never makes a navigation, and a site that contradicts itself is another site.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Iterable

Headers = Iterable[tuple[bytes, bytes]]
_Relevant = dict[bytes, list[bytes]]

_MODE, _DEST, _SITE, _USER = b"sec-fetch-mode", b"sec-fetch-dest", b"sec-fetch-site", b"sec-fetch-user"
_OWN = b"origin is our own"  # no header's name
# Turbo sends X-Sec-Purpose, since scripts cannot set Sec-Purpose; X-Purpose is Safari's, for its previews.
_PURPOSES = (b"sec-purpose", b"purpose", b"x-moz", b"x-purpose", b"x-sec-purpose")
_SCRIPTS = (b"hx-request", b"x-inertia", b"x-turbo-request-id")
_RELEVANT = frozenset(
    (_MODE, _DEST, _SITE, _USER, *_PURPOSES, *_SCRIPTS, b"accept", b"origin", b"referer", b"host", b"x-requested-with")
)
_SPECULATIVE = re.compile(rb"\b(?:prefetch|prerender|preview)\b")
_OUR_SITES = frozenset((b"same-origin", b"same-site", b"none"))
_FRAMES = frozenset((b"iframe", b"frame", b"fencedframe", b"embed", b"object"))
_DOTTED_NAME = re.compile(rb"(?:https?://)?(?:[a-z0-9_-]+\.)*([a-z0-9_-]+\.[a-z][a-z0-9-]*)(?::[0-9]+)?")


class RequestKind(enum.Enum):
    """How a request was made, as far as it needs an answer of its own to a logout."""

    PREFETCH = "prefetch"
    """A browser's or script's guess at the next click: the user has not asked for it."""
    HTMX = "htmx"
    INERTIA = "inertia"
    TURBO = "turbo"
    """A form submission of Hotwire Turbo: it follows redirects by fetch, but obeys a ``<turbo-stream>``."""
    TURBO_VISIT = "turbo-visit"
    """A link followed by Turbo: it loads the page anew if the answer has ``turbo-visit-control: reload``."""
    NAVIGATION = "navigation"
    """A top-level document, or no browser at all: it follows a redirect anywhere."""
    FETCH = "fetch"
    """A script's own request or a frame, of this site: no cross-origin redirect reaches the user."""
    CROSS_SITE = "cross-site"
    """A subresource, or a form, frame or script of another site: it must not decide where the user goes."""


def kind_of(method: str, headers: Headers, own_origins: Collection[bytes] = ()) -> RequestKind:
    """Return how a request was made.

    Takes the method, the raw headers of an ASGI scope, and the application's own origins as far as they are known.
    Returns exactly one kind for any headers, and raises nothing (Fetch Metadata, section 2; Fetch, section 2.2.5 on
    destinations and modes).
    """
    return _kind(method, _relevant_headers(headers, own_origins))


def _kind(method: str, relevant: _Relevant) -> RequestKind:
    # A hover must log nobody out. On an unsafe method the header is no guess of the browser's, so it is ignored.
    if method in ("GET", "HEAD") and _is_speculative(relevant):
        return RequestKind.PREFETCH
    if not _has_fetch_metadata(relevant):
        return _by_older_signs(method, relevant)
    mode, dest = _single(relevant, _MODE), _single(relevant, _DEST)
    through_worker = _through_service_worker(method, relevant)
    if (mode == b"navigate" and dest == b"document") or through_worker:
        # A link on another site is a click of the user's. A form there may post itself, with a SameSite=None cookie:
        # there is a session then, but the user has not asked.
        elsewhere = _is_cross_site(relevant) or (through_worker and _refers_elsewhere(relevant))
        forged = method not in ("GET", "HEAD") and elsewhere
        return RequestKind.CROSS_SITE if forged else RequestKind.NAVIGATION
    if _is_cross_site(relevant) or _is_subresource(mode, dest):
        return RequestKind.CROSS_SITE
    if mode == b"navigate":
        # A frame of our own pages. The provider refuses to be framed, and the user would see that refusal. A script's
        # headers contradict a navigation, and the browser's own headers decide.
        return RequestKind.FETCH
    return _by_script(method, relevant) or RequestKind.FETCH


def is_prefetch(headers: Headers) -> bool:
    """Return whether a request is a prefetch or prerender, by any of the headers that say so."""
    return _is_speculative(_relevant_headers(headers))


def may_be_cross_site(method: str, headers: Headers, own_origins: Collection[bytes] = ()) -> bool:
    """Return whether a page of another site may have sent this: False only if the browser's headers rule it out.

    Without ``Sec-Fetch-Site``, as on plain http off loopback, only an Origin of the application's own rules it out.
    Browsers send some Origin with every form and script of another site, ``null`` among them, but none with a GET. A
    service worker of the application's passes on other sites' forms as well, and in Firefox they come as its own.
    """
    relevant = _relevant_headers(headers, own_origins)
    if _through_service_worker(method, relevant):
        return True
    if _OWN in relevant or _SITE in relevant:
        return _is_cross_site(relevant)
    return b"origin" in relevant or method in ("GET", "HEAD")


def is_without_click(headers: Headers, own_origins: Collection[bytes] = ()) -> bool:
    """Return whether another site navigated here without a click of the user's, by a script or a refresh.

    Browsers mark what a click began with ``Sec-Fetch-User: ?1``, over redirects too (Fetch Metadata, section 2.4). Any
    click on that page sets it, so its absence proves more than its presence.
    """
    relevant = _relevant_headers(headers, own_origins)
    return _SITE in relevant and _is_cross_site(relevant) and _single(relevant, _USER) != b"?1"


def is_in_frame(headers: Headers) -> bool:
    """Return whether a browser may show the answer in a frame, which it does not for an image or a prefetch."""
    relevant = _relevant_headers(headers)
    return not _is_speculative(relevant) and (not _has_fetch_metadata(relevant) or _single(relevant, _DEST) in _FRAMES)


def is_unseen(method: str, headers: Headers) -> bool:
    """Return whether the user neither sees the answer nor has clicked for it: any page can make a browser ask for it.

    This is a subresource, a beacon, a prefetch, or a frame that was not opened by a click. Whoever writes a page can
    send its visitors' browsers through a login this way: ``no-cors`` follows a redirect anywhere, with cookies. A
    request that CORS restricts cannot pass the provider. False if the browser does not say: see above.
    """
    relevant = _relevant_headers(headers)
    mode, dest = _single(relevant, _MODE), _single(relevant, _DEST)
    if method in ("GET", "HEAD") and _is_speculative(relevant):
        return True
    if dest in _FRAMES:
        return _single(relevant, _USER) != b"?1"
    return mode == b"no-cors" or _is_subresource(mode, dest)


def may_finish_deferred(method: str, headers: Headers) -> bool:
    """Return whether a request may be answered with the redirect that an earlier fetch left behind.

    Only a GET that puts a document of this site in front of the user: a frame or a prefetch would use up the one
    redirect unseen, and a link on another site must not start it.
    """
    relevant = _relevant_headers(headers)
    if (
        method != "GET"
        or any(name in relevant for name in _SCRIPTS)
        or _kind(method, relevant) is not RequestKind.NAVIGATION
    ):
        return False
    if _has_fetch_metadata(relevant):
        return _SITE in relevant and not _is_cross_site(relevant)
    return _accepts(relevant, b"text/html")


def comes_from_own_page(headers: Headers) -> bool:
    """Return whether a page of this origin opened this document, and no other origin had a part in it.

    A browser that comes back from the provider says otherwise (Fetch Metadata, section 2.3: the whole chain of
    redirects counts). What a service worker passes on says nothing, because its site is always the worker's own.
    """
    relevant = _relevant_headers(headers)
    return (_single(relevant, _MODE), _single(relevant, _DEST), _single(relevant, _SITE)) == (
        b"navigate",
        b"document",
        b"same-origin",
    )


def _by_older_signs(method: str, relevant: _Relevant) -> RequestKind:
    """Decide without Sec-Fetch headers: a browser that is old or on plain http, or none at all."""
    if _is_cross_site(relevant):
        return RequestKind.CROSS_SITE
    if script := _by_script(method, relevant):
        return script
    if _accepts(relevant, b"text/html") and not _is_xhr(relevant):
        return RequestKind.NAVIGATION
    # fetch() and XMLHttpRequest ask for */* or JSON, and leave one of these; curl and API clients leave none, and
    # follow a redirect or print it.
    by_browser = any(name in relevant for name in (b"origin", b"referer", b"x-requested-with"))
    return RequestKind.FETCH if by_browser else RequestKind.NAVIGATION


def _by_script(method: str, relevant: _Relevant) -> RequestKind | None:
    """Name the library that asks, by the header that it sets on its own requests."""
    if _single(relevant, b"hx-request") == b"true":
        return RequestKind.HTMX
    if _single(relevant, b"x-inertia") == b"true":
        return RequestKind.INERTIA
    if _accepts(relevant, b"text/vnd.turbo-stream.html"):
        return RequestKind.TURBO
    # Turbo 8 marks whatever it fetches, also for scripts that want JSON; Turbo 7 does not, and its visits are fetches.
    if method == "GET" and b"x-turbo-request-id" in relevant and _accepts(relevant, b"text/html"):
        return RequestKind.TURBO_VISIT
    return None


def _through_service_worker(method: str, relevant: _Relevant) -> bool:
    """Return whether a service worker passed on a navigation, by ``respondWith(fetch(event.request))``.

    The destination becomes empty and the site the worker's own. In Chromium and WebKit the mode stays ``navigate``. In
    Firefox, and in all of them once the worker gives ``fetch`` an init, it becomes ``same-origin`` (Fetch, Request
    constructor); a page's own fetch may say that too, but only a navigation asks for HTML and XHTML and has no mark of
    a script. A frame on such a page looks the same; an installed app, all of whose pages come this way, is more likely.
    """
    if _single(relevant, _DEST) != b"empty" or _single(relevant, _SITE) != b"same-origin":
        return False
    if _single(relevant, _MODE) == b"navigate":
        return True
    page = _accepts(relevant, b"text/html") and _accepts(relevant, b"application/xhtml+xml")
    by_script = (
        any(name in relevant for name in _SCRIPTS) or _by_script(method, relevant) is not None or _is_xhr(relevant)
    )
    return _single(relevant, _MODE) == b"same-origin" and page and not by_script


def _refers_elsewhere(relevant: _Relevant) -> bool:
    """Return whether the page that a request came from is not of the Origin that it names.

    A worker's Origin is its own, whoever sent the form that it passes on; the Referer is still the sender's in Firefox.
    """
    origin, referer = _single(relevant, b"origin"), _single(relevant, b"referer")
    return bool(origin and referer) and not referer.startswith(origin + b"/")


def _is_subresource(mode: bytes, dest: bytes) -> bool:
    """Return whether this is an image, script, worker or socket, and not what a script fetches, without a destination.

    ``no-cors`` with the destination ``empty`` is ``sendBeacon()`` or a plain fetch of our own page. Without the header
    it can be anything.
    """
    if mode == b"websocket" or (mode == b"no-cors" and dest != b"empty"):
        return True
    return dest not in (b"", b"empty", b"document") and dest not in _FRAMES


def _is_cross_site(relevant: _Relevant) -> bool:
    """Return whether another site sent this: the browser says so, or Origin and Host leave no doubt.

    An Origin of the application's own outranks Sec-Fetch-Site: no page of another origin can send it, while WebKitGTK
    says ``cross-site`` of the application's own form with ``target=_blank``.

    Without Sec-Fetch-Site doubt is common: proxies rewrite Host to ``backend:8000`` or an address, ``Origin: null`` is
    also what a form under ``Referrer-Policy: no-referrer`` sends, and ``app.example.com`` and ``www.example.com`` are
    one site. So only two dotted names count, with different last two labels.
    """
    if _OWN in relevant:
        return False
    if _SITE in relevant:
        return not _OUR_SITES.issuperset(relevant[_SITE])
    origin = _DOTTED_NAME.fullmatch(_single(relevant, b"origin"))
    host = _DOTTED_NAME.fullmatch(_single(relevant, b"host"))
    return origin is not None and host is not None and origin[1] != host[1]


def _is_xhr(relevant: _Relevant) -> bool:
    """Return whether a script has set X-Requested-With, not an Android WebView, which sends its app's dotted name."""
    return any(b"." not in value for value in relevant.get(b"x-requested-with", ()))


def _is_speculative(relevant: _Relevant) -> bool:
    return any(_SPECULATIVE.search(value) for name in _PURPOSES for value in relevant.get(name, ()))


def _has_fetch_metadata(relevant: _Relevant) -> bool:
    return _MODE in relevant or _DEST in relevant or _SITE in relevant


def _accepts(relevant: _Relevant, media_type: bytes) -> bool:
    accepted = b",".join(relevant.get(b"accept", ())).split(b",")
    return any(entry.partition(b";")[0].strip() == media_type for entry in accepted)


def _relevant_headers(headers: Headers, own_origins: Collection[bytes] = ()) -> _Relevant:
    """Collect the headers that matter here, in lower case, and whether the Origin is one of our own."""
    relevant: _Relevant = {}
    for name, value in headers:
        lower = name.lower()
        if lower in _RELEVANT:
            relevant.setdefault(lower, []).append(value.strip().lower())
    if _single(relevant, b"origin") in own_origins:
        relevant[_OWN] = []
    return relevant


def _single(relevant: _Relevant, name: bytes) -> bytes:
    """Return the value of a header, empty if it is missing or has two different ones."""
    values = set(relevant.get(name, ()))
    return values.pop() if len(values) == 1 else b""
