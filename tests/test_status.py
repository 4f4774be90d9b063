"""What the records in the store mean for a request: pure rules, by table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from asgi_rp_logout import Login, StoreError
from asgi_rp_logout.login import LogoutIntent
from asgi_rp_logout.logins import records
from asgi_rp_logout.logins.credentials import Credentials
from asgi_rp_logout.logins.handle import LoginHandle, digest
from asgi_rp_logout.logins.records import (
    EITHER_CLOCK,
    FRONT_CHANNEL,
    OUR_CLOCK,
    SID_UNKNOWN,
    Ended,
    EndedUntil,
    LoginRecord,
    Reissued,
    Until,
    ended_until_key,
    read,
    tie_to_json,
)
from asgi_rp_logout.logins.status import LoginStatus, evaluate
from asgi_rp_logout.protocol.cookie_values import Secret
from tests.tokens import id_token

NOW = 1_700_000_000.25
LOGIN = Login("a", id_token("alice", "the-session", iat=int(NOW) - 5), refresh_token="refresh")
ISS = "https://a.example"
HANDLE = LoginHandle.new(LOGIN, NOW)
RECORD = LoginRecord(LOGIN, HANDLE.at, NOW).to_json()
TOMBSTONE = Ended("logout", NOW + 60).to_json()


def not_before(entry: list[Any], slot: str = "") -> dict[str, Any]:
    """Give the record of one not-before time."""
    return EndedUntil({slot: Until(*entry)}).to_json()


def ended_by(status: Any) -> str | None:
    return status.ended.by if status.ended is not None else None


def cookie(name: str) -> Secret:
    return Secret(f"digest-{name}", (("session", name),))


def test_a_handle_is_read_back_as_it_was_made() -> None:
    assert LoginHandle.parse(HANDLE.text) == HANDLE
    assert (HANDLE.at, HANDLE.made) == (int(NOW) - 5, NOW)
    assert HANDLE.record_keys()[2:] == [ended_until_key(ISS, sid="the-session"), ended_until_key(ISS, sub="alice")]


def test_no_two_handles_are_alike_and_none_shows_who_it_is_for() -> None:
    assert len({LoginHandle.new(LOGIN, NOW).text for _ in range(100)}) == 100
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
    assert LoginHandle.parse(text) is None


@pytest.mark.parametrize("iat", [None, "1", True, -1, 0, 1e12, float("inf")])
def test_without_an_iat_that_can_be_believed_our_own_clock_says_when_a_login_was_made(iat: Any) -> None:
    assert LoginHandle.new(Login(id_token=id_token(iat=iat)), NOW).at == int(NOW)


@pytest.mark.parametrize(
    "tampered",
    [
        HANDLE.text.replace(str(int(NOW) - 5), str(int(NOW) + 9999)),
        HANDLE.text.replace(HANDLE.sid, ""),
        HANDLE.text.replace(HANDLE.sub, "x" * 22),
    ],
    ids=["younger", "without a sid", "another subject"],
)
def test_a_handle_that_was_tampered_with_is_one_of_nothing(tampered: str) -> None:
    handle = LoginHandle.parse(tampered)
    assert handle is not None
    records = {f"login:{HANDLE.key}": RECORD, f"ended:{HANDLE.key}": TOMBSTONE}
    status = evaluate(Credentials(handle), records)
    assert (status.login, status.ended) == (None, None)


def test_a_record_gives_the_login_back() -> None:
    record = read(LoginRecord.from_json, RECORD)
    assert record == LoginRecord(LOGIN, HANDLE.at, NOW)
    assert read(LoginRecord.from_json, {**RECORD, "of the future": 1}) == record


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
    for key in (ended_until_key(ISS, sid="the-session"), ended_until_key(ISS, sub="alice")):
        status = evaluate(Credentials(HANDLE), {f"login:{HANDLE.key}": RECORD, key: not_before(entry)})
        assert ended_by(status) == (entry[2] if ends else None)
        assert status.live is not ends


SLOTS = {
    "no subject": ("", True),
    "the subject": (digest(ISS, "sub", "alice"), True),
    "another subject": (digest(ISS, "sub", "bob"), False),
    "a frame": (FRONT_CHANNEL, True),
}


@pytest.mark.parametrize(("slot", "ends"), SLOTS.values(), ids=SLOTS.keys())
def test_a_sid_with_a_subject_ends_the_logins_of_that_subject_only(slot: str, ends: bool) -> None:
    entry = Until(AT + 1, S + 60, "back-channel")
    assert (EndedUntil({slot: entry}).ending_entry(HANDLE) is not None) is ends
    both = {digest(ISS, "sub", "bob"): entry, slot: entry}
    assert (EndedUntil(both).ending_entry(HANDLE) is not None) is ends


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
    handle = LoginHandle.new(Login("a", id_token(iat=iat + ahead)), made)
    assert (Until(token_iat + ahead, received, "back-channel").covers(handle)) is ends


def test_a_token_from_the_future_ends_nothing_that_comes_after_it() -> None:
    """Within the leeway an iat may lie ahead of its receipt: a login made in between lives."""
    token = Until(1030, 1000.0, "back-channel")
    assert not token.covers(LoginHandle.new(Login("a", id_token(iat=1005)), 1005.5))
    assert not token.covers(LoginHandle.new(Login("a", sub="alice"), 1005.5))
    assert token.covers(LoginHandle.new(Login("a", sub="alice"), 999.5))


MOMENTS = {
    # iat of the login, when we remembered it, the moment that the application named
    "long after the login began": (1000, 1000.5, 2000.0, True),
    "long before it": (1000, 1000.5, 500.0, False),
    "the same second": (1000, 1000.9, 1000.0, True),
    "the same second, with a fraction": (1000, 1000.9, 1000.2, True),
    "the second before": (1000, 1000.0, 999.999, False),
    "the login was on its way, in the same second": (1000, 1003.0, 1000.0, True),
    "the provider's clock is ahead, and the moment is ours": (1030, 1000.5, 1001.0, True),
    "the provider's clock is ahead, and the moment is in our second": (1030, 1000.9, 1000.2, True),
    "the provider's clock is behind, and the moment is its own": (970, 1000.5, 971.0, True),
    "a new login, by both clocks": (1010, 1040.5, 1005.0, False),
}


@pytest.mark.parametrize(("iat", "made", "moment", "ends"), MOMENTS.values(), ids=MOMENTS.keys())
def test_a_moment_that_the_application_names_ends_what_began_by_then_by_either_clock(
    iat: int, made: float, moment: float, ends: bool
) -> None:
    handle = LoginHandle.new(Login("a", id_token(iat=iat)), made)
    record = EndedUntil({EITHER_CLOCK: Until(moment, 5000.0, "logout")}).to_json()
    found = read(EndedUntil.from_json, record)
    assert found is not None
    assert (found.ending_entry(handle) is not None) is ends


@pytest.mark.parametrize("whose", ["", digest(ISS, "sub", "alice"), digest(ISS, "sub", "bob"), SID_UNKNOWN])
@pytest.mark.parametrize("clock", [OUR_CLOCK, EITHER_CLOCK])
def test_a_slot_means_the_same_logins_whatever_its_clock(whose: str, clock: str) -> None:
    """Those of all subjects, of the one that was named, or without a known sid."""
    entry = Until(None, NOW, "logout")
    for handle in (HANDLE, LoginHandle.new(Login("a", sub="alice", iss=ISS), NOW - 5)):
        assert EndedUntil({clock + whose: entry}).ending_entry(handle) is EndedUntil({whose: entry}).ending_entry(
            handle
        )


@pytest.mark.parametrize("clock", ["", OUR_CLOCK, EITHER_CLOCK])
def test_of_two_times_of_one_clock_the_later_one_is_kept(clock: str) -> None:
    earlier, later = (
        EndedUntil({clock: Until(None if clock == OUR_CLOCK else time, 2000.0 + time, "logout")}) for time in (0.0, 9.0)
    )
    assert earlier.merged(later) == later.merged(earlier) == later


def test_times_of_two_clocks_are_both_kept() -> None:
    entries = {clock: Until(time, 2000.0, "x") for clock, time in (("", 9.0), (OUR_CLOCK, None), (EITHER_CLOCK, 7.0))}
    merged = EndedUntil({})
    for clock, until in entries.items():
        merged = merged.merged(EndedUntil({clock: until}))
    assert merged.slots == entries


def test_a_login_whose_record_is_gone_still_ends() -> None:
    status = evaluate(Credentials(HANDLE, (cookie("x"),)), {f"ended:{HANDLE.key}": TOMBSTONE})
    assert (ended_by(status), status.live, status.dead_cookies) == ("logout", False, (cookie("x"),))
    status = evaluate(Credentials(HANDLE), {ended_until_key(ISS, sub="alice"): not_before([AT + 1, S, "back-channel"])})
    assert ended_by(status) == "back-channel"


def test_a_login_that_the_provider_has_ended_is_known_with_the_channel_and_the_time_of_receipt() -> None:
    records = {f"login:{HANDLE.key}": RECORD, ended_until_key(ISS, sid="the-session"): not_before([AT + 1, S, "x"])}
    status = evaluate(Credentials(HANDLE), records)
    assert (status.login, status.ended) == (replace(LOGIN, ended="x"), Ended("x", S))


# Who speaks: the handle, or else the session cookies and the bearer token

HINTED = replace(LOGIN, logout_hint="alice@a.example")
STORED = LoginRecord(HINTED, HANDLE.at, NOW)
ALICE = {f"login:{HANDLE.key}": STORED.to_json()}
BOB = Login("a", id_token("bob", "another-session", iat=int(NOW) - 5))
BOBS = LoginHandle.new(BOB, NOW)
BOB_LIVES = {f"login:{BOBS.key}": LoginRecord(BOB, BOBS.at, NOW).to_json()}


def tied(handle: LoginHandle, *names: str) -> dict[str, Any]:
    """Give the records that tie session cookies to a login."""
    return {f"cookie:digest-{name}": tie_to_json(handle) for name in names}


def as_tied(handle: LoginHandle) -> LoginHandle:
    """Give a handle as the store knows it: without what the browser carries."""
    return replace(handle, text="")


def test_a_stranger_is_known_by_nothing_but_what_the_request_carries() -> None:
    credentials = Credentials(HANDLE, (cookie("x"),))
    status = evaluate(credentials, dict.fromkeys(credentials.record_keys))
    assert status == LoginStatus(credentials, handle=HANDLE, record_keys=credentials.record_keys)


def test_a_living_handle_speaks_whatever_its_cookies_are_tied_to() -> None:
    credentials, records = Credentials(HANDLE, (cookie("x"),)), {**ALICE, **BOB_LIVES, **tied(BOBS, "x")}
    ties = {"digest-x": as_tied(BOBS)}
    assert evaluate(credentials, records) == LoginStatus(
        credentials, HINTED, HANDLE, record=STORED, record_keys=tuple(records), ties=ties
    )


def test_a_handle_that_has_ended_says_whose_it_was() -> None:
    credentials, records = Credentials(HANDLE), {**ALICE, f"ended:{HANDLE.key}": TOMBSTONE}
    assert evaluate(credentials, records) == LoginStatus(
        credentials,
        replace(HINTED, ended="logout"),
        HANDLE,
        record=STORED,
        ended=Ended("logout", NOW + 60),
        record_keys=tuple(records),
    )


def test_a_tied_cookie_tells_of_its_login_and_never_brings_its_tokens() -> None:
    """Whoever copied the cookie must not be given them."""
    credentials, records = Credentials(None, (cookie("x"),)), {**ALICE, **tied(HANDLE, "x")}
    assert evaluate(credentials, records) == LoginStatus(
        credentials,
        Login("a", sub="alice", sid="the-session", iss=ISS),
        as_tied(HANDLE),
        by_cookie=True,
        record=STORED,
        record_keys=tuple(records),
        ties={"digest-x": as_tied(HANDLE)},
    )


def test_a_tied_cookie_whose_login_has_ended_is_dead_and_brings_no_record() -> None:
    credentials = Credentials(None, (cookie("x"),))
    records = {**ALICE, **tied(HANDLE, "x"), f"ended:{HANDLE.key}": TOMBSTONE}
    assert evaluate(credentials, records) == LoginStatus(
        credentials,
        Login("a", sub="alice", sid="the-session", iss=ISS, ended="logout"),
        as_tied(HANDLE),
        by_cookie=True,
        ended=Ended("logout", NOW + 60),
        dead_cookies=(cookie("x"),),
        record_keys=tuple(records),
    )


@pytest.mark.parametrize(
    "record", [tie_to_json(HANDLE), Reissued(NOW).to_json()], ids=["tied to a login that is gone", "issued again"]
)
def test_a_cookie_that_tells_of_no_login_is_a_strangers_and_not_dead(record: dict[str, Any]) -> None:
    credentials, records = Credentials(None, (cookie("x"),)), {"cookie:digest-x": record}
    assert evaluate(credentials, records) == LoginStatus(credentials, record_keys=("cookie:digest-x",))


def test_beside_a_handle_that_has_ended_only_the_cookies_of_other_logins_are_not_dead() -> None:
    """Nobody knows who an untied cookie is for; a tied one has an end of its own, even after its record has expired."""
    credentials = Credentials(HANDLE, (cookie("untied"), cookie("bobs")))
    status = evaluate(credentials, {f"ended:{HANDLE.key}": TOMBSTONE, **tied(BOBS, "bobs")})
    assert (ended_by(status), status.dead_cookies) == ("logout", (cookie("untied"),))


def test_a_cookie_of_a_living_login_speaks_beside_a_handle_that_has_ended() -> None:
    credentials = Credentials(HANDLE, (cookie("bobs"),))
    status = evaluate(credentials, {f"ended:{HANDLE.key}": TOMBSTONE, **BOB_LIVES, **tied(BOBS, "bobs")})
    assert (status.live, status.by_cookie, status.handle, status.has_dead) == (True, True, as_tied(BOBS), False)


def test_what_is_dead_beside_the_cookie_of_a_living_login_is_hidden_alone() -> None:
    credentials = Credentials(None, (cookie("dead"), cookie("unknown"), cookie("alices")))
    status = evaluate(credentials, {**ALICE, **tied(HANDLE, "alices"), "cookie:digest-dead": TOMBSTONE})
    assert (status.live, status.dead_cookies) == (True, (cookie("dead"),))


def test_of_several_that_live_the_last_one_speaks_and_a_bearer_token_after_all_cookies() -> None:
    """Of several cookies of one name most applications read the last one."""
    carols = LoginHandle.new(carol := Login("a", sub="carol", iss=ISS), NOW)
    records = {**ALICE, **BOB_LIVES, f"login:{carols.key}": LoginRecord(carol, carols.at, NOW).to_json()}
    records |= {**tied(HANDLE, "a"), **tied(BOBS, "b"), **tied(carols, "c")}
    a, b = cookie("a"), cookie("b")
    for credentials, sub in (
        (Credentials(None, (a, b)), "bob"),
        (Credentials(None, (b, a)), "alice"),
        (Credentials(None, (a, b), bearers=("digest-c",)), "carol"),
        (Credentials(None, (), bearers=("digest-c",)), "carol"),
    ):
        status = evaluate(credentials, records)
        assert status.login is not None
        assert status.login.sub == sub
        assert set(status.ties) == set(credentials.digests)


def test_a_revoked_bearer_token_is_dead_and_ends_nobody() -> None:
    credentials = Credentials(None, (cookie("x"),), bearers=("digest-b",))
    records = {"cookie:digest-b": TOMBSTONE}
    assert evaluate(credentials, records) == LoginStatus(
        credentials, dead_bearer=True, record_keys=("cookie:digest-b",)
    )
    living = evaluate(Credentials(HANDLE, bearers=("digest-b",)), {**ALICE, **records})
    assert (living.live, living.dead_bearer) == (True, True)
    assert not evaluate(Credentials(None, bearers=("digest-a",)), {**ALICE, **tied(HANDLE, "a")}).dead_bearer


@pytest.mark.parametrize(
    ("status", "dead", "hidden"),
    [
        (LoginStatus(Credentials()), False, False),
        (LoginStatus(Credentials(HANDLE, (cookie("x"),)), LOGIN, HANDLE), False, False),
        (LoginStatus(Credentials(), ended=Ended("logout", NOW)), True, True),
        (LoginStatus(Credentials(), dead_cookies=(cookie("x"),)), True, True),
        (LoginStatus(Credentials(), dead_bearer=True), True, True),
        (LoginStatus(Credentials(excess=True)), False, True),
    ],
    ids=["nothing", "a living login", "a login", "a cookie", "a bearer token", "too many to look at"],
)
def test_the_application_is_kept_from_what_is_dead_and_from_what_nobody_has_looked_at(
    status: LoginStatus, dead: bool, hidden: bool
) -> None:
    assert (status.has_dead, status.hides) == (dead, hidden)


def test_the_own_handle_is_that_of_the_login_before_the_one_that_the_request_carries() -> None:
    assert LoginStatus(Credentials(HANDLE), handle=BOBS).own_handle == BOBS
    assert LoginStatus(Credentials(HANDLE)).own_handle == HANDLE
    assert LoginStatus(Credentials()).own_handle is None


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
    credentials = Credentials(HANDLE if living else None, tuple(map(cookie, cookies)))
    assert records.keys() <= set(credentials.record_keys) or "z" in revoked
    status = evaluate(credentials, records)
    assert [one.parts[0][1] for one in status.dead_cookies] == dead
    assert (ended_by(status), status.live) == (ended, living)


def test_a_cookie_too_short_to_be_anybodys_own_neither_dies_nor_saves_a_dead_one() -> None:
    short = Secret(None, (("session", "1"),))
    assert evaluate(Credentials(None, (short,)), {}).dead_cookies == ()
    status = evaluate(Credentials(None, (short, cookie("x"))), {"cookie:digest-x": TOMBSTONE})
    assert (ended_by(status), status.dead_cookies) == ("logout", (short, cookie("x")))


# The second click


def test_an_end_is_fresh_for_two_minutes_and_says_where_it_led() -> None:
    intent = LogoutIntent("b", local=True, return_to="/bye")
    tombstone = Ended("logout", NOW + 60, intent).to_json()
    status = evaluate(Credentials(HANDLE), {f"ended:{HANDLE.key}": tombstone})
    assert status.ended is not None
    assert status.ended.intent == intent
    assert (status.just_ended(NOW + 60 + 119.75), status.just_ended(NOW + 60 + 120)) == (True, False)
    assert not evaluate(Credentials(HANDLE), {f"login:{HANDLE.key}": RECORD}).just_ended(NOW)


@pytest.mark.parametrize("record", [{"by": "logout", "at": "yesterday"}, {"by": "logout", "at": None}, {"at": 7}])
def test_a_malformed_record_is_a_fault_of_the_store(record: dict[str, Any]) -> None:
    """No request may break on it."""
    handle = LoginHandle.new(Login(sub="alice"), 1000.0)
    with pytest.raises(StoreError) as refused:
        evaluate(Credentials(handle), {f"ended:{handle.key}": {"v": 1, **record}})
    assert refused.value.code == "record"


# Records of another release


@pytest.mark.parametrize("version", [None, 0, 2, "1"])
def test_a_login_of_another_version_is_unknown_and_its_tombstone_ends_it_all_the_same(version: Any) -> None:
    """Two releases may share a store during an upgrade, which must not bring an ended login back."""
    login, tombstone = {**RECORD, "v": version}, {**TOMBSTONE, "v": version, "by": 7, "at": "then"}
    status = evaluate(Credentials(HANDLE), {f"login:{HANDLE.key}": login})
    assert (status.login, status.ended) == (None, None)
    status = evaluate(Credentials(HANDLE), {f"login:{HANDLE.key}": RECORD, f"ended:{HANDLE.key}": tombstone})
    assert (ended_by(status), status.live) == ("logout", False)


def test_records_of_another_version_are_logged_once(log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_warned_of", set())
    for _ in range(3):
        for version in (7, 8):
            evaluate(Credentials(HANDLE), {f"login:{HANDLE.key}": {**RECORD, "v": version}})
    assert [line.partition("version ")[2][:3] for line in log()] == ["'7'", "'8'"]
