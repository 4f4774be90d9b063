"""What a request without a login can cost, in calls, records, bytes and lines: the table in SECURITY.md."""

from __future__ import annotations

import contextlib
import gc
import importlib
import inspect
import json
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from asgi_rp_logout import MemoryStore, OIDCProvider, RPLogoutMiddleware, options, store
from asgi_rp_logout.asgi.request import _base
from asgi_rp_logout.asgi.response import ResponseStart
from asgi_rp_logout.errors import LogoutTokenError, ProviderError
from asgi_rp_logout.logins import guarded_store, local_ends, registry, status_cache
from asgi_rp_logout.logout.deferred import is_login_response
from asgi_rp_logout.negotiation.json_body import MOST, JSONBody, may_hold_url
from asgi_rp_logout.negotiation.request_kind import comes_from_own_page, kind_of, may_be_cross_site, may_finish_deferred
from asgi_rp_logout.protocol.cookies import Cookie, CookieSet, is_deletion, parse_cookies
from asgi_rp_logout.protocol.front_channel import read_front_channel
from asgi_rp_logout.protocol.logout_token import parse_form
from asgi_rp_logout.protocol.return_target import local_reference
from asgi_rp_logout.protocol.token_request import codes_in
from tests.asgi import call, http_scope
from tests.places import INSIDE, OUTSIDE, ForeignStore, Site, destination, in_both_places, providers
from tests.test_registry import registry_of
from tests.test_strangers import KINDS, Batches, invented, send_cookies

TABLE = Path(__file__).parent.parent / "SECURITY.md"


def test_every_bound_in_the_table_has_a_test_that_exists() -> None:
    rows = re.findall(r"^\| [^|]+ \| [^|]+ \| (`test_[^|]+) \|$", TABLE.read_text(), re.MULTILINE)
    assert len(rows) >= 15
    for row in rows:
        for module, name in re.findall(r"`(test_\w+)::(test_\w+)`", row):
            assert inspect.isfunction(getattr(importlib.import_module(f"tests.{module}"), name, None)), (module, name)
        assert row.count("`") == 2 * len(re.findall(r"`test_\w+::test_\w+`", row)), row


def test_the_figures_of_what_is_kept_are_those_of_the_code() -> None:
    """How many further logouts it takes to make one forgotten, and how many wait for a store that is down."""
    text = " ".join(TABLE.read_text().split())
    limits, kept = local_ends.LIMITS, inspect.signature(MemoryStore).parameters["max_logins"].default
    for figure in (
        f"{limits[store.LOGIN]:,} ends of logins, {limits[store.ISSUED]:,} of issued cookies",
        f"and {limits[store.UNKNOWN]:,} of unknown ones",
        f"seen the app set, among the last {3 * registry._Shared().issued._size:,}",
        f"after `max_logins` ({kept:,}) further logouts",
        f"The first {store.DETAILED:,} records",
        f"after {store.DETAILED + 3 * store.GENERATION:,} further logouts with such cookies",
        f"after {store.DETAILED + 3 * store.GENERATION:,} further requests with an invented cookie",
    ):
        assert figure in text, figure


# Reading a request


SESSION = CookieSet([Cookie("session"), Cookie("_s")])


def headers_read(value: bytes) -> None:
    """Read a value as every header that decides something."""
    for name in (
        "sec-fetch-mode",
        "sec-fetch-site",
        "sec-purpose",
        "origin",
        "host",
        "accept",
        "referer",
        "hx-request",
    ):
        headers = [(name.encode(), value), (b"host", b"app.example.com"), (b"origin", b"https://app.example.com")]
        for read in (kind_of, may_be_cross_site, may_finish_deferred):
            read("POST", headers)
        comes_from_own_page(headers)


def session_cookies_taken_out(header: str) -> None:
    SESSION.without_any(header)
    SESSION.without(header, (SESSION.secrets(header) or [])[:1])


READERS: dict[str, Callable[[str], object]] = {
    "session cookies": SESSION.secrets,
    "session cookies to be taken out": session_cookies_taken_out,
    "all cookies": lambda text: parse_cookies([text]),
    "a bearer token": lambda text: SESSION.bearers("Bearer " + text),
    "other headers": lambda text: headers_read(text.encode()),
    "the query of a login's answer": lambda text: is_login_response({"query_string": text.encode()}),
    "a code in a query": lambda text: codes_in(text.encode()),
    "a front-channel query": lambda text: _refused(read_front_channel, text.encode()),
    "a form": lambda text: _refused(parse_form, text.encode(), "application/x-www-form-urlencoded"),
    "an address": lambda text: local_reference(text, own=()),
    "a line that sets a cookie": lambda text: (is_deletion(text.encode()), SESSION.issued([text.encode()])),
}
PIECES = (
    *("session=0123456789abcdef; ", "session=0123456789abcdef ", 'session="', "session=\\", "session.1=x;session.2=y;"),
    *("%73ession=", "session" + "0" * 100, "session" + " " * 100, "GMTsession", "_s_C", "__", "%", "%3", '"\\'),
    *(";", "; ", " ", "=", "a=1&", "&", ".", "-", "/", "//", "/..", "prefetch ", "a.", ":", ",", "0", "\t", "<", "x"),
)


def _refused(read: Callable[..., object], *args: object) -> None:
    with contextlib.suppress(LogoutTokenError):
        read(*args)


@pytest.mark.parametrize("reader", READERS)
def test_reading_takes_time_that_is_linear_in_the_length(reader: str) -> None:
    """Eight times as much may take thrice eight times as long, for a machine that is busy; not sixty-four times."""
    read = READERS[reader]

    def took(text: str) -> float:
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            read(text)
            best = min(best, time.process_time() - began)
        return best

    for piece in PIECES:
        few, many = (piece * (size // len(piece)) for size in (8_000, 64_000))
        assert took(many) < max(24 * took(few), 0.02), piece


# What is asked of the store


@in_both_places
async def test_any_request_is_looked_up_in_one_batch_of_a_few_keys(place: str) -> None:
    """Sixteen cookies, the companion with its four keys, and a bearer token that may be read in three ways."""
    batches = Batches()
    site = Site(place, store=batches, freshness=0)
    browser = await site.signed_in()
    if place == OUTSIDE:
        handle = "x" * 43 + ".1700000000.1700000000000." + "s" * 22 + "." + "u" * 22
        browser.cookies["rp_login"] = handle
    signature = secrets.token_urlsafe(32)
    words = " ".join(f"{secrets.token_urlsafe(60)}.{number}.{signature}" for number in range(50))
    for cookies in (invented(16), "; ".join(f"session.{n}={secrets.token_hex(8)}" for n in range(32)), invented(40)):
        batches.read.clear()
        header = "; ".join(
            [cookies, *(f"{name}={value}" for name, value in browser.cookies.items() if name != "session")]
        )
        await send_cookies(site, header, authorization=f"Bearer {words}")
        assert len(batches.read) <= 1
        assert sum(map(len, batches.read)) <= 16 + 4 + 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cookies", [0, 1, 16, 2400])
async def test_a_logout_by_nobody_known_asks_the_store_a_few_times(kind: str, cookies: int) -> None:
    foreign = ForeignStore()
    site = Site(OUTSIDE, store=foreign, remembers=False, providers=providers()[:1], callback_path="/back")
    foreign.calls.clear()
    await send_cookies(site, invented(cookies), "/logout", "POST", **KINDS[kind])
    assert foreign.reads <= 1
    assert foreign.calls["delete"] == 0


@pytest.mark.parametrize("later", ["invented", "~" + "0" * 43, "~~" + "0" * 43, "~" * 60_000, "x" * 60_000])
async def test_an_invented_cookie_of_a_waiting_logout_asks_once_and_writes_nothing(later: str) -> None:
    foreign = ForeignStore()
    site = Site(OUTSIDE, store=foreign, freshness=0)
    for path in ("/", "/?code=x&state=y", "/back?state=z"):
        for headers in (KINDS["form"], {**KINDS["form"], "sec-fetch-site": "cross-site"}):
            foreign.calls.clear()
            await send_cookies(site, f"rp_later={later}", path, **headers)
            assert foreign.reads <= 2
            assert foreign.reads + sum(foreign.calls.values()) == 2 * foreign.reads  # nothing but reads
    assert foreign.names() == []


async def test_a_visit_to_the_callback_reads_one_record_and_writes_none() -> None:
    foreign = ForeignStore()
    site = Site(OUTSIDE, store=foreign, callback_path="/back")
    states = ["", "state=x", "state=x&state=y", "state=" + "x" * 60_000, "&" * 60_000, "state=x&" * 1000]
    for query in states:
        for cookie in ("", "rp_return=x", "rp_return=~" + "0" * 43 + ".x", "rp_return=" + "x" * 50_000):
            foreign.calls.clear()
            answer = await send_cookies(site, cookie, f"/back?{query}")
            assert (answer.status, answer.header("location"), answer.all("set-cookie")) == (303, "/", [])
            assert sum(foreign.calls.values()) == foreign.reads <= 1


async def test_the_frame_of_an_invented_session_reads_one_record_and_writes_none() -> None:
    foreign = ForeignStore()
    site = Site(OUTSIDE, store=foreign, frontchannel_path="/frame")
    for query in ("iss=https://a.example&sid=invented", "iss=https://c.example&sid=x", "sid=x", "sid=" + "x" * 60_000):
        for method in ("GET", "POST"):
            foreign.calls.clear()
            answer = await call(
                site.app, http_scope(f"/frame?{query}", method, {"cookie": invented(16)}), b"x" * 100_000
            )
            assert sum(foreign.calls.values()) == foreign.reads <= 1
            assert len(answer.body) < 100
            assert sum(map(len, [part for pair in answer.headers for part in pair])) < 500


# What is written


def echoing(**options: Any) -> RPLogoutMiddleware:
    """Give an application whose logout leads to wherever its query says, on its own origin."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope)
        answer: Response = PlainTextResponse("hello")
        if scope["path"] == "/logout":
            answer = RedirectResponse(request.query_params.get("next", "/bye"), 303)
        await answer(scope, receive, send)

    return RPLogoutMiddleware(app, **{"providers": providers()[:1], "freshness": 0, **options})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cookie", ["session=0123456789abcdef", "session=short"])
@pytest.mark.parametrize("callback", [None, "/back"])
async def test_a_long_return_target_makes_no_anonymous_record_longer(
    kind: str, cookie: str, callback: str | None
) -> None:
    foreign = ForeignStore()
    app = echoing(store=foreign, callback_path=callback)
    await call(app, http_scope("/logout?next=/" + "a" * 1000, "POST", {"cookie": cookie, **KINDS[kind]}))
    sizes = [len(json.dumps(await foreign.inner.get(name))) for name in foreign.names()]
    assert len(sizes) <= 1
    assert all(size < 300 for size in sizes), sizes


@pytest.mark.parametrize("callback", [None, "/back"])
@pytest.mark.parametrize("cookie", ["session=0123456789abcdef", "session=short"])
async def test_an_anonymous_logout_that_is_played_writes_a_few_small_records(cookie: str, callback: str | None) -> None:
    foreign = ForeignStore()
    app = echoing(store=foreign, callback_path=callback)
    answer = await call(app, http_scope("/logout", "POST", {"cookie": cookie, **KINDS["fetch"]}))
    later = answer.cookies()["rp_later"]
    for number in range(20):
        page = http_scope(f"/?{number}={'x' * 1000}", "GET", {"cookie": f"rp_later={later}", **KINDS["form"]})
        await call(app, page)
    names = foreign.names()
    assert len(names) <= 1 + 5
    assert all([len(json.dumps(await foreign.inner.get(name))) < 400 for name in names])


async def test_what_strangers_leave_pushes_out_no_waiting_logout_of_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their waiting logouts, and where they want to go afterwards, have places of their own in memory."""
    monkeypatch.setattr(store, "DETAILED", 20)
    site = Site(INSIDE, store=MemoryStore(30), callback_path="/back", providers=providers()[:1])
    browser, leaving = await site.signed_in(), await site.signed_in(sid="s2")
    await browser.post("/logout", **{name.replace("-", "_"): value for name, value in KINDS["fetch"].items()})
    _, query = destination(await leaving.post("/logout"))
    for kind in ("fetch", "form"):
        for number in range(100):
            await send_cookies(site, f"session=short{number}", "/logout", "POST", **KINDS[kind])
    page = {name.replace("-", "_"): value for name, value in KINDS["form"].items()}
    answer = await browser.get("/", **page)
    assert "id_token_hint=" in (answer.header("location") or "")
    assert (await leaving.get(f"/back?state={query['state']}")).header("location") == "/bye"
    assert all(len(site.store.entries.get(f"{kind}:unknown", ())) <= 20 for kind in ("deferred", "return_trip"))
    assert len(site.store) <= 60


# What stays in memory


async def test_ends_that_no_verdict_can_be_older_than_are_few_and_none_is_overlooked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a long `freshness` and many ends within it, older statuses are looked up again instead."""
    monkeypatch.setattr(status_cache, "FRESH", 50)
    site = Site(OUTSIDE, store=ForeignStore(), freshness=3600)
    ending, other = await site.signed_in(), await site.signed_in(user="bob", sid="s2")
    thief = ending.copy()
    assert [await site.who(one) for one in (thief.copy(), other)] == ["alice", "bob"]
    await ending.post("/logout")
    for _ in range(200):
        await send_cookies(site, invented(1), "/logout", "POST")
    assert len(registry_of(site)._recent.keys) <= 51
    assert [await site.who(one) for one in (thief, other)] == ["anonymous", "bob"]


async def test_nothing_that_is_kept_beside_the_store_grows_with_requests() -> None:
    """Names of our own cookies, options, warnings that were logged, look-ups that are not answered yet."""
    site = Site(OUTSIDE, store=ForeignStore(), freshness=1)
    await site.signed_in()
    gc.collect()  # of what earlier tests have left
    made = len(options._CONFIGURED), len(registry._STATES), len(guarded_store._STATES)
    for number in range(600):
        headers = {"cookie": invented(1), "host": f"{number}.example.com"}
        path = f"/mount{number}/logout?{number}"
        await call(site.app, http_scope(path, "POST", headers, root_path=f"/mount{number}"))
    book = registry_of(site)
    dispatcher: Any = site.app._dispatcher  # type: ignore[attr-defined]
    assert len(dispatcher.services.recogniser._own) <= 256
    assert len(dispatcher.services.options.notices.said) <= 100
    assert len(dispatcher.services.options.notices.limiter._logged) < 10
    assert book._asking == {}
    assert len(book._shared.ties) <= registry.TIES
    assert (len(options._CONFIGURED), len(registry._STATES), len(guarded_store._STATES)) == made


async def test_a_host_longer_than_any_is_unknown_and_not_kept() -> None:
    _base.cache_clear()
    app = echoing()
    for number in range(10):
        host = f"{number}.{'x' * 60_000}.example.com"
        await call(app, http_scope("/logout", "POST", {"cookie": "session=0123456789abcdef", "host": host}))
    assert _base.cache_info().currsize <= 1


def test_of_an_answer_in_json_no_more_is_held_back_than_is_looked_at() -> None:
    def start(length: int | None) -> ResponseStart:
        sizes = [(b"content-length", str(length).encode())] if length is not None else []
        return ResponseStart.of(200, [(b"content-type", b"application/json"), *sizes])

    assert not may_hold_url(start(MOST + 1))
    for length in (None, MOST):
        assert may_hold_url(start(length))
        peek, held = JSONBody(start(length)), 0
        while not peek.add({"type": "http.response.body", "body": b"[" * 1000, "more_body": True}):
            held += 1000
        assert held <= MOST
        assert peek.urls() == []


# What goes out, and what is logged


@pytest.mark.parametrize("refused", ["address", "hook", "source"])
async def test_a_thousand_anonymous_logouts_that_fail_are_a_few_lines_in_the_log(refused: str, log: Any) -> None:
    def fails(*args: Any) -> Any:
        raise OSError("password=hunter2")

    options: dict[str, dict[str, Any]] = {
        "address": {"providers": lambda: fails()},
        "hook": {"on_logout": fails},
        "source": {"login_source": fails},
    }
    app, began = echoing(**options[refused]), time.monotonic()
    for _ in range(300):
        await call(app, http_scope("/logout", "POST", {"cookie": invented(1)}))
    assert 1 <= len(log()) <= 2 * (2 + time.monotonic() - began)


async def test_a_click_that_is_sent_again_and_again_is_logged_once_a_second(log: Any) -> None:
    """Who has been logged out knows the cookies with which the next request is a second click."""

    def fails() -> Any:
        raise OSError("no list")

    site, began = Site(INSIDE, providers=fails, freshness=0), time.monotonic()
    browser = await site.signed_in()
    thief = browser.copy()
    await browser.post("/logout")
    for _ in range(100):
        await thief.copy().post("/logout")
    assert 1 <= len(log()) <= 3 + time.monotonic() - began


async def test_anonymous_logouts_fetch_a_document_that_fails_once_in_half_a_minute(monkeypatch: Any) -> None:
    fetched: list[str] = []

    async def fetch(url: str, **options: Any) -> Any:
        fetched.append(url)
        raise ProviderError("down", code="fetch_failed")

    monkeypatch.setattr("asgi_rp_logout.providers.oidc.fetch_json", fetch)
    app = echoing(providers=[OIDCProvider("https://down.example", client_id="rp")])
    for _ in range(100):
        await call(app, http_scope("/logout", "POST", {"cookie": invented(1)}))
    assert len(fetched) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_answer_grows_by_three_kilobytes_at_most_whatever_the_request_names(method: str) -> None:
    """Deletions of two kilobytes, a cookie or two of our own, and a few fixed headers."""
    app = echoing(session_cookie=("session", "sid", "token"), clear_cookies=("csrf",), callback_path="/back")
    names = [
        f"{prefix}{name}{end}"
        for prefix in ("", "__Host-")
        for name in ("session", "sid", "csrf")
        for end in ("", ".1")
    ]
    many = "; ".join(f"{name}-{number}={secrets.token_hex(8)}" for name in names for number in range(100))
    for cookies in (many[:60_000], invented(16), "; ".join(f"{name}={secrets.token_hex(8)}" for name in names)):
        for kind in KINDS.values():
            answer = await call(
                app, http_scope("/logout", method, {"cookie": cookies, "host": "app.example.com", **kind})
            )
            assert sum(len(name) + len(value) + 4 for name, value in answer.headers) < 3 * 1024
            assert len(answer.body) < 3 * 1024


async def test_a_websocket_of_a_stranger_adds_no_task_and_nothing_to_watch() -> None:
    foreign = ForeignStore()
    site = Site(OUTSIDE, store=foreign, freshness=0)
    await site.signed_in()
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    for cookies in (invented(1), invented(16), invented(2400), "rp_login=" + "x" * 43 + ".1.1.."):
        foreign.calls.clear()
        scope = {"type": "websocket", "path": "/", "scheme": "ws", "headers": [(b"cookie", cookies.encode())]}
        with anyio.fail_after(10):
            await RPLogoutMiddleware(_accepts, providers=providers(), store=foreign, freshness=0)(scope, receive, send)
        assert foreign.reads <= 1
    assert len(sent) == 4


async def _accepts(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
