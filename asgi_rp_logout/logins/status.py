"""Whether the login behind a request is alive, ended or unknown: rules over what the store holds. Pure.

A session cookie that was issued to a login is **tied** to it in the store. So a copied cookie is known too, although it
travels without the companion cookie: it can be ended and watched. It never brings the login's tokens along, because
whoever stole the cookie must not get those as well.

A login has **ended** if there is a tombstone for its handle, or a not-before time of its (iss, sid) or (iss, sub) that
covers the time at which it was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..login import Login
from ..protocol.cookie_values import Secret
from ..store import Record
from .credentials import Credentials
from .handle import LoginHandle
from .records import CookieRecord, Ended, EndedUntil, LoginRecord, cookie_key, login_key, read, tombstone_key

SECOND_CLICK = 120.0
"""Seconds after a login has ended in which a second click is still sent to its provider."""


@dataclass(frozen=True, slots=True)
class LoginStatus:
    """What is known of the login behind a request.

    ``login`` is the remembered login, also if it has ``ended``, and None for a stranger. ``handle`` is its handle, and
    ``by_cookie`` says that it was found by a session cookie alone. ``record`` is what the store has of it.
    ``dead_cookies`` are the session cookies that must not be accepted, and ``dead_bearer`` says so of the bearer token.
    ``known`` is False if the store did not answer. ``record_keys`` are the keys that were read. ``ties`` are the living
    logins that the session cookies of the request are tied to, by their digests.
    """

    credentials: Credentials
    login: Login | None = None
    handle: LoginHandle | None = None
    by_cookie: bool = False
    record: LoginRecord | None = None
    ended: Ended | None = None
    dead_cookies: tuple[Secret, ...] = ()
    dead_bearer: bool = False
    known: bool = True
    record_keys: tuple[str, ...] = ()
    ties: Mapping[str, LoginHandle] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Whether a remembered login is behind the request, and has not ended."""
        return self.login is not None and self.ended is None

    @property
    def has_dead(self) -> bool:
        """Whether something of the request has ended."""
        return self.ended is not None or bool(self.dead_cookies) or self.dead_bearer

    @property
    def hides(self) -> bool:
        """Whether something of the request has to be hidden from the application."""
        return self.has_dead or self.credentials.excess

    @property
    def own_handle(self) -> LoginHandle | None:
        """The handle of the login, or else the one that the request carries."""
        return self.handle or self.credentials.handle

    def just_ended(self, now: float) -> bool:
        """Return whether a second click is possible; ``now`` is in seconds since the epoch."""
        return self.ended is not None and now - self.ended.at < SECOND_CLICK


@dataclass(frozen=True, slots=True)
class _Known:
    """What one credential says by itself: of a login, or that a cookie's value is dead."""

    handle: LoginHandle | None = None
    record: LoginRecord | None = None
    login: Login | None = None
    ended: Ended | None = None

    @property
    def live(self) -> bool:
        return self.login is not None and self.ended is None


Records = Mapping[str, Record | None]


def evaluate(credentials: Credentials, records: Records) -> LoginStatus:
    """Return what the records, by their keys, say about a request. Raises ``StoreError`` for a malformed record."""
    if not any(records.values()):
        return LoginStatus(credentials, handle=credentials.handle, record_keys=tuple(records))
    by_handle = _of_login(credentials.handle, records) if credentials.handle is not None else _Known()
    # Each cookie by itself: it is dead, or tied to a login that lives or has ended, or unknown.
    by_digest = {digest: _of_cookie(digest, records) for digest in credentials.digests}
    by_cookie = [(cookie, by_digest[cookie.digest] if cookie.digest else _Known()) for cookie in credentials.cookies]
    dead_cookies = tuple(cookie for cookie, known in by_cookie if _is_dead(known, beside=by_handle))
    chosen, only_cookie = by_handle, False
    if not by_handle.live:
        bearers = [by_digest[digest] for digest in credentials.bearers]
        cookies = [known for cookie, known in by_cookie if cookie.digest]
        spoken = _spoken_by_cookies(by_handle, cookies, bearers)
        if spoken is not None:
            chosen, only_cookie = spoken, True
            dead_cookies = dead_cookies if spoken.live else credentials.cookies
    return LoginStatus(
        credentials,
        chosen.login,
        chosen.handle,
        only_cookie,
        chosen.record,
        chosen.ended,
        dead_cookies,
        dead_bearer=any(by_digest[digest].ended is not None for digest in credentials.bearers),
        record_keys=tuple(records),
        ties={digest: one.handle for digest, one in by_digest.items() if one.live and one.handle is not None},
    )


def _is_dead(known: _Known, *, beside: _Known) -> bool:
    """Return whether a session cookie is dead: by itself, or unknown beside a login that has ended."""
    return known.ended is not None or (beside.ended is not None and known.handle is None)


def _spoken_by_cookies(by_handle: _Known, cookies: list[_Known], bearers: list[_Known]) -> _Known | None:
    """Return what the cookies say of a request without a living handle; None if they say nothing.

    Of several cookies of one name most applications read the last one. If one of two cookies is dead, somebody has
    planted it beside the user's own, which stays alive.
    """
    living = [known for known in (*cookies, *bearers) if known.live]
    if living:
        return living[-1]
    ended = [known for known in cookies if known.ended is not None]
    if by_handle.ended is None and ended and len(ended) == len(cookies):
        return replace(ended[0], record=None)  # only its own browser gets what the record holds
    return None


def _of_cookie(digest: str, records: Records) -> _Known:
    """Return what is known by the value of one session cookie alone; never the login's tokens."""
    cookie = CookieRecord.read(records.get(cookie_key(digest)))
    if cookie is None:
        return _Known()
    if isinstance(cookie.known, LoginHandle):
        known = _of_login(cookie.known, records)
        return replace(known, login=without_tokens(known.login)) if known.login is not None else known
    return _Known(ended=cookie.known) if isinstance(cookie.known, Ended) else _Known()


def _of_login(handle: LoginHandle, records: Records) -> _Known:
    record = read(LoginRecord.from_json, records.get(login_key(handle)))
    ended = Ended.read_tombstone(records.get(tombstone_key(handle))) or _end_of_session(handle, records)
    if record is None and ended is None:
        return _Known(handle)
    login = record.login if record is not None else Login()
    return _Known(handle, record, replace(login, ended=ended.by) if ended is not None else login, ended)


def _end_of_session(handle: LoginHandle, records: Records) -> Ended | None:
    """Return the end of a login's session or subject, if the provider has reported one since it was made."""
    for digest in (handle.sid, handle.sub):
        ended_until = read(EndedUntil.from_json, records.get(f"ended_until:{digest}")) if digest else None
        until = ended_until.ending_entry(handle) if ended_until is not None else None
        if until is not None:
            return Ended(until.by, until.received)
    return None


def without_tokens(login: Login) -> Login:
    """Return a login without what only its own browser may use."""
    return replace(login, id_token=None, refresh_token=None, logout_hint=None)
