"""A wrapper around the store that never hangs: a time budget, a circuit breaker, one warning a second at most.

The breaker is for a store that is down, so that requests do not wait for it one after the other. It opens on failures
of the store's own, never because one request ran out of its budget by its size or number of calls. After a second one
call tests the store, and the others go on without it until that call is answered. A call whose work must not be lost is
always made: see ``vital``.

What this process has ended counts here, whatever the store says (see ``local_ends``). Tombstones that the store did not
take are written as soon as it answers again.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio

from ..errors import StoreError
from ..log import logger
from ..store import COLLECTION, MemoryStore, Record, Store
from .local_ends import LocalEnds
from .records import end_that_holds, merged_until

T = TypeVar("T")

STORE_DEADLINE = 0.5
"""Seconds for all store calls of one request."""

BREAKER_OPEN = 1.0
"""Seconds after a failure in which calls that are not vital are not even tried."""

SMALL = 8
"""Keys of a small call, whose time-out means that the store has failed: the four of a login, and a few cookies."""

AT_ONCE = 20
"""Tombstones that are written at the same time after an outage."""

WRITE_AGAIN = 1.0
"""Seconds between two attempts to write what the store did not take."""

_ENDED_HERE = "the end of a login could not be written to the store yet, so other workers do not know of it"
_NOT_WRITTEN = {
    "login": "a login could not be remembered, so its logout has no ID Token",
    **dict.fromkeys(("ended", "cookie", "ended_until"), _ENDED_HERE),
    "deferred": "a logout by fetch could not be kept for the next page, so the user stays signed in at the provider",
    "handed_over": "a login could not be handed over to another worker, so its logout has no ID Token",
    "silent_trip": "a logout goes to the provider without the ID Token that its browser was to fetch first",
    "return_trip": "the page to return to could not be kept, so the browser will return to the default one",
}
"""What it means that a record of one kind could not be written."""


@dataclass(slots=True)
class StoreBudget:
    """The seconds that one request may spend on store calls; what the application does in between does not count."""

    spent: float = 0.0

    def left(self) -> float:
        """Return the seconds left, never less than a hundredth."""
        return max(STORE_DEADLINE - self.spent, 0.01)


class Breaker:
    """Call a store that may raise, hang or be slow. ``clock`` gives seconds that never run backwards."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or (lambda: time.monotonic())  # noqa: PLW0108  # the clock of now, not of the import
        self._opened_at: float | None = None
        self._probing = False
        self._warned_at = float("-inf")

    def close(self) -> None:
        """Use the store again."""
        self._opened_at = None

    async def call(self, call: Callable[[], Awaitable[T]], budget: StoreBudget, *, vital: bool, keys: int = 1) -> T:
        """Call the store and return its answer. Raises ``StoreError``, at once if the breaker is open.

        Takes the call, the request's budget, the number of ``keys`` that the call is about, and ``vital``: a call that
        is made even if the breaker is open, because something would be lost without it.
        """
        probe = not vital and self._opened_at is not None
        if probe:
            self._begin_probe()
        began, seconds = self._clock(), budget.left()
        try:
            with anyio.move_on_after(seconds):
                answer = await call()
                self._opened_at = None
                return answer
            if keys <= SMALL and seconds >= STORE_DEADLINE / 2:
                self._opened_at = self._clock()
            raise StoreError(f"the store did not answer within {seconds:.1f} s", code="store")
        except StoreError:
            raise
        except Exception as error:
            self._opened_at = self._clock()
            raise StoreError(f"the store failed: {type(error).__name__}", code="store") from error
        finally:
            if probe:
                self._probing = False
            budget.spent += self._clock() - began

    def _begin_probe(self) -> None:
        opened = self._opened_at
        if self._probing or (opened is not None and self._clock() - opened < BREAKER_OPEN):
            raise StoreError("the store failed a moment ago", code="breaker")
        self._probing = True

    def warn(self, what: str, error: StoreError) -> None:
        """Log a failure, unless one was logged a moment ago."""
        now = self._clock()
        if now - self._warned_at > BREAKER_OPEN:
            self._warned_at = now
            logger.warning("%s: %s", what, error)


class _Shared:
    """What the guarded stores of this process share if they wrap the same store."""

    def __init__(self) -> None:
        self.breaker = Breaker()
        self.ended = LocalEnds()
        self.writer: asyncio.Task[None] | None = None


def shared_by(store: object, kind: Callable[[], T], known: dict[int, T]) -> T:
    """Return the object of ``kind`` that belongs to ``store``: the one in ``known``, or a new one, kept there."""
    shared = known.get(id(store))
    if shared is None:
        shared = kind()
        try:
            weakref.finalize(store, known.pop, id(store), None)
        except TypeError:  # without a weak reference, its id may one day be another store's
            return shared
        known[id(store)] = shared
    return shared


_STATES: dict[int, _Shared] = {}


class GuardedStore:
    """Read and write records in batches, within the budget of each request."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._local = store if isinstance(store, MemoryStore) else None
        self.is_local = self._local is not None
        """Whether only this process can end a login."""
        self._in_turn = not self.is_local and _inherits(store, "_get_managed_entries")
        self._writes_in_turn = self._in_turn or (not self.is_local and _inherits(store, "_put_managed_entries"))
        self._shared = shared_by(store, _Shared, _STATES)
        self.breaker = self._shared.breaker
        self.ended = self._shared.ended

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be known of any request."""
        return self._local is not None and self._local.empty

    # -- reading -------------------------------------------------------------------------------------------------

    async def read(self, keys: Iterable[str], budget: StoreBudget, *, vital: bool = False) -> dict[str, Record | None]:
        """Return the records of ``keys``, in one batch, with what has ended here. Raises ``StoreError``."""
        keys = list(dict.fromkeys(keys))
        records = await self._guarded(lambda: self._get_many(keys), budget, vital=vital, keys=len(keys))
        if self.ended.unwritten:
            await self.write_unwritten(budget)
        # A replica may lag behind, and a store may lose what it has taken.
        for key, end in self.ended.among(keys).items():
            merge = merged_until if key.startswith("ended_until:") else end_that_holds
            records[key] = merge(records[key], end)
        return records

    async def read_stored(self, keys: Iterable[str], budget: StoreBudget) -> dict[str, Record | None]:
        """Return the records of ``keys`` as the store has them, without what has ended here. Raises ``StoreError``."""
        keys = list(keys)
        return await self._guarded(lambda: self._get_many(keys), budget, vital=True)

    async def _get_many(self, keys: list[str]) -> dict[str, Record | None]:
        if not self._in_turn:
            return dict(zip(keys, await self.store.get_many(keys, collection=COLLECTION), strict=True))
        records: dict[str, Record | None] = dict.fromkeys(keys)

        async def get(key: str) -> None:
            records[key] = await self.store.get(key, collection=COLLECTION)

        await all_at_once(get, keys)
        return records

    # -- writing -------------------------------------------------------------------------------------------------

    async def put(self, key: str, record: Record, ttl: float, budget: StoreBudget) -> bool:
        """Write one record for ``ttl`` seconds; return whether the store took it. Never raises."""
        return bool(await self.write({key: record}, ttl, budget))

    async def take(self, key: str, budget: StoreBudget) -> Record | None:
        """Take a record out of the store; None if it is not there or somebody else took it. Raises ``StoreError``."""
        record = (await self.read([key], budget, vital=True))[key]
        return record if record is not None and await self.delete(key, budget) else None

    async def delete(self, key: str, budget: StoreBudget) -> bool:
        """Remove a record; return whether it was there. Raises ``StoreError``."""
        call = functools.partial(self.store.delete, key, collection=COLLECTION)
        return bool(await self._guarded(call, budget, vital=True))

    async def write(self, records: Mapping[str, Record], ttl: float, budget: StoreBudget) -> set[str]:
        """Write records that live equally long, in one batch; return the keys that the store took. Never raises."""
        put_many = getattr(self.store, "put_many", None)
        if len(records) > 1 and callable(put_many) and not self._writes_in_turn:
            keys, values = list(records), list(records.values())
            batch = functools.partial(put_many, keys, values, collection=COLLECTION, ttl=ttl)
            return set(keys) if await self._try(keys, batch, budget) else set()
        return await self._put_each([(key, record, ttl) for key, record in records.items()], budget)

    async def _put_each(self, items: Sequence[tuple[str, Record, float]], budget: StoreBudget) -> set[str]:
        """Write records by one call each, all at the same time; return the keys that the store took. Never raises."""
        taken: set[str] = set()
        failures: list[Exception] = []

        async def put(item: tuple[str, Record, float]) -> None:
            key, record, ttl = item
            try:
                await self.store.put(key, record, collection=COLLECTION, ttl=ttl)
            except Exception as error:  # one record that is not taken must not stop another
                failures.append(error)
            else:
                taken.add(key)

        async def put_all() -> None:
            await (in_order(put, items) if self.is_local or len(items) == 1 else all_at_once(put, items))
            if failures:
                raise failures[0]

        await self._try([key for key, _, _ in items], put_all, budget)
        return taken

    async def _try(self, keys: list[str], call: Callable[[], Awaitable[Any]], budget: StoreBudget) -> bool:
        try:
            await self._guarded(call, budget, vital=True, keys=len(keys))
        except StoreError as error:
            kind = keys[0].partition(":")[0]
            self.breaker.warn(_NOT_WRITTEN.get(kind, "a record could not be written"), error)
            return False
        return True

    async def _guarded(self, call: Callable[[], Awaitable[T]], budget: StoreBudget, *, vital: bool, keys: int = 1) -> T:
        if self.is_local:
            return await call()
        return await self.breaker.call(call, budget, vital=vital, keys=keys)

    # -- what the store did not take -----------------------------------------------------------------------------

    def note_written(self, ends: Mapping[str, Record], taken: set[str]) -> None:
        """Note which of the tombstones in ``ends`` the store has taken; the others are written later."""
        if self.is_local:
            return
        self.ended.note_written({key: record for key, record in ends.items() if key in taken})
        if self.ended.unwritten:
            self.write_later()

    async def write_unwritten(self, budget: StoreBudget) -> bool:
        """Write some of the tombstones that the store did not take; return whether it took them."""
        now = time.time()
        ends = dict(self.ended.to_write(now, AT_ONCE))
        sessions = [key for key in ends if key.startswith("ended_until:")]
        try:  # another worker may have written a later end in the meantime
            stored = await self.read_stored(sessions, budget) if sessions else {}
        except StoreError:
            return False
        merged = {key: merged_until(record, ends[key].record) for key, record in stored.items()}
        items = [(key, merged.get(key, end.record), max(end.until - now, 1.0)) for key, end in ends.items()]
        taken = await self._put_each(items, budget) if items else set()
        self.ended.note_written({key: end.record for key, end in ends.items() if key in taken})
        return len(taken) == len(items)

    def write_later(self) -> None:
        """Keep trying, with or without requests; without asyncio, the next request does it."""
        shared = self._shared
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if shared.writer is None or shared.writer.done() or shared.writer.get_loop() is not loop:
            shared.writer = loop.create_task(self._write_until_taken())

    async def _write_until_taken(self) -> None:
        while self.ended.unwritten:
            await asyncio.sleep(WRITE_AGAIN)
            try:
                while self.ended.unwritten and await self.write_unwritten(StoreBudget()):
                    pass
            except Exception as error:  # nobody else would write these tombstones
                self.breaker.warn(_ENDED_HERE, StoreError(type(error).__name__))


async def in_order(function: Callable[[Any], Awaitable[None]], items: Iterable[Any]) -> None:
    """Call an async function for each item, one after the other."""
    for item in items:
        await function(item)


async def all_at_once(function: Callable[[Any], Coroutine[Any, Any, None]], items: Iterable[Any]) -> None:
    """Call an async function for all items at once, and raise the first error itself, not a group of them."""
    try:
        async with anyio.create_task_group() as group:
            for item in items:
                group.start_soon(function, item)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def uninterrupted(work: Callable[[], Awaitable[T]]) -> T:
    """Run ``work`` to its end, even if the caller is cancelled; the cancellation is raised afterwards.

    A shield of anyio keeps off its cancel scopes. It does not keep off ``asyncio.timeout()``, Daphne after a disconnect
    and uvicorn's graceful shutdown, which cancel the task itself. So the work has a task of its own.
    """
    results: list[T] = []
    with anyio.CancelScope(shield=True):
        results.append(await _in_a_task_of_its_own(work))
    return results[0]


async def _in_a_task_of_its_own(work: Callable[[], Awaitable[T]]) -> T:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # under trio, which cancels by scopes only
        return await work()
    task: asyncio.Task[T] = loop.create_task(_awaiting(work))
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
    return task.result()


async def _awaiting(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


def _inherits(store: object, method: str) -> bool:
    """Return whether a store of py-key-value inherits ``method``, which asks for one key after the other.

    For a wrapper, such as the one that encrypts, the store inside it counts.
    """
    for _ in range(10):
        store = getattr(store, "key_value", store)
    base = sys.modules.get("key_value.aio.stores.base")
    inherited = getattr(getattr(base, "BaseStore", None), method, None)
    return inherited is not None and getattr(type(store), method, None) is inherited
