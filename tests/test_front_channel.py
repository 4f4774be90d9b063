"""What a request in a provider's frame is answered, and what it may end."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asgi_rp_logout import MemoryStore, OIDCProvider, RPLogoutMiddleware, current_login, remember_login
from asgi_rp_logout.endpoints import front_channel as endpoint
from asgi_rp_logout.endpoints.intake import RefusalLog
from asgi_rp_logout.errors import LogoutTokenError, StoreError
from asgi_rp_logout.logins.guarded_store import StoreBudget
from asgi_rp_logout.logins.registry import EndedSessions
from asgi_rp_logout.protocol.front_channel import frame_headers, read_front_channel
from tests.asgi import Answer, call, http_scope
from tests.exchanges import exchange_of
from tests.places import INSIDE, OUTSIDE, Browser, Site, in_both_places
from tests.virtual_time import in_virtual_time

ISSUER = "https://op.example:8443/realms/acme/"


def refusal(query: bytes) -> LogoutTokenError:
    with pytest.raises(LogoutTokenError) as caught:
        read_front_channel(query)
    return caught.value


# The query


@pytest.mark.parametrize(
    "query",
    [
        urlencode({"iss": ISSUER, "sid": "s/1 é"}).encode(),
        "iss=https://op.example:8443/realms/acme/&sid=s/1+é".encode(),  # as the conformance suite has it: not encoded
        b"tenant=7&s%69d=s/1%20%C3%A9&x&&iss=https%3a//op.example:8443/realms/acme/",
    ],
)
def test_iss_and_sid_are_read(query: bytes) -> None:
    assert read_front_channel(query) == (ISSUER, "s/1 é")


@pytest.mark.parametrize("query", [b"", b"&", b"tenant=7", b"ISS=x&Sid=y", b"issuer=x&sid2=y"])
def test_neither_iss_nor_sid_is_none(query: bytes) -> None:
    assert read_front_channel(query) is None


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (b"iss=x", "iss_and_sid"),
        (b"sid=y", "iss_and_sid"),
        (b"iss=&sid=y", "iss_and_sid"),
        (b"iss=x&sid=", "iss_and_sid"),
        (b"iss&sid", "iss_and_sid"),
        (b"iss=x&sid=y&sid=y", "duplicate"),
        (b"iss=x&iss=x&sid=y", "duplicate"),
        (b"iss=x&sid=%ff", "form"),
        (b"iss=\xff&sid=y", "form"),
        (b"iss=x&sid=y" + b"&" * 100, "form"),
        (b"iss=x&sid=" + b"y" * 4096, "too_large"),
    ],
)
def test_half_a_request_or_a_doubtful_one_is_refused(query: bytes, code: str) -> None:
    assert refusal(query).code == code


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        (b"iss=x", "iss and sid belong together, and one of them is missing"),
        (b"iss=x&sid=y&sid=y", "iss or sid is given more than once"),
        (b"iss=x&sid=%ff", "the sid is not UTF-8"),
        (b"iss=x&sid=y" + b"&" * 100, "there are more than 100 fields"),
        (b"iss=x&sid=" + b"y" * 4096, "the query is longer than 4096 bytes"),
    ],
)
def test_a_refusal_says_what_is_wrong(query: bytes, sentence: str) -> None:
    """It goes into the log, and repeats nothing of the request."""
    assert str(refusal(query)) == sentence


def test_a_query_of_the_greatest_length_and_one_of_the_most_fields_are_read() -> None:
    assert read_front_channel(b"iss=x&sid=" + b"y" * 4086) == ("x", "y" * 4086)
    assert read_front_channel(b"&" * 98 + b"iss=x&sid=y") == ("x", "y")


@settings(max_examples=300, deadline=None)
@given(st.binary() | st.lists(st.sampled_from([b"iss", b"sid", b"=", b"&", b"%", b"69", b"\xff", b"x"])).map(b"".join))
def test_any_query_names_both_or_neither_or_is_refused(query: bytes) -> None:
    try:
        named = read_front_channel(query)
    except LogoutTokenError:
        return
    assert named is None or all(named)


# The headers


@pytest.mark.parametrize(
    ("issuer", "ancestors"),
    [
        (ISSUER, "https://op.example:8443"),
        ("https://op.example/realms/acme?x=1", "https://op.example"),
        ("http://127.0.0.1:4400", "http://127.0.0.1:4400"),
        ("https://[::1]:8443/x", "https://[::1]:8443"),
        ("https://user:secret@OP.example/", "https://op.example"),
        (None, "'none'"),
        ("", "'none'"),
        ("https://", "'none'"),
        ("https://op.example:port/", "'none'"),
        ("https://a b/", "'none'"),
        ("https://*/", "'none'"),
        ("https://x;script-src *", "'none'"),
        ("javascript:alert(1)", "'none'"),
    ],
)
def test_the_page_may_be_framed_by_its_issuer_only(issuer: str | None, ancestors: str) -> None:
    assert frame_headers(issuer) == [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"content-security-policy", f"default-src 'none'; frame-ancestors {ancestors}".encode()),
    ]


def test_the_page_that_names_nobody_may_be_framed_by_every_issuer() -> None:
    policy = dict(frame_headers("https://a.example/x", None, "https://b.example", "https://a.example/y"))
    assert policy[b"content-security-policy"].endswith(b"frame-ancestors https://a.example https://b.example")
    assert frame_headers() == frame_headers(None)


# The endpoint


class Provider:
    def __init__(self, issuer: str) -> None:
        self.issuer = issuer


class RelyingParty:
    """An application's front-channel endpoint with one known session, and what it was asked to end."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None, float]] = []
        self.failure: Exception | None = None
        self.delay = 0.0

    async def end_known_session(self, ended: EndedSessions, budget: StoreBudget) -> bool:
        """Stand in for the registry of logins."""
        await anyio.sleep(self.delay)
        if self.failure is not None:
            raise self.failure
        self.asked.append((ended.iss, ended.sid, ended.received))
        return ended.sid == "known"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def providers() -> list[Any]:
            return [object(), Provider("https://other.example"), Provider(ISSUER)]

        await endpoint.front_channel(exchange_of(scope, send, registry=self, providers=providers), receive)

    async def get(self, method: str = "GET", /, **query: str) -> Answer:
        return await call(self, http_scope(f"/frontchannel?{urlencode(query)}", method))


@pytest.fixture
def rp(monkeypatch: pytest.MonkeyPatch) -> RelyingParty:
    monkeypatch.setattr(endpoint, "refusals", RefusalLog(itertools.count(step=60).__next__))
    monkeypatch.setattr(endpoint, "time", SimpleNamespace(time=lambda: 1234.5))
    return RelyingParty()


PAGE = b"<!doctype html><title>Logout</title>"


async def test_a_known_and_an_unknown_session_get_the_same_page(rp: RelyingParty, log: Any) -> None:
    known, unknown = await rp.get(iss=ISSUER, sid="known"), await rp.get(iss=ISSUER, sid="unknown")
    assert rp.asked == [(ISSUER, "known", 1234.5), (ISSUER, "unknown", 1234.5)]
    assert known.messages == unknown.messages
    assert (known.status, known.body) == (200, PAGE)
    assert known.headers == [*frame_headers(ISSUER), (b"content-length", str(len(PAGE)).encode())]
    assert log() == []


async def test_a_request_about_nobody_ends_nobody(rp: RelyingParty, log: Any) -> None:
    """It is signed by nobody and may come from any page: without a sid it would sign out whoever looks at that page."""
    answer = await rp.get(tenant="7")
    assert (answer.status, answer.body, answer.header("cache-control")) == (200, PAGE, "no-store")
    assert (rp.asked, log()) == ([], [])


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"iss": "https://evil.example/", "sid": "known"}, "iss"),
        ({"iss": ISSUER.rstrip("/"), "sid": "known"}, "iss"),
        ({"sid": "known"}, "iss_and_sid"),
        ({"iss": ISSUER}, "iss_and_sid"),
    ],
)
async def test_a_request_that_makes_no_sense_ends_nobody(rp: RelyingParty, log: Any, query: Any, code: str) -> None:
    answer = await rp.get(**query)
    assert (answer.status, answer.body) == (400, PAGE)
    assert answer.headers[:-1] == frame_headers(None)
    assert rp.asked == []
    (line,) = log()
    assert f"front-channel logout refused ({code}): " in line
    assert "known" not in line.partition(": ")[2].replace("unknown", "")


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_another_method_ends_nobody(rp: RelyingParty, method: str) -> None:
    answer = await rp.get(method, iss=ISSUER, sid="known")
    assert (answer.status, answer.header("allow"), answer.header("cache-control")) == (405, "GET", "no-store")
    assert rp.asked == []


@pytest.mark.parametrize(
    ("failure", "code"), [(StoreError("the store did not answer"), "store"), (OSError("hunter2"), "failed")]
)
async def test_a_store_that_fails_shows_in_the_log_and_not_on_the_page(
    rp: RelyingParty, log: Any, failure: Exception, code: str
) -> None:
    well = await rp.get(iss=ISSUER, sid="known")
    rp.failure = failure
    assert (await rp.get(iss=ISSUER, sid="known")).messages == well.messages
    (line,) = log()
    assert f"({code})" in line
    assert "hunter2" not in line


@in_virtual_time
async def test_a_store_that_hangs_is_left_after_the_deadline(rp: RelyingParty, log: Any) -> None:
    rp.delay = 60
    with anyio.fail_after(30):
        assert (await rp.get(iss=ISSUER, sid="known")).status == 200
    assert len(log()) == 1


# The whole stack


async def test_a_frame_ends_the_session_that_it_names_and_an_invented_one_writes_nothing() -> None:
    async def login(request: Request) -> Response:
        remember_login(request, iss=ISSUER, sub="alice", sid="known")
        response = PlainTextResponse("welcome")
        response.set_cookie("session", "an-opaque-session-identifier")
        return response

    async def home(request: Request) -> Response:
        login = current_login(request)
        return PlainTextResponse(login.sub or "" if login else "nobody")

    store, provider = MemoryStore(), OIDCProvider(ISSUER, "rp")
    routes = [Route("/login", login), Route("/", home)]
    app = RPLogoutMiddleware(
        Starlette(routes=routes), providers=[provider], store=store, frontchannel_path="/frontchannel", freshness=0
    )
    cookies = (await call(app, http_scope("/login"))).cookies()
    header = {"cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    assert (await call(app, http_scope("/", headers=header))).body == b"alice"

    before = repr(store.entries)
    invented = await call(app, http_scope(f"/frontchannel?{urlencode({'iss': ISSUER, 'sid': 'invented'})}"))
    assert repr(store.entries) == before
    assert (await call(app, http_scope("/", headers=header))).body == b"alice"

    named = await call(app, http_scope(f"/frontchannel?{urlencode({'iss': ISSUER, 'sid': 'known'})}"))
    assert repr(store.entries) != before
    assert (await call(app, http_scope("/", headers=header))).body == b"nobody"
    assert named.messages == invented.messages
    assert named.headers[:-1] == frame_headers(ISSUER)


# Without a session's name


FRAME = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
EVERYBODY = frame_headers("https://a.example", "https://b.example")


def site_at(place: str, *, session_required: bool = False) -> tuple[Site, list[Any]]:
    """Give an application with such a frame, and the list of what it is told."""
    told: list[Any] = []
    options: dict[str, Any] = {"frontchannel_path": "/frontchannel", "frontchannel_session_required": session_required}
    return Site(place, freshness=0, on_logout=told.append, **options), told


async def state(browser: Browser) -> tuple[str, str | None]:
    """Give the user that the application sees, and what ended the login."""
    home = json.loads((await browser.get("/")).body)
    return home["user"], home["ended"]


@in_both_places
@pytest.mark.parametrize("headers", [FRAME, {}])
async def test_where_no_session_is_required_a_frame_ends_the_login_of_its_browser(
    place: str, headers: dict[str, str]
) -> None:
    site, told = site_at(place)
    mine, another = await site.signed_in(), await site.signed_in(user="bob", sid="s2")
    copy = mine.copy()
    answer = await mine.get("/frontchannel", **headers)
    assert (answer.status, answer.body) == (200, PAGE)
    assert set(EVERYBODY) < set(answer.headers)
    assert "session" in answer.expired()
    assert await state(copy.copy()) == ("anonymous", "front-channel")
    assert await state(another) == ("bob", None)
    assert [(event.how, event.iss, event.sub, event.sid) for event in told] == [
        ("front-channel", "https://a.example", "alice", "s1")
    ]
    await copy.get("/frontchannel", **headers)
    assert len(told) == 1


@in_both_places
@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
        {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"},
        {**FRAME, "sec-fetch-dest": "document"},
        {**FRAME, "sec-purpose": "prefetch"},
    ],
)
async def test_what_is_shown_in_no_frame_ends_nobody(place: str, headers: dict[str, str]) -> None:
    site, told = site_at(place)
    browser = await site.signed_in()
    answer = await browser.get("/frontchannel", **headers)
    assert (answer.status, answer.body, answer.headers[:-1]) == (200, PAGE, EVERYBODY)
    assert await state(browser) == ("alice", None)
    assert told == []


async def test_such_a_frame_empties_the_session_around_us() -> None:
    session = {"user": "alice"}
    site, _ = site_at(OUTSIDE)
    await call(site.app, {**http_scope("/frontchannel", headers=FRAME), "session": session})
    assert session == {}


@in_both_places
async def test_a_frame_without_cookies_ends_nobody_and_expires_nothing(place: str) -> None:
    site, told = site_at(place)
    answer = await site.browser().get("/frontchannel", **FRAME)
    assert (answer.status, answer.headers[:-1]) == (200, EVERYBODY)
    assert told == []


async def test_such_a_frame_is_for_a_provider_as_well_whose_issuer_is_not_loaded_yet() -> None:
    """As in a worker that has seen no login: a browser would show nothing to an issuer that is not named."""

    class Late:
        name, issuer = "late", None

        async def learn_issuer(self) -> None:
            self.issuer = ISSUER

        def get_end_session_url(self) -> None:
            """Have none."""

    site = Site(INSIDE, providers=[Late()], frontchannel_path="/frontchannel", frontchannel_session_required=False)
    assert (await site.browser().get("/frontchannel", **FRAME)).headers[:-1] == frame_headers(ISSUER)


@in_both_places
async def test_such_a_frame_ends_the_login_also_where_the_providers_cannot_be_listed(place: str) -> None:
    site, _ = site_at(place)
    browser = await site.signed_in()
    broken = Site(
        place,
        beside=site,
        freshness=0,
        providers=lambda: 1 / 0,
        frontchannel_path="/frontchannel",
        frontchannel_session_required=False,
    )
    browser.app = broken.app
    copy = browser.copy()
    assert "session" in (await browser.get("/frontchannel", **FRAME)).expired()
    assert await state(copy) == ("anonymous", "front-channel")


@in_both_places
async def test_a_frame_that_names_no_session_ends_nobody_by_default(place: str) -> None:
    site, told = site_at(place, session_required=True)
    browser = await site.signed_in()
    answer = await browser.get("/frontchannel", **FRAME)
    assert answer.headers[:-1] == frame_headers()
    assert await state(browser) == ("alice", None)
    assert told == []


# The log


def test_a_flood_of_refusals_is_one_line_a_second_for_each_code(log: Any) -> None:
    now = 0.0
    refusals = RefusalLog(lambda: now)
    for tenth in range(25):
        now = tenth / 10
        refusals.log("front-channel", "iss", "no such issuer")
    refusals.log("back-channel", "iss", "no such issuer")
    assert log() == [
        "front-channel logout refused (iss): no such issuer",
        "front-channel logout refused (iss): no such issuer; 9 more like it since the last line",
        "front-channel logout refused (iss): no such issuer; 9 more like it since the last line",
        "back-channel logout refused (iss): no such issuer",
    ]
