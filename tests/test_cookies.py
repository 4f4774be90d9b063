"""Cookies of a logout: which are expired, with what attributes, and which lines of the application are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from asgi_rp_logout import ConfigurationError, Cookie
from asgi_rp_logout.protocol.cookie_values import bearer_digests, secret_digest, secret_digests, unquoted
from asgi_rp_logout.protocol.cookies import MOST_SECRETS, ROOM, CookieSet, deletions, is_deletion, parse_cookies
from tests.apps import COOKIE, FETCH, guarded, log_out, names, page, signs_out, went_to_provider

EXPIRED = "Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"


@pytest.mark.parametrize(
    ("cookie", "lines"),
    [
        (
            Cookie("s"),
            [
                f"s=; {EXPIRED}; Path=/; Secure; SameSite=Lax",
                f"__Host-s=; {EXPIRED}; Path=/; Secure; SameSite=Lax",
                f"__Secure-s=; {EXPIRED}; Path=/; Secure; SameSite=Lax",
                f"s=; {EXPIRED}; Path=/; Domain=app.example.com; Secure; SameSite=Lax",
                f"__Secure-s=; {EXPIRED}; Path=/; Domain=app.example.com; Secure; SameSite=Lax",
            ],
        ),
        (  # no __Host- variant: such a cookie has the path "/" and no domain
            Cookie("s", path="/app", domain="example.com", samesite="strict"),
            [
                f"s=; {EXPIRED}; Path=/app; Domain=example.com; Secure; SameSite=Strict",
                f"__Secure-s=; {EXPIRED}; Path=/app; Domain=example.com; Secure; SameSite=Strict",
                f"s=; {EXPIRED}; Path=/app; Secure; SameSite=Strict",
                f"s=; {EXPIRED}; Path=/app/; Domain=example.com; Secure; SameSite=Strict",
                f"s=; {EXPIRED}; Path=/app/; Secure; SameSite=Strict",
                f"__Secure-s=; {EXPIRED}; Path=/app; Secure; SameSite=Strict",
                f"__Secure-s=; {EXPIRED}; Path=/app/; Domain=example.com; Secure; SameSite=Strict",
                f"__Secure-s=; {EXPIRED}; Path=/app/; Secure; SameSite=Strict",
            ],
        ),
        (
            Cookie("s", domain="example.com", samesite="none", partitioned=True),
            [
                f"s=; {EXPIRED}; Path=/; Domain=example.com; Secure; SameSite=None; Partitioned",
                f"__Secure-s=; {EXPIRED}; Path=/; Domain=example.com; Secure; SameSite=None; Partitioned",
                f"s=; {EXPIRED}; Path=/; Secure; SameSite=None; Partitioned",
                f"__Secure-s=; {EXPIRED}; Path=/; Secure; SameSite=None; Partitioned",
            ],
        ),
    ],
)
async def test_a_cookie_is_expired_in_every_place_where_a_browser_may_keep_it(
    cookie: Cookie | str, lines: list[str]
) -> None:
    """RFC 6265bis, section 5.7: one with a Domain and one without are two, and "/app" and "/app/" are two paths."""
    guard = guarded(signs_out(), session_cookie=cookie)
    answer = await log_out(guard, headers={"host": "app.example.com"}, scheme="https")
    assert answer.all("set-cookie") == lines


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("app.example.com", "app.example.com"),
        ("APP.example.com:8443", "app.example.com"),
        *[(host, None) for host in (None, "", "localhost", "127.0.0.1", "[::1]:8000", "a.b;Secure", "x." + "a" * 300)],
    ],
)
def test_a_domain_is_guessed_from_a_host_name_only(host: str | None, domain: str | None) -> None:
    lines = CookieSet([Cookie("s", path="/p")]).deletions(secure=False, host=host)
    assert [f"Domain={domain}".encode() in line for line in lines] == [False, bool(domain), False, bool(domain)][
        : len(lines)
    ]
    assert len(lines) == (4 if domain else 2)


def test_on_plain_http_nothing_is_sent_that_browsers_take_over_https_only() -> None:
    cookies = CookieSet([Cookie("s"), Cookie("t", samesite="none"), Cookie("u", partitioned=True)])
    lines = cookies.deletions(secure=False)
    assert (names(lines), b"Secure" in b"".join(lines)) == (["s"], False)


def test_what_the_request_brought_is_expired_even_if_it_seems_to_come_by_plain_http() -> None:
    """A browser sends such a cookie over https only, or to its own machine: TLS ends at a proxy in front."""
    cookies = CookieSet([Cookie("s"), Cookie("t", samesite="none")])
    lines = cookies.deletions(["__Host-s", "t"], secure=False)
    assert names(lines) == ["__Host-s", "t", "s"]
    assert [b"Secure" in line for line in lines] == [True, True, False]


def test_no_request_makes_an_answer_carry_more_than_two_kilobytes_of_deletions() -> None:
    declared = [CookieSet([Cookie("s", path="/app")]), CookieSet([Cookie("t")])]
    lines = deletions(declared, [f"t.{number}" for number in range(1000)], secure=True, host="app.example.com")
    assert 1500 < sum(len(b"set-cookie: \r\n") + len(line) for line in lines) <= ROOM
    assert names(lines)[0] == "t.0"
    few = names(deletions(declared, ["t.7", "x"], secure=True, host="app.example.com"))
    assert few[:3] == ["t.7", "s", "t"]


@pytest.mark.parametrize("name", ["__Host-s", "__Secure-s"])
def test_a_name_given_with_its_prefix_means_the_bare_one_as_well(name: str) -> None:
    assert set(Cookie(name).names()) == {"s", "__Host-s", "__Secure-s"}


@pytest.mark.parametrize(
    ("name", "belongs"),
    [
        *[(name, True) for name in ("s", "s.0", "s.12", "s_1", "s__2", "__Host-s", "__Secure-s.3", "__Host-s_0")],
        *[(name, True) for name in ("s-0", "s-12", "s-1234", "s_C1", "__Host-s_C2")],
        *[(name, False) for name in ("s0", "s.", "s.x", "s_", "s_hint", "s.0.0", "ss", "xs", "S", "s.0001", "s_0001")],
        *[(name, False) for name in ("__Host-", "__host_s", "s. 0", "s.0 ", "s.\u0661", "s-\u0661", "sXi", "s_id")],
        *[(name, False) for name in ("s-2fa", "s.10x", "s-", "s--1", "s-C1", "s.C1", "sC1", "s___1", "s_c1", "s_C")],
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
async def test_a_line_that_would_set_the_cookie_again_is_dropped_and_all_others_stay_in_order(
    path: str, for_fetch: str
) -> None:
    lines = [line for pair in zip(SETS_AGAIN, KEPT, strict=False) for line in pair] + KEPT[len(SETS_AGAIN) :]
    app = signs_out("/login", *[("Set-Cookie", line) for line in [*lines, "csrf=new"]], ("x-rp-logout", "1"))
    for headers in ({"cookie": COOKIE}, {}, {"cookie": COOKIE, "origin": "http://127.0.0.1"}):
        guard = guarded(app, clear_cookies="csrf", for_fetch=for_fetch)
        answer = await log_out(guard, path, headers=headers)
        ours = [line for line in answer.all("set-cookie") if line not in KEPT]
        assert answer.all("set-cookie") == [*KEPT, *ours]
        assert all(line.partition(";")[0].endswith("=") and "Max-Age=0" in line for line in ours), ours
        assert {"session", "csrf"} <= answer.expired()


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
    class Lazy(dict[str, Any]):
        def get(self, *args: object) -> Any:
            raise RuntimeError("not loaded yet")

        def __iter__(self) -> Iterator[str]:
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
async def test_clear_site_data_is_off_unless_asked_for(given: Any, options: dict[str, Any], sent: str | None) -> None:
    options = dict(options)
    request = {"headers": options.pop("headers")} if "headers" in options else {}
    answer = await log_out(guarded(signs_out(), clear_site_data=given, **options), **request)
    assert answer.header("clear-site-data") == sent
    assert (await log_out(guarded(page(400), clear_site_data=given, **options))).header("clear-site-data") is None


# Values

S = CookieSet([Cookie("s"), Cookie("other")])
OPAQUE = "abcdefghijklmnopqrst"


def digests(header: str) -> list[str | None]:
    secrets = S.secrets(header)
    assert secrets is not None
    return [secret.digest for secret in secrets]


def test_every_spelling_of_a_value_is_one_secret() -> None:
    value = "abc/def+ghi=jkl mno"
    spellings = [
        value,
        f'"{value}"',
        "abc%2Fdef%2Bghi%3Djkl%20mno",
        "abc%252Fdef+ghi=jkl mno",
        '"abc\\057def+ghi=jkl mno"',
        '"abc/def\\+ghi=jkl mno"',
        "abc\\057def+ghi=jkl mno",  # WebOb
        *(f'"{value}', f"{value};", f"{value}\\", f"\xa0{value}\x85"),
    ]
    assert len({secret_digest(one) for one in spellings}) == 1
    assert secret_digest('"\\"abc/def+ghi=jkl\\""') == secret_digest("%22abc/def+ghi=jkl%22")


SIGNED = "eyJ1Ijoi.aBcDeF.E09YEwkmhp2f6vmJaITaXlEvF_c"
JWE = "eyJhbGciOiJkaXIifQ..AAECAwQFBgcICQoL.c2VjcmV0IHRleHQ.AAECAwQFBgcICQoLDA0ODw"
ENCRYPTED = "gAAAAABm" + "Zm9v" * 24 + "QQ=="


@pytest.mark.parametrize(
    ("value", "same"),
    [
        *[(SIGNED, SIGNED[:-1] + last) for last in "def"],  # the spare bits: "c" is 011100
        *[(SIGNED, SIGNED + more) for more in ("=", "==", "=zzzz")],
        (SIGNED, SIGNED.replace("_", "/")),
        *[(f"id.{'A' * size}", f"id.{'A' * (size - 1)}B") for size in (22, 27, 38, 43, 86)],  # of 16 to 64 bytes
        (SIGNED, SIGNED[:-4] + "!" + SIGNED[-4:]),
        (JWE, JWE.replace("CQoL.", "CQ!oL.")),
        (JWE, JWE[:-1] + "x"),
        *[
            (ENCRYPTED, one)
            for one in (ENCRYPTED[:-2], ENCRYPTED[:-3] + "R", ENCRYPTED + "junk", "g!" + ENCRYPTED[1:], "=" + ENCRYPTED)
        ],
        *[
            ("e4eaaaf2-d142-11e1-b3e4-080027620cdd", one)
            for one in (
                "E4EAAAF2-D142-11E1-B3E4-080027620CDD",
                "e4eaaaf2d14211e1b3e4080027620cdd",
                "{e4eaaaf2-d142-11e1-b3e4-080027620cdd}",
                "urn:uuid:e4eaaaf2-d142-11e1-b3e4-080027620cdd",
                "e4eaaaf2d142-11e1-b3e4080027620cdd",
            )
        ],
        ("0a" * 20, "0A" * 20),
    ],
)
def test_a_spelling_that_decodes_to_the_same_bytes_is_the_same_secret(value: str, same: str) -> None:
    assert secret_digest(same) == secret_digest(value)
    assert same != value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (SIGNED, SIGNED[:-1] + "g"),
        (SIGNED, SIGNED.replace("eyJ1", "eyJ2")),
        (SIGNED, SIGNED.replace("aBcDeF", "aBcDeE")),
        (JWE, JWE.replace("c2Vj", "c2Vk")),
        (ENCRYPTED, ENCRYPTED.replace("Zm9v", "Zm9w", 1)),
        # Ids that differ in the spare bits, were they base64: ULIDs of one millisecond, numbers, dated names.
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAW"),
        ("session.01ARZ3NDEKTSV4RRFFQ69G5FAV", "session.01ARZ3NDEKTSV4RRFFQ69G5FAW"),
        ("session-0000000017", "session-0000000018"),
        ("x" * 48 + "17", "x" * 48 + "18"),
        ("visitor.of.2026.01.17", "visitor.of.2026.01.18"),
        ("alice.of.the.house17", "alice.of.the.house18"),
        # Letters outside of hex digits have a case.
        ("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        ("abcdef0123456789", "ABCDEF0123456789"),
        ("user=alice; sid=abcdefgh", "user=bob; sid=abcdefgh"),
    ],
)
def test_two_values_that_are_different_secrets_stay_different(one: str, other: str) -> None:
    assert secret_digest(one) != secret_digest(other)


@pytest.mark.parametrize(
    "value", ["gA.AAAABm" + ENCRYPTED[8:], ENCRYPTED[:50] + "." + ENCRYPTED[50:], ENCRYPTED + ".x"]
)
def test_a_dot_in_base64_hides_nothing(value: str) -> None:
    """Python's base64 ignores it: Fernet reads the same token."""
    assert digests(f"s={ENCRYPTED}")[0] in digests(f"s={value}")
    assert digests(f"s={ENCRYPTED}")[0] in bearer_digests(f"Bearer {value}")


def test_the_name_does_not_matter_to_a_secret() -> None:
    """A cookie's token may be presented under a prefix, under another declared name, or as a bearer token."""
    (digest,) = digests(f"s={OPAQUE}")
    assert digests(f"__Host-s={OPAQUE}") == digests(f"__Secure-s={OPAQUE}") == digests(f"other={OPAQUE}") == [digest]
    assert bearer_digests(f"Bearer {OPAQUE}") == [digest]


@pytest.mark.parametrize(
    "header",
    [f"bearer {OPAQUE}", f" BEARER   {OPAQUE} ", f"Bearer {OPAQUE} x", f"Bearer x {OPAQUE}", f"Bearer %61{OPAQUE[1:]}"],
)
def test_a_bearer_token_is_read_as_applications_read_it(header: str) -> None:
    assert secret_digest(OPAQUE) in bearer_digests(header)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer short", f"Basic {OPAQUE}", f"Bearer{OPAQUE}"])
def test_what_is_no_bearer_token_has_no_digest(header: str) -> None:
    assert bearer_digests(header) == []


def test_a_jwt_in_chunks_is_the_same_secret_as_a_bearer_token() -> None:
    assert digests(f"s.0={SIGNED[:12]}; s.1={SIGNED[12:]}") == bearer_digests(f"Bearer {SIGNED}")


HEX = "0123456789abcdef" * 2
FORMS = {
    "text": ("abcdefghijklmnop", ["abcdefghijklmnop"]),
    "latin-1, encoded": ("%e9" * 16, ["\u00e9" * 16]),
    "half a character": ("\ud800" * 16, ["\ud800" * 16]),
    "a UUID": ("{" + HEX.upper() + "}", [HEX]),
    "nearly a UUID": ("X" + HEX, ["X" + HEX]),
    "letters beyond hex": ("G" * 32, ["G" * 32]),
    "hex": (HEX.upper() + "AB", [HEX + "ab"]),
    "47 bytes": ("A" * 62 + "Q", ["A" * 62 + "Q"]),
    "48 bytes": ("_" * 64, ["ff" * 48]),
    "signed": ("abcdefgh." + "_" * 22, ["abcdefgh." + "ff" * 16]),
    "long, signed and less than 48 bytes": ("a" * 30 + "." + "_" * 22, ["a" * 30 + "." + "ff" * 16]),
    "signed and 48 bytes": ("_" * 42 + "." + "_" * 22, ["_" * 42 + "." + "ff" * 16, "ff" * 48]),
    "encrypted": ("eyJh.____.abcde..A-B_", ["7b2261.ffffff.abcde..03e07f"]),
}


@pytest.mark.parametrize(("value", "forms"), FORMS.values(), ids=FORMS.keys())
def test_a_value_is_blocked_by_the_same_digests_in_every_release(value: str, forms: list[str]) -> None:
    """They are in the stores of those who upgrade, which must not bring an ended login back."""
    expected = [hashlib.sha256(form.encode("utf-8", "surrogatepass")).hexdigest()[:43] for form in forms]
    assert secret_digests(value) == expected


def test_a_value_is_decoded_up_to_four_times() -> None:
    spelled = ["abcdefgh;ijklmnop"]
    for _ in range(5):
        spelled.append(spelled[-1].replace("%", "%25").replace(";", "%3B"))
    plain, *encoded = map(secret_digest, spelled)
    assert encoded[:4] == [plain] * 4
    assert encoded[4] != plain
    assert unquoted('""') == ""


def test_a_value_that_everybody_may_have_identifies_nobody() -> None:
    assert secret_digest("1") is None
    assert secret_digest("%31" * 15) is None
    assert secret_digest("1" * 16) is not None
    assert digests("s=1; s.0=12; s.1=34") == [None, None]


def test_cookies_are_read_in_order_repeated_names_included() -> None:
    assert parse_cookies(["a=1; b = 2 ;; junk; =x; a=3", "c=d=e"]) == [("a", "1"), ("b", "2"), ("a", "3"), ("c", "d=e")]


TRICKS = [
    "s={}",
    "s = {}",
    's="{}"',
    "x=1 s={}",
    "x=1\ts={}",
    'x="1" s={}',
    "x=1\x85s={}",
    "x=1,s={}",
    "x=1[s={}",
    'x="1"s={}',
    "x=Wed, 09 Jun 2021 10:18:14 GMTs={}",
    "s={}\t\\",
    "s={},x",
    "s={}[x",
    's={}"',
    's="{}" x',
    's="{}"x',
    'x="a; s={}"',
    'x="a; s={}; b"',
    "%73={}",
    "__%48ost-s={}",
]


@pytest.mark.parametrize("trick", TRICKS)
def test_a_value_is_found_wherever_a_known_parser_reads_it_and_then_taken_out(trick: str) -> None:
    (secret,) = S.secrets(f"s={OPAQUE}") or []
    header = "theme=dark; " + trick.format(OPAQUE) + "; lang=en"
    found = [one for one in S.secrets(header) or () if one.digest == secret.digest]
    left = S.without(header, found)
    assert OPAQUE not in left
    assert parse_cookies([left])[0] == ("theme", "dark")
    assert parse_cookies([left])[-1] == ("lang", "en")


@pytest.mark.parametrize(
    "header",
    [f"my_s={OPAQUE}", f"x=s={OPAQUE}", f"s.x={OPAQUE}", f"s/{OPAQUE}", f"x-s={OPAQUE}", f"x%73={OPAQUE}", "ss"],
)
def test_a_name_that_only_ends_like_the_cookie_is_another_cookie(header: str) -> None:
    assert digests(header) == []
    assert S.without_any(f"{header}; t=1") == f"{header}; t=1"


def test_blacksheep_reads_a_value_up_to_a_semicolon_with_a_blank() -> None:
    assert secret_digest("abcdefgh%3Bijklmnop") in digests("s=abcdefgh;ijklmnop; t=1")


def test_of_two_cookies_of_one_name_only_the_dead_one_is_taken_out() -> None:
    header = f"s={OPAQUE}; s=live; t={OPAQUE}; junk"
    assert S.without(header, (S.secrets(header) or ())[:1]) == f"s=live; t={OPAQUE}; junk"


def test_what_is_left_reads_as_nothing_that_was_not_looked_up() -> None:
    """A quoted string gets another value when a piece inside of it goes, and chunks get other neighbours."""
    header = f's="abc; s={OPAQUE}; def ghi jkl mno pqr"; t=1'
    secrets = S.secrets(header) or []
    assert S.without(header, [one for one in secrets if one.parts == (("s", OPAQUE),)]) == 'def ghi jkl mno pqr"; t=1'
    header = "; ".join(f"s.0={one}aaaaaaaa; s.1={one}bbbbbbbb" for one in "123")
    first, last = S.secrets(header) or []
    assert S.without(header, [first, last]) == ""


def test_more_secrets_than_a_browser_sends_are_too_many() -> None:
    few = [f"s={number}{OPAQUE}" for number in range(MOST_SECRETS)]
    assert len(S.secrets("; ".join(few)) or ()) == MOST_SECRETS
    assert S.secrets("; ".join([*few, f"other={OPAQUE}"])) is None
    assert S.secrets(f"s={OPAQUE} " * 500) is None
    assert S.secrets(f"s={OPAQUE}; " * 500) is None
    assert S.secrets(f"s={'x' * 20_000}") is None
    assert S.without_any("a=1; " + f"s={OPAQUE} " * 500 + "; b=2") == "a=1; b=2"
    assert len(S.secrets("; ".join(f"s.{number}={'x' * 500}" for number in range(32))) or ()) == 1


# Chunks


@pytest.mark.parametrize("separator", [".", "-", "_", "__", "_C"])
@pytest.mark.parametrize("first", [0, 1])
def test_the_chunks_of_one_cookie_are_one_secret(separator: str, first: int) -> None:
    parts = [f"s{separator}{number}={letter * 20}" for number, letter in enumerate("abcdefghijklm", first)]
    (secret,) = (S.secrets("; ".join(reversed(parts))) or [])[:1]
    whole = "".join(letter * 20 for letter in "abcdefghijklm")
    assert secret.digest == secret_digest(whole)
    assert {f"{name}={value}" for name, value in secret.parts} == set(parts)


def test_a_chunk_that_is_the_same_in_two_sessions_ties_them_to_nothing() -> None:
    assert not set(digests(f"s_0={OPAQUE}; s_1=aaaa")) & set(digests(f"s_0={OPAQUE}; s_1=bbbb"))


AB = secret_digest("a" * 10 + "b" * 10)
A10, B10, X10 = "a" * 10, "b" * 10, "x" * 10


@pytest.mark.parametrize(
    "header",
    [
        f"s.0={A10}; s.1={B10}",
        f's.0="{A10}"; s.1="{B10}"',
        f"s-0={A10}; s-1={B10}",
        f"s={A10}; s-0={B10}",  # Litestar
        f"s-1000={A10}; s-1001={B10}",
        f"s-9={B10}; s-10={A10}",  # which Litestar sorts as text
        f"s-9={A10}; s-10={B10}",
        f"s.0={X10}; s.0={A10}; s.1={X10}; s.1={B10}",
        f"s.0={A10}; s.0={X10}; s.1={B10}; s.1={X10}",
        f"s.0={A10}; s.1={B10}; s.3={X10}",
        f"s.0={X10}; s.00={A10}; s.1={X10}; s.01={B10}",
        f"s_C0={X10}; s_C1={A10}; s_C2={B10}",
        f"x=1 s.0={A10} s.1={B10}",
        f"x=1,s.0={A10},s.1={B10}",
        f"s.0={A10}{B10}",
    ],
)
def test_chunks_are_put_together_in_every_way_that_a_library_does(header: str) -> None:
    if "s.00" in header:  # other names than s.0 and s.1, which no library asks for beside them
        assert AB not in digests(header)
        header = header.replace("s.0=", "x=").replace("s.1=", "y=")
    assert AB in digests(header)


def test_of_a_dead_cookie_in_chunks_every_chunk_is_taken_out() -> None:
    header = f"s.0={A10}; t=1; s.1={B10}; s={OPAQUE}"
    dead = [one for one in S.secrets(header) or () if one.digest == AB]
    assert S.without(header, dead) == f"t=1; s={OPAQUE}"


def test_an_answer_that_sets_chunks_gives_out_one_secret() -> None:
    lines = [f"s.0={A10}; Path=/", "theme=dark", f's.1="{B10}"; HttpOnly', "s.2=; Max-Age=0", f"other={OPAQUE}"]
    issued = S.issued(line.encode() for line in lines)
    assert {one.digest for one in issued} == {AB, secret_digest(OPAQUE)}


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
def test_a_cookie_that_no_browser_would_have_stored_is_refused_by_its_value(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=r"expected|has the path") as caught:
        Cookie(**given)
    assert named in str(caught.value)


def test_deletions_are_sent_once_per_name() -> None:
    lines = CookieSet([Cookie("s")]).deletions(["s", "s.0", "s.0", "__Host-s", "t"], secure=True)
    assert names(lines) == ["s", "s.0", "__Host-s", "__Secure-s"]


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
