"""Which client is asking: one kind for any headers, and a navigation only where the browser says so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_rp_logout.negotiation.request_kind import (
    RequestKind,
    comes_from_own_page,
    is_in_frame,
    is_prefetch,
    is_unseen,
    is_without_click,
    kind_of,
    may_be_cross_site,
    may_finish_deferred,
)

HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
STREAM = "text/vnd.turbo-stream.html, text/html, application/xhtml+xml"
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
OURS = ["same-origin", "same-site", "none"]
FRAMES = ["iframe", "frame", "fencedframe", "embed", "object"]
SUBRESOURCES = [
    "audio", "audioworklet", "font", "image", "json", "manifest", "paintworklet", "report", "script", "serviceworker",
    "sharedworker", "style", "track", "video", "webidentity", "worker", "xslt", "something-new",
]  # fmt: skip

Pairs = list[tuple[bytes, bytes]]


def headers(**values: str) -> Pairs:
    return [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in values.items()]


def fetched(site: str, mode: str, dest: str, **more: str) -> Pairs:
    """Give the headers of a browser that sends Sec-Fetch."""
    return headers(sec_fetch_site=site, sec_fetch_mode=mode, sec_fetch_dest=dest, host="app.example.com", **more)


# With Sec-Fetch headers, as Chromium 120 and newer, Firefox 90 and newer, and Safari 16.4 and newer send them.


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("site", [*OURS, "cross-site"])
def test_a_top_level_document_is_a_navigation_unless_another_site_posted_a_form(method: str, site: str) -> None:
    """A link is the user's click; a form elsewhere may have posted itself, SameSite=None cookies and all."""
    forged = site == "cross-site" and method not in ("GET", "HEAD")
    expected = RequestKind.CROSS_SITE if forged else RequestKind.NAVIGATION
    assert kind_of(method, fetched(site, "navigate", "document", accept=HTML)) is expected


def test_a_navigation_that_a_service_worker_passes_on_is_a_navigation() -> None:
    """respondWith(fetch(event.request)) leaves the mode and empties the destination (seen in Chromium)."""
    passed_on = fetched("same-origin", "navigate", "empty", accept=HTML)
    assert kind_of("POST", passed_on) is RequestKind.NAVIGATION
    assert may_finish_deferred("GET", passed_on)
    assert kind_of("POST", fetched("cross-site", "navigate", "empty", accept=HTML)) is RequestKind.CROSS_SITE
    assert kind_of("POST", fetched("same-site", "navigate", "empty", accept=HTML)) is RequestKind.FETCH


WORKER = {"origin": "https://app.example.com", "referer": "https://app.example.com/app", "accept": HTML}


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_navigation_that_a_service_worker_makes_anew_is_a_navigation(method: str) -> None:
    """Firefox does with any, others where the worker gives fetch() an init: the mode is same-origin (seen in both)."""
    passed_on = fetched("same-origin", "same-origin", "empty", **WORKER)
    assert kind_of(method, passed_on) is RequestKind.NAVIGATION
    assert may_finish_deferred(method, passed_on) is (method == "GET")


@pytest.mark.parametrize(
    "other",
    [
        {"accept": "*/*"},
        {"accept": "text/html"},
        {"accept": "application/xhtml+xml"},
        {"accept": STREAM},
        {"hx_request": "true"},
        {"x_inertia": "true"},
        {"x_turbo_request_id": "1"},
        {"x_requested_with": "XMLHttpRequest"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_dest": "iframe"},
    ],
)
def test_a_script_that_asks_for_the_same_origin_only_is_no_navigation(other: dict[str, str]) -> None:
    """A library's mark, or an Accept without both of HTML and XHTML, is a page's own fetch."""
    said = {**WORKER, "sec_fetch_site": "same-origin", "sec_fetch_mode": "same-origin", "sec_fetch_dest": "empty"}
    assert kind_of("POST", headers(**said, host="app.example.com")) is RequestKind.NAVIGATION
    assert kind_of("POST", headers(**{**said, **other}, host="app.example.com")) is not RequestKind.NAVIGATION
    assert not may_finish_deferred("GET", headers(**{**said, **other}, host="app.example.com"))


def test_a_worker_passes_on_forms_of_other_sites_whose_referer_gives_them_away() -> None:
    """The Origin is the worker's own by then (seen in Firefox)."""
    for referer in ("https://evil.example/", "https://app.example.com.evil.example/", "https://app.example.co/"):
        said = fetched("same-origin", "same-origin", "empty", **{**WORKER, "referer": referer})
        assert kind_of("POST", said) is RequestKind.CROSS_SITE
        assert kind_of("GET", said) is RequestKind.NAVIGATION


@pytest.mark.parametrize("missing", ["origin", "referer"])
def test_a_form_that_a_worker_passes_on_is_not_suspected_for_what_it_leaves_out(missing: str) -> None:
    """A page may keep its Referer to itself, and a browser the Origin."""
    said = {name: value for name, value in WORKER.items() if name != missing}
    assert kind_of("POST", fetched("same-origin", "same-origin", "empty", **said)) is RequestKind.NAVIGATION


OWN = frozenset((b"https://app.example.com", b"https://public.example"))


@pytest.mark.parametrize("origin", ["https://app.example.com", "https://public.example", "HTTPS://Public.Example"])
def test_an_origin_of_our_own_outranks_what_the_browser_says_of_the_site(origin: str) -> None:
    """WebKitGTK says cross-site of an own form with target=_blank; no other page can send this Origin."""
    form = fetched("cross-site", "navigate", "document", accept=HTML, origin=origin)
    assert kind_of("POST", form) is RequestKind.CROSS_SITE
    assert kind_of("POST", form, OWN) is RequestKind.NAVIGATION
    script = fetched("cross-site", "cors", "empty", accept="*/*", origin=origin)
    assert kind_of("POST", script, OWN) is RequestKind.FETCH
    old = headers(accept=HTML, origin=origin, host="backend.internal.example")
    assert kind_of("POST", old, OWN) is RequestKind.NAVIGATION


@pytest.mark.parametrize(
    "origin",
    ["http://app.example.com", "https://app.example.com:8443", "https://evil.example", "null", "", "https://app"],
)
def test_any_other_origin_outranks_nothing(origin: str) -> None:
    """Another scheme or port is another origin."""
    form = fetched("cross-site", "navigate", "document", accept=HTML, origin=origin)
    assert kind_of("POST", form, OWN) is RequestKind.CROSS_SITE
    own_as_well = [*form, (b"origin", b"https://app.example.com")]
    assert kind_of("POST", own_as_well, OWN) is RequestKind.CROSS_SITE


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, False),  # no browser: one would send an Origin with a form
        ({"origin": "https://app.example.com"}, False),
        ({"origin": "null"}, True),
        ({"origin": "https://app.example.com:8443"}, True),
        ({"origin": "http://10.0.0.7"}, True),
        ({"sec_fetch_site": "same-origin"}, False),
        ({"sec_fetch_site": "none"}, False),
        ({"sec_fetch_site": "cross-site"}, True),
        ({"sec_fetch_site": "cross-site", "origin": "https://app.example.com"}, False),
    ],
)
def test_who_may_have_sent_a_form_that_brings_no_session(said: dict[str, str], expected: bool) -> None:
    assert may_be_cross_site("POST", headers(**said, host="app.example.com"), OWN) is expected


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_link_or_image_without_fetch_metadata_may_be_of_another_site(method: str) -> None:
    """Browsers send no Origin with a GET."""
    assert may_be_cross_site(method, headers(accept=HTML, host="app.example.com"), OWN)
    assert not may_be_cross_site(method, fetched("same-origin", "navigate", "document"), OWN)


def test_what_a_worker_passes_on_may_be_of_another_site() -> None:
    passed_on = fetched("same-origin", "same-origin", "empty", **WORKER)
    assert may_be_cross_site("POST", passed_on, OWN)
    assert not may_be_cross_site("POST", fetched("same-origin", "cors", "empty", **WORKER), OWN)


def test_a_page_of_another_site_that_leaves_without_a_click_is_unasked() -> None:
    """Browsers mark what a click began, and nothing else."""
    link = fetched("cross-site", "navigate", "document", accept=HTML)
    assert is_without_click(link)
    assert not is_without_click([*link, (b"sec-fetch-user", b"?1")])
    assert is_without_click([*link, (b"sec-fetch-user", b"?0")])
    for site in OURS:
        assert not is_without_click(fetched(site, "navigate", "document", accept=HTML))
    assert not is_without_click(headers(accept=HTML))  # a browser that says nothing
    assert not is_without_click([*link, (b"origin", b"https://app.example.com")], OWN)


@pytest.mark.parametrize("dest", FRAMES)
def test_a_frame_is_deferred_on_our_pages_and_foreign_on_others(dest: str) -> None:
    """A provider refuses to be framed, and another site's frame has no say."""
    for site in OURS:
        assert kind_of("GET", fetched(site, "navigate", dest, accept=HTML)) is RequestKind.FETCH
    assert kind_of("GET", fetched("cross-site", "navigate", dest, accept=HTML)) is RequestKind.CROSS_SITE


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        *[(fetched("cross-site", "navigate", dest), True) for dest in FRAMES],
        *[(fetched("cross-site", "navigate", dest), False) for dest in ("document", "empty", "image", "")],
        (headers(sec_fetch_mode="navigate"), False),
        (headers(), True),  # a browser that does not say where
        (headers(purpose="prefetch"), False),
        (fetched("cross-site", "navigate", "iframe", sec_purpose="prefetch"), False),
    ],
)
def test_an_answer_is_shown_in_a_frame_if_the_browser_says_so_or_does_not_say(said: Pairs, expected: bool) -> None:
    assert is_in_frame(said) is expected


@pytest.mark.parametrize(
    ("site", "mode", "dest", "expected"),
    [
        ("same-origin", "navigate", "document", True),
        ("same-site", "navigate", "document", False),
        ("none", "navigate", "document", False),
        ("cross-site", "navigate", "document", False),
        ("same-origin", "same-origin", "document", False),
        ("same-origin", "navigate", "empty", False),
        ("same-origin", "navigate", "iframe", False),
    ],
)
def test_a_document_is_opened_by_an_own_page_only_if_the_browser_says_all_of_it(
    site: str, mode: str, dest: str, expected: bool
) -> None:
    said = fetched(site, mode, dest)
    assert comes_from_own_page(said) is expected
    for left_out in (b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest"):
        assert not comes_from_own_page([pair for pair in said if pair[0] != left_out])


@pytest.mark.parametrize("mode", ["cors", "same-origin", "no-cors"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_fetch_is_deferred_on_our_pages_and_foreign_on_others(mode: str, method: str) -> None:
    """A redirect to the provider would be blocked; fetch() and sendBeacon() of our own page are deferred."""
    for site in ("same-origin", "same-site"):
        assert kind_of(method, fetched(site, mode, "empty", accept="*/*")) is RequestKind.FETCH
    assert kind_of(method, fetched("cross-site", mode, "empty", accept="*/*")) is RequestKind.CROSS_SITE


@pytest.mark.parametrize("dest", SUBRESOURCES)
@pytest.mark.parametrize("mode", ["no-cors", "cors", "same-origin"])
def test_a_subresource_is_foreign_even_on_our_own_pages(dest: str, mode: str) -> None:
    """An image in a comment must not take anybody to the provider."""
    assert kind_of("GET", fetched("same-origin", mode, dest)) is RequestKind.CROSS_SITE


def test_a_no_cors_request_for_nobody_knows_what_is_foreign() -> None:
    """Without a destination it may be an image."""
    assert kind_of("GET", headers(sec_fetch_mode="no-cors", sec_fetch_site="same-origin")) is RequestKind.CROSS_SITE


def test_a_websocket_handshake_is_foreign() -> None:
    """Nothing can be answered to it that a user would see."""
    for dest in ("empty", "websocket"):
        assert kind_of("GET", fetched("same-origin", "websocket", dest)) is RequestKind.CROSS_SITE


@pytest.mark.parametrize(
    ("name", "value", "kind"), [("hx_request", "true", RequestKind.HTMX), ("x_inertia", "true", RequestKind.INERTIA)]
)
def test_htmx_and_inertia_are_known_by_their_header(name: str, value: str, kind: RequestKind) -> None:
    """They navigate by themselves when told in their own way, boosted links included."""
    assert kind_of("POST", fetched("same-origin", "cors", "empty", **{name: value})) is kind
    assert kind_of("POST", fetched("same-origin", "cors", "empty", hx_boosted="true", **{name: value})) is kind
    assert kind_of("POST", headers(accept="*/*", origin="http://a", host="a", **{name: value})) is kind
    assert kind_of("POST", fetched("same-origin", "cors", "empty", **{name: "false"})) is RequestKind.FETCH


def test_turbo_submissions_and_visits_are_two_kinds() -> None:
    """A submission takes a stream, a visit does not, and what scripts fetch through Turbo is a fetch."""
    assert kind_of("POST", fetched("same-origin", "cors", "empty", accept=STREAM)) is RequestKind.TURBO  # 7
    assert (
        kind_of("POST", fetched("same-origin", "cors", "empty", accept=STREAM, x_turbo_request_id="1"))
        is RequestKind.TURBO
    )
    visit = {"accept": "text/html, application/xhtml+xml", "x_turbo_request_id": "1"}
    assert kind_of("GET", fetched("same-origin", "cors", "empty", **visit)) is RequestKind.TURBO_VISIT
    assert kind_of("POST", fetched("same-origin", "cors", "empty", **visit)) is RequestKind.FETCH
    assert kind_of("GET", headers(**visit)) is RequestKind.TURBO_VISIT  # on plain http
    assert kind_of("POST", headers(**visit)) is not RequestKind.TURBO_VISIT
    visit["accept"] = "application/json"
    assert kind_of("GET", fetched("same-origin", "cors", "empty", **visit)) is RequestKind.FETCH


@pytest.mark.parametrize("marks", [{"hx_request": "true"}, {"x_inertia": "true"}, {"accept": STREAM}])
def test_a_library_on_another_site_is_foreign(marks: dict[str, str]) -> None:
    """Its answer would send another site's page to the provider."""
    assert kind_of("POST", fetched("cross-site", "cors", "empty", **marks)) is RequestKind.CROSS_SITE
    foreign = headers(origin="https://evil.example", host="app.example.com", **marks)
    assert kind_of("POST", foreign) is RequestKind.CROSS_SITE


def test_the_browser_is_believed_before_a_script() -> None:
    """No script can set Sec-Fetch headers, so a script's header on a navigation is somebody's mistake."""
    assert kind_of("POST", fetched("same-origin", "navigate", "document", hx_request="true")) is RequestKind.NAVIGATION
    assert kind_of("POST", fetched("same-origin", "navigate", "iframe", hx_request="true")) is RequestKind.FETCH


# Without Sec-Fetch headers: plain http off loopback, Safari before 16.4, curl.


def test_without_fetch_metadata_a_page_is_known_by_accept() -> None:
    """Browsers ask for text/html when they navigate, also by a form, which sends Origin and Referer."""
    assert kind_of("GET", headers(accept=HTML)) is RequestKind.NAVIGATION
    assert (
        kind_of("POST", headers(accept=HTML, origin="http://a", referer="http://a/", host="a"))
        is RequestKind.NAVIGATION
    )
    assert kind_of("POST", headers(accept="*/*, TEXT/HTML ; q=0.1", referer="http://a/")) is RequestKind.NAVIGATION


@pytest.mark.parametrize(
    "sign", [{"origin": "http://app.example.com"}, {"referer": "http://a/"}, {"x_requested_with": "x"}]
)
@pytest.mark.parametrize(
    "accept", ["*/*", "application/json, text/plain, */*", "", "application/xhtml+xml", "text/htmlx"]
)
def test_without_fetch_metadata_a_script_is_known_by_what_browsers_add(sign: dict[str, str], accept: str) -> None:
    """fetch() does not ask for text/html, and leaves Origin or Referer."""
    assert kind_of("POST", headers(accept=accept, host="app.example.com", **sign)) is RequestKind.FETCH


def test_without_any_sign_of_a_browser_a_redirect_is_understood() -> None:
    """curl and API clients print it or follow it."""
    assert kind_of("POST", []) is RequestKind.NAVIGATION
    assert kind_of("GET", headers(accept="*/*", user_agent="curl/8", host="app.example.com")) is RequestKind.NAVIGATION


def test_an_xhr_for_html_is_a_fetch_but_a_webview_navigates() -> None:
    """jQuery asks for text/html too; Android's WebView sends its app's name in the same header."""
    assert (
        kind_of("POST", headers(accept="text/html, */*; q=0.01", x_requested_with="XMLHttpRequest"))
        is RequestKind.FETCH
    )
    assert kind_of("POST", headers(accept=HTML, x_requested_with="com.example.app")) is RequestKind.NAVIGATION


@pytest.mark.parametrize(
    ("origin", "host", "kind"),
    [
        ("https://evil.example", "app.example.com", RequestKind.CROSS_SITE),
        ("https://example.com.evil.example", "example.com", RequestKind.CROSS_SITE),
        ("https://evil.example:8443", "app.example.com:8000", RequestKind.CROSS_SITE),
        ("https://app.example.com", "app.example.com", RequestKind.NAVIGATION),
        ("https://WWW.Example.com:8443", "app.example.com", RequestKind.NAVIGATION),
        ("https://app.example.com", "backend:8000", RequestKind.NAVIGATION),
        ("https://app.example.com", "10.0.0.7:8000", RequestKind.NAVIGATION),
        ("http://localhost:5173", "127.0.0.1:8000", RequestKind.NAVIGATION),
        ("http://192.0.2.1", "app.example.com", RequestKind.NAVIGATION),
        ("null", "app.example.com", RequestKind.NAVIGATION),
        ("https://evil.example", "", RequestKind.NAVIGATION),
    ],
)
def test_without_fetch_metadata_another_site_is_one_beyond_doubt(origin: str, host: str, kind: RequestKind) -> None:
    """Proxies rewrite Host, and Origin may be null on our own form, so doubt is no proof."""
    assert kind_of("POST", headers(accept=HTML, origin=origin, host=host)) is kind


def test_with_fetch_metadata_the_host_is_not_compared() -> None:
    """Behind a proxy Host may be anything; Sec-Fetch-Site is the browser's own comparison."""
    assert kind_of("POST", fetched("same-origin", "cors", "empty", origin="https://evil.example")) is RequestKind.FETCH


# Prefetch.

PREFETCHES = [
    {"sec_purpose": "prefetch"},
    {"sec_purpose": "prefetch;prerender"},
    {"sec_purpose": "prefetch;anonymous-client-ip"},
    {"purpose": "prefetch"},
    {"purpose": "Prefetch"},
    {"x_moz": "prefetch"},
    {"x_purpose": "preview"},
    {"x_sec_purpose": "prefetch", "x_turbo_request_id": "1"},
    {"purpose": "prefetch", "x_inertia": "true"},
]


@pytest.mark.parametrize("marks", PREFETCHES)
def test_a_prefetch_is_known_by_each_header_that_says_so(marks: dict[str, str]) -> None:
    """Browsers, Turbo and Inertia fetch what is hovered over."""
    said = fetched("same-origin", "navigate", "document", accept=HTML, **marks)
    assert is_prefetch(said)
    assert kind_of("GET", said) is kind_of("HEAD", said) is kind_of("GET", headers(**marks)) is RequestKind.PREFETCH
    assert kind_of("POST", said) is RequestKind.NAVIGATION
    assert not may_finish_deferred("GET", said)


@pytest.mark.parametrize("value", ["", "navigate", "prefetched", "noprefetch"])
def test_another_purpose_is_no_prefetch(value: str) -> None:
    """The word itself counts, not a part of it."""
    assert not is_prefetch(headers(purpose=value))
    assert not is_prefetch(headers(x_purpose_of="prefetch"))


# What plays a deferred logout.


@pytest.mark.parametrize("site", OURS)
def test_a_document_of_this_site_plays_a_deferred_logout(site: str) -> None:
    """A link, a reload, the address bar."""
    assert may_finish_deferred("GET", fetched(site, "navigate", "document"))


def test_without_fetch_metadata_a_page_plays_a_deferred_logout() -> None:
    """A GET for text/html by no script is a page as far as anybody can tell."""
    assert may_finish_deferred("GET", headers(accept=HTML, referer="http://a/"))
    assert may_finish_deferred("GET", headers(accept=HTML, x_requested_with="com.example.app"))


@pytest.mark.parametrize(
    "said",
    [
        fetched("cross-site", "navigate", "document"),
        headers(sec_fetch_mode="navigate", sec_fetch_dest="document"),
        headers(sec_fetch_mode="navigate", sec_fetch_site="none"),
        *(fetched("same-origin", "navigate", dest) for dest in FRAMES),
        *(fetched("same-origin", mode, "empty") for mode in ("cors", "no-cors", "same-origin", "websocket")),
        fetched("same-origin", "no-cors", "image"),
        fetched("same-origin", "cors", "document"),
        fetched("same-origin", "navigate", "document", hx_request="true"),
        headers(accept="*/*"),
        headers(),
        *(headers(accept=HTML, **{name: "1"}) for name in ("hx_request", "x_inertia", "x_turbo_request_id")),
        headers(accept=HTML, x_requested_with="XMLHttpRequest"),
    ],
)
def test_nothing_else_plays_it(said: Pairs) -> None:
    """A frame, a script or another site's link would use up the one redirect unseen or unasked."""
    assert not may_finish_deferred("GET", said)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "GET"])
def test_no_other_method_plays_it(method: str) -> None:
    """A form's answer is the app's business."""
    assert not may_finish_deferred(method, fetched("same-origin", "navigate", "document", accept=HTML))


# What the user does not see.


@pytest.mark.parametrize(
    "said",
    [
        *(fetched("cross-site", "no-cors", dest) for dest in ("image", "script", "style", "empty", "")),
        *(fetched("same-origin", mode, dest) for dest in SUBRESOURCES for mode in ("no-cors", "cors", "same-origin")),
        *(fetched(site, "navigate", dest) for dest in FRAMES for site in (*OURS, "cross-site")),
        fetched("cross-site", "navigate", "iframe", sec_fetch_user="?0"),
        fetched("none", "navigate", "document", sec_purpose="prefetch;prerender"),
        fetched("same-origin", "websocket", "empty"),
        headers(sec_fetch_mode="no-cors"),
        headers(x_purpose="preview"),
    ],
)
def test_a_subresource_a_prefetch_and_a_frame_without_a_click_are_unseen(said: Pairs) -> None:
    assert is_unseen("GET", said)
    assert is_unseen("HEAD", said)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        *(("GET", fetched(site, "navigate", "document")) for site in (*OURS, "cross-site")),  # back from the provider
        ("POST", fetched("cross-site", "navigate", "document")),  # the same, with response_mode=form_post
        *(("POST", fetched(site, "cors", "empty")) for site in (*OURS, "cross-site")),  # a page that sends the code
        ("POST", fetched("same-origin", "same-origin", "empty")),
        ("GET", fetched("same-origin", "navigate", "empty")),  # passed on by a service worker
        *(("GET", fetched("cross-site", "navigate", dest, sec_fetch_user="?1")) for dest in FRAMES),
        ("POST", fetched("same-origin", "cors", "empty", x_purpose="preview")),
        ("GET", headers(accept="image/avif,image/webp,*/*")),  # a browser that does not say
        ("GET", headers()),
        ("GET", headers(sec_fetch_mode="no-cors") + headers(sec_fetch_mode="navigate")),
    ],
)
def test_what_the_user_sees_or_a_script_reads_is_not_unseen(method: str, said: Pairs) -> None:
    assert not is_unseen(method, said)


# Headers twice, in odd spelling, or at random.


def test_a_header_that_contradicts_itself_takes_the_safer_kind() -> None:
    """No browser says two things; whoever put the second one in gains nothing."""
    for extra in (("sec_fetch_mode", "cors"), ("sec_fetch_dest", "iframe"), ("sec_fetch_dest", "empty")):
        said = fetched("same-origin", "navigate", "document", accept=HTML) + headers(**dict([extra]))
        assert kind_of("POST", said) is kind_of("POST", said[::-1]) is RequestKind.FETCH
        assert not may_finish_deferred("GET", said)
    said = fetched("same-origin", "cors", "empty") + headers(sec_fetch_site="cross-site")
    assert kind_of("POST", said) is kind_of("POST", said[::-1]) is RequestKind.CROSS_SITE
    said = fetched("same-origin", "cors", "empty", hx_request="true") + headers(hx_request="false")
    assert kind_of("POST", said) is RequestKind.FETCH
    assert not may_finish_deferred(
        "GET", fetched("none", "navigate", "document") + headers(sec_fetch_site="cross-site")
    )


def test_a_header_said_twice_alike_or_in_another_case_counts_once() -> None:
    """Proxies repeat lines, and names have no case."""
    said = [(b"Sec-Fetch-Mode", b" Navigate"), (b"SEC-FETCH-DEST", b"document"), (b"Sec-Fetch-Site", b"none")]
    assert kind_of("GET", said + said) is RequestKind.NAVIGATION
    assert may_finish_deferred("GET", said + said)


def test_what_a_client_accepts_may_be_said_in_several_lines() -> None:
    for lines in (["text/html", "*/*"], ["application/json", "text/html", "*/*"], ["*/*", "text/html"]):
        said = [(b"accept", line.encode()) for line in lines]
        assert kind_of("POST", [*said, (b"referer", b"http://a/")]) is RequestKind.NAVIGATION


def test_a_site_nobody_knows_is_another_site() -> None:
    """A value of the future is not trusted before it is understood."""
    assert kind_of("POST", fetched("near-site", "cors", "empty")) is RequestKind.CROSS_SITE


def said_by(**values: list[str]) -> st.SearchStrategy[Pairs]:
    """Draw each header now and then, sometimes twice, sometimes as noise, in any order."""
    one = [
        st.lists(st.sampled_from(choices).map(str.encode), max_size=1)
        | st.lists(st.sampled_from(choices).map(str.encode) | st.binary(), max_size=2)
        for choices in values.values()
    ]
    names = [name.replace("_", "-").encode() for name in values]
    pairs = st.tuples(*one).map(
        lambda drawn: [(name, value) for name, each in zip(names, drawn, strict=True) for value in each]
    )
    return pairs.flatmap(st.permutations)


HEADERS = said_by(
    sec_fetch_mode=["navigate", "cors", "no-cors", "websocket"],
    sec_fetch_dest=["document", "empty", "iframe", "image"],
    sec_fetch_site=[*OURS, "cross-site"],
    accept=[HTML, STREAM, "*/*"],
    origin=["https://evil.example", "https://app.example.com", "null"],
    referer=["https://app.example.com/"],
    host=["app.example.com", "backend:8000"],
    x_requested_with=["XMLHttpRequest", "com.example.app"],
    hx_request=["true"],
    x_inertia=["true"],
    x_turbo_request_id=["1"],
    sec_purpose=["prefetch"],
)
DOCUMENTS = said_by(
    sec_fetch_mode=["navigate"],
    sec_fetch_dest=["document"],
    sec_fetch_site=OURS,
    accept=[HTML, STREAM],
    origin=["https://evil.example", "https://app.example.com"],
    host=["app.example.com"],
)


def values_of(said: Pairs, name: bytes) -> set[bytes]:
    return {value.strip().lower() for key, value in said if key.lower() == name}


@given(method=st.sampled_from(METHODS) | st.text(), said=HEADERS)
def test_any_headers_give_exactly_one_kind(method: str, said: Pairs) -> None:
    """Whatever comes in is answered, and nothing is raised."""
    assert kind_of(method, iter(said)) in RequestKind
    assert is_prefetch(said) in (True, False)
    assert may_finish_deferred(method, said) in (True, False)


@given(method=st.sampled_from(METHODS), said=HEADERS | DOCUMENTS)
def test_a_navigation_is_one_only_under_the_stated_conditions(method: str, said: Pairs) -> None:
    """The browser says navigate and document, or says nothing and wants a page, or is no browser."""
    if kind_of(method, said) is not RequestKind.NAVIGATION:
        return
    mode, dest, site = (values_of(said, b"sec-fetch-" + name) for name in (b"mode", b"dest", b"site"))
    accepts = {part.split(b";")[0].strip() for value in values_of(said, b"accept") for part in value.split(b",")}
    by_browser = any(values_of(said, name) for name in (b"origin", b"referer", b"x-requested-with"))
    if mode == {b"same-origin"}:
        assert (dest, site) == ({b"empty"}, {b"same-origin"})
        assert {b"text/html", b"application/xhtml+xml"} <= accepts
    elif mode or dest or site:
        assert mode == {b"navigate"}
        assert dest == {b"document"} or (dest == {b"empty"} and site == {b"same-origin"})
    else:
        assert b"text/html" in accepts or not by_browser
        assert b"xmlhttprequest" not in values_of(said, b"x-requested-with")
        assert values_of(said, b"hx-request") != {b"true"}
        assert values_of(said, b"x-inertia") != {b"true"}


@given(method=st.sampled_from(METHODS), said=HEADERS)
def test_another_site_gets_no_answer_but_a_navigation(method: str, said: Pairs) -> None:
    """Whatever else the headers say, cross-site is a top-level document, a prefetch, or foreign."""
    said = [*said, (b"sec-fetch-site", b"cross-site")]
    assert kind_of(method, said) in (RequestKind.NAVIGATION, RequestKind.CROSS_SITE, RequestKind.PREFETCH)
    assert not may_finish_deferred(method, said)


@given(said=HEADERS | DOCUMENTS)
def test_what_plays_a_deferred_logout_is_a_navigation_and_no_prefetch(said: Pairs) -> None:
    """Both questions agree on what puts a document in front of the user."""
    if may_finish_deferred("GET", said):
        assert kind_of("GET", said) is RequestKind.NAVIGATION
        assert not is_prefetch(said)
