"""What the log says at DEBUG: what became of each logout, and why something was none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from asgi_rp_logout import MemoryStore, remember_login
from tests.apps import COOKIE, SECRET, guarded, log_out, page, signs_out
from tests.asgi import call, http_scope

Log = Callable[[int], list[str]]
FETCH = {"cookie": COOKIE, "sec-fetch-mode": "cors", "sec-fetch-dest": "empty", "sec-fetch-site": "same-origin"}
FORGED = {"cookie": COOKIE, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "sec-fetch-site": "cross-site"}
GUESS = {"cookie": COOKIE, "sec-purpose": "prefetch"}
HERE = "logged out here only, "


@pytest.mark.parametrize(
    ("answer", "options", "request_", "line"),
    [
        (
            signs_out(),
            {},
            {},
            "logged out here, and the browser (navigation) goes on to 'idp'; no ID Token is remembered",
        ),
        (
            signs_out(),
            {"for_fetch": "json"},
            {"headers": FETCH},
            "logged out here, and the browser (fetch) goes on to 'idp'",
        ),
        (
            signs_out(),
            {},
            {"headers": FETCH},
            "logged out here; the next page that this browser opens goes by way of the",
        ),
        (signs_out(), {"for_fetch": "local"}, {"headers": FETCH}, f"{HERE}as the application said"),
        (signs_out("/", ("x-rp-logout", "local")), {}, {}, f"{HERE}as the application said"),
        (signs_out(), {}, {"headers": FORGED}, f"{HERE}another site made this request"),
        (page(401), {}, {}, "POST /logout, answered 401, was no logout"),
        (signs_out(), {}, {"method": "GET", "headers": GUESS}, "GET /logout is a prefetch, answered 503"),
        (
            signs_out(),
            {"session_cookie": ["sid", "sid2"]},
            {},
            "logged out here, and not at the provider: no login is remembered that lives, and the request has no",
        ),
        (
            signs_out(),
            {"require_login": True},
            {},
            "logged out here, and not at the provider: no login is remembered that",
        ),
        (
            page(),
            {"callback_path": "/cb"},
            {"path": "/cb", "method": "GET"},
            "a browser came back from the provider without",
        ),
    ],
)
async def test_one_line_says_what_became_of_a_request(
    log: Log, answer: Any, options: dict[str, Any], request_: dict[str, Any], line: str
) -> None:
    await log_out(guarded(answer, **options), **request_)
    (said,) = log(logging.DEBUG)
    assert said.startswith(line)


async def test_the_cookies_that_were_looked_for_are_named(log: Log) -> None:
    await log_out(guarded(signs_out(), session_cookie=["sid", "sid2"]))
    assert log(logging.DEBUG)[0].endswith("and the request has no cookie 'sid' or 'sid2'")


class Place:
    """An application that remembers its login, and whose logout is at a path of its own."""

    def __init__(self, **options: Any) -> None:
        self.app = guarded(self.answer, **{"freshness": 0, "store": MemoryStore(), **options})

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [("location", "/")]
        if scope["path"] == "/login":
            remember_login(scope, provider="idp", sub="alice", id_token="header.payload.signature")
            headers.append(("set-cookie", COOKIE))
        if scope["path"] in ("/logout", "/sign-out"):
            headers.append(("set-cookie", "session=; Max-Age=0"))
        await page(303, headers)(scope, receive, send)

    async def sign_in(self) -> dict[str, str]:
        cookies = (await call(self.app, http_scope("/login"))).cookies()
        return {"cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}


async def test_a_logout_with_a_hint_lacks_nothing_and_what_is_dead_is_said_to_be(log: Log) -> None:
    place = Place()
    headers = await place.sign_in()
    assert log(logging.DEBUG) == []
    await log_out(place.app, headers=headers)
    await call(place.app, http_scope("/page", headers=headers))
    assert log(logging.DEBUG) == [
        "logged out here, and the browser (navigation) goes on to 'idp'",
        "/page: its login has ended (logout), so that the application sees nobody",
    ]


async def test_a_dead_cookie_beside_a_living_login_is_said_to_be_kept_back(log: Log) -> None:
    place = Place()
    before = await place.sign_in()
    await log_out(place.app, headers=before)
    other = COOKIE.replace("0", "9")
    place.app.app = page(303, [("set-cookie", other)])
    lines = len(log(logging.DEBUG))
    await call(place.app, http_scope("/page", headers={"cookie": f"{COOKIE}; {other}"}))
    assert log(logging.DEBUG)[lines:] == ["/page: a dead session cookie is kept from the application"]


async def test_a_logout_at_a_path_that_nobody_named_is_noticed(log: Log) -> None:
    place = Place()
    headers = await place.sign_in()
    await call(place.app, http_scope("/sign-out", "POST", headers=headers))
    line = "POST /sign-out expires the session cookie, but nothing says that it is a logout"
    assert log(logging.DEBUG) == [line]


async def test_a_session_around_us_that_is_emptied_where_nobody_said_so_is_noticed(log: Log) -> None:
    async def clears(scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"].clear()
        await page()(scope, receive, send)

    place = Place()
    await place.sign_in()
    place.app.app = clears
    await call(place.app, {**http_scope("/sign-out", "POST"), "session": {"user": "alice"}})
    line = "POST /sign-out expires the session cookie, but nothing says that it is a logout"
    assert log(logging.DEBUG) == [line]


async def test_nothing_that_is_said_holds_a_secret(log: Log) -> None:
    place = Place()
    headers = await place.sign_in()
    for _ in range(2):
        await log_out(place.app, headers=headers)
        await call(place.app, http_scope("/page", headers=headers))
    assert len(log(logging.DEBUG)) == 5
    assert not any(secret in line for line in log(logging.DEBUG) for secret in (SECRET, "alice", "payload"))
