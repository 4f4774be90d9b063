"""A short-lived cache of statuses, and what has ended since they were read. No I/O."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from .status import LoginStatus

STATUSES = 4096
"""Statuses that are kept for ``freshness``, of logins and of strangers each."""

STATUS_BYTES = 4 * 1024 * 1024
"""Bytes that these may take, about."""

FRESH = 65_536
"""Ends that are compared with statuses one by one; with more within ``freshness``, older statuses are dropped."""


@dataclass(slots=True)
class CachedStatus:
    """Keep a status ``until`` it has to be read again, by the monotonic clock.

    ``passes`` says that the request can be handed on as it is.
    """

    status: LoginStatus
    until: float
    passes: bool

    @classmethod
    def of(cls, status: LoginStatus, until: float = float("inf")) -> CachedStatus:
        """Return a status to keep."""
        return cls(status, until, passes=not status.hides and status.credentials.deferred_key is None)


class StatusCache:
    """Keep statuses by what their requests carried: those of logins and those of strangers have a limit each."""

    def __init__(self) -> None:
        self._kept: dict[object, CachedStatus] = {}
        self.get = self._kept.get  # one look-up for both parts, without a call of our own: nearly every request does it
        self.logins, self.strangers = _Part(self._kept), _Part(self._kept)

    def put(self, key: object, entry: CachedStatus) -> None:
        """Keep a status; in each part the oldest goes when there are too many, or too large ones."""
        mine, other = self.logins, self.strangers
        if entry.status.login is None:
            mine, other = other, mine
        other.drop(key)
        mine.put(key, entry)


class _Part:
    """Limit the number and the size of one part of the statuses, which are all in ``kept``."""

    def __init__(self, kept: dict[object, CachedStatus]) -> None:
        self._kept = kept
        self._sizes: dict[object, int] = {}
        self._bytes = 0

    @property
    def entries(self) -> dict[object, CachedStatus]:
        """The statuses of this part."""
        return {key: self._kept[key] for key in self._sizes}

    def put(self, key: object, entry: CachedStatus) -> None:
        self.drop(key)
        self._kept[key] = entry
        self._sizes[key] = size = _size(key, entry.status)
        self._bytes += size
        while len(self._sizes) > STATUSES or self._bytes > STATUS_BYTES:
            self.drop(next(iter(self._sizes)))

    def drop(self, key: object) -> None:
        size = self._sizes.pop(key, None)
        if size is not None:
            self._bytes -= size
            del self._kept[key]


def _size(key: object, status: LoginStatus) -> int:
    said = sum(len(part) for part in key if isinstance(part, bytes | str)) if isinstance(key, tuple) else 0
    token = len(status.login.id_token or "") if status.login is not None else 0
    parts = (part for cookie in status.credentials.cookies for part in cookie.parts)
    return 1000 + said + token + sum(len(value) for _, value in parts)


class RecentEnds:
    """Remember which keys have ended within the last ``freshness`` seconds, by the monotonic clock."""

    def __init__(self) -> None:
        self.count = 0
        self.last = float("-inf")
        self.freshness = 0.0
        self.keys: OrderedDict[str, float] = OrderedDict()
        self._all_before = float("-inf")

    def note(self, key: str, now: float) -> None:
        """Drop every status of ``key`` that was read before ``now``."""
        self.count += 1
        self.last = self.keys[key] = now
        self.keys.move_to_end(key)
        # No status is older than ``freshness``. Two old ends go for each new one, so they cannot pile up.
        for oldest in tuple(itertools.islice(self.keys, 2)):
            if len(self.keys) > FRESH:
                self._all_before = self.keys.pop(oldest)
            elif self.keys[oldest] < now - self.freshness:
                del self.keys[oldest]

    def any_since(self, asked: float, keys: Iterable[str]) -> bool:
        """Return whether one of ``keys`` may have ended since the store was asked."""
        return self._all_before >= asked or any(self.keys.get(key, asked) > asked for key in keys)
