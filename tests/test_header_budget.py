"""The headers of an answer fit into what nginx takes, 4,096 bytes, whatever the token and the application's own."""

from __future__ import annotations

import html
import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_rp_logout import Cookie, Login, StaticProvider
from tests.apps import COOKIE, END, FETCH, guarded, log_out, page, signs_out
from tests.asgi import Answer, call, http_scope
from tests.conftest import Log
from tests.places import INSIDE, OUTSIDE, Site, in_both_places

LIMIT = 4000
NAVIGATION = {"accept": "text/html", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
NAVIGATION |= {"sec-fetch-site": "same-origin"}
STREAM = "text/vnd.turbo-stream.html, text/html, application/xhtml+xml"
KINDS: dict[str, dict[str, str]] = {
    "form": {**NAVIGATION, "cookie": COOKIE},
    "htmx": {**FETCH, "hx-request": "true"},
    "Inertia": {**FETCH, "x-inertia": "true"},
    "Turbo": {**FETCH, "accept": STREAM},
    "Turbo visit": {**FETCH, "accept": "text/html", "x-turbo-request-id": "1"},
    "fetch": FETCH,
    "JSON": FETCH,
}
LENGTHS = range(0, 20_001, 50)


def size(answer: Answer, server: bool = False) -> int:
    """Return the bytes of status line and headers; `server` adds what servers add."""
    added = len("date: Thu, 01 Jan 1970 00:00:00 GMT\r\nserver: hypercorn-h11\r\n\r\n") if server else 0
    return 30 + added + sum(len(name) + len(value) + 4 for name, value in answer.headers)


def url_of(answer: Answer) -> str | None:
    """Return where an answer takes the browser, by whatever means."""
    for name in ("location", "hx-redirect", "x-inertia-location"):
        if answer.header(name):
            return answer.header(name)
    if answer.header("content-type") == "application/json":
        return str(json.loads(answer.body)["logout_url"])
    refresh = re.search(rb'content="0;url=([^"]*)"', answer.body)
    return html.unescape(refresh[1].decode()) if refresh else None


def of_kind(kind: str, app: ASGIApp, token: dict[str, str], **options: Any) -> ASGIApp:
    options = {"callback_path": "/back", "clear_cookies": ("csrf", "hint"), "session_lifetime": 60, **options}
    options |= {"for_fetch": "json"} if kind == "JSON" else {}
    return guarded(app, login_source=lambda _: Login("idp", token["it"]) if token else None, **options)


async def the_way(kind: str, guard: ASGIApp, token: dict[str, str], scheme: str = "https") -> list[Answer]:
    """Log out with a client of this kind, and open the next page where the logout waits for it."""
    headers = {**KINDS[kind], "cookie": f"session=0123456789{len(token['it']):010}"}
    method = "GET" if kind == "Turbo visit" else "POST"
    first = await log_out(guard, method=method, headers=headers, scheme=scheme)
    waits = {name: value for name, value in first.cookies().items() if "rp_later" in name}
    if not waits:
        return [first]
    cookie = "; ".join(f"{name}={value}" for name, value in waits.items())
    token.clear()
    return [first, await call(guard, http_scope("/next", headers={**NAVIGATION, "cookie": cookie}, scheme=scheme))]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", KINDS)
async def test_every_client_reaches_the_provider_with_any_token_in_headers_that_fit(kind: str, scheme: str) -> None:
    """The hint goes along as long as `max_url_length` allows; htmx and Inertia have no place for it but a header."""
    token: dict[str, str] = {}
    guard = of_kind(kind, signs_out(), token)
    for length in LENGTHS:
        token["it"] = "t" * length
        answers = await the_way(kind, guard, token, scheme)
        assert max(size(answer) for answer in answers) <= LIMIT, length
        assert max(size(answer, server=True) for answer in answers) <= 4096, length
        url = url_of(answers[-1]) or ""
        assert url.startswith(END), length
        hint = parse_qs(urlsplit(url).query).get("id_token_hint", [""])[0]
        most = 2500 if kind in ("htmx", "Inertia") else 3700
        assert hint == "t" * length if length <= most else len(url) <= LIMIT


@in_both_places
async def test_a_login_and_a_logout_fit_in_both_places(place: str) -> None:
    """Inside, the session middleware adds its own cookie to what is written here."""
    site = Site(place, callback_path="/back")
    for pad in range(0, 4000, 100):
        browser = site.browser()
        assert size(await browser.get(f"/login?pad={pad}")) <= LIMIT
        answer = await browser.post("/logout")
        assert size(answer) <= LIMIT, pad
        assert (url_of(answer) or "").startswith("https://a.example/logout")


def app_with(size: int, *more: tuple[str, str], status: int = 303) -> ASGIApp:
    """Make an application with a header of so many bytes in its answer."""
    return page(status, [("location", "/bye"), ("x", "x" * size), *more], b"")


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_exceeds_the_limit_only_where_the_application_does_by_itself(kind: str) -> None:
    token = {"it": ""}
    cookies = [Cookie(f"c{number}", domain="example.com") for number in range(4)]
    for length in range(0, 4026, 25):
        token["it"] = "t" * 1500
        guard = of_kind(kind, app_with(length), token, clear_cookies=cookies, clear_site_data="storage")
        alone = size(await log_out(app_with(length)))
        for answer in await the_way(kind, guard, token):
            assert size(answer) <= max(LIMIT, alone), length


@pytest.mark.parametrize("kind", ["form", "htmx", "fetch"])
async def test_a_cookie_that_the_browser_brought_is_expired_before_one_that_it_may_have(kind: str) -> None:
    token = {"it": "t"}
    guard = of_kind(kind, app_with(3300), token)
    (answer, *_) = await the_way(kind, guard, token)
    assert "session" in answer.expired()
    assert "csrf" not in answer.expired()


@pytest.mark.parametrize("number", range(8))
async def test_the_cookie_of_a_waiting_logout_goes_before_deletions(number: int) -> None:
    """It takes the user to the provider; the login behind the other cookies is over in any case."""
    names = [f"c{one}" for one in range(8)]
    headers = {**FETCH, "cookie": "; ".join([COOKIE, *(f"{name}=1" for name in names)])}
    answer = await log_out(guarded(app_with(3000 + 60 * number), clear_cookies=names), headers=headers)
    assert "rp_later" in answer.cookies()
    assert "session" in answer.expired()
    assert "c7" not in answer.expired()


@pytest.mark.parametrize("headers", [{**NAVIGATION, "cookie": COOKIE}, FETCH], ids=["form", "fetch"])
async def test_where_nothing_fits_the_logout_stays_here_and_says_why(headers: dict[str, str], log: Log) -> None:
    answer = await log_out(guarded(app_with(3900)), headers=headers)
    assert (answer.status, answer.header("location")) == (303, "/bye")
    assert ["no room" in line for line in log()] == [True]


async def test_an_application_whose_headers_are_longer_than_a_page_has_no_such_reader() -> None:
    """It would have failed without us; whoever lets it pass lets ours pass too."""
    answer = await log_out(guarded(app_with(5000)), headers={**NAVIGATION, "cookie": COOKIE})
    assert (answer.status, "session" in answer.expired()) == (303, True)
    assert (answer.header("location") or "").startswith(END)


async def test_a_url_for_which_the_headers_have_no_room_is_carried_by_a_page() -> None:
    provider = StaticProvider(f"{END}?a=%22%26", client_id="rp", name="idp")
    more = [("content-security-policy", "sandbox"), ("content-disposition", "attachment"), ("x-request-id", "7")]
    guard = guarded(app_with(2000, *more), providers=[provider], login_source=lambda _: Login("idp", "t" * 3000))
    answer = await log_out(guard, headers={**NAVIGATION, "cookie": COOKIE})
    assert (answer.status, answer.header("content-type")) == (200, "text/html; charset=utf-8")
    assert (answer.header("x-request-id"), answer.header("content-disposition")) == ("7", None)
    assert (answer.header("cache-control"), answer.header("referrer-policy")) == ("no-store", "no-referrer")
    assert answer.all("content-security-policy") == ["default-src 'none'; base-uri 'none'; frame-ancestors 'none'"]
    url = url_of(answer) or ""
    assert url.startswith(f"{END}?a=%22%26&id_token_hint=ttt")
    assert f'<a href="{html.escape(url)}">' in answer.body.decode()  # for browsers that obey no refresh
    assert "session" in answer.expired()


async def test_htmx_gets_the_bare_endpoint_before_it_gets_nothing() -> None:
    far = "https://app.example.com/" + "b" * 600
    for room, expected in ((2000, 2), (3200, 1)):
        guard = guarded(app_with(room), post_logout_redirect_uri=far, login_source=lambda _: Login("idp", "t" * 3000))
        answer = await log_out(guard, headers=KINDS["htmx"])
        query = parse_qs(urlsplit(answer.header("hx-redirect") or "").query)
        assert len(query) == expected, query
        assert query["client_id"] == ["rp"]


async def test_a_login_whose_cookie_does_not_fit_goes_through_and_is_not_remembered(log: Log) -> None:
    site = Site(OUTSIDE)
    app: Any = site.app

    async def more_headers(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start" and scope["path"] == "/login":
                message = {**message, "headers": [*message["headers"], (b"x", b"x" * 3800)]}
            await send(message)

        await inner(scope, receive, send_more)

    inner, app.app = app.app, more_headers
    app._dispatcher.app = more_headers
    browser = site.browser()
    answer = await browser.get("/login")
    assert (answer.status, size(answer) <= LIMIT) == (303, True)
    assert "rp_login" not in browser.cookies
    assert ["a login is not remembered" in line for line in log()] == [True]
    assert await site.who(browser) == "alice"


async def test_an_inner_session_middleware_is_no_excuse() -> None:
    """What is left in the session after a logout is written by the middleware around ours: room is kept for it."""
    site = Site(INSIDE, callback_path="/back")
    browser = await site.signed_in(pad="2600")
    answer = await browser.post("/logout")
    assert answer.status == 303 or url_of(answer)
    assert size(answer) <= LIMIT
