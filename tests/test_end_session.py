"""The end-session URL: RP-Initiated Logout 1.0, sections 2 and 2.1."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from asgi_rp_logout import ProviderError
from asgi_rp_logout.protocol.end_session import (
    FormPost,
    append_parameters,
    as_form,
    checked_url,
    end_session_url,
    is_loopback,
    same_endpoint,
)

END = "https://id.example/end"
ALL = {
    "state": "st",
    "post_logout_redirect_uri": "https://app.example/bye?a=b&c=d",
    "id_token_hint": "a.b.c",
    "ui_locales": "de en",
    "logout_hint": "alice@example.org",
    "client_id": "rp",
}


def test_the_parameters_stand_in_their_order_and_percent_encoded() -> None:
    assert end_session_url(END, ALL) == (
        f"{END}?id_token_hint=a.b.c&logout_hint=alice%40example.org&client_id=rp"
        "&post_logout_redirect_uri=https%3A%2F%2Fapp.example%2Fbye%3Fa%3Db%26c%3Dd&state=st&ui_locales=de%20en"
    )


@pytest.mark.parametrize(
    ("endpoint", "values", "options", "expected"),
    [
        # R14: an endpoint may have a port, a path and a query, which stay as they are
        ("https://id.example:8443/a/b?p=x", {"client_id": "rp"}, {}, "https://id.example:8443/a/b?p=x&client_id=rp"),
        (f"{END}?p=%2f&q=a+b&flag", {"client_id": "rp"}, {}, f"{END}?p=%2f&q=a+b&flag&client_id=rp"),
        (f"{END}?", {"client_id": "rp"}, {}, f"{END}?client_id=rp"),
        (f"{END}?p=x&", {"client_id": "rp"}, {}, f"{END}?p=x&client_id=rp"),
        ("https://id.example", {"client_id": "rp"}, {}, "https://id.example?client_id=rp"),
        (END, {}, {}, END),
        # no parameter is empty: Keycloak answers 400 to "id_token_hint="
        (END, {"id_token_hint": "", "client_id": None, "logout_hint": "a"}, {}, f"{END}?logout_hint=a"),
        # none stands twice, and the endpoint's own goes first
        (f"{END}?client_id=theirs", {"client_id": "rp"}, {}, f"{END}?client_id=theirs"),
        (f"{END}?client%5Fid=theirs", {"client_id": "rp"}, {}, f"{END}?client%5Fid=theirs"),
        (f"{END}?client_id=", {"client_id": "rp"}, {}, f"{END}?client_id="),
        (END, {"logout_hint": "a"}, {"rename": {"logout_hint": "x"}, "extra": {"x": "b"}}, f"{END}?x=a"),
        # names can be changed, parameters dropped and added
        (
            END,
            {"post_logout_redirect_uri": "https://a/", "id_token_hint": "h"},
            {"rename": {"post_logout_redirect_uri": "returnTo", "id_token_hint": None}},
            f"{END}?returnTo=https%3A%2F%2Fa%2F",
        ),
        (END, {}, {"extra": {"federated": "", "x": "1 2"}}, f"{END}?federated&x=1%202"),
        # a state without an address to bring it back to is an error at some providers
        (END, {"state": "s"}, {}, END),
        (END, {"state": "s"}, {"rename": {"state": "RelayState"}}, END),
        (
            END,
            {"state": "s", "post_logout_redirect_uri": "https://a/"},
            {"rename": {"state": "relay"}},
            f"{END}?post_logout_redirect_uri=https%3A%2F%2Fa%2F&relay=s",
        ),
        # anything can be a value
        (END, {"logout_hint": "é\r\n&=#+\ud800"}, {}, f"{END}?logout_hint=%C3%A9%0D%0A%26%3D%23%2B%3F"),
        # a name that is no standard one is the provider's own
        (END, {"session_id": "7"}, {}, f"{END}?session_id=7"),
        (f"{END}#top", {"client_id": "rp"}, {}, f"{END}?client_id=rp"),
    ],
)
def test_the_url_of_a_logout(endpoint: str, values: Any, options: Any, expected: str) -> None:
    assert end_session_url(endpoint, values, **options) == expected


GOOD = [
    "https://id.example/end",
    "https://id.example:444/end?x=y",
    "HTTPS://ID.example/",
    "https://[2001:db8::1]/end",
    "http://localhost:8080/end",
    "http://127.0.0.1/end",
    "http://127.9.9.9/end",
    "http://[::1]:9/end",
    "http://op.localhost/end",
]
BAD = [
    "",
    "id.example/end",
    "/end",
    "//id.example/end",
    "http://id.example/end",
    "http://localhost.example/end",
    "http://notlocalhost/end",
    "http://127.0.0.1.example/end",
    "http://10.0.0.1/end",
    "http://2130706433/",
    "javascript:alert(1)",
    "data:text/html,x",
    "ftp://id.example/",
    "https://",
    "https:///end",
    "https:/id.example/end",
    "https://user@id.example/end",
    "https://user:password@id.example/end",
    "https://@id.example/end",
    "https://id.example:port/end",
    "https://id.example:99999/end",
    "https://[::1/end",
    "https://id.example\\@evil.example/end",
    "https://id.example\\evil.example/end",
    "https://id.example/\\evil.example",
    "https://id.example/end\r\nset-cookie: a=b",
    "https://id.example/end\n",
    "https://id.example/\x00",
    "https://id.example/a b",
    " https://id.example/end",
    "https://id.exämple/end",
    "https://id.example/\u2028",
    None,
    7,
    b"https://id.example/end",
]


@pytest.mark.parametrize("url", GOOD)
def test_https_and_http_on_a_loopback_host_are_taken(url: str) -> None:
    assert checked_url(url).lower() == url.lower()


@pytest.mark.parametrize("url", BAD)
def test_every_other_url_is_refused_and_not_shown(url: object) -> None:
    """Its message ends up in a log, and an endpoint may come with anything behind it."""
    for call in (checked_url, lambda bad: append_parameters(bad, []), lambda bad: end_session_url(bad, {})):
        with pytest.raises(ProviderError) as caught:
            call(url)
        assert caught.value.code == "url"
        assert not url or str(url)[:12] not in str(caught.value)


def test_a_fragment_and_an_empty_query_are_left_out() -> None:
    assert checked_url("https://id.example/end?a=b#c") == "https://id.example/end?a=b"
    assert checked_url("https://id.example/end?") == "https://id.example/end"


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_a_loopback_host_never_leaves_this_machine(host: str) -> None:
    assert is_loopback(host)
    assert not is_loopback(f"{host}.example")


def test_what_is_in_a_query_already_is_not_appended() -> None:
    pairs = [("a", "1"), ("b", "2"), ("b", "3")]
    assert append_parameters(f"{END}?a=0", pairs) == f"{END}?a=0&b=2"
    assert append_parameters(f"{END}?a=", pairs) == f"{END}?a=&b=2"


@pytest.mark.parametrize(
    ("url", "same"),
    [
        (f"{END}?anything", True),
        (f"{END}#x", True),
        ("HTTPS://ID.EXAMPLE/end", True),
        ("https://id.example:443/end", True),
        ("https://id.example:80/end", False),
        ("https://id.example/end/", False),
        ("https://id.example:444/end", False),
        ("http://id.example/end", False),
        ("/end", False),
        ("https://[", False),
        ("https://id.example:port/end", False),
    ],
)
def test_two_urls_lead_to_one_endpoint_whatever_their_queries(url: str, same: bool) -> None:
    assert same_endpoint(url, END) is same
    assert same_endpoint(END, url) is same


def test_the_port_of_a_scheme_need_not_be_said() -> None:
    assert same_endpoint("http://localhost:80/end", "http://localhost/end")
    assert not same_endpoint("http://localhost:81/end", "http://localhost/end")


def test_what_names_no_scheme_is_no_endpoint() -> None:
    assert not same_endpoint("/end", "/end")


def test_the_form_posts_what_the_query_would_have_said() -> None:
    """RP-Initiated Logout 1.0, section 2: the endpoint's own query stays in the action."""
    url = end_session_url(f"{END}?p=a%26b&flag", ALL, extra={"federated": ""})
    form = as_form(url, frozenset(ALL))
    assert form.action == f"{END}?p=a%26b&flag&federated"
    assert dict(form.fields) == ALL
    assert dict(parse_qsl(urlsplit(url).query)) == {"p": "a&b", **dict(form.fields)}


def test_an_empty_parameter_is_a_field_of_the_form_too() -> None:
    form = as_form(f"{END}?client_id=&p=&flag", frozenset(["client_id", "flag"]))
    assert form == FormPost(f"{END}?p=", (("client_id", ""), ("flag", "")))


def test_no_state_goes_without_an_address_even_where_the_address_is_dropped_by_name() -> None:
    """Ory Hydra refuses a state alone, also if it is the configuration that leaves the address out."""
    values = {"post_logout_redirect_uri": "https://app.example.com/", "state": "x", "client_id": "dashboard"}
    url = end_session_url("https://id.example.com/logout", values, rename={"post_logout_redirect_uri": None})
    assert url == "https://id.example.com/logout?client_id=dashboard"


def test_a_parameter_is_told_from_a_query_that_ends_in_a_question_mark() -> None:
    url = end_session_url("https://id.example/end?x=?", {"client_id": "rp"})
    assert url == "https://id.example/end?x=?&client_id=rp"
