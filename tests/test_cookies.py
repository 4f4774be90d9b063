"""Cookies of a logout: which are expired, with what attributes, and which lines of the application are kept."""

from __future__ import annotations

import pytest
from starlette.types import Receive, Scope, Send

from asgi_rp_logout import ConfigurationError, Cookie
from asgi_rp_logout.protocol.cookies import CookieSet, is_deletion, parse_cookies, secret_digest, without_cookies
from tests.apps import COOKIE, FETCH, guarded, log_out, names, page, signs_out, went_to_provider

EXPIRED = "Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"


@pytest.mark.parametrize(
    ("cookie", "lines"),
    [
        (
            Cookie("s"),
            [
                f"s=; {EXPIRED}; Path=/; SameSite=Lax",
                f"__Host-s=; {EXPIRED}; Path=/; Secure; SameSite=Lax",
                f"__Secure-s=; {EXPIRED}; Path=/; Secure; SameSite=Lax",
            ],
        ),
        (  # no __Host- variant: such a cookie has the path "/" and no domain
            Cookie("s", path="/app"),
            [
                f"s=; {EXPIRED}; Path=/app; SameSite=Lax",
                f"__Secure-s=; {EXPIRED}; Path=/app; Secure; SameSite=Lax",
            ],
        ),
        (
            Cookie("s", domain="example.com", samesite="strict"),
            [
                f"s=; {EXPIRED}; Path=/; Domain=example.com; SameSite=Strict",
                f"__Secure-s=; {EXPIRED}; Path=/; Domain=example.com; Secure; SameSite=Strict",
            ],
        ),
        (  # SameSite=None and Partitioned are refused without Secure
            Cookie("s", path="/p", samesite="none"),
            [
                f"s=; {EXPIRED}; Path=/p; Secure; SameSite=None",
                f"__Secure-s=; {EXPIRED}; Path=/p; Secure; SameSite=None",
            ],
        ),
        (
            Cookie("s", path="/p", partitioned=True),
            [
                f"s=; {EXPIRED}; Path=/p; Secure; SameSite=Lax; Partitioned",
                f"__Secure-s=; {EXPIRED}; Path=/p; Secure; SameSite=Lax; Partitioned",
            ],
        ),
    ],
)
async def test_a_cookie_is_expired_under_each_prefix_with_the_attributes_it_was_set_with(cookie, lines) -> None:
    """RFC 6265bis, section 5.7: without them a browser ignores the deletion."""
    answer = await log_out(guarded(signs_out(), session_cookie=cookie), headers={})
    assert answer.all("set-cookie") == lines


@pytest.mark.parametrize("name", ["__Host-s", "__Secure-s"])
def test_a_name_given_with_its_prefix_means_the_bare_one_as_well(name: str) -> None:
    assert set(Cookie(name).names()) == {"s", "__Host-s", "__Secure-s"}


@pytest.mark.parametrize(
    ("name", "belongs"),
    [
        *[(name, True) for name in ("s", "s.0", "s.12", "s_1", "s__2", "__Host-s", "__Secure-s.3", "__Host-s_0")],
        *[(name, False) for name in ("s0", "s-0", "s.", "s.x", "s_", "s_hint", "s.0.0", "ss", "xs", "S", "s.0001")],
        *[(name, False) for name in ("__Host-", "__host_s", "s. 0", "s.0 ", "s.\u0661", "sXi")],
    ],
)
async def test_chunks_are_exact_names_and_never_a_prefix_match(name: str, belongs: bool) -> None:
    assert CookieSet([Cookie("s")]).has(name) is belongs
    if name.isascii() and " " not in name:
        answer = await log_out(guarded(signs_out(), session_cookie="s"), headers={"cookie": f"{name}=abc"})
        assert (name in answer.expired()) is (belongs or name in Cookie("s").names())


async def test_a_pattern_in_a_cookie_name_is_only_text() -> None:
    assert not CookieSet([Cookie("s.d")]).has("sxd")
    assert CookieSet([Cookie("a|b")]).has("a|b")
    assert not CookieSet([Cookie("a|b")]).has("b")


async def test_chunks_are_found_in_every_cookie_header() -> None:
    """HTTP/2 may split the Cookie header into several."""
    headers = [("Cookie", "session.0=aaa; other=1"), ("cookie", "session.1=bbb"), ("COOKIE", "__Secure-session.2=c")]
    answer = await log_out(guarded(signs_out()), headers=headers)
    assert {"session.0", "session.1", "__Secure-session.2"} <= answer.expired()
    assert "other" not in answer.expired()
    assert went_to_provider(answer)  # a chunk is evidence of a session


async def test_several_session_cookies_and_those_that_go_along() -> None:
    options = {"session_cookie": ["a", Cookie("b", path="/b")], "clear_cookies": ("csrf", Cookie("c", domain="x.org"))}
    answer = await log_out(guarded(signs_out(), **options), headers={"cookie": "csrf_1=2; a.0=1"})
    plain = {name for name in answer.expired() if not name.startswith("__")}
    assert plain == {"a", "a.0", "b", "csrf", "csrf_1", "c"}
    assert "Path=/b" in answer.set_cookies()["b"][0]
    assert "Domain=x.org" in answer.set_cookies()["c"][0]


async def test_a_cookie_that_only_goes_along_is_no_evidence() -> None:
    options = {"session_cookie": "s", "clear_cookies": "logged_in"}
    answer = await log_out(guarded(signs_out(), **options), headers={"cookie": "logged_in=0123456789abcdef"})
    assert (answer.header("location"), "logged_in" in answer.expired()) == ("/login", True)
    assert went_to_provider(await log_out(guarded(signs_out(), **options), headers={"cookie": "s=1"}))


async def test_no_cookies_at_all_can_be_declared() -> None:
    options = {"session_cookie": (), "clear_cookies": ()}
    app = signs_out("/login", ("set-cookie", "session=new"))
    answer = await log_out(guarded(app, **options))
    assert (answer.header("location"), answer.all("set-cookie")) == ("/login", ["session=new"])


SETS_AGAIN = [
    "session=new; Path=/",
    "session.1=x",
    "__Host-session=x; Secure; Path=/",
    "session=; Path=/",
    "session=x; Max-Age=60",
]
KEPT = [
    "session=; Max-Age=0; Path=/old",  # a deletion of the application's own, with attributes only it knows
    "session=null; expires=Thu, 01 Jan 1970 00:00:00 GMT",
    "session=x; Max-Age=-1",
    "theme=dark; Path=/",
    "session_hint=1",
    "sessions=1",
    "csrf2=1",
]


@pytest.mark.parametrize("path", ["/logout", "/anywhere"])
@pytest.mark.parametrize("for_fetch", ["json", "local"])
async def test_a_line_that_would_set_the_cookie_again_is_dropped_and_all_others_stay_in_order(path, for_fetch) -> None:
    lines = [line for pair in zip(SETS_AGAIN, KEPT, strict=False) for line in pair] + KEPT[len(SETS_AGAIN) :]
    app = signs_out("/login", *[("Set-Cookie", line) for line in [*lines, "csrf=new"]], ("x-rp-logout", "1"))
    for headers in ({"cookie": COOKIE}, {}, {"cookie": COOKIE, "origin": "http://127.0.0.1"}):
        guard = guarded(app, clear_cookies="csrf", for_fetch=for_fetch)
        answer = await log_out(guard, path, headers=headers)
        ours = [line for line in answer.all("set-cookie") if line not in KEPT]
        assert answer.all("set-cookie") == [*KEPT, *ours]
        assert all(line.partition(";")[0].endswith("=") and "Max-Age=0" in line for line in ours), ours
        assert {"session", "__Host-session", "csrf", "__Host-csrf"} <= answer.expired()


@pytest.mark.parametrize(
    ("line", "deletes"),
    [
        ("s=; Max-Age=0", True),
        ("s=x; max-age=-5; Expires=Fri, 01 Jan 2100 00:00:00 GMT", True),
        ("s=x; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", False),  # Max-Age goes first
        ("s=x; Max-Age=soon; Expires=Thu, 01 Jan 1970 00:00:00 GMT", True),
        ("s=x; Expires=Thu, 01-Jan-1970 00:00:01 GMT", True),
        ("s=x; Expires=Thu, 01 Jan 1970 00:00:00", True),
        ("s=x; Expires=Fri, 01 Jan 2100 00:00:00 GMT", False),
        ("s=x; Expires=never", False),
        ("s=x; Expires=Thu, 01 Jan 1970 00:00:00 +99999999999999999999", False),
        ("s=x; Expires=Thu, 01 Jan 0000 00:00:00 GMT", False),
        ("s=", False),
        ("s", False),
        ("", False),
    ],
)
def test_a_deletion_is_told_by_max_age_and_then_by_expires(line: str, deletes: bool) -> None:
    assert is_deletion(line.encode()) is deletes


# The session of a session middleware around us


async def test_what_was_in_the_session_at_entry_is_removed_in_place_and_a_flash_stays() -> None:
    session = {"user": "alice", "cart": [1]}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["session"] == {"user": "alice", "cart": [1]}
        scope["session"]["flash"] = "bye"
        await signs_out()(scope, receive, send)

    for path in ("/anywhere", "/logout"):
        session.update(user="alice", cart=[1])
        session.pop("flash", None)
        marked = guarded(app, logout_path=path)
        answer = await log_out(marked, path, session=session, headers={})
        assert session == {"flash": "bye"}
        assert went_to_provider(answer)  # a session that was not empty is evidence


async def test_a_session_that_the_handler_put_in_place_of_the_old_one_is_emptied_the_same_way() -> None:
    new = {"user": "alice", "flash": "bye"}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"] = new
        await signs_out()(scope, receive, send)

    assert went_to_provider(await log_out(guarded(app), session={"user": "alice"}, headers={}))
    assert new == {"flash": "bye"}


@pytest.mark.parametrize("session", [None, 7, "text", ["user"]])
async def test_a_session_that_is_no_mapping_counts_as_not_readable(session: object) -> None:
    answer = await log_out(guarded(signs_out()), session=session, headers={})
    assert answer.header("location") == "/login"


async def test_a_lazy_session_that_raises_counts_as_not_readable() -> None:
    class Lazy(dict):
        def get(self, *args):
            raise RuntimeError("not loaded yet")

        def __iter__(self):
            raise RuntimeError("not loaded yet")

    answer = await log_out(guarded(signs_out()), session=Lazy(user="alice"))
    assert went_to_provider(answer)


async def test_a_session_on_other_paths_is_left_alone() -> None:
    session = {"user": "alice"}
    await log_out(guarded(page(303, [("location", "/x")])), "/elsewhere", session=session)
    assert session == {"user": "alice"}


# Clear-Site-Data


@pytest.mark.parametrize(
    ("given", "options", "sent"),
    [
        ((), {}, None),
        ("storage", {}, '"storage"'),
        (["cache", "storage"], {}, '"cache", "storage"'),
        # Browsers obey it after Set-Cookie: it would take cookies of our own along.
        (["cookies", "storage"], {}, '"cookies", "storage"'),
        (["cookies", "storage"], {"headers": FETCH}, '"storage"'),
        (["cookies", "storage"], {"headers": FETCH, "for_fetch": "json"}, '"cookies", "storage"'),
        (["*"], {}, '"*"'),
        (
            ["*"],
            {"headers": FETCH},
            '"cache", "storage", "executionContexts", "clientHints", "prefetchCache"',
        ),
        (["*"], {"headers": FETCH, "for_fetch": "local"}, '"*"'),
    ],
)
async def test_clear_site_data_is_off_unless_asked_for(given, options, sent) -> None:
    options = dict(options)
    request = {"headers": options.pop("headers")} if "headers" in options else {}
    answer = await log_out(guarded(signs_out(), clear_site_data=given, **options), **request)
    assert answer.header("clear-site-data") == sent
    assert (await log_out(guarded(page(400), clear_site_data=given, **options))).header("clear-site-data") is None


# Values


def test_every_spelling_of_a_value_is_buried_as_one() -> None:
    value = "abc/def+ghi=jkl mno"
    spellings = [
        value,
        f'"{value}"',
        "abc%2Fdef%2Bghi%3Djkl%20mno",
        '"abc\\057def+ghi=jkl mno"',
        '"abc/def\\+ghi=jkl mno"',
    ]
    assert len({secret_digest("s", one) for one in spellings}) == 1
    assert secret_digest("__Host-s", value) == secret_digest("s", value)
    assert secret_digest("t", value) != secret_digest("s", value)


def test_a_value_that_everybody_may_have_identifies_nobody() -> None:
    assert secret_digest("logged_in", "1") is None
    assert secret_digest("s", "%31" * 15) is None
    assert secret_digest("s", "1" * 16) is not None


def test_cookies_are_read_in_order_repeated_names_included() -> None:
    assert parse_cookies(["a=1; b = 2 ;; junk; =x; a=3", "c=d=e"]) == [("a", "1"), ("b", "2"), ("a", "3"), ("c", "d=e")]


def test_of_two_cookies_of_one_name_only_the_dead_one_is_taken_out() -> None:
    assert without_cookies("s=dead; s=live; t=dead; junk", [("s", "dead")]) == "s=live; t=dead; junk"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"name": ""}, "''"),
        ({"name": "a b"}, "'a b'"),
        ({"name": "a;b"}, "'a;b'"),
        ({"name": "a\r\nb"}, "a\\r\\nb"),
        ({"name": "__Host-"}, "'__Host-'"),
        ({"name": "é"}, "'é'"),
        ({"name": 7}, "7"),
        ({"name": "s", "path": "app"}, "'app'"),
        ({"name": "s", "path": ""}, "''"),
        ({"name": "s", "path": None}, "None"),
        ({"name": "s", "path": "/a;b"}, "'/a;b'"),
        ({"name": "s", "path": "/a\nb"}, "'/a\\nb'"),
        ({"name": "s", "path": "/" + "a" * 1024}, "/aaa"),
        ({"name": "s", "domain": "a b"}, "'a b'"),
        ({"name": "s", "domain": ""}, "''"),
        ({"name": "s", "domain": 7}, "7"),
        ({"name": "s", "domain": "x.org; Secure"}, "'x.org; Secure'"),
        ({"name": "__Host-s", "domain": "x.org"}, "'__Host-s'"),
        ({"name": "__Host-s", "path": "/app"}, "'__Host-s'"),
        ({"name": "s", "samesite": "Lax"}, "'Lax'"),
        ({"name": "s", "samesite": None}, "None"),
        ({"name": "s", "partitioned": "yes"}, "'yes'"),
    ],
)
def test_a_cookie_that_no_browser_would_have_stored_is_refused_by_its_value(given: dict, named: str) -> None:
    with pytest.raises(ConfigurationError, match=r"expected|has the path") as caught:
        Cookie(**given)
    assert named in str(caught.value)


def test_deletions_are_sent_once_per_name() -> None:
    lines = CookieSet([Cookie("s")]).deletions(["s", "s.0", "s.0", "__Host-s", "t"])
    assert names(lines) == ["s", "__Host-s", "__Secure-s", "s.0"]


@pytest.mark.parametrize("cookie", ["", "session=0123456789abcdef"])
@pytest.mark.parametrize("site", ["cross-site", "same-origin"])
async def test_a_form_of_another_site_that_brings_no_session_deletes_no_cookie(site: str, cookie: str) -> None:
    """Lax cookies stay away from it, but the browser would obey the deletions of its answer."""
    sent = {"sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    headers = sent | ({"cookie": cookie} if cookie else {})
    answer = await log_out(guarded(signs_out(), clear_site_data="storage"), headers=headers)
    expired = bool(cookie) or site == "same-origin"
    assert bool(answer.all("set-cookie")) is expired
    assert bool(answer.all("clear-site-data")) is expired
    assert went_to_provider(answer) is (bool(cookie) and site == "same-origin")
