"""What a request's cookies and session say about its login: pure rules over what the store holds.

A login is known by its **handle**: 256 random bits, the times it was made at, and digests of its (iss, sid) and
(iss, sub). The handle travels with the browser, in the session or in a companion cookie. It carries those digests so
that one read of the store answers everything, and so that a logout from the provider finds its login even after the
login's own record was pushed out. The record's key is a digest of the whole handle: one that was tampered with is
a handle of nothing, which is no more than leaving it out.

A session cookie that was issued to a login is **tied** to it in the store. So a copy that travels without the companion
is known too: it can be ended and watched. It never brings the login's tokens along, for whoever stole the cookie must
not get those as well.

A login has **ended** if there is a tombstone for its handle, or a not-before time of its (iss, sid) or (iss, sub) that
covers the time at which it was made. Times of logins and logout tokens come from the provider's clock in whole
seconds; within the same second our own clock decides, so that a login made after the logout arrived lives.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import StoreError
from .login import Login, unverified_claims
from .protocol.cookie_values import Secret
from .store import Record

SECOND_CLICK = 120.0
"""Seconds after its end in which a login still says where its logout leads."""

FRONT_CHANNEL = "*"
"""Where a not-before record keeps the time of a front-channel logout; no digest looks like it."""

SID_UNKNOWN = "?"
"""Where the record of a subject keeps the time up to which its logins without a known sid have ended."""

_HANDLE = re.compile(r"[\w-]{43}\.([0-9]{1,11})\.([0-9]{1,14})\.([\w-]{0,22})\.([\w-]{0,22})", re.ASCII)


def digest(*parts: str) -> str:
    """Return a short digest of ``parts``, told apart from every other sequence of parts."""
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()).decode()[:22]


def before_key(iss: str, *, sid: str | None = None, sub: str | None = None) -> str:
    """Return the key of the not-before time of a session, or of a subject."""
    return f"before:{digest(iss, 'sid', sid) if sid is not None else digest(iss, 'sub', sub or '')}"


@dataclass(frozen=True, slots=True)
class Handle:
    """Know one login: its text, when it was made by the provider's clock and by ours, and the keys it lives under."""

    text: str
    at: float
    made: float
    sid_key: str
    sub_key: str
    key: str
    """What follows the colon in the keys of this login."""

    @classmethod
    def new(cls, login: Login, now: float) -> Handle:
        """Make the handle of a new login; ``now`` in seconds since the epoch."""
        claims = unverified_claims(login.id_token) if login.id_token else {}
        iat = claims.get("iat")
        at = iat if isinstance(iat, int | float) and not isinstance(iat, bool) and 0 < iat < 1e11 else now
        sid = digest(login.iss, "sid", login.sid) if login.iss and login.sid else ""
        sub = digest(login.iss, "sub", login.sub) if login.iss and login.sub else ""
        text = f"{secrets.token_urlsafe(32)}.{int(at)}.{int(now * 1000)}.{sid}.{sub}"
        return cls(text, float(int(at)), int(now * 1000) / 1000, sid, sub, digest(text))

    @classmethod
    def parse(cls, text: object) -> Handle | None:
        """Read a handle that a browser or a session brought; None if it is none."""
        match = _HANDLE.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            return None
        return cls(match[0], float(match[1]), int(match[2]) / 1000, match[3], match[4], digest(match[0]))

    @classmethod
    def tied(cls, record: Record | None) -> Handle | None:
        """Read the handle that a session cookie is tied to; its text is not in the store. Raises ``StoreError``."""
        parts = record.get("login") if record is not None else None
        if not parts:
            return None
        try:
            key, at, made, sid, sub = parts
            return cls("", float(at), float(made), str(sid), str(sub), str(key))
        except (TypeError, ValueError) as error:
            raise StoreError(f"a record is malformed: {type(error).__name__}", code="record") from error

    @property
    def tie(self) -> Record:
        """The record that ties a session cookie to this login."""
        return {"login": [self.key, self.at, self.made, self.sid_key, self.sub_key]}

    def record_keys(self) -> list[str]:
        """Return the keys to read: the record, the tombstone, the not-before times."""
        befores = [f"before:{key}" for key in (self.sid_key, self.sub_key) if key]
        return [f"login:{self.key}", f"ended:{self.key}", *befores]


@dataclass(frozen=True, slots=True)
class Claim:
    """Gather what a request brings that says who it is.

    ``handle`` comes from the session or the companion cookie, which ``carried`` says is there. ``cookies`` are the
    session cookies, and ``bearers`` the digests under which a bearer token would be known if it were one of them.
    ``excess`` says that there were too many of either to look at.
    """

    handle: Handle | None = None
    cookies: tuple[Secret, ...] = ()
    later: str | None = None
    carried: bool = False
    bearers: tuple[str, ...] = ()
    excess: bool = False

    @property
    def digests(self) -> tuple[str, ...]:
        """The digests of all secrets that are long enough to be one browser's own, each once."""
        own = [cookie.digest for cookie in self.cookies if cookie.digest]
        return tuple(dict.fromkeys([*own, *self.bearers]))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys to read first."""
        return (*(self.handle.record_keys() if self.handle else ()), *map(cookie_key, self.digests))


def cookie_key(digest: str) -> str:
    """Return the key of what is known about a session cookie's value."""
    return f"cookie:{digest}"


@dataclass(slots=True)
class Verdict:
    """Hold what is known of a request's login.

    ``login`` is None for a stranger, and ``handle`` what it lives under; ``by_cookie`` says that only a session cookie
    tells of it. ``ended`` names what ended it, ``ended_at`` when (seconds since the epoch). ``local`` says that the end
    was a logout of this application only, ``named`` which provider the application named for it, ``wanted`` the page
    that was to come after it. ``dead`` are the session cookies not to be believed, ``dead_bearer`` says so of the
    bearer token. ``known`` is False if the store did not answer. ``until`` is when to ask again, by the monotonic
    clock, and ``keys`` are those that were read. ``plain`` says of a verdict that is kept that the request can be
    handed on as it is. ``ties`` are the living logins that the session cookies of the request are tied to, by their
    digests.
    """

    claim: Claim
    login: Login | None = None
    handle: Handle | None = None
    by_cookie: bool = False
    record: Record | None = None
    ended: str | None = None
    ended_at: float = 0.0
    local: bool = False
    named: str | None = None
    wanted: str | None = None
    dead: tuple[Secret, ...] = ()
    dead_bearer: bool = False
    known: bool = True
    until: float = field(default=float("inf"))
    keys: tuple[str, ...] = ()
    ties: Mapping[str, Handle] = field(default_factory=dict)
    plain: bool = False

    @property
    def live(self) -> bool:
        """Return whether a remembered login is behind the request, and has not ended."""
        return self.login is not None and self.ended is None

    @property
    def hides(self) -> bool:
        """Return whether something of the request has to be kept from the application."""
        return self.has_dead or self.claim.excess

    @property
    def has_dead(self) -> bool:
        """Return whether something of the request has ended."""
        return self.ended is not None or bool(self.dead) or self.dead_bearer

    def just_ended(self, now: float) -> bool:
        """Return whether this is the moment of a second click."""
        return self.ended is not None and now - self.ended_at < SECOND_CLICK


def judge(claim: Claim, records: Mapping[str, Record | None]) -> Verdict:
    """Return what the records mean for a request.

    Takes the claim and the records by key. Raises ``StoreError`` for a record of another shape than ours, such as
    another version of this package may have written.
    """
    try:
        return _judge(claim, records)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise StoreError(f"a record is malformed: {type(error).__name__}", code="record") from error


def _judge(claim: Claim, records: Mapping[str, Record | None]) -> Verdict:
    verdict = Verdict(claim)
    if not any(records.values()):
        verdict.handle = claim.handle
        return verdict
    if claim.handle is not None:
        _judge_handle(verdict, claim.handle, records)
    # Each cookie by its own word: it is dead itself, or tied to a login that lives or has ended, or unknown.
    said = {digest: _of_cookie(digest, claim, records) for digest in claim.digests}
    verdict.dead_bearer = any(said[digest].ended is not None for digest in claim.bearers)
    ended_here = verdict.ended is not None
    dead: list[Secret] = []
    for cookie in claim.cookies:
        own = said[cookie.digest] if cookie.digest else Verdict(claim)
        unknown_beside_the_end = ended_here and own.handle is None and own.ended is None
        if own.ended is not None or unknown_beside_the_end:
            dead.append(cookie)
    verdict.dead = tuple(dead)
    verdict.ties = {digest: one.handle for digest, one in said.items() if one.live and one.handle is not None}
    if not verdict.live:
        _known_by_cookie(verdict, [said[cookie.digest] for cookie in claim.cookies if cookie.digest], said)
    return verdict


def _known_by_cookie(verdict: Verdict, own: list[Verdict], said: Mapping[str, Verdict]) -> None:
    """Let the cookies speak for a request whose handle does not live, or that has none."""
    claim = verdict.claim
    living = [one for one in (*own, *(said[digest] for digest in claim.bearers)) if one.live]
    if living:
        # Of several cookies of one name most applications read the last one.
        last = living[-1]
        verdict.login, verdict.handle, verdict.record, verdict.by_cookie = last.login, last.handle, last.record, True
        verdict.ended, verdict.ended_at = None, 0.0
        return
    # Two cookies of one name, one of them dead: somebody else's was planted beside the user's own, which goes on
    # living. And a login that lives goes before a dead value: the browser has signed in again since.
    ended = [one for one in own if one.ended is not None]
    if verdict.ended is None and ended and len(ended) == len(own):
        first = ended[0]
        verdict.ended, verdict.ended_at, verdict.local = first.ended, first.ended_at, first.local
        verdict.named, verdict.wanted = first.named, first.wanted
        verdict.login, verdict.handle, verdict.by_cookie = first.login, first.handle, True
        verdict.dead = claim.cookies


def _of_cookie(digest: str, claim: Claim, records: Mapping[str, Record | None]) -> Verdict:
    """Return what is known by the value of one session cookie alone."""
    verdict = Verdict(claim)
    record = records.get(cookie_key(digest))
    handle = Handle.tied(record)
    if handle is not None:
        _judge_handle(verdict, handle, records)
        if verdict.login is not None:
            verdict.login = without_tokens(verdict.login)
    elif record is not None and "issued" not in record:
        _read_tombstone(verdict, record)
    return verdict


def _read_tombstone(verdict: Verdict, tombstone: Record) -> None:
    verdict.ended, verdict.ended_at = str(tombstone.get("by", "logout")), float(tombstone.get("at", 0))
    verdict.local, verdict.named = bool(tombstone.get("local")), tombstone.get("provider")
    verdict.wanted = tombstone.get("to")


def _judge_handle(verdict: Verdict, handle: Handle, records: Mapping[str, Record | None]) -> None:
    verdict.handle = handle
    record = records.get(f"login:{handle.key}")
    tombstone = records.get(f"ended:{handle.key}")
    if tombstone is not None:
        _read_tombstone(verdict, tombstone)
    else:
        for key in (handle.sid_key, handle.sub_key):
            entry = covering(records.get(f"before:{key}") if key else None, handle)
            if entry is not None:
                verdict.ended, verdict.ended_at = str(entry[2]), float(entry[1])
                break
    if record is not None or verdict.ended is not None:
        verdict.record = record
        verdict.login = login_from(record or {}, verdict.ended)


def covering(record: Record | None, handle: Handle) -> list[Any] | None:
    """Return the not-before entry that ends a login, or None.

    A record maps the digest of the subject that a logout token named beside the sid, or an empty string where it named
    none, to ``[the token's iat, its receipt, what brought it]``. A login of another subject is not meant. A
    front-channel request has no iat. The record of a subject may also say up to when its logins without a known sid
    have ended, since any of these may be the session that a token named.
    """
    for sub_key, entry in (record or {}).items():
        meant = not sub_key or not handle.sub_key or sub_key in (FRONT_CHANNEL, handle.sub_key)
        if sub_key == SID_UNKNOWN:
            meant = not handle.sid_key
        if meant and _was_made_before(handle, entry[0], float(entry[1])):
            return list(entry)
    return None


def end_of(stored: Record | None, end: Record) -> Record:
    """Return what holds of a login or session cookie whose ``end`` is known here, and that a store tells something of.

    A value lives again if it was issued anew since, to a login or to somebody unknown.
    """
    if stored is None or "by" in stored:
        return stored or end
    tie = Handle.tied(stored)
    since = tie.made if tie is not None else float(stored.get("issued", 0))
    return stored if since >= float(end["at"]) else end


def later_of(record: Record | None, other: Record | None) -> Record:
    """Return the not-before record that ends what either of two records ends."""
    merged = dict(record or {})
    for slot, entry in (other or {}).items():
        if slot not in merged or _time_of(merged[slot]) < _time_of(entry):
            merged[slot] = entry
    return merged


def _time_of(entry: list[Any]) -> float:
    return float(entry[0] or entry[1])


def _was_made_before(handle: Handle, iat: float | None, received: float) -> bool:
    here = handle.made <= received
    if iat is None:
        return here
    # By the provider's clock it was made up to the iat, and by ours before the token came. One of the two is enough
    # only if it leaves no doubt: a login that was still on its way then has an older iat, whichever clock is ahead.
    return (here and handle.at <= iat) or handle.at < min(iat, received)


def login_record(login: Login, handle: Handle, now: float) -> Record:
    """Return the store's record of a login; ``now`` is when it is written, in seconds since the epoch."""
    return {**login_parts(login), "at": handle.at, "kept": now}


def login_parts(login: Login) -> Record:
    """Return what is known of a login, as ``login_from`` reads it."""
    fields = ("provider", "iss", "sub", "sid", "id_token", "refresh_token", "logout_hint")
    return {name: value for name in fields if (value := getattr(login, name)) is not None}


def login_from(record: Record, ended: str | None = None) -> Login:
    """Read a login back from its record."""
    fields = ("provider", "iss", "sub", "sid", "id_token", "refresh_token", "logout_hint")
    return Login(**{name: record.get(name) for name in fields}, ended=ended)


def without_tokens(login: Login) -> Login:
    """Return a login without what only its own browser may use."""
    return replace(login, id_token=None, refresh_token=None, logout_hint=None)
