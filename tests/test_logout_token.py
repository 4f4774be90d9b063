"""The steps of section 2.6 on their own: exact limits, exact codes, any order of the claims, and hostile input."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_rp_logout.errors import LogoutTokenError
from asgi_rp_logout.protocol.logout_token import (
    Expected,
    LogoutToken,
    parse_form,
    read_logout_token,
    unverified_issuer,
)
from tests.fuzz_requests import run

NOW = 1_700_000_000.0
EVENTS: dict[str, Any] = {"http://schemas.openid.net/event/backchannel-logout": {}}
CLAIMS: dict[str, Any] = {
    "iss": "https://op.example/",
    "aud": "rp",
    "sub": "alice",
    "sid": "s1",
    "iat": 1_700_000_000,
    "exp": 1_700_000_120,
    "jti": "j1",
    "events": EVENTS,
}
FORM = "application/x-www-form-urlencoded"
CODES = {"alg", "typ", "iss", "aud", "iat", "exp", "sub_or_sid", "events", "nonce", "jti"}

# No deadline and no complaint of slowness: neither is about the parsers. scripts/fuzz tries a million inputs.
hypothesis = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def outcome(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Give what a parser gives, or the refusal that it raises; anything else that it raises is a failure."""
    try:
        return function(*arguments, **named)
    except LogoutTokenError as error:
        return error


def read(
    header: dict[str, Any] | None = None, *, now: float = NOW, require_exp: bool = False, **claims: Any
) -> LogoutToken:
    """Read a token whose claims are replaced by these; None takes a claim away."""
    changed = {name: value for name, value in (CLAIMS | claims).items() if value is not None}
    expected = Expected("https://op.example/", "rp", "RS256", require_exp)
    return read_logout_token({"alg": "RS256"} if header is None else header, changed, expected, now=now)


def code(*arguments: Any, **changes: Any) -> str:
    with pytest.raises(LogoutTokenError) as caught:
        read(*arguments, **changes)
    return caught.value.code


def test_a_valid_token_gives_what_it_says() -> None:
    assert read() == LogoutToken(iss="https://op.example/", sub="alice", sid="s1", iat=NOW, jti="j1")
    assert read(sid=None) == LogoutToken(iss="https://op.example/", sub="alice", sid=None, iat=NOW, jti="j1")
    assert read(sub=None) == LogoutToken(iss="https://op.example/", sub=None, sid="s1", iat=NOW, jti="j1")


@pytest.mark.parametrize(
    ("ahead", "taken"), [(60, True), (60.5, False), (0, True), (-60, True)], ids=["60", "60.5", "0", "-60"]
)
def test_an_iat_may_be_ahead_of_this_clock_by_the_leeway(ahead: float, taken: bool) -> None:
    iat = NOW + ahead
    if taken:
        assert read(iat=iat).iat == iat
    else:
        assert code(iat=iat) == "iat"


def test_a_token_is_taken_until_the_leeway_after_its_exp_has_passed() -> None:
    assert read(now=CLAIMS["exp"] + 59.9)
    assert code(now=CLAIMS["exp"] + 60) == "exp"


def test_a_token_without_exp_is_taken_for_five_minutes() -> None:
    assert read(exp=None, now=NOW + 300)
    assert code(exp=None, now=NOW + 300.1) == "iat"
    assert code(exp=None, require_exp=True) == "exp"


def test_with_an_exp_the_age_of_the_iat_does_not_matter() -> None:
    assert read(iat=NOW - 86400).iat == NOW - 86400


@pytest.mark.parametrize("value", [True, "1700000000", [], {}, float("nan"), float("inf"), float("-inf"), -1, 10**400])
@pytest.mark.parametrize("name", ["iat", "exp"])
def test_a_time_is_a_number_of_seconds(name: str, value: Any) -> None:
    assert code(**{name: value}) == name


def test_a_time_lies_between_1970_and_the_year_9999() -> None:
    """A sum with a time beyond it would overflow."""
    assert read(iat=0).iat == 0.0
    assert read(exp=253402300799)
    assert code(exp=253402300800) == "exp"


@pytest.mark.parametrize("typ", ["JWT", "jwt", "logout+jwt", "Logout+JWT", "application/logout+jwt"])
def test_a_typ_may_be_there(typ: str) -> None:
    assert read({"alg": "RS256", "typ": typ})


@pytest.mark.parametrize("typ", ["at+jwt", "id_token+jwt", "", None, 1, ["JWT"], "application/jwt"])
def test_another_typ_is_another_kind_of_token(typ: Any) -> None:
    assert code({"alg": "RS256", "typ": typ}) == "typ"


@pytest.mark.parametrize("alg", [None, "none", "HS256", "rs256", "RS512", ["RS256"]])
def test_the_algorithm_is_the_pinned_one(alg: Any) -> None:
    assert code({"alg": alg}) == "alg"


def test_an_audience_names_this_client_and_nobody_else() -> None:
    assert read(aud=["rp"])
    assert read(aud=["rp", "rp"])
    for aud in ("RP", "", [], ["rp", "other"], ["rp", None], [["rp"]], {"rp": 1}, 7):
        assert code(aud=aud) == "aud"


@pytest.mark.parametrize(
    "iss", ["https://op.example", "https://OP.example/", "https://op.example/x", 7, ["https://op.example/"]]
)
def test_an_issuer_is_compared_code_point_by_code_point(iss: Any) -> None:
    assert code(iss=iss) == "iss"


def test_the_first_step_that_fails_gives_the_code() -> None:
    """One after the other is put right, in the order of section 2.6, and the next one speaks."""
    broken: dict[str, Any] = {
        "iss": "x",
        "aud": "x",
        "iat": "x",
        "exp": "x",
        "sub": 1,
        "events": [],
        "nonce": 1,
        "jti": "",
    }
    header, codes = {"alg": "none", "typ": "at+jwt"}, []
    for name in ("alg", "typ", *broken):
        codes.append(code(header, **broken))
        if name in header:
            header = header | {"alg": "RS256"} if name == "alg" else {"alg": "RS256"}
        else:
            broken[name] = CLAIMS.get(name)
    assert codes == ["alg", "typ", "iss", "aud", "iat", "exp", "sub_or_sid", "events", "nonce", "jti"]
    assert read(header, **broken)


@pytest.mark.parametrize("value", [None, "", 7, ["s1"]])
@pytest.mark.parametrize("name", ["sub", "sid"])
def test_a_sub_or_sid_that_is_no_text_is_refused_and_never_read_as_absent(name: str, value: Any) -> None:
    """A sid of null beside a sub would turn "this session" into "every session of this user"."""
    with pytest.raises(LogoutTokenError) as caught:
        read_logout_token({"alg": "RS256"}, {**CLAIMS, name: value}, Expected("https://op.example/", "rp"), now=NOW)
    assert (caught.value.code, str(caught.value)) == ("sub_or_sid", f"the {name} is missing, empty or not a string")


def test_a_token_of_no_user_and_no_session_is_refused() -> None:
    assert code(sub=None, sid=None) == "sub_or_sid"


@pytest.mark.parametrize(
    ("changes", "expected", "sentence"),
    [
        ({"header": {"alg": "none"}}, "alg", "the token is not signed with RS256"),
        ({"header": {"alg": "RS256", "typ": "at+jwt"}}, "typ", "the typ is not that of a logout token"),
        ({"iss": "x"}, "iss", "the iss is not the provider's issuer"),
        ({"aud": "x"}, "aud", "the aud does not name this client"),
        ({"aud": ["rp", "x"]}, "aud", "the aud names other clients too"),
        ({"iat": None}, "iat", "the iat is missing, or is not a time in seconds"),
        ({"iat": NOW + 61}, "iat", "the iat is in the future"),
        ({"exp": "x"}, "exp", "the exp is missing, or is not a time in seconds"),
        ({"exp": NOW - 60}, "exp", "the token has expired"),
        ({"exp": None, "require_exp": True}, "exp", "the exp is missing"),
        ({"exp": None, "iat": NOW - 301}, "iat", "the token has no exp and is older than 300 seconds"),
        ({"sub": "\ud800"}, "sub_or_sid", "the sub is not Unicode text"),
        ({"sub": None, "sid": None}, "sub_or_sid", "the token has neither sub nor sid"),
        ({"events": []}, "events", "the events do not hold a back-channel logout"),
        ({"nonce": "x"}, "nonce", "the token has a nonce, which is forbidden"),
        ({"jti": None}, "jti", "the jti is missing, empty or not a string"),
    ],
)
def test_a_refusal_has_its_code_and_says_what_is_wrong(changes: dict[str, Any], expected: str, sentence: str) -> None:
    with pytest.raises(LogoutTokenError) as caught:
        read(**changes)
    assert (caught.value.code, str(caught.value)) == (expected, sentence)


def test_what_is_refused_is_not_repeated_in_the_error() -> None:
    for name in CLAIMS:
        with pytest.raises(LogoutTokenError) as caught:
            read(**dict[str, Any]({name: ["hunter2"]}))
        assert "hunter2" not in str(caught.value)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from([*CLAIMS, "nonce", "other"])
plausible = anything | st.sampled_from(list(CLAIMS.values()))


@hypothesis
@given(
    header=st.dictionaries(st.sampled_from(["alg", "typ", "kid"]), anything | st.sampled_from(["RS256", "JWT"])),
    claims=st.dictionaries(names, plausible),
    whole=st.booleans(),
)
def test_any_claims_are_either_refused_or_read_as_they_are(header: Any, claims: Any, whole: bool) -> None:
    claims = CLAIMS | claims if whole else claims
    token = outcome(read_logout_token, header, claims, Expected("https://op.example/", "rp"), now=NOW)
    if isinstance(token, LogoutTokenError):
        assert token.code in CODES
    else:
        assert (token.iss, token.sub, token.sid) == (claims["iss"], claims.get("sub"), claims.get("sid"))
        assert token.sub or token.sid
        assert token.iat <= NOW + 60
        assert header["alg"] == "RS256"
        assert "nonce" not in claims


# The form


def form_refusal(body: bytes, content_type: str = FORM) -> LogoutTokenError:
    with pytest.raises(LogoutTokenError) as caught:
        parse_form(body, content_type)
    return caught.value


def test_the_form_gives_its_one_token() -> None:
    assert parse_form(b"logout_token=a.b.c", FORM) == "a.b.c"
    assert parse_form(b"x=1&&logout%5ftoken=a%2Eb.c&logout_tokens=2&=&y", f"{FORM}; charset=utf-8") == "a.b.c"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "missing"),
        (b"logout_token", "missing"),
        (b"logout_token=", "missing"),
        (b"Logout_Token=a.b.c", "missing"),
        (b"logout_token=a&logout_token=a", "duplicate"),
        (b"logout_token=&logout_token=a", "duplicate"),
        (b"logout_token=%c3%28", "form"),
        (b"&" * 100, "form"),
    ],
)
def test_a_form_is_refused(body: bytes, expected: str) -> None:
    assert form_refusal(body).code == expected


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the form has no logout_token"),
        (b"logout_token=a&logout_token=a", "the form has more than one logout_token"),
        (b"logout_token=%c3%28", "the logout_token is not UTF-8"),
        (b"&" * 100, "there are more than 100 fields"),
    ],
)
def test_the_refusal_of_a_form_says_what_is_wrong(body: bytes, sentence: str) -> None:
    assert str(form_refusal(body)) == sentence


def test_a_form_of_a_hundred_fields_is_read() -> None:
    assert parse_form(b"&" * 99 + b"logout_token=a", FORM) == "a"


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/json", "application/x-www-form-urlencoded2"])
def test_another_content_type_is_refused(content_type: str) -> None:
    refusal = form_refusal(b"logout_token=a.b.c", content_type)
    assert refusal.code == "content_type"
    assert str(refusal) == "the body must be application/x-www-form-urlencoded"


@hypothesis
@given(
    body=st.binary() | st.lists(st.sampled_from([b"logout_token", b"=", b"&", b"%", b"+", b"f", b"\xff"])).map(b"".join)
)
def test_any_form_gives_a_token_or_is_refused(body: bytes) -> None:
    token = outcome(parse_form, body, FORM)
    if isinstance(token, LogoutTokenError):
        assert token.code in {"form", "missing", "duplicate"}
    else:
        assert token
        assert token.encode()


# The issuer before anything is checked


def encoded(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def test_the_unverified_issuer_is_in_the_claims_or_in_the_header_of_an_encrypted_token() -> None:
    assert unverified_issuer(f"{encoded({'iss': 'header'})}.{encoded({'iss': 'claims'})}.c") == "claims"
    assert unverified_issuer(f"{encoded({'iss': 'header'})}.{encoded({'iss': 'claims'})}.c.d.e") == "header"


@pytest.mark.parametrize("content", [[], "iss", None, 7, {}, {"iss": 7}, {"iss": None}])
def test_there_is_no_unverified_issuer_in_anything_else(content: Any) -> None:
    """With a header that can be read: another part beside it is what there is to refuse."""
    assert unverified_issuer(f"{encoded({'alg': 'RS256'})}.{encoded(content)}.c") is None
    assert unverified_issuer(f"{encoded(content)}.b.c.d.e") is None


def test_there_is_no_unverified_issuer_without_a_header_beside_it() -> None:
    for header in ("a", encoded([]), encoded({})):
        assert unverified_issuer(f"{header}.{encoded({'iss': 'claims'})}.c") is None


@pytest.mark.parametrize("token", ["", ".", "..", "a.b", "a.b.c.d", "é.é.é", "." * 70000, "a." + "W1tb" * 16000 + ".c"])
def test_there_is_no_unverified_issuer_in_rubbish(token: str) -> None:
    assert unverified_issuer(token) is None


@hypothesis
@given(st.text() | st.lists(st.text("eyJ.-_ A=", max_size=8)).map(".".join))
def test_any_text_gives_an_issuer_or_none(token: str) -> None:
    assert unverified_issuer(token) is None


# All of it, mutated


def test_mutated_requests_raise_refusals_only() -> None:
    """A short run of scripts/fuzz; that every step is reached shows in the codes."""
    seen = run(20_000, seed=1)
    assert seen.keys() >= CODES | {"taken", "form", "missing", "duplicate", "malformed", "signature"}
