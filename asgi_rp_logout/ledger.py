"""The book of logins: the store behind its guard, with a short memory.

Four promises are kept here. A request asks the store at most once per login per ``freshness``, in one batch. The store
calls of one request end after half a second, all in all. What this process has ended is ended here, store up or down.
And an end that the store did not take is written as soon as it answers again.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import secrets
import sys
import time
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import anyio

from . import journal
from .ends import EndsHere
from .errors import StoreError
from .guard import NOT_WRITTEN, Deadline, Guard
from .login import Login
from .protocol.cookie_values import Secret
from .settings import Settings
from .store import COLLECTION, ISSUED, LOGIN, UNKNOWN, Fingerprints, MemoryStore, Record, Store
from .verdict import (
    SECOND_CLICK,
    SID_UNKNOWN,
    Claim,
    Handle,
    Verdict,
    before_key,
    cookie_key,
    digest,
    end_of,
    judge,
    later_of,
    login_record,
)

__all__ = ["Deadline", "Ledger"]

NEWS = "ends:last"
"""The store's key of the latest news that some login has ended."""

VERDICTS = 4096
"""Verdicts that are kept for ``freshness``, of logins and of strangers each."""

VERDICT_BYTES = 4 * 1024 * 1024
"""Bytes that these may take, about."""

TIES = 8192
"""Session cookies whose login is known without a look at the store."""

FRESH = 65_536
"""Ends that are compared with verdicts one by one; with more within ``freshness``, older verdicts do not hold."""

AT_ONCE = 20
"""Ends that are written after an outage in one go."""

WRITE_AGAIN = 1.0
"""Seconds between two attempts to write what the store did not take."""


class Verdicts:
    """Bound a part of the verdicts that are kept: the oldest goes when there are too many, or too large ones.

    The verdicts themselves stand in ``kept``, one dict for all parts, so that finding one takes one look.
    """

    def __init__(self, kept: dict[object, Verdict]) -> None:
        self._kept = kept
        self._sizes: dict[object, int] = {}
        self._bytes = 0

    @property
    def entries(self) -> dict[object, Verdict]:
        """The verdicts of this part."""
        return {key: self._kept[key] for key in self._sizes}

    def put(self, key: object, verdict: Verdict) -> None:
        """Keep a verdict."""
        self.drop(key)
        self._kept[key] = verdict
        self._sizes[key] = size = _size(key, verdict)
        self._bytes += size
        while len(self._sizes) > VERDICTS or self._bytes > VERDICT_BYTES:
            self.drop(next(iter(self._sizes)))

    def drop(self, key: object) -> None:
        """Forget a verdict, if there is one in this part."""
        size = self._sizes.pop(key, None)
        if size is not None:
            self._bytes -= size
            del self._kept[key]


def _size(key: object, verdict: Verdict) -> int:
    said = sum(len(part) for part in key if isinstance(part, bytes | str)) if isinstance(key, tuple) else 0
    token = len(verdict.login.id_token or "") if verdict.login is not None else 0
    parts = (part for cookie in verdict.claim.cookies for part in cookie.parts)
    return 1000 + said + token + sum(len(value) for _, value in parts)


class _Shared:
    """What all middlewares of this process share that have the same store."""

    def __init__(self) -> None:
        self.guard = Guard()
        self.ends = EndsHere()
        self.issued = Fingerprints(65_536)
        self.ties: OrderedDict[str, Handle] = OrderedDict()
        self.count = 0
        self.fresh_for = 0.0
        self.fresh: OrderedDict[str, float] = OrderedDict()
        self.stale_at = float("-inf")  # no verdict from before holds, whatever it is about
        self.ended_at = float("-inf")  # by the monotonic clock
        self.writer: asyncio.Task[None] | None = None


_SHARED: dict[int, _Shared] = {}


def _shared_by(store: Store) -> _Shared:
    shared = _SHARED.get(id(store))
    if shared is None:
        shared = _Shared()
        try:
            weakref.finalize(store, _SHARED.pop, id(store), None)
        except TypeError:  # no weak reference to be had: nobody can tell when its id is another store's
            return shared
        _SHARED[id(store)] = shared
    return shared


@dataclass(frozen=True, slots=True)
class Ending:
    """Hold what ends: the login of ``handle``, the session cookies by their digests, ``by`` what, and the rest.

    ``word`` is what a second click needs to know, ``shortly`` are records to keep for two minutes. ``cause`` is who
    could have made such a request, and so is what stands behind each digest.
    """

    handle: Handle | None
    digests: Mapping[str, str]
    cause: str
    by: str
    word: Mapping[str, Any]
    shortly: Mapping[str, Record]


class Ledger:
    """Remember, look up and end logins."""

    def __init__(self, settings: Settings) -> None:
        self.store = store = settings.store
        self.lifetime = float(settings.session_lifetime)
        self.freshness = settings.freshness
        self.advised: set[str] = set()
        self.in_every_session: frozenset[str] | None = None
        self._verdicts: dict[object, Verdict] = {}
        self._known, self._strangers = Verdicts(self._verdicts), Verdicts(self._verdicts)
        self._cookies = settings.session_cookies
        self._knows_sids = settings.frontchannel_path is not None
        # A login's record must outlive every cookie that was renewed while it was in use, so it is kept a tenth longer
        # than a session lives, and written again after a tenth. What ends a login must outlive that record.
        self._slack = self.lifetime / 10
        self._kept = self.lifetime + self._slack
        self._local = store if isinstance(store, MemoryStore) else None
        self.is_local = self._local is not None  # nobody outside of this process can end a login
        self._shared = _shared_by(store)
        self._shared.fresh_for = max(self._shared.fresh_for, self.freshness)
        self._in_turn = not self.is_local and _does_in_turn(store, "_get_managed_entries")
        self._writes_in_turn = self._in_turn or (not self.is_local and _does_in_turn(store, "_put_managed_entries"))
        self._asking: dict[Any, anyio.Event] = {}

    @property
    def idle(self) -> bool:
        """Return whether nothing can be known of any request."""
        return self._local is not None and self._local.empty

    @property
    def ends(self) -> int:
        """The number of ends in this process: another one after each."""
        return self._shared.count

    @property
    def ended_at(self) -> float:
        """When the last login ended in this process, by the monotonic clock."""
        return self._shared.ended_at

    # -- looking up ----------------------------------------------------------------------------------------------

    def cached(self, key: object) -> Verdict | None:
        """Return the verdict of an earlier request with the same cookies, if it still holds."""
        verdict = self._verdicts.get(key)
        if verdict is None or verdict.until < time.monotonic():
            return None
        asked, shared = verdict.until - self.freshness, self._shared
        if shared.ended_at > asked:
            fresh = shared.fresh
            if shared.stale_at >= asked or any(fresh.get(name, asked) > asked for name in verdict.keys):
                return None
        return verdict

    def last_known(self, key: object) -> Verdict | None:
        """Return the last verdict, however old, about a login that this process has not ended since."""
        verdict = self._verdicts.get(key)
        return (
            verdict
            if verdict is not None and verdict.login is not None and not self._shared.ends.among(verdict.keys)
            else None
        )

    def keep_last(self, key: object, verdict: Verdict) -> None:
        """Keep a verdict for ``last_known`` under one more key; takes one about a login."""
        self._known.put(key, verdict)

    async def look_up(self, key: object, claim: Claim, deadline: Deadline) -> Verdict:
        """Read the store about a claim, and keep the verdict under ``key`` for ``freshness``.

        Never raises: if the store fails, what this process knows goes on holding, with ``known=False``.
        """
        if not claim.keys:
            return self._keep(key, Verdict(claim))
        if self.is_local:
            return await self._ask(key, claim, deadline)
        # A page asks for its twenty pictures at once: one of them asks the store, the others wait for its answer.
        if self.freshness and (asking := self._asking.get(key)) is not None:
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
            verdict = await self.judge(claim, deadline)
        except StoreError as error:
            self._shared.guard.complain(
                "a login could not be looked up, so on_store_error decides about its request", error
            )
            verdict = self.judge_here(claim)
            verdict.keys = claim.keys
            return verdict if verdict.ended else replace(self.last_known(key) or verdict, known=False)
        verdict.until = asked + self.freshness
        self._notice_lost(verdict)
        if verdict.live and verdict.handle is not None and not verdict.by_cookie:
            await self._renew(verdict, deadline)
        return self._keep(key, verdict)

    def _notice_lost(self, verdict: Verdict) -> None:
        handle = verdict.claim.handle
        unknown = handle is not None and verdict.login is None and verdict.ended is None
        if unknown and handle is not None and 0 <= time.time() - handle.made < self.lifetime:
            journal.lost_login(self.advised, local=self.is_local)

    async def judge(self, claim: Claim, deadline: Deadline) -> Verdict:
        """Read the store about a claim, and give the verdict of this moment. Raises ``StoreError``."""
        keys = self._keys_of(claim)
        records = await self.read(keys, deadline)
        ties = {one: tie for one in claim.digests if (tie := Handle.tied(records.get(cookie_key(one)))) is not None}
        more = {name for tie in ties.values() for name in tie.record_keys()} - set(records)
        if more:
            records |= await self.read(more, deadline)
            self._tie(ties)
        verdict = judge(claim, records)
        verdict.keys = tuple(records)
        return verdict

    def judge_here(self, claim: Claim) -> Verdict:
        """Return the verdict by what this process has ended itself, without the store."""
        ties = {cookie_key(one): tie.tie for one in claim.digests if (tie := self._shared.ties.get(one)) is not None}
        return judge(claim, {**ties, **self._shared.ends.among(self._keys_of(claim))})

    def _keys_of(self, claim: Claim) -> list[str]:
        """Return the keys to read, those of the logins among them to which session cookies are known to be tied."""
        tied = [tie for one in claim.digests if (tie := self._shared.ties.get(one)) is not None]
        return [*claim.keys, *(name for tie in tied for name in tie.record_keys())]

    def _tie(self, ties: Mapping[str, Handle]) -> None:
        known = self._shared.ties
        known.update(ties)
        while len(known) > TIES:
            known.popitem(last=False)

    def _keep(self, key: object, verdict: Verdict) -> Verdict:
        parts = (self._known, self._strangers) if verdict.login is not None else (self._strangers, self._known)
        parts[1].drop(key)
        parts[0].put(key, verdict)
        verdict.plain = not verdict.hides and verdict.claim.later is None
        return verdict

    async def _renew(self, verdict: Verdict, deadline: Deadline) -> None:
        now, handle, record = time.time(), verdict.handle, verdict.record
        if handle is None or record is None or now - float(record.get("kept", now)) <= self._slack:
            return
        tied = [one for one, tie in verdict.ties.items() if tie.key == handle.key]
        records = {f"login:{handle.key}": {**record, "kept": now}, **{cookie_key(one): handle.tie for one in tied}}
        await self._write({**records, **self._sid_of(handle)}, self._kept, deadline)

    # -- remembering ---------------------------------------------------------------------------------------------

    async def remember(self, handle: Handle, login: Login, digests: Iterable[str], deadline: Deadline) -> bool:
        """Write a login, and tie session cookies to it by their digests; return whether the store took it."""
        ties = dict.fromkeys(digests, handle)
        self._tie(ties)
        self._shared.issued.add(handle.key)
        key = f"login:{handle.key}"
        records: dict[str, Record] = {key: login_record(login, handle, time.time())}
        records |= {cookie_key(one): handle.tie for one in ties}
        for one in records:
            self._shared.ends.drop(one)  # what is issued to a new login is not dead, whatever it was before
        self._note(key)  # no verdict from before holds: a renewal changes the record of a login that lives
        return key in await self._write({**records, **self._sid_of(handle)}, self._kept, deadline)

    def _sid_of(self, handle: Handle) -> dict[str, Record]:
        return {f"known:{handle.sid_key}": {}} if self._knows_sids and handle.sid_key else {}

    async def tie(self, handle: Handle, digests: Iterable[str], deadline: Deadline) -> None:
        """Note that session cookies were issued to a login, so that copies of them are known without the companion."""
        known = self._shared.ties
        new = {one: handle for one in digests if one not in known or known[one].key != handle.key}
        if new:
            self._tie(new)
            await self._write({cookie_key(one): handle.tie for one in new}, self._kept, deadline)

    def is_tied(self, digests: Iterable[str]) -> bool:
        """Return whether this process knows a session cookie as that of a login, by its digest, without the store."""
        return any(one in self._shared.ties for one in digests)

    def note_issued(self, cookies: Iterable[Secret]) -> None:
        """Note that the application has issued session cookies: their end is nobody's invention."""
        for cookie in cookies:
            if cookie.digest is not None and cookie.digest not in self._shared.issued:
                self._shared.issued.add(cookie.digest)

    def has_made(self, handle: Handle) -> bool:
        """Return whether this process has made a handle: nobody has invented it, whatever the store says of it."""
        return handle.key in self._shared.issued

    async def forget(self, handle: Handle, deadline: Deadline) -> None:
        """Drop a login without ending anything."""
        self._note(f"login:{handle.key}")
        try:
            await self.claim(f"login:{handle.key}", deadline)
        except StoreError as error:
            self._shared.guard.complain("a login could not be forgotten, so the next logout still uses it", error)

    async def lift(self, keys: Iterable[str], deadline: Deadline) -> None:
        """Take back the tombstones under ``keys``, if there are any. Raises ``StoreError``."""
        for key, record in (await self.read(keys, deadline)).items():
            if record is not None and "by" in record:
                self._shared.ends.drop(key)
                self._note(key)  # no verdict from before this moment holds
                if self.is_local:
                    await self._delete(key, deadline)
                else:  # other workers may know of the end: they need to be told that it is over
                    await self._write({key: {"issued": time.time()}}, self._kept, deadline)

    # -- ending --------------------------------------------------------------------------------------------------

    def revocable(self, verdict: Verdict, cause: str) -> dict[str, str]:
        """Return the digests of the session cookies that a logout revokes, each with who could have caused that.

        Those that the application has issued here, or to a login, all; of others the one that it most likely reads, for
        each cookie that is declared: invented ones must not cost more, nor take the room of a login's. What is dead
        beside others stays as it is.
        """
        dead = verdict.dead if verdict.ended is None else ()
        cookies = [cookie for cookie in verdict.claim.cookies if cookie.digest and cookie not in dead]
        likely = [cookie.digest for cookie in self._cookies.likely(cookies) if cookie.digest]
        own = list(dict.fromkeys(cookie.digest for cookie in cookies if cookie.digest))
        given = [one for one in own if one in self._shared.issued or one in self._shared.ties]
        if cause == LOGIN:
            return {one: LOGIN if one in given or one in likely else UNKNOWN for one in own}
        return dict.fromkeys(given, ISSUED) or dict.fromkeys(likely, cause)

    async def end(self, ending: Ending, deadline: Deadline) -> None:
        """End a login and its session cookies, tell the other workers, and keep for two minutes what a click needs.

        Never raises, and what has begun is not stopped by a cancellation: an end is whole or not at all.
        """
        now = time.time()
        word = {"at": now, **ending.word}
        ends: dict[str, Record] = {}
        if ending.handle is not None:
            ends[f"ended:{ending.handle.key}"] = {"by": ending.by, **word}
        for one, cause in ending.digests.items():
            ends[cookie_key(one)] = {"by": "buried", **word, "of": cause}
        if not ends and not ending.shortly:
            return
        if self.is_local:  # nothing waits here, and so nothing can be cancelled
            await self._end(ends, ending, deadline)
        else:
            await uninterrupted(lambda: self._end(ends, ending, deadline))

    async def _end(self, ends: dict[str, Record], ending: Ending, deadline: Deadline) -> None:
        for key, record in ends.items():
            self._note(key)
            if not self.is_local:
                self._shared.ends.note(key, record, time.time() + self._kept, record.get("of", ending.cause))
        news = self._news() if ending.handle is not None else {}
        batches = [({**ends, **news}, self._kept), (ending.shortly, min(SECOND_CLICK, self._kept))]
        taken: set[str] = set()

        async def write(batch: tuple[Mapping[str, Record], float]) -> None:
            taken.update(await self._write(*batch, deadline))

        await (_in_order if self.is_local else _all_at_once)(write, [batch for batch in batches if batch[0]])
        self._taken(ends, taken)

    def _news(self) -> dict[str, Record]:
        """Return what tells every worker that some login has ended: none need ask for each."""
        return {} if self.is_local else {NEWS: {"id": secrets.token_urlsafe(9)}}

    def _taken(self, ends: Mapping[str, Record], taken: set[str]) -> None:
        if self.is_local:
            return
        self._shared.ends.take({key: record for key, record in ends.items() if key in taken})
        for key in ends:
            self._note(key)  # once more: somebody may have read the store just before it was written
        if self._shared.ends.owes:
            self._write_later()

    async def end_sessions(
        self,
        iss: str,
        *,
        sid: str | None,
        sub: str | None,
        at: float | None,
        received: float,
        by: str,
        slot: str | None = None,
        deadline: Deadline,
    ) -> bool:
        """End the logins of a session, or of a subject, made up to ``at``, or else up to ``received``.

        Takes the issuer with the ``sid``, the ``sub`` or both; ``at`` by the provider's clock and ``received`` by ours,
        in seconds since the epoch; and the ``slot`` of the record, if it is not the subject's. With both, the logins of
        the subject whose sid nobody knows end too: one of them may be that session. Returns whether anything has ended
        that had not before, so that a token that is sent again counts once. Raises ``StoreError`` if only this process
        knows of it so far.
        """
        entry = [at, received, by]
        if sid is not None:
            named = digest(iss, "sub", sub) if sub is not None else ""
            ends = {before_key(iss, sid=sid): {named if slot is None else slot: entry}}
            if sub is not None:
                ends[before_key(iss, sub=sub)] = {SID_UNKNOWN: entry}
        else:
            ends = {before_key(iss, sub=sub): {"": entry}}
        moved = False

        async def work() -> None:
            nonlocal moved
            moved = await self._move_forward(ends, deadline)

        await (work() if self.is_local else uninterrupted(work))
        return moved

    async def _move_forward(self, ends: Mapping[str, Record], deadline: Deadline) -> bool:
        """Write not-before times, which only ever move forward, and look whether another worker was quicker."""
        moved = False
        failure: StoreError | None = None
        try:
            stored = await self.read(ends, deadline, vital=True)
        except StoreError as error:
            stored, failure = {}, error
        records: dict[str, Record] = {}
        for key, new in ends.items():
            earlier = later_of(stored.get(key), self._shared.ends.get(key))
            record = later_of(earlier, new)
            if record != earlier:
                moved = True
                records[key] = record
                self._note(key)
                if not self.is_local:
                    self._shared.ends.note(key, record, time.time() + self._kept, LOGIN)
        if failure is None and records:
            failure = await self._write_before(records, deadline)
        if failure is not None:
            self._write_later()
            raise failure
        return moved

    async def _write_before(self, records: dict[str, Record], deadline: Deadline) -> StoreError | None:
        for _ in range(3):
            taken = await self._write({**records, **self._news()}, self._kept, deadline)
            self._taken(records, taken)
            if not taken.issuperset(records):
                return StoreError("the end of a session could not be written", code="store")
            if self.is_local:
                return None
            # Two workers that were told at once have read the same record: who wrote last must not lose the other's.
            try:
                stored = await self._stored(records, deadline)
            except StoreError:
                return None
            lost = {key: merged for key in records if (merged := later_of(stored[key], records[key])) != stored[key]}
            if not lost:
                return None
            records = lost
        return None

    def ended_here(self, keys: Iterable[str]) -> dict[str, Record]:
        """Return the records among ``keys`` of what this process has ended."""
        return self._shared.ends.among(keys)

    def complain(self, what: str, error: StoreError) -> None:
        """Log that the store has failed, at most once a second."""
        self._shared.guard.complain(what, error)

    def left_of(self, at: float) -> float:
        """Return how many seconds a tombstone of ``at``, in seconds since the epoch, has left to live."""
        return max(at + self._kept - time.time(), 1.0)

    # -- one-time things -----------------------------------------------------------------------------------------

    async def put(self, key: str, record: Mapping[str, Any], ttl: float, deadline: Deadline) -> bool:
        """Write a record that only helps; return whether it was taken."""
        return bool(await self._write({key: dict(record)}, ttl, deadline))

    async def claim(self, key: str, deadline: Deadline) -> Record | None:
        """Take a record out of the store; None if it is not there or somebody else took it. Raises ``StoreError``."""
        record = (await self.read([key], deadline, vital=True))[key]
        if record is None:
            return None
        return record if await self._delete(key, deadline) else None

    # -- the store, guarded --------------------------------------------------------------------------------------

    async def read(self, keys: Iterable[str], deadline: Deadline, *, vital: bool = False) -> dict[str, Record | None]:
        """Return the records of ``keys``, in one batch. Raises ``StoreError``."""
        keys, ends = list(dict.fromkeys(keys)), self._shared.ends
        records: dict[str, Record | None] = await self._guarded(
            lambda: self._get_many(keys), deadline, vital=vital, keys=len(keys)
        )
        if ends.owes:
            await self._write_owed(deadline)
        # A replica may lag behind, and a store may lose what it has taken: what has ended here is ended here.
        for key, record in ends.among(keys).items():
            records[key] = later_of(records[key], record) if key.startswith("before:") else end_of(records[key], record)
        return records

    async def _stored(self, keys: Iterable[str], deadline: Deadline) -> dict[str, Record | None]:
        """Return the records of ``keys`` as the store has them, whatever is known here. Raises ``StoreError``."""
        keys = list(keys)
        found: dict[str, Record | None] = await self._guarded(lambda: self._get_many(keys), deadline, vital=True)
        return found

    async def _get_many(self, keys: list[str]) -> dict[str, Record | None]:
        if not self._in_turn:
            return dict(zip(keys, await self.store.get_many(keys, collection=COLLECTION), strict=True))
        records: dict[str, Record | None] = dict.fromkeys(keys)

        async def get(key: str) -> None:
            records[key] = await self.store.get(key, collection=COLLECTION)

        await _all_at_once(get, keys)
        return records

    async def _delete(self, key: str, deadline: Deadline) -> bool:
        call = functools.partial(self.store.delete, key, collection=COLLECTION)
        return bool(await self._guarded(call, deadline, vital=True))

    async def _write(self, records: Mapping[str, Record], ttl: float, deadline: Deadline) -> set[str]:
        """Write records that live equally long, in one batch; return the keys that the store took. Never raises."""
        put_many = getattr(self.store, "put_many", None)
        if len(records) > 1 and callable(put_many) and not self._writes_in_turn:
            keys, values = list(records), list(records.values())
            batch = lambda: put_many(keys, values, collection=COLLECTION, ttl=ttl)  # noqa: E731
            return set(keys) if await self._try(keys, batch, deadline) else set()
        return await self._put_each([(key, record, ttl) for key, record in records.items()], deadline)

    async def _put_each(self, items: Sequence[tuple[str, Record, float]], deadline: Deadline) -> set[str]:
        """Write records one by one and at once; return the keys that the store took. Never raises."""
        taken: set[str] = set()
        failures: list[Exception] = []

        async def put(item: tuple[str, Record, float]) -> None:
            key, record, ttl = item
            try:
                await self.store.put(key, record, collection=COLLECTION, ttl=ttl)
            except Exception as error:  # one record that is not taken must not cost another
                failures.append(error)
            else:
                taken.add(key)

        async def put_all() -> None:
            await (_in_order(put, items) if self.is_local or len(items) == 1 else _all_at_once(put, items))
            if failures:
                raise failures[0]

        await self._try([key for key, _, _ in items], put_all, deadline)
        return taken

    async def _try(self, keys: list[str], call: Callable[[], Awaitable[Any]], deadline: Deadline) -> bool:
        try:
            await self._guarded(call, deadline, vital=True, keys=len(keys))
        except StoreError as error:
            kind = keys[0].partition(":")[0]
            self._shared.guard.complain(NOT_WRITTEN.get(kind, "a record could not be written"), error)
            return False
        return True

    async def _guarded(
        self, call: Callable[[], Awaitable[Any]], deadline: Deadline, *, vital: bool, keys: int = 1
    ) -> Any:
        if self.is_local:
            return await call()
        return await self._shared.guard.call(call, deadline, vital=vital, keys=keys)

    # -- what the store did not take -----------------------------------------------------------------------------

    def _note(self, key: str) -> None:
        """Let no verdict from before this moment hold in this process."""
        shared, now = self._shared, time.monotonic()
        shared.count += 1
        shared.ended_at = shared.fresh[key] = now
        shared.fresh.move_to_end(key)
        # No verdict is older than ``freshness``. Two that are go for each one that comes, so they cannot pile up.
        for oldest in tuple(itertools.islice(shared.fresh, 2)):
            if len(shared.fresh) > FRESH:
                shared.stale_at = shared.fresh.pop(oldest)
            elif shared.fresh[oldest] < now - shared.fresh_for:
                del shared.fresh[oldest]

    async def _write_owed(self, deadline: Deadline) -> bool:
        """Write some of what the store has still to take; return whether it took them."""
        ends, now = self._shared.ends, time.time()
        owed = dict(ends.to_write(now, AT_ONCE))
        befores = [key for key in owed if key.startswith("before:")]
        try:  # another worker may have heard of a later end in the meantime
            stored = await self._stored(befores, deadline) if befores else {}
        except StoreError:
            return False
        some = [(key, _merged(stored.get(key), end.record), max(end.until - now, 1.0)) for key, end in owed.items()]
        taken = await self._put_each(some, deadline) if some else set()
        ends.take({key: end.record for key, end in owed.items() if key in taken})
        return len(taken) == len(some)

    def _write_later(self) -> None:
        """Go on trying, whether requests come by or not; where there is no asyncio, the next request does it."""
        shared = self._shared
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if shared.writer is None or shared.writer.done() or shared.writer.get_loop() is not loop:
            shared.writer = loop.create_task(self._write_until_taken())

    async def _write_until_taken(self) -> None:
        while self._shared.ends.owes:
            await asyncio.sleep(WRITE_AGAIN)
            try:
                while self._shared.ends.owes and await self._write_owed(Deadline()):
                    pass
            except Exception as error:  # nobody else would write these ends
                self._shared.guard.complain(NOT_WRITTEN["ended"], StoreError(type(error).__name__))


def _merged(stored: Record | None, end: Record) -> Record:
    """Return an end that was not written yet, with what another worker has written of a later one."""
    try:
        return later_of(stored, end) if stored is not None else end
    except (TypeError, ValueError, LookupError, AttributeError):  # of another version: what is known here counts
        return end


async def _in_order(function: Callable[[Any], Awaitable[None]], items: Iterable[Any]) -> None:
    for item in items:
        await function(item)


async def _all_at_once(function: Callable[[Any], Coroutine[Any, Any, None]], items: Iterable[Any]) -> None:
    try:
        async with anyio.create_task_group() as group:
            for item in items:
                group.start_soon(function, item)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def uninterrupted(work: Callable[[], Awaitable[None]]) -> None:
    """Run ``work`` to its end, whoever cancels: a cancellation is passed on afterwards.

    A scope of anyio is shielded off. ``asyncio.timeout()``, Daphne after a disconnect and uvicorn's graceful shutdown
    cancel the task itself, which no shield of anyio holds off, and so the work has a task of its own.
    """
    with anyio.CancelScope(shield=True):
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # of another event loop, where scopes are all there is
            await work()
            return
        task = loop.create_task(_awaiting(work))
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            if not task.cancelled():
                task.exception()
            raise cancelled
        task.result()


async def _awaiting(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def _does_in_turn(store: object, method: str) -> bool:
    """Return whether a store of py-key-value has one key after the other behind ``method``, as its base class does.

    Of a wrapper, such as the one that encrypts, the store in it counts.
    """
    for _ in range(10):
        store = getattr(store, "key_value", store)
    base = sys.modules.get("key_value.aio.stores.base")
    inherited = getattr(getattr(base, "BaseStore", None), method, None)
    return inherited is not None and getattr(type(store), method, None) is inherited
