"""What this process has ended, and which of these tombstones are still unwritten. Pure.

An end counts here at once, and for as long as its login could live, whatever the store answers. An unwritten tombstone
is never dropped to make room for a written one, or for one that a stranger caused: each cause has a limit of its own.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..store import ISSUED, LOGIN, UNKNOWN, Record

LIMITS = {LOGIN: 65_536, ISSUED: 16_384, UNKNOWN: 4_096}
"""Ends that are kept, by who could have caused them. An end takes about half a kilobyte."""


@dataclass(slots=True)
class End:
    """Keep one record of an end, and ``until`` when it counts, in seconds since the epoch."""

    record: Record
    until: float


class LocalEnds:
    """Remember the ends of this process by the keys of their records."""

    def __init__(self) -> None:
        self._written: dict[str, OrderedDict[str, End]] = {cause: OrderedDict() for cause in LIMITS}
        self._unwritten: dict[str, OrderedDict[str, End]] = {cause: OrderedDict() for cause in LIMITS}

    def __len__(self) -> int:
        return sum(map(len, (*self._written.values(), *self._unwritten.values())))

    @property
    def unwritten(self) -> bool:
        """Whether the store has not taken everything yet."""
        return any(self._unwritten.values())

    def note(self, key: str, record: Record, until: float, cause: str) -> None:
        """Note an end, before it is written to the store.

        Takes the record's key, ``until`` in seconds since the epoch, and who could have caused it.
        """
        self.drop(key)
        self._unwritten[cause][key] = End(record, until)
        self._make_room(cause)

    def _make_room(self, cause: str) -> None:
        written, unwritten = self._written[cause], self._unwritten[cause]
        while len(written) + len(unwritten) > LIMITS[cause]:
            (written or unwritten).popitem(last=False)

    def note_written(self, records: Mapping[str, Record]) -> None:
        """Note that the store has taken ``records``; an end noted under the same key since then stays unwritten."""
        for key, record in records.items():
            for cause, unwritten in self._unwritten.items():
                end = unwritten.get(key)
                if end is not None and end.record == record:
                    self._written[cause][key] = unwritten.pop(key)

    def get(self, key: str) -> Record | None:
        """Return the record of an end, or None."""
        for ends in (*self._unwritten.values(), *self._written.values()):
            end = ends.get(key)
            if end is not None:
                return end.record
        return None

    def among(self, keys: Iterable[str]) -> dict[str, Record]:
        """Return the ends among ``keys``."""
        return {key: record for key in keys if (record := self.get(key)) is not None} if len(self) else {}

    def drop(self, key: str) -> None:
        """Forget an end: its login or cookie value lives again."""
        for ends in (*self._unwritten.values(), *self._written.values()):
            ends.pop(key, None)

    def to_write(self, now: float, most: int) -> list[tuple[str, End]]:
        """Return up to ``most`` unwritten ends, those of logins first; drop what has expired by ``now``."""
        for ends in (*self._unwritten.values(), *self._written.values()):
            # Two of the oldest are checked at each call, so expired ones cannot pile up.
            for key in tuple(itertools.islice(ends, 2)):
                if ends[key].until <= now:
                    del ends[key]
        waiting = itertools.chain.from_iterable(self._unwritten[cause].items() for cause in (LOGIN, ISSUED, UNKNOWN))
        return list(itertools.islice(waiting, most))
