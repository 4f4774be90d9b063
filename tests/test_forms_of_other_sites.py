"""Forms, images and scripts of another site that come without the Lax cookie: nothing of the visitor's is expired."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from asgi_rp_logout import Login
from tests.apps import COOKIE, END, guarded, log_out, page, signs_out, went_to_provider
from tests.asgi import Answer

HTML = "text/html,application/xhtml+xml"
OPTIONS: dict[str, Any] = {"clear_cookies": ("csrf",), "clear_site_data": ("storage", "cookies")}
HOST = {"host": "app.example.com"}


def expiring(answer: Answer) -> list[str]:
    return [*answer.all("set-cookie"), *answer.all("clear-site-data")]


@pytest.mark.parametrize(
    "origin", ["null", "http://app.example.com:8080", "https://app.example.com", "http://10.1.1.1"]
)
@pytest.mark.parametrize("path", ["/logout", "/marked"])
async def test_on_plain_http_a_form_in_doubt_expires_nothing(origin: str, path: str) -> None:
    """There are no Sec-Fetch headers there, and an Origin of null is also what other sites' forms can send."""
    guard = guarded(signs_out("/bye", ("x-rp-logout", "1")), **OPTIONS)
    answer = await log_out(guard, path, headers={**HOST, "origin": origin, "accept": HTML})
    assert (answer.status, answer.header("location"), expiring(answer)) == (303, "/bye", [])


async def test_an_image_or_link_on_plain_http_that_brings_no_session_expires_nothing() -> None:
    answer = await log_out(guarded(signs_out("/bye"), **OPTIONS), method="GET", headers={**HOST, "accept": "image/*"})
    assert (answer.status, expiring(answer)) == (303, [])


async def test_what_the_applications_own_answer_expires_stays_expired() -> None:
    own = "session=; Max-Age=0; Path=/"
    answer = await log_out(
        guarded(signs_out("/bye", ("set-cookie", own)), **OPTIONS), headers={**HOST, "origin": "null"}
    )
    assert expiring(answer) == [own]


@pytest.mark.parametrize(
    ("said", "options"),
    [
        ({"origin": "http://app.example.com"}, {}),
        ({"origin": "https://public.example"}, {"public_url": "https://public.example/app"}),
        ({"origin": "null", "cookie": COOKIE}, {}),  # a form under Referrer-Policy: no-referrer
        ({"origin": "https://evil.example", "cookie": "rp_login=invented"}, {}),
        ({"origin": "null", "sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}, {}),
        ({}, {}),  # curl
    ],
)
async def test_a_form_of_our_own_or_one_that_brings_a_session_expires_all(
    said: dict[str, str], options: dict[str, Any]
) -> None:
    answer = await log_out(guarded(signs_out("/bye"), **OPTIONS, **options), headers={**HOST, **said})
    assert {"session", "csrf"} <= answer.expired()
    assert answer.header("clear-site-data")


@pytest.mark.parametrize(
    ("scheme", "options", "secure"),
    [("http", {}, False), ("https", {}, True), ("http", {"public_url": "https://app.example.com"}, True)],
)
async def test_over_https_as_browsers_see_it_every_deletion_carries_secure(
    scheme: str, options: dict[str, Any], secure: bool
) -> None:
    answer = await log_out(guarded(signs_out("/bye"), clear_cookies="csrf", **options), scheme=scheme)
    lines = answer.all("set-cookie")
    assert {line.partition("=")[0] for line in lines} >= {"session", "csrf"}
    assert [("; Secure" in line) for line in lines] == [secure] * len(lines)
    assert any(line.startswith("__Host-") for line in lines) is secure


async def test_a_cookie_with_a_prefix_that_came_is_expired_even_where_https_is_not_seen() -> None:
    """A proxy in front speaks https and does not say so."""
    answer = await log_out(guarded(signs_out("/bye")), headers={"cookie": f"__Host-{COOKIE}"})
    (line,) = answer.set_cookies()["__Host-session"]
    assert "; Secure" in line


@pytest.mark.parametrize(
    ("more", "hinted"),
    [
        ({"sec-fetch-site": "cross-site", "sec-fetch-user": "?1"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
    ],
)
async def test_a_page_of_another_site_that_leaves_by_itself_sends_no_hint(more: dict[str, str], hinted: bool) -> None:
    """The provider asks the user then; a link that was clicked on is a wish like any other."""
    login = Login("idp", "token", logout_hint="alice", sid="s1")
    headers = {"cookie": COOKIE, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document", **more}
    answer = await log_out(guarded(signs_out(), login_source=lambda _: login), method="GET", headers=headers)
    assert went_to_provider(answer)
    query = parse_qs(urlsplit(answer.header("location") or "").query)
    assert ({"id_token_hint", "logout_hint"} <= query.keys()) is hinted
    assert ({"id_token_hint", "logout_hint"} & query.keys() != set()) is hinted


async def test_a_form_with_an_origin_of_our_own_reaches_the_provider_whatever_the_site_is_said_to_be() -> None:
    """WebKitGTK says cross-site of a form with target=_blank."""
    said = {
        "cookie": COOKIE,
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "document",
        "sec-fetch-site": "cross-site",
    }
    for origin, there in (("https://app.example.com", True), ("http://app.example.com", False)):
        headers = {**HOST, **said, "origin": origin}
        answer = await log_out(guarded(page(303, [("location", "/bye")])), headers=headers, scheme="https")
        assert (answer.header("location") or "").startswith(END) is there
