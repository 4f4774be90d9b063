"""The registry of logins: look up, remember, end, forget.

It keeps four promises:

1. A request asks the store at most once per login per ``freshness``, in one batch.
2. The store calls of one request take half a second at most, all together.
3. What this process has ended is ended here, whether the store is up or down.
4. Every end is announced to the other workers by the call that writes it, so no caller can forget to.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import anyio

from .. import log
from ..asgi.request import Request
from ..errors import StoreError
from ..log import Notices
from ..login import Login, LogoutIntent
from ..protocol.cookie_values import Secret
from ..protocol.cookies import CookieSet
from ..store import ISSUED, LOGIN, UNKNOWN, VERSION, Fingerprints, Record, Store
from .app_session import AnonymousKeys, has_handle
from .credentials import Credentials
from .guarded_store import GuardedStore, StoreBudget, all_at_once, in_order, shared_by, uninterrupted
from .handle import LoginHandle, sub_digest
from .records import (
    EITHER_CLOCK,
    FRONT_CHANNEL,
    LAST_END,
    OUR_CLOCK,
    SHORT,
    SID_UNKNOWN,
    Ended,
    EndedUntil,
    LastLogin,
    LoginRecord,
    Reissued,
    Until,
    cookie_key,
    ended_until_key,
    is_tombstone,
    known_sid_key,
    last_login_key,
    login_key,
    merged_until,
    read,
    shortened,
    tie_to_json,
    tied_login,
    tombstone_key,
)
from .status import SECOND_CLICK, LoginStatus, evaluate
from .status_cache import CachedStatus, RecentEnds, StatusCache

TIES = 8192
"""Session cookies whose login is known without a look at the store."""


class Visit(Protocol):
    """A request as the registry sees it: what came in, what is known of it, and what it may still ask the store."""

    @property
    def request(self) -> Request:
        """The request as it came in."""
        ...

    @property
    def status(self) -> LoginStatus:
        """What is known of its login."""
        ...

    @property
    def budget(self) -> StoreBudget:
        """What it may still ask the store."""
        ...


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends: the login of ``handle``, and the session cookies of ``digests``, each with who could have caused it.

    ``ended`` is written as the tombstone. ``also`` are records to keep for two minutes.
    """

    handle: LoginHandle | None
    ended: Ended
    digests: Mapping[str, str] = field(default_factory=dict)
    also: Mapping[str, Record] = field(default_factory=dict)

    def tombstones(self) -> dict[str, Record]:
        """Return the tombstones by their keys."""
        ends: dict[str, Record] = {}
        if self.handle is not None:
            ends[tombstone_key(self.handle)] = replace(self.ended, cause="").to_json()
        for digest, cause in self.digests.items():
            ends[cookie_key(digest)] = replace(self.ended, by="buried", cause=cause).to_json()
        return ends


@dataclass(frozen=True, slots=True)
class EndedSessions:
    """Which sessions at a provider have ended: one by its ``sid``, all of a ``sub``, or the one that has both.

    Logins made up to ``not_after`` end, by the provider's clock, or else up to ``received``, by ours, in seconds since
    the epoch. ``by`` is the channel; for ``"logout"``, by the application, ``not_after`` may be of any clock.
    """

    iss: str
    sid: str | None
    sub: str | None
    not_after: float | None
    received: float
    by: str

    def records(self) -> dict[str, EndedUntil]:
        """Return the not-before records by their keys.

        With a sid and a sub, the subject's logins without a known sid end too: one of them may be that session.
        """
        if self.sid is None:
            return {ended_until_key(self.iss, sub=self.sub): self._up_to("")}
        slot = sub_digest(self.iss, self.sub) if self.sub is not None else ""
        ends = {ended_until_key(self.iss, sid=self.sid): self._up_to(FRONT_CHANNEL if self._unsigned else slot)}
        if self.sub is not None:
            ends[ended_until_key(self.iss, sub=self.sub)] = self._up_to(SID_UNKNOWN)
        return ends

    def _up_to(self, slot: str) -> EndedUntil:
        if self.by == "logout":
            slot = (OUR_CLOCK if self.not_after is None else EITHER_CLOCK) + slot
        return EndedUntil({slot: Until(self.not_after, self.received, self.by)})

    @property
    def _unsigned(self) -> bool:
        return self.by == "front-channel"


class _Shared:
    """What all middlewares of this process share that have the same store."""

    def __init__(self) -> None:
        self.issued = Fingerprints(65_536)
        self.unconfirmed = Fingerprints(16_384)
        self.ties: OrderedDict[str, LoginHandle] = OrderedDict()
        self.recent = RecentEnds()


_STATES: dict[int, _Shared] = {}


class LoginRegistry:
    """Look up, remember and end logins.

    Takes the store, the session cookies, the seconds that a session lives at most, the seconds for which what is known
    of a login counts, and ``keeps_sids``: whether a request may end a session by its sid alone.
    """

    def __init__(
        self,
        store: Store,
        *,
        session_cookies: CookieSet,
        session_lifetime: float,
        freshness: float = 1.0,
        keeps_sids: bool = False,
        notices: Notices | None = None,
    ) -> None:
        self.store = GuardedStore(store)
        self.is_local = self.store.is_local
        self.lifetime = float(session_lifetime)
        self.freshness = freshness
        self.notices = notices or Notices()
        self.anonymous_keys = AnonymousKeys()
        self._cache = StatusCache()
        self._cookies = session_cookies
        self._keeps_sids = keeps_sids
        # A login's record must outlive every cookie that was renewed while it was in use, so it is kept a tenth longer
        # than a session lives, and written again after a tenth. What ends a login must outlive that record.
        self._slack = self.lifetime / 10
        self._kept_for = self.lifetime + self._slack
        self._shared = shared_by(store, _Shared, _STATES)
        self._recent = self._shared.recent
        self._recent.freshness = max(self._recent.freshness, self.freshness)
        self._asking: dict[object, anyio.Event] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be known of any request."""
        return self.store.is_empty

    @property
    def end_count(self) -> int:
        """The number of ends in this process."""
        return self._recent.count

    @property
    def has_just_ended_one(self) -> bool:
        """Whether some login has ended in this process within the last second."""
        return time.monotonic() - self._recent.last < 1

    # -- looking up ----------------------------------------------------------------------------------------------

    def cached(self, key: object) -> CachedStatus | None:
        """Return the status of an earlier request with the same credentials, if it still holds."""
        entry = self._cache.get(key)
        if entry is None or entry.until < time.monotonic():
            return None
        asked = entry.until - self.freshness
        if self._recent.last > asked and self._recent.any_since(asked, entry.status.record_keys):
            return None
        return entry

    def last_known(self, *keys: object) -> LoginStatus | None:
        """Return the last status, however old, about a login that this process has not ended since."""
        for key in keys:
            entry = self._cache.get(key)
            if entry is None or entry.status.login is None:
                continue
            if not self.store.ended.among(entry.status.record_keys):
                return entry.status
        return None

    def keep_last(self, key: object, status: LoginStatus) -> None:
        """Keep a status about a login under one more key, for ``last_known``."""
        if status.login is not None:
            self._cache.put(key, CachedStatus.of(status, until=float("-inf")))

    async def look_up(self, key: object, credentials: Credentials, budget: StoreBudget) -> LoginStatus:
        """Read the store about some credentials, and keep the status under ``key`` for ``freshness``.

        Never raises. If the store fails, the status is what this process knows, with ``known=False``.
        """
        if not credentials.record_keys:
            return self._keep(key, LoginStatus(credentials), float("inf"))
        if self.is_local:
            return await self._ask(key, credentials, budget)
        # A page asks for its twenty pictures at once: one of them asks the store, the others wait for its answer.
        if self.freshness and (asking := self._asking.get(key)) is not None:
            await asking.wait()
            entry = self.cached(key)
            if entry is not None:
                return entry.status
        self._asking[key] = answered = anyio.Event()
        try:
            return await self._ask(key, credentials, budget)
        finally:
            self._asking.pop(key, None)
            answered.set()

    async def _ask(self, key: object, credentials: Credentials, budget: StoreBudget) -> LoginStatus:
        asked = time.monotonic()
        try:
            status = await self.status_now(credentials, budget)
        except StoreError as error:
            self.warn("a login could not be looked up, so on_store_error decides about its request", error)
            status = replace(self.status_here(credentials), record_keys=credentials.record_keys)
            return status if status.ended else replace(self.last_known(key) or status, known=False)
        self._warn_of_lost(status)
        if status.live and status.handle is not None and not status.by_cookie:
            await self._renew(status, budget)
        return self._keep(key, status, asked + self.freshness)

    def _keep(self, key: object, status: LoginStatus, until: float) -> LoginStatus:
        self._cache.put(key, CachedStatus.of(status, until))
        return status

    def _warn_of_lost(self, status: LoginStatus) -> None:
        handle = status.credentials.handle
        unknown = handle is not None and status.login is None and status.ended is None
        if unknown and handle is not None and 0 <= time.time() - handle.made < self.lifetime:
            log.lost_login(self.notices, local=self.is_local)

    async def status_now(self, credentials: Credentials, budget: StoreBudget) -> LoginStatus:
        """Read the store, and return the status of this moment. Raises ``StoreError``."""
        records = await self.store.read(self._keys_of(credentials), budget)
        found = {one: tied_login(records.get(cookie_key(one))) for one in credentials.digests}
        ties = {one: handle for one, handle in found.items() if handle is not None}
        more = {name for handle in ties.values() for name in handle.record_keys()} - set(records)
        if more:
            records |= await self.store.read(more, budget)
            self._tie(ties)
        return evaluate(credentials, records)

    def status_here(self, credentials: Credentials) -> LoginStatus:
        """Return the status without the store, by what this process has ended itself."""
        known = self._shared.ties
        ties = {cookie_key(one): tie_to_json(known[one]) for one in credentials.digests if one in known}
        return evaluate(credentials, {**ties, **self.store.ended.among(self._keys_of(credentials))})

    async def status_at_response(self, status: LoginStatus, budget: StoreBudget) -> LoginStatus:
        """Return the status of now if something has ended while the application was at work, else the same status."""
        if status.ended is not None or not status.credentials.record_keys:
            return status
        try:
            now = await self.status_now(status.credentials, budget)
        except StoreError:
            now = self.status_here(status.credentials)
        more = not set(now.dead_cookies).issubset(status.dead_cookies) or (now.dead_bearer and not status.dead_bearer)
        return now if now.ended is not None or more else status

    async def has_ended_here(self, status: LoginStatus, budget: StoreBudget) -> bool:
        """Return whether this process has ended a login since its status was read.

        The store is asked only if it has, because another worker may have issued the same session cookie again.
        """
        if not self.is_local and self.status_here(status.credentials).ended is None:
            return False
        return (await self.status_at_response(status, budget)).ended is not None

    def _keys_of(self, credentials: Credentials) -> list[str]:
        """Return the keys to read, with those of the logins to which session cookies are known to be tied."""
        known = self._shared.ties
        tied = [known[one] for one in credentials.digests if one in known]
        return [*credentials.record_keys, *(name for handle in tied for name in handle.record_keys())]

    async def _renew(self, status: LoginStatus, budget: StoreBudget) -> None:
        now, handle, record = time.time(), status.handle, status.record
        if handle is None or record is None or now - record.kept <= self._slack:
            return
        tied = [one for one, tie in status.ties.items() if tie.key == handle.key]
        records: dict[str, Record] = {login_key(handle): replace(record, kept=now).to_json()}
        records |= {cookie_key(one): tie_to_json(handle) for one in tied}
        await self.store.write({**records, **self._known_sid(handle)}, self._kept_for, budget)

    async def last_login(self, digest: str, budget: StoreBudget) -> Login | None:
        """Return the provider of the login that a session cookie's value was last used with, for a second click."""
        try:
            key = last_login_key(digest)
            record = read(LastLogin.from_json, (await self.store.read([key], budget))[key])
        except StoreError:
            return None
        return Login(record.provider, iss=record.iss) if record is not None else None

    # -- remembering ---------------------------------------------------------------------------------------------

    async def remember(self, handle: LoginHandle, login: Login, digests: Iterable[str], budget: StoreBudget) -> bool:
        """Write a login, and tie session cookies to it by their digests; return whether the store took it."""
        ties = dict.fromkeys(digests, handle)
        self._tie(ties)
        key = login_key(handle)
        records: dict[str, Record] = {key: LoginRecord(login, handle.at, time.time()).to_json()}
        records |= {cookie_key(one): tie_to_json(handle) for one in ties}
        for one in records:
            self.store.ended.drop(one)  # what is issued to a new login is not dead, whatever it was before
        self._note_change(key)  # cached statuses end here: a renewal changes the record of a live login
        self._shared.unconfirmed.add(handle.key)
        taken = key in await self.store.write({**records, **self._known_sid(handle)}, self._kept_for, budget)
        if taken:
            self._shared.unconfirmed.discard(handle.key)
        return taken

    def _known_sid(self, handle: LoginHandle) -> dict[str, Record]:
        return {known_sid_key(handle.sid): {"v": VERSION}} if self._keeps_sids and handle.sid else {}

    async def tie(self, handle: LoginHandle, digests: Iterable[str], budget: StoreBudget) -> None:
        """Note that session cookies were issued to a login, so that copies of them are known without the companion."""
        known = self._shared.ties
        new = {one: handle for one in digests if one not in known or known[one].key != handle.key}
        if new:
            self._tie(new)
            await self.store.write({cookie_key(one): tie_to_json(handle) for one in new}, self._kept_for, budget)

    def _tie(self, ties: Mapping[str, LoginHandle]) -> None:
        known = self._shared.ties
        known.update(ties)
        while len(known) > TIES:
            known.popitem(last=False)

    def is_tied(self, digests: Iterable[str]) -> bool:
        """Return whether this process knows a session cookie as that of a login, without the store."""
        return any(one in self._shared.ties for one in digests)

    def note_issued(self, cookies: Iterable[Secret]) -> None:
        """Note that the application has issued session cookies, so no stranger has invented their values."""
        for cookie in cookies:
            if cookie.digest is not None and cookie.digest not in self._shared.issued:
                self._shared.issued.add(cookie.digest)

    def may_arrive_late(self, handle: LoginHandle | None) -> bool:
        """Return whether this process has written the login of a handle, and the store may still take it.

        The store did not answer then. What it was sent may reach it after everybody has stopped waiting.
        """
        return handle is not None and handle.key in self._shared.unconfirmed

    async def forget(self, handle: LoginHandle, budget: StoreBudget) -> None:
        """Drop a login without ending anything."""
        self._note_change(login_key(handle))
        self._shared.unconfirmed.discard(handle.key)
        try:
            await self.store.take(login_key(handle), budget)
        except StoreError as error:
            self.warn("a login could not be forgotten, so the next logout still uses it", error)

    async def restore(self, digests: Iterable[str], budget: StoreBudget) -> None:
        """Unblock revoked values of session cookies, because the application issues them again."""
        try:
            records = await self.store.read(map(cookie_key, digests), budget)
            for key in [key for key, record in records.items() if is_tombstone(record)]:
                self.store.ended.drop(key)
                self._note_change(key)
                if self.is_local:
                    await self.store.delete(key, budget)
                else:  # other workers may know of the end, and must see that it is over
                    await self.store.write({key: Reissued(time.time()).to_json()}, self._kept_for, budget)
        except StoreError as error:
            self.warn("a session cookie that was blocked and is issued again may stay blocked", error)

    # -- ending --------------------------------------------------------------------------------------------------

    async def end_login_of(
        self,
        visit: Visit,
        login: Login | None,
        intent: LogoutIntent,
        *,
        by: str = "logout",
        also: Mapping[str, Record] | None = None,
    ) -> Ended | None:
        """End the login behind a request, and every session cookie it came with. Never raises.

        Takes the login if only the application knows it, and what the logout is to do, because a second click does the
        same. ``by`` is the channel, as in ``Login.ended``; ``also`` are records to keep for two minutes. Returns the
        end as it was written; None if the login had ended before.
        """
        status, also = visit.status, dict(also or {})
        if status.ended is not None:
            return None
        cause = self._cause_of(visit, login)
        handle = self._handle_to_end(visit)
        digests = self.revocable(status, cause)
        if handle is not None and status.record is not None:
            also[login_key(handle)] = status.record.to_json()
        elif handle is None and login is not None and digests:
            also[last_login_key(next(iter(digests)))] = LastLogin(login.provider, login.iss).to_json()
        ended = Ended(by, time.time(), intent)
        if not status.live and login is None:  # anybody can send this, and it must stay small
            path = visit.request.path
            via = (visit.request.method, path) if len(path) <= SHORT else None
            ended = replace(ended, intent=replace(intent, return_to=shortened(intent.return_to)), via=via)
        await self.end(Ending(handle, ended, digests, also), visit.budget, cause=cause)
        return ended

    async def end_replaced(self, visit: Visit, kept: Iterable[str]) -> None:
        """End the login that a new one in the same browser replaces, and the session cookies that it does not keep.

        ``kept`` are the digests of those that the new one keeps.
        """
        handle = self._handle_to_end(visit) if visit.status.ended is None else None
        if handle is None:
            return
        cookies = self.revocable(visit.status, LOGIN) if visit.request.session is None else {}
        gone = {digest: cause for digest, cause in cookies.items() if digest not in set(kept)}
        await self.end(Ending(handle, Ended("replaced", time.time(), LogoutIntent(local=True)), gone), visit.budget)

    def _cause_of(self, visit: Visit, login: Login | None) -> str:
        """Return who could have sent a request that ends something. The more can, the less room its record gets."""
        status, credentials = visit.status, visit.status.credentials
        if status.live or login is not None or has_handle(visit.request) or self.may_arrive_late(credentials.handle):
            return LOGIN
        living = [one.digest for one in credentials.cookies if one.digest and one not in status.dead_cookies]
        if not status.known and self.is_tied([*living, *credentials.bearers]):
            return LOGIN
        return ISSUED if visit.request.session else UNKNOWN

    def _handle_to_end(self, visit: Visit) -> LoginHandle | None:
        """Return the handle of the login that a request ends.

        One that the store does not know may be invented, and a tombstone for it would push out a real one. It counts if
        a session holds it, or if this process has made it: its record may still be on its way to the store.
        """
        status = visit.status
        vouched = status.live or not status.known or has_handle(visit.request)
        return status.own_handle if vouched or self.may_arrive_late(status.own_handle) else None

    def revocable(self, status: LoginStatus, cause: str) -> dict[str, str]:
        """Return the digests of the session cookies that a logout revokes, each with who could have caused that.

        The logout of a login revokes them all; a value that the application has not issued, and most likely does not
        read, counts as caused by anybody. Any other logout revokes those that the application has issued, here or to a
        login. If there are none, it revokes for each declared cookie the one that the application most likely reads:
        invented ones must not cost more, or take the room of a login's. A dead one beside a living login is left as it
        is.
        """
        dead = status.dead_cookies if status.ended is None else ()
        cookies = [cookie for cookie in status.credentials.cookies if cookie.digest and cookie not in dead]
        likely = [cookie.digest for cookie in self._cookies.likely(cookies) if cookie.digest]
        own = list(dict.fromkeys(cookie.digest for cookie in cookies if cookie.digest))
        given = [one for one in own if one in self._shared.issued or one in self._shared.ties]
        if cause == LOGIN:
            return {one: LOGIN if one in given or one in likely else UNKNOWN for one in own}
        return dict.fromkeys(given, ISSUED) or dict.fromkeys(likely, cause)

    async def end(self, ending: Ending, budget: StoreBudget, *, cause: str = LOGIN) -> None:
        """End a login and its session cookies, and announce it to the other workers.

        Never raises, and what has begun is not stopped by a cancellation: an end is whole or not at all.
        """
        ends = ending.tombstones()
        if not ends and not ending.also:
            return
        if self.is_local:  # nothing waits here, and so nothing can be cancelled
            await self._end(ends, ending, budget, cause)
        else:
            await uninterrupted(lambda: self._end(ends, ending, budget, cause))

    async def _end(self, ends: dict[str, Record], ending: Ending, budget: StoreBudget, cause: str) -> None:
        for key, record in ends.items():
            self._note_end(key, record, record.get("of", cause))
        news = self._news() if ending.handle is not None else {}
        batches = [({**ends, **news}, self._kept_for), (ending.also, min(SECOND_CLICK, self._kept_for))]
        taken: set[str] = set()

        async def write(batch: tuple[Mapping[str, Record], float]) -> None:
            taken.update(await self.store.write(*batch, budget))

        await (in_order if self.is_local else all_at_once)(write, [batch for batch in batches if batch[0]])
        self._settle(ends, taken)

    async def end_sessions(self, ended: EndedSessions, budget: StoreBudget) -> bool:
        """End sessions that a provider has reported (Back-Channel Logout 1.0, section 2.7), and announce it.

        Returns whether anything has ended that had not before, so that a token that is sent again counts once. Raises
        ``StoreError`` if only this process knows of it so far.
        """
        ends = {key: record.to_json() for key, record in ended.records().items()}
        if self.is_local:
            return await self._move_forward(ends, budget)
        return await uninterrupted(lambda: self._move_forward(ends, budget))

    async def end_known_session(self, ended: EndedSessions, budget: StoreBudget) -> bool:
        """End a session if somebody has signed in with its sid; a sid that nobody knows writes nothing.

        For a request that is not signed (Front-Channel Logout 1.0, section 3). Returns and raises as ``end_sessions``.
        """
        keys = [key.partition(":")[2] for key in ended.records()]
        known = await self.store.read(map(known_sid_key, keys), budget)
        return any(record is not None for record in known.values()) and await self.end_sessions(ended, budget)

    async def _move_forward(self, ends: Mapping[str, Record], budget: StoreBudget) -> bool:
        """Write not-before times, which only move forward, and check whether another worker has written meanwhile."""
        failure: StoreError | None = None
        try:
            stored = await self.store.read(ends, budget, vital=True)
        except StoreError as error:
            stored, failure = dict(self.store.ended.among(ends)), error
        records: dict[str, Record] = {}
        for key, new in ends.items():
            earlier = merged_until(stored.get(key), None)
            record = merged_until(earlier, new)
            if record != earlier:
                records[key] = record
                self._note_end(key, record, LOGIN)
        if failure is None and records:
            failure = await self._write_ended_until(records, budget)
        if failure is not None:
            self.store.write_later()
            raise failure
        return bool(records)

    async def _write_ended_until(self, records: dict[str, Record], budget: StoreBudget) -> StoreError | None:
        for _ in range(3):
            taken = await self.store.write({**records, **self._news()}, self._kept_for, budget)
            self._settle(records, taken)
            if not taken.issuperset(records):
                return StoreError("the end of a session could not be written", code="store")
            if self.is_local:
                return None
            # Two workers that get logout tokens at once read the same record: the last to write must not lose the
            # other's.
            try:
                stored = await self.store.read_stored(records, budget)
            except StoreError:
                return None
            merged = {key: merged_until(stored[key], records[key]) for key in records}
            records = {key: record for key, record in merged.items() if record != stored[key]}
            if not records:
                return None
        return None

    def _news(self) -> dict[str, Record]:
        """Return the record that tells every worker that some login has ended, so none has to look up each login."""
        return {} if self.is_local else {LAST_END: {"v": VERSION, "id": secrets.token_urlsafe(9)}}

    def _note_end(self, key: str, record: Record, cause: str) -> None:
        self._note_change(key)
        if not self.is_local:
            self.store.ended.note(key, record, time.time() + self._kept_for, cause)

    def _settle(self, ends: Mapping[str, Record], taken: set[str]) -> None:
        self.store.note_written(ends, taken)
        if not self.is_local:
            for key in ends:
                self._note_change(key)  # once more: somebody may have read the store just before it was written

    def _note_change(self, key: str) -> None:
        """Drop every status of ``key`` that this process has cached until now."""
        self._recent.note(key, time.monotonic())

    # -- for those who watch -------------------------------------------------------------------------------------

    async def last_end(self, budget: StoreBudget) -> object:
        """Return a value that changes once a login has ended at any worker. Raises ``StoreError``."""
        if self.is_local:
            return self.end_count
        return self.end_count, (await self.store.read([LAST_END], budget))[LAST_END]

    def left_of(self, at: float) -> float:
        """Return how many seconds a tombstone of ``at``, in seconds since the epoch, has left to live."""
        return max(at + self._kept_for - time.time(), 1.0)

    def warn(self, what: str, error: StoreError) -> None:
        """Log that the store has failed, at most once a second."""
        self.store.breaker.warn(what, error)
