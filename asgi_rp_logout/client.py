"""Which client is asking, and therefore which answer it understands. Pure: a method and headers in, one kind out.

Two sorts of headers speak. ``Sec-Fetch-*``, ``Origin`` and ``Referer`` are the browser's own word, which no page can
forge; ``HX-Request`` and its like are a script's word, good only for what that script itself will understand. So the
browser is heard first. Browsers leave ``Sec-Fetch-*`` out on plain http off loopback, as does Safari before 16.4: its
absence proves nothing, and only then do ``Accept`` and the older signs decide (Fetch Metadata, section 2).

The danger is uneven. A fetch that is answered with a redirect to the provider loses the logout: the browser blocks it.
A navigation that is taken for a fetch only has its logout deferred. So a header that contradicts itself never makes a
navigation, and a site that contradicts itself is another site.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Iterable

Headers = Iterable[tuple[bytes, bytes]]
_Said = dict[bytes, list[bytes]]

_MODE, _DEST, _SITE, _USER = b"sec-fetch-mode", b"sec-fetch-dest", b"sec-fetch-site", b"sec-fetch-user"
_OWN = b"origin is our own"  # no header's name
# Turbo sends X-Sec-Purpose, since scripts cannot set Sec-Purpose; X-Purpose is Safari's, for its previews.
_PURPOSES = (b"sec-purpose", b"purpose", b"x-moz", b"x-purpose", b"x-sec-purpose")
_SCRIPTS = (b"hx-request", b"x-inertia", b"x-turbo-request-id")
_HEARD = frozenset(
    (_MODE, _DEST, _SITE, _USER, *_PURPOSES, *_SCRIPTS, b"accept", b"origin", b"referer", b"host", b"x-requested-with")
)
_SPECULATIVE = re.compile(rb"\b(?:prefetch|prerender|preview)\b")
_OUR_SITES = frozenset((b"same-origin", b"same-site", b"none"))
_FRAMES = frozenset((b"iframe", b"frame", b"fencedframe", b"embed", b"object"))
_DOTTED_NAME = re.compile(rb"(?:https?://)?(?:[a-z0-9_-]+\.)*([a-z0-9_-]+\.[a-z][a-z0-9-]*)(?::[0-9]+)?")


class Client(enum.Enum):
    """Name the kinds of client that need different answers to a logout."""

    PREFETCH = "prefetch"
    """A browser's or script's guess at the next click: not a wish of the user."""
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
    FOREIGN = "foreign"
    """A subresource, or a form, frame or script of another site: it has no say in where the user goes."""


def client_of(method: str, headers: Headers, own_origins: Collection[bytes] = ()) -> Client:
    """Return which kind of client sent a request.

    Takes the method, the raw headers of an ASGI scope, and the application's own origins as far as they are known.
    Returns exactly one kind for any headers, and raises nothing (Fetch Metadata, section 2; Fetch, section 2.2.5 on
    destinations and modes).
    """
    return _kind_of(method, _hear(headers, own_origins))


def _kind_of(method: str, said: _Said) -> Client:
    # A hover must log nobody out. On an unsafe method the header is no guess of the browser's, so it is not heard.
    if method in ("GET", "HEAD") and _is_speculative(said):
        return Client.PREFETCH
    if not _has_fetch_metadata(said):
        return _by_older_signs(method, said)
    mode, dest = _one(said, _MODE), _one(said, _DEST)
    through_worker = _through_service_worker(method, said)
    if (mode == b"navigate" and dest == b"document") or through_worker:
        # A link on another site is a click of the user's. A form there may post itself, and a SameSite=None cookie
        # would come along: so much evidence, and no wish.
        elsewhere = _is_of_another_site(said) or (through_worker and _refers_elsewhere(said))
        forged = method not in ("GET", "HEAD") and elsewhere
        return Client.FOREIGN if forged else Client.NAVIGATION
    if _is_of_another_site(said) or _is_subresource(mode, dest):
        return Client.FOREIGN
    if mode == b"navigate":
        # A frame of our own pages. The provider refuses to be framed, and the user would see that refusal. A script's
        # headers on a navigation are a contradiction; the browser's word stands.
        return Client.FETCH
    return _by_script(method, said) or Client.FETCH


def is_prefetch(headers: Headers) -> bool:
    """Return whether a request is a prefetch or prerender, by any of the headers that say so."""
    return _is_speculative(_hear(headers))


def may_be_of_another_site(method: str, headers: Headers, own_origins: Collection[bytes] = ()) -> bool:
    """Return whether a page of another site may have sent this, as far as the browser does not rule it out.

    Without ``Sec-Fetch-Site``, as on plain http off loopback, only an Origin of the application's own does. Browsers
    send some Origin with every form and script of another site, ``null`` among them, but none with a GET. A service
    worker of the application's passes on other sites' forms as well, and in Firefox they come as its own.
    """
    said = _hear(headers, own_origins)
    if _through_service_worker(method, said):
        return True
    if _OWN in said or _SITE in said:
        return _is_of_another_site(said)
    return b"origin" in said or method in ("GET", "HEAD")


def is_unasked(headers: Headers, own_origins: Collection[bytes] = ()) -> bool:
    """Return whether another site navigated here without a click of the user's, by a script or a refresh.

    Browsers mark what a click began with ``Sec-Fetch-User: ?1``, over redirects too (Fetch Metadata, section 2.4). Any
    click on that page counts, so that its absence tells more than its presence.
    """
    said = _hear(headers, own_origins)
    return _SITE in said and _is_of_another_site(said) and _one(said, _USER) != b"?1"


def is_in_frame(headers: Headers) -> bool:
    """Return whether a browser shows the answer in a frame, as far as it says where: no image and no prefetch is."""
    said = _hear(headers)
    return not _is_speculative(said) and (not _has_fetch_metadata(said) or _one(said, _DEST) in _FRAMES)


def plays_deferred(method: str, headers: Headers) -> bool:
    """Return whether a request may be answered with the redirect that an earlier fetch left behind.

    Only a GET that puts a document of this site in front of the user: a frame or a prefetch would use up the one
    redirect unseen, and a link on another site must not be what starts it.
    """
    said = _hear(headers)
    if method != "GET" or any(name in said for name in _SCRIPTS) or _kind_of(method, said) is not Client.NAVIGATION:
        return False
    if _has_fetch_metadata(said):
        return _SITE in said and not _is_of_another_site(said)
    return _takes(said, b"text/html")


def comes_from_own_page(headers: Headers) -> bool:
    """Return whether a page of this origin opened this document, and no other origin had a part in it.

    A browser that comes back from the provider says otherwise (Fetch Metadata, section 2.3: the whole chain of
    redirects counts). What a service worker passes on says nothing, because its site is always the worker's own.
    """
    said = _hear(headers)
    return (_one(said, _MODE), _one(said, _DEST), _one(said, _SITE)) == (b"navigate", b"document", b"same-origin")


def _by_older_signs(method: str, said: _Said) -> Client:
    """Decide without Sec-Fetch headers: a browser that is old or on plain http, or none at all."""
    if _is_of_another_site(said):
        return Client.FOREIGN
    if script := _by_script(method, said):
        return script
    if _takes(said, b"text/html") and not _is_xhr(said):
        return Client.NAVIGATION
    # fetch() and XMLHttpRequest ask for */* or JSON, and leave one of these; curl and API clients leave none, and
    # follow a redirect or print it.
    by_browser = any(name in said for name in (b"origin", b"referer", b"x-requested-with"))
    return Client.FETCH if by_browser else Client.NAVIGATION


def _by_script(method: str, said: _Said) -> Client | None:
    """Name the library that asks, by the header that it sets on its own requests."""
    if _one(said, b"hx-request") == b"true":
        return Client.HTMX
    if _one(said, b"x-inertia") == b"true":
        return Client.INERTIA
    if _takes(said, b"text/vnd.turbo-stream.html"):
        return Client.TURBO
    # Turbo 8 marks whatever it fetches, also for scripts that want JSON; Turbo 7 does not, and its visits are fetches.
    if method == "GET" and b"x-turbo-request-id" in said and _takes(said, b"text/html"):
        return Client.TURBO_VISIT
    return None


def _through_service_worker(method: str, said: _Said) -> bool:
    """Return whether a service worker passed on a navigation, by ``respondWith(fetch(event.request))``.

    The destination becomes empty and the site the worker's own. In Chromium and WebKit the mode stays ``navigate``. In
    Firefox, and in all of them once the worker gives ``fetch`` an init, it becomes ``same-origin`` (Fetch, Request
    constructor); a page's own fetch may say that too, but only a navigation asks for HTML and XHTML and has no mark of
    a script. A frame on such a page looks the same; an installed app whose every page comes this way is the likelier.
    """
    if _one(said, _DEST) != b"empty" or _one(said, _SITE) != b"same-origin":
        return False
    if _one(said, _MODE) == b"navigate":
        return True
    page = _takes(said, b"text/html") and _takes(said, b"application/xhtml+xml")
    by_script = any(name in said for name in _SCRIPTS) or _by_script(method, said) is not None or _is_xhr(said)
    return _one(said, _MODE) == b"same-origin" and page and not by_script


def _refers_elsewhere(said: _Said) -> bool:
    """Return whether the page that a request came from is not of the Origin that it names.

    A worker's Origin is its own, whoever sent the form that it passes on; the Referer is still the sender's in Firefox.
    """
    origin, referer = _one(said, b"origin"), _one(said, b"referer")
    return bool(origin and referer) and not referer.startswith(origin + b"/")


def _is_subresource(mode: bytes, dest: bytes) -> bool:
    """Tell images, scripts, workers, sockets from what a script fetches itself, whose destination is empty.

    ``no-cors`` with an empty destination is ``sendBeacon()`` or a plain fetch of our own page; without a destination it
    is anything.
    """
    if mode == b"websocket" or (mode == b"no-cors" and dest != b"empty"):
        return True
    return dest not in (b"", b"empty", b"document") and dest not in _FRAMES


def _is_of_another_site(said: _Said) -> bool:
    """Return whether another site sent this: the browser says so, or Origin and Host leave no doubt.

    An Origin of the application's own outranks Sec-Fetch-Site: no page of another origin can send it, while WebKitGTK
    says ``cross-site`` of the application's own form with ``target=_blank``.

    Without Sec-Fetch-Site doubt is common: proxies rewrite Host to ``backend:8000`` or an address, ``Origin: null`` is
    also what a form under ``Referrer-Policy: no-referrer`` sends, and ``app.example.com`` and ``www.example.com`` are
    one site. So only two dotted names count, with different last two labels.
    """
    if _OWN in said:
        return False
    if _SITE in said:
        return not _OUR_SITES.issuperset(said[_SITE])
    origin = _DOTTED_NAME.fullmatch(_one(said, b"origin"))
    host = _DOTTED_NAME.fullmatch(_one(said, b"host"))
    return origin is not None and host is not None and origin[1] != host[1]


def _is_xhr(said: _Said) -> bool:
    """Tell a script that sets X-Requested-With from an Android WebView, whose value is its app's dotted name."""
    return any(b"." not in value for value in said.get(b"x-requested-with", ()))


def _is_speculative(said: _Said) -> bool:
    return any(_SPECULATIVE.search(value) for name in _PURPOSES for value in said.get(name, ()))


def _has_fetch_metadata(said: _Said) -> bool:
    return _MODE in said or _DEST in said or _SITE in said


def _takes(said: _Said, media_type: bytes) -> bool:
    accepted = b",".join(said.get(b"accept", ())).split(b",")
    return any(entry.partition(b";")[0].strip() == media_type for entry in accepted)


def _hear(headers: Headers, own_origins: Collection[bytes] = ()) -> _Said:
    """Collect what the headers say that matter here, in lower case, and whether the Origin is one of our own."""
    said: _Said = {}
    for name, value in headers:
        lower = name.lower()
        if lower in _HEARD:
            said.setdefault(lower, []).append(value.strip().lower())
    if _one(said, b"origin") in own_origins:
        said[_OWN] = []
    return said


def _one(said: _Said, name: bytes) -> bytes:
    """Return what a header says, and nothing if it is missing or says two things."""
    values = set(said.get(name, ()))
    return values.pop() if len(values) == 1 else b""
