"""What this process has ended, and what of it the store has still to take.

An end that was decided counts here at once and for as long as its login could live, whatever the store says or fails to
say. Ends that the store did not take are never dropped for others that it did take, and never for those of strangers:
each cause has a limit of its own.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .store import ISSUED, LOGIN, UNKNOWN, Record

LIMITS = {LOGIN: 65_536, ISSUED: 16_384, UNKNOWN: 4_096}
"""Ends that are kept, by who could have caused them. An end takes about half a kilobyte."""


@dataclass(slots=True)
class End:
    """Keep one record of an end, and ``until`` when it counts, in seconds since the epoch."""

    record: Record
    until: float


class EndsHere:
    """Remember the ends of this process by the keys of their records."""

    def __init__(self) -> None:
        self._taken: dict[str, OrderedDict[str, End]] = {cause: OrderedDict() for cause in LIMITS}
        self._owed: dict[str, OrderedDict[str, End]] = {cause: OrderedDict() for cause in LIMITS}

    def __len__(self) -> int:
        return sum(map(len, (*self._taken.values(), *self._owed.values())))

    @property
    def owes(self) -> bool:
        """Return whether the store has still to take something."""
        return any(self._owed.values())

    def note(self, key: str, record: Record, until: float, cause: str) -> None:
        """Note an end, before the store is told.

        Takes the record's key, ``until`` in seconds since the epoch, and who could have caused it.
        """
        self.drop(key)
        self._owed[cause][key] = End(record, until)
        self._make_room(cause)

    def _make_room(self, cause: str) -> None:
        taken, owed = self._taken[cause], self._owed[cause]
        while len(taken) + len(owed) > LIMITS[cause]:
            (taken or owed).popitem(last=False)

    def take(self, records: Mapping[str, Record]) -> None:
        """Note that the store has taken ``records``; an end that was noted under the same key since stays owed."""
        for key, record in records.items():
            for cause, owed in self._owed.items():
                end = owed.get(key)
                if end is not None and end.record == record:
                    self._taken[cause][key] = owed.pop(key)

    def get(self, key: str) -> Record | None:
        """Return the record of an end, or None."""
        for ends in (*self._owed.values(), *self._taken.values()):
            end = ends.get(key)
            if end is not None:
                return end.record
        return None

    def among(self, keys: Iterable[str]) -> dict[str, Record]:
        """Return the ends among ``keys``."""
        return {key: record for key in keys if (record := self.get(key)) is not None} if len(self) else {}

    def drop(self, key: str) -> None:
        """Forget an end: what it was about lives again."""
        for ends in (*self._owed.values(), *self._taken.values()):
            ends.pop(key, None)

    def to_write(self, now: float, most: int) -> list[tuple[str, End]]:
        """Return what the store has still to take, the ends of logins first; drop what is over."""
        for ends in (*self._owed.values(), *self._taken.values()):
            # Two of the oldest for each look: what is over cannot pile up.
            for key in tuple(itertools.islice(ends, 2)):
                if ends[key].until <= now:
                    del ends[key]
        waiting = itertools.chain.from_iterable(self._owed[cause].items() for cause in (LOGIN, ISSUED, UNKNOWN))
        return list(itertools.islice(waiting, most))
