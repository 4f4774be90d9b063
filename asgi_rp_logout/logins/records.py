"""What the store holds: one class for each kind of record, its keys, and how it is written as JSON.

Every record has a version. A record of another version is treated as absent, and that is logged once: workers of two
releases may share a store during an upgrade. There is one exception: a tombstone ends its login or cookie value
whatever its version, because an upgrade must not bring an ended login back. A malformed record raises ``StoreError``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ..errors import StoreError
from ..log import logger
from ..login import Login, LogoutIntent
from ..store import VERSION, Record
from .handle import LoginHandle, sid_digest, sub_digest

LAST_END = "last_end:"
"""The key whose value changes whenever a login has ended, so that no worker asks for each login."""

FRONT_CHANNEL = "*"
"""The slot of a not-before record that holds the time of a front-channel logout; no digest looks like it."""

SID_UNKNOWN = "?"
"""The slot of a subject's not-before record for its logins without a known sid."""

OUR_CLOCK = "="
"""What a slot begins with whose time is ours alone: the application ended the logins, with no moment of its own."""

EITHER_CLOCK = "@"
"""What a slot begins with whose time is a moment that the application named, and nobody knows by which clock."""

SHORT = 100
"""Characters of the longest path that is stored for a logout without a known login."""

_PARTS = ("provider", "iss", "sub", "sid", "id_token", "refresh_token", "logout_hint", "known_by")

T = TypeVar("T")


def shortened(path: str | None) -> str | None:
    """Return a path if it is short enough to be stored for a logout without a known login, else None."""
    return path if path is not None and len(path) <= SHORT else None


def cookie_key(digest: str) -> str:
    """Return the key of what is known about a session cookie's value."""
    return f"cookie:{digest}"


def login_key(handle: LoginHandle) -> str:
    """Return the key of a login's record."""
    return f"login:{handle.key}"


def tombstone_key(handle: LoginHandle) -> str:
    """Return the key of a login's tombstone."""
    return f"ended:{handle.key}"


def ended_until_key(iss: str, *, sid: str | None = None, sub: str | None = None) -> str:
    """Return the key of the not-before time of a session, or of a subject."""
    return f"ended_until:{sid_digest(iss, sid) if sid is not None else sub_digest(iss, sub or '')}"


def known_sid_key(sid: str) -> str:
    """Return the key that says that somebody signed in with the sid of this digest."""
    return f"known_sid:{sid}"


def last_login_key(digest: str) -> str:
    """Return the key of the login that a session cookie's value was used with last."""
    return f"last_login:{digest}"


def handed_over_key(digest: str) -> str:
    """Return the key of a login that waits for another worker, by the digest of its code."""
    return f"handed_over:{digest}"


def read(kind: Callable[[Record], T], record: Record | None) -> T | None:
    """Read a record, such as ``read(LoginRecord.from_json, record)``; None for none, or for one of another version.

    Raises ``StoreError`` for a record that is malformed.
    """
    if record is None or not _is_of_this_version(record):
        return None
    try:
        return kind(record)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise StoreError(f"a record is malformed: {type(error).__name__}", code="record") from error


def _is_of_this_version(record: object) -> bool:
    if not isinstance(record, Mapping):
        raise StoreError(f"a record is malformed: {type(record).__name__}", code="record")
    if record.get("v") == VERSION:
        return True
    _warn_of_version(str(record.get("v"))[:20])
    return False


_warned_of: set[str] = set()


def _warn_of_version(version: str) -> None:
    if version not in _warned_of and len(_warned_of) < 10:
        _warned_of.add(version)
        logger.warning(
            "the store has records of version %r, which this release does not read: logins remembered by another "
            "release count as unknown until all workers run the same one",
            version,
        )


@dataclass(frozen=True, slots=True)
class LoginRecord:
    """A remembered login. ``at``: when it was made by the provider's clock; ``kept``: when the record was written."""

    login: Login
    at: float
    kept: float

    @classmethod
    def from_json(cls, record: Record) -> LoginRecord:
        """Read a record."""
        return cls(login_from_json(record), float(record["at"]), float(record["kept"]))

    def to_json(self) -> Record:
        """Return the record."""
        return {"v": VERSION, **login_to_json(self.login), "at": self.at, "kept": self.kept}


@dataclass(frozen=True, slots=True)
class HandedOverRecord:
    """A login that waits for the worker that expects its code; ``at`` is when it was written."""

    login: Login
    at: float

    @classmethod
    def from_json(cls, record: Record) -> HandedOverRecord:
        """Read a record."""
        return cls(login_from_json(record), float(record["at"]))

    def to_json(self) -> Record:
        """Return the record."""
        return {"v": VERSION, **login_to_json(self.login), "at": self.at}


def _via(record: Record) -> tuple[str, str] | None:
    via = record.get("via")
    return (str(via[0]), str(via[1])) if via else None


def login_to_json(login: Login) -> Record:
    """Return what is known of a login."""
    return {name: value for name in _PARTS if (value := getattr(login, name)) is not None}


def login_from_json(record: Record) -> Login:
    """Read a login."""
    parts = {name: record.get(name) for name in _PARTS}
    if not all(isinstance(value, str | None) for value in parts.values()):
        raise TypeError("a part of a login is not text")
    return Login(**parts)


@dataclass(frozen=True, slots=True)
class Ended:
    """A tombstone: what ended a login or a cookie's value, when (seconds since the epoch), and where the logout led.

    ``cause`` is who could have caused it: see ``store.LOGIN``, ``store.ISSUED`` and ``store.UNKNOWN``. ``via`` is the
    method and path of a logout without a login: the tombstone then stands for a ``DeferredRecord`` as well.
    """

    by: str
    at: float
    intent: LogoutIntent = field(default_factory=LogoutIntent)
    cause: str = ""
    via: tuple[str, str] | None = None

    @classmethod
    def from_json(cls, record: Record) -> Ended:
        """Read a record."""
        provider, return_to = record.get("provider"), record.get("to")
        if not isinstance(provider, str | None) or not isinstance(return_to, str | None):
            raise TypeError("a tombstone names no text")
        intent = LogoutIntent(provider, bool(record.get("local")), return_to)
        return cls(str(record["by"]), float(record["at"]), intent, str(record.get("of", "")), _via(record))

    @classmethod
    def read_tombstone(cls, record: Record | None) -> Ended | None:
        """Read the tombstone of a login, which ends it whatever its version."""
        if record is not None and isinstance(record, Mapping) and record.get("v") != VERSION:
            return cls("logout", 0.0)
        return read(cls.from_json, record)

    def to_json(self) -> Record:
        """Return the record."""
        record: Record = {"v": VERSION, "by": self.by, "at": self.at, "local": self.intent.local}
        record |= {"provider": self.intent.provider, "to": self.intent.return_to}
        record |= {"via": list(self.via)} if self.via else {}
        return record | ({"of": self.cause} if self.cause else {})


@dataclass(frozen=True, slots=True)
class Reissued:
    """A session cookie's value that was revoked, and that the application has issued again ``at`` that time."""

    at: float

    def to_json(self) -> Record:
        """Return the record."""
        return {"v": VERSION, "issued": self.at}


@dataclass(frozen=True, slots=True)
class CookieRecord:
    """What is known of a session cookie's value: the login it is tied to, its end, or that it was issued again."""

    known: LoginHandle | Ended | Reissued

    @classmethod
    def read(cls, record: Record | None) -> CookieRecord | None:
        """Read what the store has of a value; a tombstone ends the value whatever its version."""
        if is_tombstone(record) and not _is_of_this_version(record):
            return cls(Ended("buried", 0.0))
        return read(cls.from_json, record)

    @classmethod
    def from_json(cls, record: Record) -> CookieRecord:
        """Read a record."""
        if "login" in record:
            key, at, made, sid, sub = record["login"]
            return cls(LoginHandle("", float(at), float(made), str(sid), str(sub), str(key)))
        if "issued" in record:
            return cls(Reissued(float(record["issued"])))
        return cls(Ended.from_json(record))


def tie_to_json(handle: LoginHandle) -> Record:
    """Return the record that ties a session cookie's value to a login."""
    return {"v": VERSION, "login": [handle.key, handle.at, handle.made, handle.sid, handle.sub]}


def tied_login(record: Record | None) -> LoginHandle | None:
    """Return the login that a session cookie is tied to by its record, None if it is tied to none."""
    cookie = CookieRecord.read(record)
    return cookie.known if cookie is not None and isinstance(cookie.known, LoginHandle) else None


def is_tombstone(record: Record | None) -> bool:
    """Return whether a record says that something has ended."""
    return record is not None and "by" in record


def end_that_holds(stored: Record | None, end: Record) -> Record:
    """Return the record that counts for a login or a cookie's value that has ended here: ``stored`` or ``end``.

    A value lives again if it was issued since then, with or without a login. What cannot be read counts as absent.
    """
    if stored is None or stored.get("v") != VERSION:
        return end
    if is_tombstone(stored):
        return stored
    cookie = _readable(CookieRecord.from_json, stored)
    known = cookie.known if cookie is not None else None
    since = known.made if isinstance(known, LoginHandle) else known.at if known is not None else 0.0
    return stored if since >= float(end["at"]) else end


def _readable(kind: Callable[[Record], T], record: Record | None) -> T | None:
    try:
        return read(kind, record)
    except StoreError:
        return None


@dataclass(frozen=True, slots=True)
class Until:
    """Up to when logins have ended: ``iat`` of the logout token (None without one), its receipt, what brought it.

    A moment that the application named takes the place of the ``iat``.
    """

    iat: float | None
    received: float
    by: str

    @property
    def time(self) -> float:
        """The time that is compared with those of other logouts."""
        return self.received if self.iat is None else self.iat

    def covers(self, handle: LoginHandle) -> bool:
        """Return whether a login was made before this time.

        Times of logins and logout tokens come from the provider's clock in whole seconds. Within the same second our
        own clock decides, so that a login made after the logout arrived lives.
        """
        here = handle.made <= self.received
        if self.iat is None:
            return here
        # By the provider's clock it was made up to the iat, and by ours before the token came. The provider's clock
        # alone is enough only if it leaves no doubt: a login that was still on its way when the token came has an older
        # iat, whichever clock is ahead.
        return (here and handle.at <= self.iat) or handle.at < min(self.iat, self.received)

    def covers_by_either_clock(self, handle: LoginHandle) -> bool:
        """Return whether a login was made up to the named moment, in whole seconds, by the provider's clock or by ours.

        The moment may come from either clock, or from a third one, and is often cut to the second. In doubt a login
        ends: one that lives on although its session was revoked is worse than one more sign-in.
        """
        return min(handle.at, int(handle.made)) <= self.time


@dataclass(frozen=True, slots=True)
class EndedUntil:
    """The not-before times of a session or subject, by slot.

    A slot is the digest of the subject that a logout token named beside the sid, an empty string where it named none,
    ``FRONT_CHANNEL``, or ``SID_UNKNOWN``. Before it stands ``OUR_CLOCK`` or ``EITHER_CLOCK`` if the application ended
    the logins. So times are compared, and the later one kept, only if they come from the same clock.
    """

    slots: Mapping[str, Until]

    @classmethod
    def from_json(cls, record: Record) -> EndedUntil:
        """Read a record."""
        slots = {}
        for slot, (iat, received, by) in record["until"].items():
            slots[str(slot)] = Until(None if iat is None else float(iat), float(received), str(by))
        return cls(slots)

    def to_json(self) -> Record:
        """Return the record."""
        slots = {slot: [until.iat, until.received, until.by] for slot, until in self.slots.items()}
        return {"v": VERSION, "until": slots}

    def ending_entry(self, handle: LoginHandle) -> Until | None:
        """Return what ends a login, or None.

        If a subject was named, logins of other subjects do not end. The record of a subject may also say up to when its
        logins without a known sid have ended, because any of these may be the session that a token named.
        """
        for slot, until in self.slots.items():
            whose = slot.lstrip(OUR_CLOCK + EITHER_CLOCK)
            meant = not whose or not handle.sub or whose in (FRONT_CHANNEL, handle.sub)
            if whose == SID_UNKNOWN:
                meant = not handle.sid
            covers = until.covers_by_either_clock if slot.startswith(EITHER_CLOCK) else until.covers
            if meant and covers(handle):
                return until
        return None

    def merged(self, other: EndedUntil | None) -> EndedUntil:
        """Return what ends all that either of two records ends."""
        slots = dict(self.slots)
        for slot, until in other.slots.items() if other is not None else ():
            if slot not in slots or slots[slot].time < until.time:
                slots[slot] = until
        return EndedUntil(slots)


def merged_until(record: Record | None, other: Record | None) -> Record:
    """Return the not-before record that ends what either of two records ends; one that cannot be read ends nothing."""
    one, two = _readable(EndedUntil.from_json, record), _readable(EndedUntil.from_json, other)
    return (one or EndedUntil({})).merged(two).to_json()


@dataclass(frozen=True, slots=True)
class LastLogin:
    """The provider of a login that only ``login_source`` knew, kept for a second click."""

    provider: str | None
    iss: str | None

    @classmethod
    def from_json(cls, record: Record) -> LastLogin:
        """Read a record."""
        return cls(record["provider"], record["iss"])

    def to_json(self) -> Record:
        """Return the record."""
        return {"v": VERSION, "provider": self.provider, "iss": self.iss}


@dataclass(frozen=True, slots=True)
class DeferredRecord:
    """A logout that the next page is to finish.

    ``plays`` counts the answers that finished it, ``played`` is the time of the first (seconds since the epoch), and
    ``via`` the method and path of the request that it came with. ``back`` says that the browser has left our pages
    since. ``cause`` is as in ``Ended``.
    """

    intent: LogoutIntent
    login: Login | None = None
    plays: int = 0
    played: float | None = None
    via: tuple[str, str] | None = None
    back: bool = False
    cause: str = ""

    @classmethod
    def from_json(cls, record: Record) -> DeferredRecord:
        """Read a record, or a tombstone that stands for one: see ``state``."""
        login, played = record.get("login"), record.get("played")
        return cls(
            LogoutIntent(record.get("provider"), bool(record.get("local")), record.get("to")),
            login_from_json(login) if login else None,
            int(record.get("plays", 0)),
            None if played is None else float(played),
            _via(record),
            bool(record.get("back")),
            str(record.get("of", "")),
        )

    def to_json(self) -> Record:
        """Return the record."""
        record: Record = {"v": VERSION, "provider": self.intent.provider, "to": self.intent.return_to}
        record |= self.state()
        if self.login is not None:
            record["login"] = login_to_json(replace(self.login, refresh_token=None))
        return record | ({"of": self.cause} if self.cause else {})

    def state(self) -> Record:
        """Return its progress, as it is added to a tombstone that stands for it."""
        via = list(self.via) if self.via else None
        state = {"plays": self.plays, "played": self.played, "via": via, "back": self.back}
        return {name: value for name, value in state.items() if value}


@dataclass(frozen=True, slots=True)
class ReturnTripRecord:
    """Where one browser goes after the provider; ``browser`` is the digest of its binding cookie."""

    target: str
    browser: str
    used: bool = False
    cause: str = ""

    @classmethod
    def from_json(cls, record: Record) -> ReturnTripRecord:
        """Read a record."""
        return cls(str(record["to"]), str(record["browser"]), bool(record.get("used")), str(record.get("of", "")))

    def to_json(self) -> Record:
        """Return the record."""
        record: Record = {"v": VERSION, "to": self.target, "browser": self.browser}
        return record | ({"used": True} if self.used else {}) | ({"of": self.cause} if self.cause else {})


@dataclass(frozen=True, slots=True)
class SilentTripRecord:
    """A logout whose browser asks the provider for an ID Token first, and what is known of its login.

    ``target`` is the page to come back to in the end.
    """

    provider: str
    target: str | None
    login: Login | None = None
    cause: str = ""

    @classmethod
    def from_json(cls, record: Record) -> SilentTripRecord:
        """Read a record."""
        target, login = record.get("to"), record.get("login")
        if not isinstance(target, str | None):
            raise TypeError("a page to return to is not text")
        known = login_from_json(login) if login else None
        return cls(str(record["provider"]), target, known, str(record.get("of", "")))

    def to_json(self) -> Record:
        """Return the record; it holds no token."""
        record: Record = {"v": VERSION, "provider": self.provider, "to": self.target}
        if self.login is not None:
            record["login"] = login_to_json(replace(self.login, id_token=None, refresh_token=None))
        return record | ({"of": self.cause} if self.cause else {})
