"""Where a browser may return to: a path on this origin, or nowhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_rp_logout.protocol.return_target import (
    MAX_TARGET,
    Origin,
    absolute_url,
    local_path,
    local_reference,
    origin_of,
    public_base,
    without_query,
)

DATA = Path(__file__).parent / "data"
HOSTILE = [json.loads(line) for line in (DATA / "return_targets.jsonl").read_text().splitlines()]
HONEST = [json.loads(line) for line in (DATA / "honest_targets.jsonl").read_text().splitlines()]

OWN = Origin("https", "app.example.com", 443)
HONEST_ORIGINS = (
    OWN,
    Origin("http", "localhost", 8000),
    Origin("http", "[::1]", 8000),
    Origin("http", "127.0.0.1", 80),
    Origin("https", "xn--bcher-kva.example", 443),
)


def stays(result: str) -> bool:
    """Judge a result as urllib does, and as a browser does after up to three decodings by somebody in between."""
    for _ in range(4):
        # WHATWG: controls and spaces go at the ends, tabs and line breaks everywhere, a backslash is a slash.
        seen = re.sub(r"[\t\n\r]", "", result.strip("".join(map(chr, range(0x21))))).replace("\\", "/")
        parts = urlsplit(urljoin("https://app.example.com/auth/", seen.split("?")[0]))
        if not re.match(r"/(?!/)", seen) or (parts.scheme, parts.netloc) != ("https", "app.example.com"):
            return False
        result = unquote(result)
    return True


def test_the_judge_of_these_tests_knows_what_leaves() -> None:
    """A judge that lets everything pass would let every test here pass."""
    for target in ("//evil.example", "/\\evil.example", "/\t/evil.example", "/%2fevil.example", "/%255cevil.example"):
        assert not stays(target)
    assert stays("/login?next=//evil.example")


def test_the_corpora_are_as_large_as_they_should_be_and_say_nothing_twice() -> None:
    """A file cut short would make the tests below pass for nothing."""
    assert len({target for target, *_ in HOSTILE}) == len(HOSTILE) >= 1500
    assert len({(target, current) for target, current, _ in HONEST}) == len(HONEST) >= 80


def test_every_hostile_target_is_refused_or_is_the_path_that_the_corpus_says() -> None:
    """No reader is taken anywhere by what an application or a stored state says."""
    wrong = {}
    for target, why, *path in HOSTILE:
        result = local_path(target, own={OWN}, current_path="/logout")
        if result != (path[0] if path else None):
            wrong[target[:80]] = (why, result)
    assert wrong == {}


@pytest.mark.parametrize(
    "current_path", ["/", "/auth/logout", "/a/b/c/", "//evil.example/x", "/\\evil.example/x", "/a\ud800/x", ""]
)
def test_no_hostile_target_leaves_from_any_path(current_path: str) -> None:
    """The path of the request is the client's to choose as well."""
    for target, why, *_ in HOSTILE:
        result = local_path(target, own={OWN}, current_path=current_path)
        assert result is None or stays(result), (target, why, result)


@pytest.mark.parametrize(
    ("target", "current_path", "result"), HONEST, ids=[ascii(target)[:60] for target, *_ in HONEST]
)
def test_honest_targets_pass(target: str, current_path: str, result: str) -> None:
    """What applications really send arrives, spelled as they spelled it."""
    assert local_path(target, own=HONEST_ORIGINS, current_path=current_path) == result


@pytest.mark.parametrize("target", sorted({result for *_, result in HONEST}), ids=lambda target: target[:60])
def test_a_result_given_again_stays_as_it_is(target: str) -> None:
    """What is stored for the round trip is judged a second time on return."""
    assert local_path(target, own=()) == target


def test_without_own_origins_no_absolute_url_passes() -> None:
    """A request without a usable Host has no origin to return to."""
    assert local_path("https://app.example.com/login", own=()) is None
    assert local_path("/login", own=()) == "/login"


HOSTILE_TEXT = st.text(
    st.sampled_from("/\\.%2fF5cC:;@?#&= \t\n\r\x00ahtps\u2044\uff0f\u3002\u200b\xad\xff\xc0\xaf\ud800[]")
)


@given(target=st.text() | HOSTILE_TEXT, current_path=st.text() | HOSTILE_TEXT.map("/".__add__))
@example("/.//..;/evil.example", "/")
@example("/.//.\u200b./evil.example", "/")
def test_a_result_is_plain_ascii_behind_one_slash_and_stays(target: str, current_path: str) -> None:
    """Whatever the text, the result is safe in a header, safe in a page, and a path of this origin."""
    result = local_path(target, own={OWN}, current_path=current_path)
    if result is not None:
        assert re.fullmatch(r"/(?!/)[!#-;=?-\[\]_a-z~]*", result)
        assert "#" not in result
        assert len(result) <= MAX_TARGET
        assert stays(result)
        assert local_path(result, own=()) == result


@given(target=st.text() | HOSTILE_TEXT, current_path=st.text() | HOSTILE_TEXT.map("/".__add__))
@example("/#//evil.example", "/")
@example("/#é", "/")
@example("/" + "a" * 1500 + "#" + "é" * 500, "/")
def test_a_fragment_changes_nothing_in_front_of_it(target: str, current_path: str) -> None:
    """Whatever the text, what is added is ASCII behind the first "#", and the rest is the path as it was."""
    path = local_path(target, own={OWN}, current_path=current_path)
    result = local_reference(target, own={OWN}, current_path=current_path)
    if path is None or result is None:
        assert path is result is None
    else:
        assert result.partition("#")[0] == path
        assert re.fullmatch(r"[!#-;=?-\[\]_a-z~]*", result.partition("#")[2])
        assert len(result) <= MAX_TARGET
        assert local_reference(result, own=()) == result


@pytest.mark.parametrize(
    ("target", "result"),
    [
        ("/app#/users/7", "/app#/users/7"),
        ("https://app.example.com/app?a=1#x", "/app?a=1#x"),
        ("?a=1#x", "/auth/logout?a=1#x"),
        ("/\u00e9#\u00fc#y", "/%C3%A9#%C3%BC#y"),
        ("/app#", "/app"),
        ("//evil.example#x", None),
        ("/#" + "a" * (MAX_TARGET - 2), "/#" + "a" * (MAX_TARGET - 2)),
        ("/#\u00fc" + "a" * (MAX_TARGET - 7), "/"),
    ],
)
def test_a_fragment_is_kept_as_long_as_the_whole_is_no_longer_than_allowed(target: str, result: str | None) -> None:
    assert local_reference(target, own={OWN}, current_path="/auth/logout") == result


@given(tail=HOSTILE_TEXT)
def test_what_follows_the_own_host_cannot_change_it(tail: str) -> None:
    """An own origin is own to the end of its authority, or the target is refused."""
    target = "https://app.example.com" + tail
    result = local_path(target, own={OWN})
    assert result is None or (tail[:1] in ("", "/", "?", "#") and stays(result))


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://app.example.com", Origin("https", "app.example.com", 443)),
        ("http://App.Example.com/x?y#z", Origin("http", "app.example.com", 80)),
        ("HTTP://localhost:8000", Origin("http", "localhost", 8000)),
        ("https://my_service:65535/", Origin("https", "my_service", 65535)),
        ("https://a:1/", Origin("https", "a", 1)),
        ("https://" + "a" * 253, Origin("https", "a" * 253, 443)),
        ("https://192.0.2.1:0443/", Origin("https", "192.0.2.1", 443)),
        ("https://[2001:DB8:0:0:0:0:0:1]/", Origin("https", "[2001:db8::1]", 443)),
        ("https://" + "a" * 254, None),
        *((f"https://{host}/", None) for host in ("a@b", "a:", "a:0", "a:65536", "a.", "a..b", "-a", "[::1", "0x7f.1")),
        *(
            (f"https://{host}/", None)
            for host in ("\u017f", "a%2e", "a\\b", "a\tb", "a b", "[fe80::1%25e]", "1.2.3", "")
        ),
        *(
            (url, None)
            for url in ("", "app.example.com", "//app.example.com", "ftp://a", "https:a", "https:/a", " https://a")
        ),
    ],
)
def test_an_origin_is_one_that_every_parser_agrees_on(url: str, origin: Origin | None) -> None:
    """Only scheme, host and port that cannot be read in two ways make an origin."""
    assert origin_of(url) == origin


@pytest.mark.parametrize("url", ["https://app.example.com", "http://[::1]:8000", "https://192.0.2.1:8443"])
def test_an_origin_is_written_as_browsers_write_it(url: str) -> None:
    """The default port is left out, any other is there."""
    assert str(origin_of(url + "/x")) == url


def test_a_path_is_put_behind_the_base_with_its_prefix() -> None:
    """A base may have a prefix and may end in a slash."""
    assert absolute_url("/login", "https://app.example.com") == "https://app.example.com/login"
    assert absolute_url("/login", "https://app.example.com/") == "https://app.example.com/login"
    assert absolute_url("/", "https://app.example.com/prefix/") == "https://app.example.com/prefix/"


def test_of_a_base_nothing_but_the_slashes_at_its_end_is_taken_off() -> None:
    """Whatever letters stand before them, in either case."""
    for name in ("X", "x"):
        url = f"https://app.example.com/{name}"
        assert absolute_url("/login", f"{url}/") == f"{url}/login"
        assert public_base(public_url=f"{url}/", scheme="https", host=None, root_path="") == url
        assert base("app.example.com", root_path=f"/{name}/") == url


@pytest.mark.parametrize("tail", ["", "?a=1", "#x", "?a=1#x", "#x?a=1", "?a?b", "?"])
def test_query_and_fragment_are_dropped_for_exact_comparison(tail: str) -> None:
    """Providers compare the whole string, so only what can be registered is sent."""
    assert without_query("https://app.example.com/login" + tail) == "https://app.example.com/login"


def base(host: str | None, *, scheme: str = "https", root_path: str = "") -> str | None:
    return public_base(public_url=None, scheme=scheme, host=host, root_path=root_path)


def test_the_configured_url_wins_over_the_request() -> None:
    """Behind a proxy the request knows neither scheme nor host."""
    url = "https://app.example.com/prefix"
    assert public_base(public_url=url + "/", scheme="http", host="evil.example", root_path="/x") == url


def test_the_base_is_scheme_host_and_root_path() -> None:
    """Without public_url the base is what the browser has in its address bar."""
    assert base("app.example.com") == "https://app.example.com"
    assert base("APP.example.com:443", root_path="/prefix/") == "https://app.example.com/prefix"
    assert base("app.example.com:443", scheme="http") == "http://app.example.com:443"
    assert base("[::1]:8000", scheme="http", root_path="/a b") == "http://[::1]:8000/a%20b"
    assert base("127.0.0.1:8000", scheme="http") == "http://127.0.0.1:8000"


NO_HOSTS = r"""
a b|app.example.com/|app.example.com/x|app.example.com?x|app.example.com#x|a@b|a:b@c|app.example.com\|app.example.com:|
app.example.com:x|app.example.com:99999|app.example.com.|a,b|[::1|::1|[evil]|0x7f.1|a%2eb|//a|https://a|a"b|a<b|a;b| |
"""


@pytest.mark.parametrize(
    "host", [None, "app.example.com\r\nx: y", "\u0430pp.example.com", *NO_HOSTS.strip().replace("\n", "").split("|")]
)
def test_a_host_that_is_not_exactly_a_host_gives_no_base(host: str | None) -> None:
    """The Host header is the client's to choose."""
    assert base(host) is None


@pytest.mark.parametrize("root_path", ["//evil.example", "/\\evil.example", "/x?y", "/x\r\n", "https://evil.example"])
def test_a_root_path_that_is_no_path_gives_no_base(root_path: str) -> None:
    """Some proxies' prefix headers reach root_path."""
    assert base("app.example.com", root_path=root_path) is None


@pytest.mark.parametrize("scheme", ["ws", "javascript", "", "https:"])
def test_another_scheme_gives_no_base(scheme: str) -> None:
    """Only http and https have pages."""
    assert base("app.example.com", scheme=scheme) is None
