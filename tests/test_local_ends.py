"""What a process remembers of the ends that it has caused: which it keeps, which it writes, and when it forgets one."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_rp_logout.logins import local_ends
from asgi_rp_logout.logins.local_ends import LocalEnds
from asgi_rp_logout.store import ISSUED, LOGIN, UNKNOWN

CAUSES = (LOGIN, ISSUED, UNKNOWN)


def tombstone(number: int = 0) -> dict[str, Any]:
    return {"v": 1, "by": "logout", "at": number}


def noted(*keys: str, cause: str = LOGIN, until: float = 100.0, written: bool = False) -> LocalEnds:
    """Give the ends under these keys, noted in this order."""
    ends = LocalEnds()
    for key in keys:
        ends.note(key, tombstone(), until, cause)
    if written:
        ends.note_written(dict.fromkeys(keys, tombstone()))
    return ends


def keys_to_write(ends: LocalEnds, now: float = 0.0, most: int = 100) -> list[str]:
    return [key for key, _ in ends.to_write(now, most)]


def kept(ends: LocalEnds, *keys: str) -> list[str]:
    return list(ends.among(keys))


@pytest.mark.parametrize("cause", CAUSES)
def test_an_end_counts_before_the_store_has_taken_it_and_afterwards(cause: str) -> None:
    ends = noted("a", cause=cause)
    assert (ends.get("a"), ends.get("b"), ends.unwritten, len(ends)) == (tombstone(), None, True, 1)
    ends.note_written({"a": tombstone(), "b": tombstone()})
    assert (ends.get("a"), ends.get("b"), ends.unwritten, len(ends)) == (tombstone(), None, False, 1)


def test_of_many_keys_those_that_have_ended_are_found() -> None:
    ends = noted("a", "b", "c")
    ends.note_written({"b": tombstone()})
    assert ends.among(["x", "b", "c"]) == {"b": tombstone(), "c": tombstone()}
    assert LocalEnds().among(["a"]) == {}


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("cause", CAUSES)
def test_what_lives_again_has_not_ended_and_is_not_written(cause: str, written: bool) -> None:
    ends = noted("a", "b", cause=cause, written=written)
    ends.drop("a")
    ends.drop("never noted")
    assert kept(ends, "a", "b") == ["b"]
    assert keys_to_write(ends) == ([] if written else ["b"])


def test_only_what_the_store_has_taken_is_not_written_again() -> None:
    ends = noted("a", "b")
    ends.note_written({"a": tombstone(1), "b": tombstone()})
    assert keys_to_write(ends) == ["a"]
    assert kept(ends, "a", "b") == ["a", "b"]


def test_an_end_that_is_noted_again_is_kept_once_and_written_again() -> None:
    ends = noted("a", written=True)
    ends.note("a", tombstone(1), 200.0, UNKNOWN)
    assert (ends.get("a"), len(ends)) == (tombstone(1), 1)
    assert [(key, end.record, end.until) for key, end in ends.to_write(0.0, 9)] == [("a", tombstone(1), 200.0)]


# How many are kept


@pytest.mark.parametrize("cause", CAUSES)
def test_the_oldest_go_when_there_are_more_than_the_limit(cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(local_ends.LIMITS, cause, 3)
    for written in (False, True):
        ends = noted("a", "b", "c", cause=cause, written=written)
        assert len(ends) == 3
        ends.note("d", tombstone(), 100.0, cause)
        assert kept(ends, "a", "b", "c", "d") == ["b", "c", "d"]


def test_what_is_written_goes_before_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A written end is in the store as well; an unwritten one is known nowhere else."""
    monkeypatch.setitem(local_ends.LIMITS, LOGIN, 3)
    ends = noted("a", "b", "c")
    ends.note_written({"c": tombstone()})
    ends.note("d", tombstone(), 100.0, LOGIN)
    assert kept(ends, "a", "b", "c", "d") == ["a", "b", "d"]
    ends.note("e", tombstone(), 100.0, LOGIN)
    assert kept(ends, "a", "b", "d", "e") == ["b", "d", "e"]


@pytest.mark.parametrize("cause", CAUSES)
def test_one_cause_pushes_out_nothing_of_another(cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(local_ends.LIMITS, cause, 2)
    ends, others = LocalEnds(), [one for one in CAUSES if one != cause]
    for other in others:
        for state in ("written", "unwritten"):
            ends.note(f"{other} {state}", tombstone(), 100.0, other)
        ends.note_written({f"{other} written": tombstone()})
    for number in range(5):
        ends.note(f"{number}", tombstone(), 100.0, cause)
    wanted = [f"{other} {state}" for other in others for state in ("written", "unwritten")]
    assert kept(ends, *wanted, *map(str, range(5))) == [*wanted, "3", "4"]


# What is written next


def test_the_ends_of_logins_are_written_first_and_those_of_strangers_last() -> None:
    ends = LocalEnds()
    for cause in (UNKNOWN, ISSUED, LOGIN):
        for number in range(2):
            ends.note(f"{cause} {number}", tombstone(), 100.0, cause)
    order = [f"{cause} {number}" for cause in CAUSES for number in range(2)]
    assert [keys_to_write(ends, most=most) for most in (0, 3, 6, 7)] == [[], order[:3], order, order]


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("cause", CAUSES)
def test_an_end_counts_until_its_time_is_over(cause: str, written: bool) -> None:
    ends = noted("a", cause=cause, written=written, until=100.0)
    ends.to_write(99.75, 9)
    assert kept(ends, "a") == ["a"]
    ends.to_write(100.0, 9)
    assert kept(ends, "a") == []


def test_each_look_drops_two_of_the_oldest_that_are_over() -> None:
    """What is over goes twice as fast as it comes, and no look takes longer than another."""
    ends = noted("a", "b", "c", "d", "e")
    assert [keys_to_write(ends, 100.0) for _ in range(3)] == [["c", "d", "e"], ["e"], []]


def test_an_end_that_is_over_is_dropped_behind_one_that_is_not() -> None:
    ends = noted("a", until=200.0)
    ends.note("b", tombstone(), 100.0, LOGIN)
    assert keys_to_write(ends, 150.0) == ["a"]
