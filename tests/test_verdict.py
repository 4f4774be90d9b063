"""What the records in the store mean for a request: pure rules, by table."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_rp_logout import Login, StoreError
from asgi_rp_logout.protocol.cookie_values import Secret
from asgi_rp_logout.verdict import (
    FRONT_CHANNEL,
    Claim,
    Handle,
    before_key,
    covering,
    digest,
    judge,
    login_from,
    login_record,
)
from tests.tokens import id_token

NOW = 1_700_000_000.25
LOGIN = Login("a", id_token("alice", "the-session", iat=int(NOW) - 5), refresh_token="refresh")
ISS = "https://a.example"
HANDLE = Handle.new(LOGIN, NOW)
RECORD = login_record(LOGIN, HANDLE, NOW)
TOMBSTONE = {"by": "logout", "at": NOW + 60}


def cookie(name: str) -> Secret:
    return Secret(f"digest-{name}", (("session", name),))


def test_a_handle_is_read_back_as_it_was_made() -> None:
    assert Handle.parse(HANDLE.text) == HANDLE
    assert (HANDLE.at, HANDLE.made) == (int(NOW) - 5, NOW)
    assert HANDLE.record_keys()[2:] == [before_key(ISS, sid="the-session"), before_key(ISS, sub="alice")]


def test_no_two_handles_are_alike_and_none_shows_who_it_is_for() -> None:
    assert len({Handle.new(LOGIN, NOW).text for _ in range(100)}) == 100
    assert not any(word in HANDLE.text for word in ("alice", "the-session", "example"))


@pytest.mark.parametrize(
    "text",
    [
        *(None, 7, b"x", "", "x", "a.b.c.d.e", HANDLE.text + ".", HANDLE.text + "\n", " " + HANDLE.text, "é" * 43),
        *(
            HANDLE.text.replace(".", ".-1", 1),
            "x" * 42 + HANDLE.text[43:],
            "x" * 43 + ".\u0661.1..",
            "\x00" * 43 + ".1.1..",
        ),
    ],
)
def test_what_is_no_handle_is_none(text: object) -> None:
    assert Handle.parse(text) is None


@pytest.mark.parametrize("iat", [None, "1", True, -1, 0, 1e12, float("inf")])
def test_without_an_iat_that_can_be_believed_our_own_clock_says_when_a_login_was_made(iat: Any) -> None:
    assert Handle.new(Login(id_token=id_token(iat=iat)), NOW).at == int(NOW)


@pytest.mark.parametrize(
    "tampered",
    [
        HANDLE.text.replace(str(int(NOW) - 5), str(int(NOW) + 9999)),
        HANDLE.text.replace(HANDLE.sid_key, ""),
        HANDLE.text.replace(HANDLE.sub_key, "x" * 22),
    ],
    ids=["younger", "without a sid", "another subject"],
)
def test_a_handle_that_was_tampered_with_is_one_of_nothing(tampered: str) -> None:
    handle = Handle.parse(tampered)
    assert handle is not None
    records = {f"login:{HANDLE.key}": RECORD, f"ended:{HANDLE.key}": TOMBSTONE}
    verdict = judge(Claim(handle), records)
    assert (verdict.login, verdict.ended) == (None, None)


def test_a_record_gives_the_login_back() -> None:
    assert login_from(RECORD) == LOGIN
    assert login_from({"provider": "a", "of the future": 1}) == Login("a")


def test_digests_tell_sequences_apart() -> None:
    assert len({digest("ab", "c"), digest("a", "bc"), digest("abc"), digest("a", "b", "c"), digest("ab", "c", "")}) == 5


# What ended a login

S, AT = int(NOW), int(NOW) - 5  # receipt in our second; the login's iat
ENDS: dict[str, tuple[list[Any], bool]] = {
    "a token of after the login": ([AT + 1, S + 60, "back-channel"], True),
    "a token of before it": ([AT - 1, S + 60, "back-channel"], False),
    "one of the same second, received after the login was made": ([AT, NOW + 0.001, "back-channel"], True),
    "one of the same second, received before": ([AT, NOW - 0.001, "back-channel"], False),
    "a frame shown after the login was made": ([None, NOW + 0.001, "front-channel"], True),
    "a frame shown before": ([None, NOW - 0.001, "front-channel"], False),
}


@pytest.mark.parametrize(("entry", "ends"), ENDS.values(), ids=ENDS.keys())
def test_a_not_before_time_ends_what_was_made_up_to_it(entry: list[Any], ends: bool) -> None:
    for key in (before_key(ISS, sid="the-session"), before_key(ISS, sub="alice")):
        verdict = judge(Claim(HANDLE), {f"login:{HANDLE.key}": RECORD, key: {"": entry}})
        assert verdict.ended == (entry[2] if ends else None)
        assert verdict.live is not ends


SLOTS = {
    "no subject": ("", True),
    "the subject": (digest(ISS, "sub", "alice"), True),
    "another subject": (digest(ISS, "sub", "bob"), False),
    "a frame": (FRONT_CHANNEL, True),
}


@pytest.mark.parametrize(("slot", "ends"), SLOTS.values(), ids=SLOTS.keys())
def test_a_sid_with_a_subject_ends_the_logins_of_that_subject_only(slot: str, ends: bool) -> None:
    entry = [AT + 1, S + 60, "back-channel"]
    assert (covering({slot: entry}, HANDLE) is not None) is ends
    both = {digest(ISS, "sub", "bob"): entry, slot: entry}
    assert (covering(both, HANDLE) is not None) is ends


SKEW = {
    # the provider's clock ahead of ours | iat of the login, when we remembered it | iat of the token, when it came
    "long before": (0, 1000, 1001.0, 2000, 2000.5, True),
    "the login came after the token, and is older": (0, 1000, 1003.0, 1001, 1002.0, True),
    "the login came after the token, in the same second": (0, 1001, 1001.9, 1001, 1001.5, False),
    "the login came before the token, in the same second": (0, 1001, 1001.1, 1001, 1001.5, True),
    "a new login": (0, 1010, 1010.5, 1001, 1001.5, False),
    "just before": (30, 1000, 1001.0, 1010, 1010.5, True),
    "just before, by a clock that is behind": (-30, 1000, 1001.0, 1010, 1010.5, True),
    "a new login, by a clock that is ahead": (30, 1011, 1011.0, 1010, 1010.5, False),
    "a new login, by a clock that is behind": (-30, 1011, 1011.0, 1010, 1010.5, False),
}


@pytest.mark.parametrize(("ahead", "iat", "made", "token_iat", "received", "ends"), SKEW.values(), ids=SKEW.keys())
def test_clocks_that_differ_change_nothing(
    ahead: int, iat: int, made: float, token_iat: int, received: float, ends: bool
) -> None:
    """The times of logins and of logout tokens are the provider's; only their order with what comes in here is ours."""
    handle = Handle.new(Login("a", id_token(iat=iat + ahead)), made)
    assert (covering({"": [token_iat + ahead, received, "back-channel"]}, handle) is not None) is ends


def test_a_token_from_the_future_ends_nothing_that_comes_after_it() -> None:
    """Within the leeway an iat may lie ahead of its receipt: a login made in between lives."""
    token = {"": [1030, 1000.0, "back-channel"]}
    assert covering(token, Handle.new(Login("a", id_token(iat=1005)), 1005.5)) is None
    assert covering(token, Handle.new(Login("a", sub="alice"), 1005.5)) is None
    assert covering(token, Handle.new(Login("a", sub="alice"), 999.5)) is not None


def test_a_login_whose_record_is_gone_still_ends() -> None:
    verdict = judge(Claim(HANDLE, (cookie("x"),)), {f"ended:{HANDLE.key}": TOMBSTONE})
    assert (verdict.ended, verdict.live, verdict.dead) == ("logout", False, (cookie("x"),))
    verdict = judge(Claim(HANDLE), {before_key(ISS, sub="alice"): {"": [AT + 1, S, "back-channel"]}})
    assert verdict.ended == "back-channel"


# Session cookies that were revoked

REVOKED: dict[str, tuple[list[str], list[str], bool, list[str], str | None]] = {
    # cookies, revoked ones, a living handle | dead ones, what ended it
    "one, alive": (["x"], [], False, [], None),
    "one, revoked": (["x"], ["x"], False, ["x"], "logout"),
    "two, one of them revoked": (["x", "y"], ["x"], False, ["x"], None),
    "two, both revoked": (["x", "y"], ["x", "y"], False, ["x", "y"], "logout"),
    "one revoked, beside a living login": (["x"], ["x"], True, ["x"], None),
    "somebody else's revoked": (["x"], ["z"], False, [], None),
}


@pytest.mark.parametrize(("cookies", "revoked", "living", "dead", "ended"), REVOKED.values(), ids=REVOKED.keys())
def test_a_revoked_cookie_is_dead(
    cookies: list[str], revoked: list[str], living: bool, dead: list[str], ended: str | None
) -> None:
    records: dict[str, Any] = {f"cookie:digest-{name}": TOMBSTONE for name in revoked}
    if living:
        records[f"login:{HANDLE.key}"] = RECORD
    claim = Claim(HANDLE if living else None, tuple(map(cookie, cookies)))
    assert records.keys() <= set(claim.keys) or "z" in revoked
    verdict = judge(claim, records)
    assert [one.parts[0][1] for one in verdict.dead] == dead
    assert (verdict.ended, verdict.live) == (ended, living)


def test_a_cookie_too_short_to_be_anybodys_own_neither_dies_nor_saves_a_dead_one() -> None:
    short = Secret(None, (("session", "1"),))
    assert judge(Claim(None, (short,)), {}).dead == ()
    verdict = judge(Claim(None, (short, cookie("x"))), {"cookie:digest-x": TOMBSTONE})
    assert (verdict.ended, verdict.dead) == ("logout", (short, cookie("x")))


# The second click


def test_an_end_is_fresh_for_two_minutes_and_says_where_it_led() -> None:
    tombstone = {**TOMBSTONE, "local": True, "provider": "b", "to": "/bye"}
    verdict = judge(Claim(HANDLE), {f"ended:{HANDLE.key}": tombstone})
    assert (verdict.local, verdict.named, verdict.wanted) == (True, "b", "/bye")
    assert (verdict.just_ended(NOW + 60 + 119), verdict.just_ended(NOW + 60 + 121)) == (True, False)
    assert not judge(Claim(HANDLE), {f"login:{HANDLE.key}": RECORD}).just_ended(NOW)


@pytest.mark.parametrize("record", [{"at": "yesterday"}, {"at": None}, {"at": [], "by": 7}])
def test_a_malformed_record_is_a_fault_of_the_store(record: dict[str, Any]) -> None:
    """Another version may have written it; no request may break on it."""
    handle = Handle.new(Login(sub="alice"), 1000.0)
    with pytest.raises(StoreError) as refused:
        judge(Claim(handle), {f"ended:{handle.key}": record})
    assert refused.value.code == "record"
