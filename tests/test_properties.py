"""Whatever comes in, a valid answer or a named error goes out: URLs, cookies, headers, whole requests."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from starlette.requests import cookie_parser
from starlette.types import Message

from asgi_rp_logout import ConfigurationError, Cookie, Login, ProviderError, RPLogoutError, StaticProvider
from asgi_rp_logout.protocol.cookie_values import secret_digest
from asgi_rp_logout.protocol.cookies import MOST_SECRETS, ROOM, CookieSet, is_deletion, name_set_by, parse_cookies
from asgi_rp_logout.protocol.end_session import STANDARD_PARAMETERS, as_form, checked_url, end_session_url
from tests.apps import END, guarded, saying
from tests.asgi import Answer, call, http_scope

TEXT = st.text(max_size=30)
LATIN = st.text(st.characters(max_codepoint=255), max_size=30)
TOKEN = st.text(st.sampled_from("abcXYZ019-_.~!#$%&'*+^`|"), min_size=1, max_size=8)
PROBABLE_NAMES = st.sampled_from(
    ["session", "session.0", "session_1", "__Host-session", "__Secure-session", "s", "rp_login"]
)
URLISH = st.one_of(
    TEXT,
    st.builds("{}://{}{}".format, st.sampled_from(["https", "http", "HTTPS", "ftp", ""]), TEXT, TEXT),
    st.builds("https://id.example{}{}".format, st.sampled_from(["/", "?", "/end?", "#", ":", "@", "\\"]), TEXT),
)
ANY_TEXT = st.text(st.one_of(st.characters(), st.sampled_from("\ud800\udfff&=+%#")), max_size=30)  # half surrogates too
VALUES = st.dictionaries(st.sampled_from(STANDARD_PARAMETERS), st.one_of(st.none(), ANY_TEXT), max_size=6)
VALID_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
TOKEN_BYTES = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def is_safe(url: str) -> bool:
    """Say, in another way than the library does, whether a browser may be sent there."""
    parts = urlsplit(url)
    loopback = parts.hostname in ("localhost", "::1") or (parts.hostname or "").endswith(".localhost")
    loopback = loopback or re.fullmatch(r"127\.\d+\.\d+\.\d+", parts.hostname or "") is not None
    return (
        url.isascii()
        and url.isprintable()
        and " " not in url
        and "\\" not in url
        and "@" not in parts.netloc
        and bool(parts.hostname)
        and (parts.scheme == "https" or (parts.scheme == "http" and loopback))
    )


def attempt(make: Callable[[], Any], refused: type[RPLogoutError]) -> tuple[Any, str]:
    """Give what was made, or the sentence of the named error; any other error is a failure."""
    try:
        return make(), ""
    except refused as error:
        return None, str(error)


# URLs


@given(URLISH)
def test_a_url_is_safe_or_refused(url: str) -> None:
    checked, refusal = attempt(lambda: checked_url(url), ProviderError)
    if checked is None:
        assert refusal.startswith("the end-session URL ")
    else:
        assert is_safe(checked)
        assert checked_url(checked) == checked


@given(
    VALUES, st.dictionaries(TOKEN, TEXT, max_size=3), st.sampled_from(["", "?", "?p=1&p=2", "?client_id=x", "?a&b="])
)
def test_what_was_given_can_be_read_from_the_url_each_name_once(values: Any, extra: Any, query: str) -> None:
    url = end_session_url(END + query, values, extra=extra)
    assert is_safe(url)
    before = dict(parse_qsl(query[1:], keep_blank_values=True))
    after = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    appended = after[len(parse_qsl(query[1:], keep_blank_values=True)) :]
    assert urlsplit(url).query.startswith(query[1:].rstrip("&"))
    expected = {name: value for name, value in values.items() if value and name not in before}
    if not values.get("post_logout_redirect_uri"):
        expected.pop("state", None)
    expected |= {name: value for name, value in extra.items() if name not in before | expected}
    as_sent = {name: value.encode("utf-8", "replace").decode() for name, value in expected.items()}
    assert dict(appended) == as_sent
    assert len(appended) == len(as_sent)


@given(VALUES, st.sampled_from(["", "?p=%26&q", "?p=1"]))
def test_a_form_says_the_same_as_the_url(values: Any, query: str) -> None:
    url = end_session_url(END + query, values)
    form = as_form(url, frozenset(STANDARD_PARAMETERS))
    together = [*parse_qsl(urlsplit(form.action).query, keep_blank_values=True), *form.fields]
    assert sorted(together) == sorted(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    assert not {name for name, _ in parse_qsl(urlsplit(form.action).query)} & set(STANDARD_PARAMETERS)


@given(st.one_of(TEXT, URLISH, st.none(), st.integers()))
def test_an_endpoint_is_taken_or_refused_at_construction(endpoint: Any) -> None:
    provider, refusal = attempt(lambda: StaticProvider(endpoint), ConfigurationError)
    assert "expected" in refusal if provider is None else is_safe(provider.get_end_session_url())


# Cookies

COOKIES = st.builds(
    lambda **options: options,
    name=st.one_of(TOKEN, TEXT, PROBABLE_NAMES),
    path=st.one_of(st.just("/"), st.builds("/{}".format, TEXT), TEXT),
    domain=st.one_of(st.none(), st.just("example.com"), TEXT),
    partitioned=st.booleans(),
    samesite=st.sampled_from(["lax", "strict", "none", "Lax", ""]),
)


HOSTS = st.one_of(st.none(), st.sampled_from(["app.example.com", "app.example.com:8000", "localhost", "[::1]"]), TEXT)


@given(COOKIES, st.lists(st.one_of(TEXT, PROBABLE_NAMES)), st.booleans(), HOSTS)
def test_a_cookie_is_refused_or_every_deletion_is_one_that_a_browser_obeys(
    options: Any, seen: list[str], secure: bool, host: str | None
) -> None:
    """RFC 6265bis, section 5.7."""
    cookie, refusal = attempt(lambda: Cookie(**options), ConfigurationError)
    if cookie is None:
        assert re.search("expected|has the path", refusal)
        return
    lines = CookieSet([cookie]).deletions(seen, secure=secure, host=host)
    assert len(set(lines)) == len(lines) >= (2 if secure else 0)
    assert sum(map(len, lines)) <= ROOM
    for line in lines:
        attributes = [piece.strip().lower() for piece in line.decode("ascii").split(";")[1:]]
        name = name_set_by(line).lower()
        assert is_deletion(line)
        assert not CookieSet([cookie]).sets(line)
        assert len(attributes) == len(set(attributes))
        path = next(attribute[5:] for attribute in attributes if attribute.startswith("path="))
        assert path.rstrip("/") == options["path"].lower().rstrip("/") or name.startswith("__host-")
        if (
            secure
            or name.startswith(("__host-", "__secure-"))
            or options["partitioned"]
            or options["samesite"] == "none"
        ):
            assert "secure" in attributes
        if name.startswith("__host-"):
            assert "path=/" in attributes
            assert not any(attribute.startswith("domain") for attribute in attributes)


@given(st.lists(LATIN, max_size=4))
def test_any_cookie_header_can_be_read(headers: list[str]) -> None:
    for name, value in parse_cookies(headers):
        assert name == name.strip() != ""
        assert ";" not in name + value
        secret_digest(value)


# Headers made of what parsers part company over, with values that some application may have issued.
SECRETS = [
    "Zm9vYmFyYmF6cXV4cXV1eA",
    "abcdefghij/klmnop+qr=",
    "e4eaaaf2-d142-11e1-b3e4-080027620cdd",
    "0123456789abcdef.GH",
]
BITS = st.sampled_from(
    [
        *(
            "=",
            ";",
            "; ",
            " ",
            "\t",
            ",",
            '"',
            "\\",
            "\\142",
            "x=1",
            'x="',
            "%73",
            "[",
            "é",
            "\xa0",
            "$Version=1",
            "secure",
            "\n",
        ),
        *("session", "session=", "session=", 'session="', "session = ", "__Host-session=", "session.0=", "session-1="),
        *SECRETS,
    ]
)
SESSION = CookieSet([Cookie("session")])


def digests_read(header: str) -> set[str | None]:
    """Return the digests of what Starlette and the standard library read for the session cookie."""
    stdlib: SimpleCookie = SimpleCookie()
    with contextlib.suppress(CookieError):
        stdlib.load(header)
    read = [*cookie_parser(header).items(), *((name, morsel.value) for name, morsel in stdlib.items())]
    return {secret_digest(value) for name, value in read if name in Cookie("session").names()} - {None}


@settings(max_examples=1000)
@given(st.lists(BITS, max_size=14), st.data())
def test_whatever_a_parser_reads_is_known_and_no_parser_reads_what_was_taken_out(bits: list[str], data: Any) -> None:
    header = "".join(bits)
    secrets = SESSION.secrets(header)
    assert digests_read(SESSION.without_any(header)) == set()
    if secrets is None:
        return
    assert len(secrets) <= MOST_SECRETS
    known = {secret.digest for secret in secrets}
    assert digests_read(header) <= known
    dead = [secret for secret in secrets if data.draw(st.booleans())]
    left = SESSION.without(header, dead)
    assert digests_read(left) <= known - {secret.digest for secret in dead}
    assert SESSION.without(header, []) == header


@given(st.lists(BITS, max_size=14))
def test_what_is_no_session_cookie_stays(bits: list[str]) -> None:
    others = [("theme", "dark"), ("lang", "en")]
    header = "theme=dark; " + "".join(bits).replace('"', "") + "; lang=en"
    left = SESSION.without_any(header)
    assert [pair for pair in parse_cookies([left]) if pair in others] == others


@given(st.binary(max_size=80), st.sampled_from([b"", b"s=1; Max-Age=", b"s=1; Expires=", b"s=1; Expires=Thu, 01 Jan "]))
def test_any_set_cookie_line_is_a_deletion_or_none(rest: bytes, begin: bytes) -> None:
    assert is_deletion(begin + rest) in (True, False)


NUMBERS = st.one_of(st.integers(), st.integers(0, 99))
ZONES = st.one_of(st.just("GMT"), st.builds("{:+d}".format, NUMBERS), TEXT)
DATES = st.builds(
    "Thu, {} {} {} {}:{}:{} {}".format, NUMBERS, st.sampled_from(["Jan", "Feb", "Foo"]), *[NUMBERS] * 4, ZONES
)


@given(DATES)
def test_any_date_is_past_or_not(date: str) -> None:
    assert is_deletion(f"s=1; Expires={date}".encode("latin-1", "replace")) in (True, False)


@given(st.text(st.characters(max_codepoint=255), min_size=16, max_size=40))
def test_quotes_do_not_make_another_value(value: str) -> None:
    assume('"' not in value and "\\" not in value and "%" not in value)
    assert secret_digest(f'"{value}"') == secret_digest(value)


# Whole responses

HEADER = st.tuples(TOKEN, LATIN)
INTERESTING = st.sampled_from(
    [
        ("Set-Cookie", "session=new; Path=/"),
        ("set-cookie", "session=; Max-Age=0"),
        ("set-cookie", "a=b"),
        ("SET-COOKIE", ""),
        ("set-cookie", "=;;="),
        ("location", "/login"),
        ("location", "//evil.example"),
        ("Location", "https://evil.example/x"),
        ("content-length", "5"),
        ("X-RP-Logout", "1"),
        ("x-rp-logout", "local"),
        ("x-rp-logout", "nobody"),
        ("etag", "x"),
    ]
)
REQUEST_HEADER = st.one_of(
    st.tuples(
        st.sampled_from(["cookie", "Cookie"]), st.one_of(LATIN, st.builds("{}={}".format, PROBABLE_NAMES, LATIN))
    ),
    st.tuples(st.sampled_from(["host", "origin", "accept", "referer"]), LATIN),
    st.sampled_from(
        [("hx-request", "true"), ("x-inertia", "true"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")]
    ),
    st.tuples(TOKEN, LATIN),
)
HINTS = st.one_of(st.none(), st.text(max_size=20), st.just("h" * 700))


@settings(max_examples=200)
@given(
    status=st.sampled_from([200, 204, 302, 303, 307, 400, 401, 500]),
    headers=st.lists(st.one_of(HEADER, INTERESTING), max_size=6),
    request=st.lists(REQUEST_HEADER, max_size=5),
    method=st.sampled_from(["GET", "POST", "HEAD", "DELETE", "OPTIONS"]),
    path=st.one_of(st.sampled_from(["/logout", "/", "/prefix/logout"]), st.builds("/{}".format, TEXT)),
    root_path=st.sampled_from(["", "/prefix", "/a b", "/é"]),
    configured=st.sampled_from(
        [{}, {"post_logout_redirect_uri": "/bye"}, {"callback_path": "/back"}, {"for_fetch": "json"}]
    ),
    hint=HINTS,
)
def test_any_request_and_any_response_give_one_valid_answer(
    status: int,
    headers: Any,
    request: Any,
    method: str,
    path: str,
    root_path: str,
    configured: dict[str, Any],
    hint: str | None,
) -> None:
    """One start, complete bodies, no line break in a header, no cookie set again, no redirect to a third place."""
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    messages: list[Message] = [
        {"type": "http.response.start", "status": status, "headers": raw},
        {"type": "http.response.body"},
    ]
    login = Login("idp", id_token=hint) if hint is not None else None
    guard = guarded(
        saying(messages), login_source=lambda _: login, require_login=False, max_url_length=500, **configured
    )
    path, _, _ = path.partition("?")
    scope = http_scope("/", method, request, root_path=root_path) | {"path": path}
    answer = asyncio.run(call(guard, scope))
    assert [message["type"] for message in answer.messages] == ["http.response.start", "http.response.body"]
    if answer.status != status or not answer.messages[1].get("body") or answer.headers != raw:
        check_headers(answer, {value for _, value in raw})
    check_redirect(answer, raw)


def check_headers(answer: Answer, given: set[bytes]) -> None:
    for name, value in answer.headers:
        assert VALID_VALUE.fullmatch(value) or value in given, value
        assert TOKEN_BYTES.fullmatch(name)
        assert name.lower() != b"x-rp-logout"
    if "session" in answer.expired():
        assert not CookieSet([Cookie("session")]).sets(answer.all("set-cookie")[-1].encode("latin-1"))
        assert not set(answer.cookies()) & {"session", "__Host-session", "__Secure-session"}


def check_redirect(answer: Answer, raw: Any) -> None:
    locations = [value for name, value in answer.headers if name.lower() in (b"location", b"hx-redirect")]
    own = {value for name, value in raw if name.lower() == b"location"}
    assert all(value in own or value.startswith(END.encode()) for value in locations), locations
    for value in locations:
        if value not in own:
            back = dict(parse_qsl(urlsplit(value.decode("ascii")).query)).get("post_logout_redirect_uri", "http://")
            assert back.startswith(("http://", "https://"))


@pytest.mark.parametrize("hint", ["a\r\nset-cookie: x=y", "\ud800", "é" * 300, "\x00", '"><script>'])
def test_a_hint_cannot_write_headers(hint: str) -> None:
    start: list[Message] = [
        {"type": "http.response.start", "status": 303, "headers": []},
        {"type": "http.response.body"},
    ]
    for limit in (500, 5000):
        guard = guarded(saying(start), login_source=lambda _: Login("idp", hint), max_url_length=limit)
        answer = asyncio.run(call(guard, http_scope("/logout", "POST")))
        assert answer.status == 303
        check_headers(answer, set())
