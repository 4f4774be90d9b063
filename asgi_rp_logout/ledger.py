"""The book of logins: the store behind its guard, with a short memory.

Three promises are kept here. A request asks the store at most once per login per ``freshness``. The store calls of one
request end after half a second, all in all. And an end that was decided is not lost: a tombstone that the store did not
take is kept here, counts here at once, and is written as soon as the store answers again.
"""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import anyio

from .errors import StoreError
from .guard import NOT_WRITTEN, Deadline, Guard
from .login import Login
from .settings import Settings
from .store import COLLECTION, MemoryStore, Record
from .verdict import SECOND_CLICK, Claim, Handle, SessionCookie, Verdict, judge, login_record

T = TypeVar("T")

__all__ = ["Deadline", "Ledger"]

_REMEMBERED = 4096
"""Verdicts kept for ``freshness``, and tombstones kept while the store is down."""

_SETTLED_AT_ONCE = 20
"""Tombstones written after an outage at the expense of one request."""


class Ledger:
    """Remember, look up and end logins."""

    def __init__(self, settings: Settings) -> None:
        store = settings.store
        self.store = store
        self.lifetime = float(settings.session_lifetime)
        self.freshness = settings.freshness
        self.verdicts: dict[Any, Verdict] = {}
        self.advised = False
        self._knows_sids = settings.frontchannel_path is not None
        self._ends = 0
        # A login's record must outlive every cookie that was renewed while it was in use, so it is kept a tenth longer
        # than a session lives, and written again after a tenth. What ends a login must outlive that record.
        self._slack = self.lifetime / 10
        self._kept = self.lifetime + self._slack
        self._local = store if isinstance(store, MemoryStore) else None
        self.is_local = self._local is not None  # nobody outside of this process can end a login
        self._fresh_ends: OrderedDict[str, float] = OrderedDict()
        self.ended_at = float("-inf")  # by the monotonic clock
        self._owed: dict[str, tuple[Record, float]] = {}
        self._asking: dict[Any, anyio.Event] = {}
        self._guard = Guard()

    @property
    def idle(self) -> bool:
        """Tell whether nothing can be known of any request."""
        return self._local is not None and self._local.empty

    @property
    def ends(self) -> int:
        """Return how many logins have ended here so far, through every middleware that shares a local store."""
        return self._local.ends if self._local is not None else self._ends

    # -- looking up ----------------------------------------------------------------------------------------------

    def cached(self, key: object) -> Verdict | None:
        """Give the verdict of an earlier request with the same cookies, if it still holds."""
        verdict = self.verdicts.get(key)
        if verdict is None or verdict.until < time.monotonic():
            return None
        asked = verdict.until - self.freshness
        if self.ended_at > asked and any(self._fresh_ends.get(name, asked) > asked for name in verdict.claim.keys):
            return None
        return verdict

    async def look_up(self, key: object, claim: Claim, deadline: Deadline) -> Verdict:
        """Read the store about a claim, and keep the verdict under ``key`` for ``freshness``.

        Never raises: if the store fails, the last verdict known goes on holding, else one with ``known=False``.
        """
        if not claim.keys:
            return self._keep(key, Verdict(claim))
        if self.is_local:
            return await self._ask(key, claim, deadline)
        # A page asks for its twenty pictures at once: one of them asks the store, the others wait for its answer.
        while self.freshness and (asking := self._asking.get(key)) is not None:
            await asking.wait()
            verdict = self.cached(key)
            if verdict is not None:
                return verdict
        self._asking[key] = answered = anyio.Event()
        try:
            return await self._ask(key, claim, deadline)
        finally:
            self._asking.pop(key, None)
            answered.set()

    async def _ask(self, key: object, claim: Claim, deadline: Deadline) -> Verdict:
        asked = time.monotonic()
        try:
            verdict = judge(claim, await self.read(claim.keys, deadline))
        except StoreError as error:
            self._guard.complain("a login could not be looked up", error)
            verdict = judge(claim, self.owed(claim.keys))
            return verdict if verdict.ended is not None else replace(self.verdicts.get(key, verdict), known=False)
        verdict.until = asked + self.freshness
        if verdict.live and claim.handle is not None:
            await self._renew(claim.handle, verdict, deadline)
        return self._keep(key, verdict)

    async def read(self, keys: Iterable[str], deadline: Deadline) -> dict[str, Record | None]:
        """Give the records of ``keys``. Raises ``StoreError``."""
        keys = list(keys)
        owed = self.owed(keys)  # before the store is asked: it may be paid while it answers
        records = await self._guarded(self._get_many(keys), deadline, breaker=True)
        if self._owed:
            await self._settle(deadline)
        return {**records, **owed} if owed else records

    def owed(self, keys: Iterable[str]) -> dict[str, Record]:
        """Give the tombstones among ``keys`` that the store has not taken yet; they count here all the same."""
        return {key: self._owed[key][0] for key in keys if key in self._owed} if self._owed else {}

    async def _get_many(self, keys: list[str]) -> dict[str, Record | None]:
        return dict(zip(keys, await self.store.get_many(keys, collection=COLLECTION), strict=True))

    def _keep(self, key: object, verdict: Verdict) -> Verdict:
        if len(self.verdicts) >= _REMEMBERED:
            self.verdicts.clear()
        self.verdicts[key] = verdict
        return verdict

    async def _renew(self, handle: Handle, verdict: Verdict, deadline: Deadline) -> None:
        now = time.time()
        if verdict.record is not None and now - float(verdict.record.get("kept", now)) > self._slack:
            record = {**verdict.record, "kept": now}
            await self._write(handle, record, deadline)

    # -- remembering and ending ----------------------------------------------------------------------------------

    async def remember(self, handle: Handle, login: Login, deadline: Deadline) -> bool:
        """Write a login; tell whether the store took it."""
        return await self._write(handle, login_record(login, handle, time.time()), deadline)

    async def _write(self, handle: Handle, record: Record, deadline: Deadline) -> bool:
        if self._knows_sids and handle.sid_key:
            await self._try(f"known:{handle.sid_key}", {}, self._kept, deadline)
        return await self._try(f"login:{handle.key}", record, self._kept, deadline)

    async def end(self, handle: Handle, verdict: Verdict | None, by: str, deadline: Deadline, **more: Any) -> None:
        """End a login for good: its tombstone, and two more minutes for what a second click needs."""
        await self._tombstone(f"ended:{handle.key}", {"by": by, "at": time.time(), **more}, deadline)
        if verdict is not None and verdict.record is not None:
            await self._try(f"login:{handle.key}", verdict.record, min(SECOND_CLICK, self._kept), deadline)

    async def bury(self, cookies: Iterable[SessionCookie], known: bool, deadline: Deadline, **more: Any) -> None:
        """End what session cookies stand for by their exact values; ``known`` says that a login was behind them."""
        kind = "buried" if known else "invented"
        for name in dict.fromkeys(cookie.digest for cookie in cookies if cookie.digest):
            await self._tombstone(f"{kind}:{name}", {"by": "buried", "at": time.time(), **more}, deadline)

    async def lift(self, keys: Iterable[str], deadline: Deadline) -> None:
        """Take back the tombstones under ``keys``, if there are any. Raises ``StoreError``."""
        for key, record in (await self.read(keys, deadline)).items():
            if record is not None:
                self._owed.pop(key, None)
                self._note_end(key)  # no verdict from before this moment holds
                await self._guarded(self.store.delete(key, collection=COLLECTION), deadline, breaker=False)

    async def end_before(
        self, key: str, slot: str, *, at: float | None, received: float, by: str, deadline: Deadline
    ) -> None:
        """End the logins of a session, or of a subject, made up to ``at``, or else up to ``received``.

        Takes the not-before key, and the slot in its record: the digest of the subject that has to match, an empty
        string for none. Raises ``StoreError``. The time only ever moves forward, so that a logout token that is sent
        again ends nothing newer.
        """
        record = (await self.read([key], deadline))[key] or {}
        earlier = record.get(slot)
        if earlier is not None and float(earlier[0] or earlier[1]) >= (at or received):
            return
        record = {**record, slot: [at, received, by]}
        put = self.store.put(key, record, collection=COLLECTION, ttl=self._kept)
        await self._guarded(put, deadline, breaker=False)
        self._note_end(key)

    async def forget(self, handle: Handle, deadline: Deadline) -> None:
        """Drop a login without ending anything."""
        self._note_end(f"login:{handle.key}")
        try:
            await self.claim(f"login:{handle.key}", deadline)
        except StoreError as error:
            self._guard.complain("a login could not be forgotten", error)

    # -- one-time things -----------------------------------------------------------------------------------------

    async def put(self, key: str, record: Mapping[str, Any], ttl: float, deadline: Deadline) -> bool:
        """Write a record that only helps; tell whether it was taken."""
        return await self._try(key, dict(record), ttl, deadline)

    async def claim(self, key: str, deadline: Deadline) -> Record | None:
        """Take a record out of the store; None if it is not there or somebody else took it. Raises ``StoreError``."""
        record = (await self.read([key], deadline))[key]
        if record is None:
            return None
        first = await self._guarded(self.store.delete(key, collection=COLLECTION), deadline, breaker=False)
        return record if first else None

    # -- the store, guarded --------------------------------------------------------------------------------------

    async def _tombstone(self, key: str, record: Record, deadline: Deadline) -> None:
        self._note_end(key)
        if not await self._try(key, record, self._kept, deadline):
            if len(self._owed) >= _REMEMBERED:
                self._owed.pop(next(iter(self._owed)))
            self._owed[key] = (record, time.time() + self._kept)
        if self._local is None:
            self._note_end(key)  # once more: somebody may have read the store just before it was written

    def _note_end(self, key: str) -> None:
        """Let no verdict from before this moment hold in this process."""
        now = time.monotonic()
        if self._local is not None:
            self._local.ends += 1
        else:
            self._ends += 1
        self.ended_at = self._fresh_ends[key] = now
        self._fresh_ends.move_to_end(key)
        # No verdict is older than ``freshness``. Two that are go for each one that comes, so they cannot pile up.
        for oldest in tuple(itertools.islice(self._fresh_ends, 2)):
            if self._fresh_ends[oldest] < now - self.freshness:
                del self._fresh_ends[oldest]

    async def _settle(self, deadline: Deadline) -> None:
        for key, (record, until) in list(itertools.islice(self._owed.items(), _SETTLED_AT_ONCE)):
            ttl = until - time.time()
            if ttl > 0 and not await self._try(key, record, ttl, deadline):
                return
            self._owed.pop(key, None)

    async def _try(self, key: str, record: Record, ttl: float, deadline: Deadline) -> bool:
        try:
            await self._guarded(self.store.put(key, record, collection=COLLECTION, ttl=ttl), deadline, breaker=False)
        except StoreError as error:
            self._guard.complain(NOT_WRITTEN.get(key.partition(":")[0], "a record could not be written"), error)
            return False
        return True

    async def _guarded(self, call: Awaitable[T], deadline: Deadline, *, breaker: bool) -> T:
        return await (call if self._local is not None else self._guard.call(call, deadline, breaker=breaker))
