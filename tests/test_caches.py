"""Shared caches: no answer with a cookie of ours, and no redirect to the provider, is anybody else's."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_rp_logout.asgi.response import ResponseStart
from tests.apps import COOKIE, FETCH, guarded, log_out, page, went_to_provider
from tests.asgi import Pairs, call, http_scope
from tests.places import OUTSIDE, Site

FOR_CACHES = [
    ("CDN-Cache-Control", "max-age=600"),
    ("Cloudflare-CDN-Cache-Control", "max-age=600"),
    ("vercel-cdn-cache-control", "s-maxage=600"),
    ("Surrogate-Control", "max-age=600"),
    ("X-Accel-Expires", "600"),
    ("Edge-Control", "max-age=600"),
    ("Expires", "Thu, 01 Jan 2099 00:00:00 GMT"),
    ("Age", "10"),
]


def raw(headers: Pairs) -> list[tuple[bytes, bytes]]:
    return [(str(name).encode(), str(value).encode()) for name, value in headers]


@pytest.mark.parametrize("session_cookie", ["session", ()], ids=["with deletions", "without"])
async def test_a_redirect_to_the_provider_loses_whatever_lets_a_cache_keep_it(session_cookie: Any) -> None:
    app = page(303, [("location", "/bye"), ("cache-control", "public, max-age=600"), *FOR_CACHES, ("vary", "x")])
    answer = await log_out(guarded(app, session_cookie=session_cookie), session={"user": 1})
    assert went_to_provider(answer)
    assert answer.all("cache-control") == ["no-store"]
    assert [name for name, _ in FOR_CACHES if answer.header(name)] == []
    assert answer.header("vary") == "x"


async def test_an_answer_of_the_applications_that_gets_deletions_is_private() -> None:
    app = page(200, [("cache-control", "public, max-age=600"), *FOR_CACHES])
    answer = await log_out(guarded(app), headers=FETCH)
    assert "session" in answer.expired()
    assert answer.all("cache-control") == ["max-age=600, private"]
    assert [name for name, _ in FOR_CACHES if answer.header(name)] == []


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([], "private"),
        (["public"], "private"),
        (["Public, S-MaxAge=9, max-age=5"], "max-age=5, private"),
        (["public", "s-maxage=60", "must-revalidate"], "must-revalidate, private"),
        (["proxy-revalidate, no-cache"], "no-cache, private"),
        (["no-store"], "no-store"),
        (["private, max-age=5, public"], "private, max-age=5"),
        (["No-Store, s-maxage=5"], "No-Store"),
    ],
)
def test_what_is_left_of_cache_control_where_a_cookie_is_added(said: list[str], expected: str) -> None:
    start = ResponseStart.of(200, raw(("cache-control", one) for one in said))
    headers = start.with_cookies([b"a=; Max-Age=0"]).headers
    assert headers == [(b"cache-control", expected.encode()), (b"set-cookie", b"a=; Max-Age=0")]
    assert start.with_cookies([]) is start


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], False),
        ([("Cache-Control", "public")], True),
        ([("cache-control", "max-age=5")], True),
        ([("cache-control", "s-maxage=5")], True),
        ([("cache-control", "no-cache")], True),  # kept, and asked again by its ETag: 304 brings back what was kept
        ([("cache-control", "max-age=5"), ("cache-control", "PRIVATE")], False),
        ([("cache-control", "no-store, max-age=5")], False),
        ([("etag", '"1"')], True),
        ([("Last-Modified", "Thu, 01 Jan 2024 00:00:00 GMT")], True),
        ([("expires", "0"), ("cache-control", "no-store")], False),
        ([("expires", "Thu, 01 Jan 2099 00:00:00 GMT")], True),
        ([("cache-control", "private"), ("etag", '"1"')], False),
        ([("cache-control", "private"), ("CDN-Cache-Control", "max-age=5")], True),
        ([("cache-control", "no-store"), ("X-Accel-Expires", "5")], True),
        ([("cache-control", "no-store"), ("surrogate-control", "max-age=5")], True),
        ([("set-cookie", "a=1"), ("vary", "cookie")], False),
    ],
)
def test_what_a_shared_cache_may_keep(headers: Pairs, expected: bool) -> None:
    assert ResponseStart.of(200, raw(headers)).may_be_shared is expected


@pytest.mark.parametrize("kept", [[("cache-control", "public, max-age=60")], [("etag", '"1"')], FOR_CACHES[:1]])
async def test_a_dead_cookie_adds_no_deletion_to_what_a_shared_cache_may_keep(kept: list[tuple[str, str]]) -> None:
    """Anybody can make a dead cookie, and whoever is served the answer from the cache would be signed out."""
    guard = guarded(page(200, kept))
    await log_out(guard)
    answer = await call(guard, http_scope("/app.css", headers={"cookie": COOKIE}))
    assert answer.headers == raw((name, value) for name, value in kept)


async def test_a_dead_cookie_is_expired_by_an_answer_that_is_nobody_elses() -> None:
    """The control."""
    guard = guarded(page(200))
    await log_out(guard)
    answer = await call(guard, http_scope("/app.css", headers={"cookie": COOKIE}))
    assert answer.expired() == {"session"}
    assert answer.all("cache-control") == ["private"]


async def test_the_answer_to_a_login_that_sets_our_cookie_is_private() -> None:
    answer = await Site(OUTSIDE).browser().get("/login")
    assert "rp_login" in answer.cookies()
    assert answer.all("cache-control") == ["private"]
