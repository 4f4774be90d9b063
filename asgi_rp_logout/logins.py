"""Steps 0 and 2: who is this, and what dies with the logout. Also what an ordinary answer does to a login."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

import anyio
from starlette.requests import HTTPConnection

from . import journal
from .asgi.types import Message, Scope
from .checks import DIRECTIVES
from .client import may_be_of_another_site
from .context import Context
from .errors import StoreError
from .ledger import Deadline, Ending, Ledger
from .login import Login, unverified_claims
from .messages import headers_of, room_in, set_cookies_of, with_cookies, without_cookies
from .protocol.cookies import deletions, name_set_by
from .providers.calling import run
from .providers.provider import issuer_of, name_of
from .request import APART_IN_SESSION, HANDLE_IN_SESSION, Request
from .settings import Settings
from .store import ISSUED, LOGIN, UNKNOWN, Record
from .verdict import Claim, Handle, Verdict, cookie_key, login_from, without_tokens
from .verdict import digest as digest_of

SetCookies = list[bytes]

ANONYMOUS_IN_SESSION = "_rp_anonymous"
_OWN_KEYS = frozenset((HANDLE_IN_SESSION, ANONYMOUS_IN_SESSION, APART_IN_SESSION))
MOST_ANONYMOUS_KEYS = 8
"""Keys of a session that are noted as everybody's; what stands in every session is not much."""

_OWN_COOKIE = 250
"""Bytes that deletions leave to a cookie of our own and the headers of a rewritten answer; see ``HEADERS_AT_MOST``."""
_SHORT_URL = 700
"""Bytes that deletions of cookies that the request did not bring leave to the provider's URL without its hint."""

HINT_FOR = 10.0
"""Seconds after its end in which a login's ID Token still goes out with a second click."""


async def ask_login_source(settings: Settings, scope: Scope) -> Login | None:
    """Ask the application who is signed in; None if it does not know, fails, or takes too long."""
    if settings.login_source is None:
        return None
    try:
        with anyio.fail_after(settings.provider_timeout):
            login = await run(settings.login_source, HTTPConnection(scope))
        if login is None or isinstance(login, Login):
            return login
        settings.flood.warning(
            "type",
            f"login_source returned a {type(login).__name__}, so this logout stays local: expected a Login or None",
        )
    except Exception as error:
        sentence = f"login_source raised {type(error).__name__}, so this logout stays local"
        settings.flood.warning("source", sentence)
    return None


def keep_handle(request: Request, verdict: Verdict) -> None:
    """Put the handle back into a session that has lost it and lives on: ``clear()`` and the user put back is no logout.

    Applications renew their sessions so for another tenant or role, and against session fixation.
    """
    session, handle = request.live_session(), verdict.claim.handle
    if session and handle is not None and verdict.live and request.session and HANDLE_IN_SESSION in request.session:
        session.setdefault(HANDLE_IN_SESSION, handle.text)


def has_evidence(settings: Settings, request: Request, verdict: Verdict, login: Login | None) -> bool:
    """Return whether there is a session to end at the provider; without evidence nobody is sent there."""
    if verdict.ended is not None and not verdict.live:
        return verdict.just_ended(time.time()) and not verdict.local
    if verdict.live or login is not None:
        return True
    return not settings.require_login and bool(verdict.claim.cookies or request.session)


async def end_login(
    ledger: Ledger,
    request: Request,
    verdict: Verdict,
    login: Login | None,
    word: Record,
    deadline: Deadline,
    *,
    by: str = "logout",
    shortly: Mapping[str, Record] | None = None,
) -> None:
    """End what the request's login was. Nothing after this can undo it, not even a browser that goes away.

    ``word`` is what a second click needs to know: ``local``, the ``provider`` named, and where ``to`` afterwards.
    ``by`` says how it ended, as in ``Login.ended``, and ``shortly`` are records to keep for two minutes more.
    """
    if verdict.ended is not None:
        return
    cause = cause_of(ledger, request, verdict, login)
    handle = ending_handle(ledger, request, verdict)
    digests = ledger.revocable(verdict, cause)
    shortly = dict(shortly or {})
    if handle is not None and verdict.record is not None:
        shortly[f"login:{handle.key}"] = verdict.record
    elif handle is None and login is not None and digests:
        shortly[f"echo:{next(iter(digests))}"] = {"provider": login.provider, "iss": login.iss}
    await ledger.end(Ending(handle, digests, cause, by, word, shortly), deadline)


def cause_of(ledger: Ledger, request: Request, verdict: Verdict, login: Login | None) -> str:
    """Return who could have made a request that ends something: the more can, the less it may cost the others."""
    known = verdict.live or login is not None or HANDLE_IN_SESSION in (request.session or ())
    known = known or (verdict.claim.handle is not None and ledger.has_made(verdict.claim.handle))
    living = [cookie.digest for cookie in verdict.claim.cookies if cookie.digest and cookie not in verdict.dead]
    if known or (not verdict.known and ledger.is_tied([*living, *verdict.claim.bearers])):
        return LOGIN
    return ISSUED if request.session else UNKNOWN


def ending_handle(ledger: Ledger, request: Request, verdict: Verdict) -> Handle | None:
    """Return the handle of the login that a request ends.

    One that the store knows nothing of may be invented, unless a session vouches for it, or this process has made it:
    then the record may still be on its way to the store. Tombstones for invented ones would push out real ones.
    """
    handle = verdict.handle or verdict.claim.handle
    vouched = verdict.live or not verdict.known or HANDLE_IN_SESSION in (request.session or ())
    return handle if vouched or (handle is not None and ledger.has_made(handle)) else None


async def echo_of(ledger: Ledger, verdict: Verdict, deadline: Deadline) -> Login | None:
    """Return the login that a second click within two minutes is about, if the first one left word of it.

    The request looks the same if it is a thief's, with cookies copied before the logout. So the ID Token and everything
    else that names the user is in it only for ``HINT_FOR``, and only for a request that brings the login's handle; a
    session cookie alone gets the provider.
    """
    now = time.time()
    if verdict.ended is None or not verdict.just_ended(now):
        return None
    if verdict.record is not None:
        login = login_from(verdict.record)
        known = login if now - verdict.ended_at < HINT_FOR else Login(provider=login.provider, iss=login.iss)
        return without_tokens(known) if verdict.by_cookie else known
    digest = next((cookie.digest for cookie in verdict.claim.cookies if cookie.digest), None)
    try:
        key = f"echo:{digest}"
        record = (await ledger.read([key], deadline))[key] if digest else None
    except StoreError:
        return None
    return login_from(record) if record is not None else None


def expire_cookies(
    settings: Settings, request: Request, claim: Claim, start: Message, *, waits: bool = False
) -> Message:
    """Expire every declared cookie and our own, and drop the application's lines that would set one again.

    ``waits`` says that the answer sets the cookie of a deferred logout, which Clear-Site-Data must not take along.
    Nothing of the kind for a request that brings no session and that another site may have made: a form there comes
    without Lax cookies, and the browser would delete them all the same.
    """
    brings_session = claim.cookies or claim.carried or request.session
    origins = request.origins(settings.public_url)
    if not brings_session and may_be_of_another_site(request.method, request.headers, origins):
        return start
    seen = [*(name for secret in claim.cookies for name, _ in secret.parts), *(name for name, _ in request.cookies)]
    declared = (settings.session_cookies, settings.clear_cookies)
    lines = [request.own.deletion(request.own.login)] if claim.carried else []
    lines += deletions(declared, seen, secure=request.own.secure, host=request.host)
    brought = [line for line in lines if name_set_by(line) in seen]
    others = [line for line in lines if name_set_by(line) not in seen]
    start = without_cookies(start, lambda line: any(cookies.sets(line) for cookies in declared))
    to_come = bytes_to_come(request)
    start = with_cookies(start, brought, keeping=to_come + _OWN_COOKIE)
    start = _with_clear_site_data(settings, start, to_come + _OWN_COOKIE, waits=waits)
    return with_cookies(start, others, keeping=to_come + _OWN_COOKIE + _SHORT_URL)


def _with_clear_site_data(settings: Settings, start: Message, keeping: int, *, waits: bool) -> Message:
    names = settings.clear_site_data
    if waits:  # browsers obey it after Set-Cookie, and "cookies" takes them all
        names = tuple(name for name in (DIRECTIVES if "*" in names else names) if name not in ("cookies", "*"))
    header = (b"clear-site-data", ", ".join(f'"{name}"' for name in names).encode("ascii"))
    if not names or sum(map(len, header)) + 4 > room_in(start) - keeping:
        return start
    return {**start, "headers": [*headers_of(start), header]}


def bytes_to_come(request: Request) -> int:
    """Return how many bytes a session middleware around us may still add to the headers: its cookie, and Vary."""
    session = request.live_session()
    # What is signed is written in base64, a third longer; quotes and escapes make it longer still.
    # A session of a thousand characters is kept on the server, or is not what a logout leaves behind.
    return 200 + min(2 * len(repr(dict(session))), 1000) if session is not None else 0


def empty_session(request: Request) -> None:
    """Remove from the session what was in it when the request came in; what the handler put there since stays."""
    session = request.live_session()
    if session is not None and request.session is not None:
        for key in (*request.session, HANDLE_IN_SESSION, ANONYMOUS_IN_SESSION):
            session.pop(key, None)


def anonymous_part(session: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a session of a login holds unchanged from before the login, as every session does.

    Middlewares around us put them there, and the application may count on them.
    """
    noted = session.get(ANONYMOUS_IN_SESSION)
    if not isinstance(noted, dict):
        return {}
    return {key: session[key] for key, mark in noted.items() if key in session and _mark(session[key]) == mark}


def is_emptied(before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> bool:
    """Return whether a session has lost all that was its user's: the middleware's keys and everybody's do not count."""
    if not before or not now:
        return bool(before)
    everybodys = anonymous_part(before)
    users = [
        {key for key, value in session.items() if key not in _OWN_KEYS and everybodys.get(key) != value}
        for session in (before, now)
    ]
    return bool(users[0] and not users[1])


def note_session_begun(ledger: Ledger, request: Request) -> None:
    """Note what stands in a session that has just begun, if it has: middlewares around us put that into every one."""
    if request.session is not None and not any(name in (b"cookie", b"authorization") for name, _ in request.headers):
        names = frozenset(request.session)
        ledger.in_every_session = names if ledger.in_every_session is None else ledger.in_every_session & names


def _note_anonymous_part(ledger: Ledger, request: Request, session: MutableMapping[str, Any]) -> None:
    """Note what stands in every session, and is as it was before the login.

    Other keys may say who is signed in: the application may have noted that some requests ago.
    """
    note_session_begun(ledger, request)
    before = request.session or {}
    names = [key for key in before if key in session and key in (ledger.in_every_session or ())]
    same = {key: mark for key in names if (mark := _mark(before[key])) == _mark(session[key]) is not None}
    if same and len(same) <= MOST_ANONYMOUS_KEYS:
        session[ANONYMOUS_IN_SESSION] = same
    else:
        session.pop(ANONYMOUS_IN_SESSION, None)


def _mark(value: object) -> str | None:
    try:
        return digest_of(json.dumps(value, sort_keys=True))[:8]
    except (TypeError, ValueError):
        return None


async def remember(
    settings: Settings,
    ledger: Ledger,
    request: Request,
    verdict: Verdict,
    login: Login,
    start: Message,
    deadline: Deadline,
) -> SetCookies:
    """Write a new login under a new handle, and end the one before it; renew one that is the same.

    Returns the cookies to set: none if the handle went into the session.
    """
    session = request.live_session()
    old = verdict.login if verdict.live else None
    cookies = settings.session_cookies
    issued = cookies.issued(set_cookies_of(start))
    new = [one.digest for one in issued if one.digest]
    set_anew = {cookies.declared(one) for one in issued}
    own = [*new, *(one.digest for one in verdict.claim.cookies if one.digest and cookies.declared(one) not in set_anew)]
    now = await judge_again(ledger, verdict, deadline)
    renews = old is not None and is_renewal(old, login)
    if renews and verdict.handle is not None:
        handle, login = verdict.handle, renewed(login_from(verdict.record or {}), login)
        whose = handle if now.ended is not None else None  # ended meanwhile, and so is what its answer sets
    else:
        login = _completed(settings, login)
        _check_audience(settings, ledger, login)
        if ledger.is_tied(set(new).difference(verdict.claim.digests)):
            journal.same_value(ledger.advised)  # unless this very browser has kept its session, and signs in once more
        handle = Handle.new(login, time.time())
        whose = _login_beside(verdict, handle)
    if whose is not None:
        await ledger.tie(whose, new, deadline)
        return []
    if not renews:
        await _replace(ledger, request, verdict, own, deadline)
    await ledger.remember(handle, login, _own_digests(verdict, now, handle, own), deadline)
    if not handle.text:  # renewed by a request that only the session cookie tells of: it gets no companion
        return []
    if session is not None:
        if session.get(HANDLE_IN_SESSION) != handle.text:
            _note_anonymous_part(ledger, request, session)
        session[HANDLE_IN_SESSION] = handle.text
        return []
    return [request.own.setting(request.own.login, handle.text, ledger.lifetime)]


def _login_beside(verdict: Verdict, new: Handle) -> Handle | None:
    """Return the login of a session cookie that came beside another user's login, if it is the one remembered anew.

    Whoever stole the cookie must not get a companion, and with it the tokens, by adding a login of their own.
    """
    if not verdict.live or verdict.handle is None:
        return None
    others = (tie for tie in verdict.ties.values() if tie.sub_key not in ("", verdict.handle.sub_key))
    return next((tie for tie in others if tie.sub_key == new.sub_key), None)


def _own_digests(verdict: Verdict, now: Verdict, handle: Handle, digests: list[str]) -> list[str]:
    """Return the digests of the session cookies that are a login's own from now on, of those that it may have.

    What the request has brought and is dead stays dead, and what is another login's stays that.
    """
    own = (handle.key, verdict.handle.key if verdict.handle is not None else "")
    taken = {cookie.digest for cookie in (*verdict.dead, *now.dead)}
    taken |= {digest for digest, tie in verdict.ties.items() if tie.key not in own}
    return [digest for digest in digests if digest not in taken]


def is_renewal(old: Login, new: Login) -> bool:
    """Return whether two logins are of one session at the provider: nothing that is known of both differs.

    The answer to a refresh may lack the ID Token, and with it whose it is (OpenID Connect Core 1.0, section 12.2).
    """
    names = ("iss", "sub", "sid")
    # The issuer tells as much as the provider's name, which may be given at the refresh for the first time.
    same_provider = new.provider in (None, old.provider) or (old.provider is None and old.iss == new.iss is not None)
    return same_provider and all(getattr(new, name) in (None, getattr(old, name)) for name in names)


def renewed(old: Login, new: Login) -> Login:
    """Return a login with what is new in it, and what the new one lacks."""
    names = ("provider", "id_token", "sub", "sid", "iss", "refresh_token", "logout_hint")
    return Login(**{name: getattr(new, name) or getattr(old, name) for name in names})


async def _replace(ledger: Ledger, request: Request, verdict: Verdict, own: list[str], deadline: Deadline) -> None:
    """End the login before a new one in the same browser, with the session cookies that the new one does not keep."""
    handle = ending_handle(ledger, request, verdict) if verdict.ended is None else None
    if handle is None:
        return
    cookies = ledger.revocable(verdict, LOGIN) if request.session is None else {}
    gone = {digest: cause for digest, cause in cookies.items() if digest not in own}
    await ledger.end(Ending(handle, gone, LOGIN, "replaced", {"local": True}, {}), deadline)


def _completed(settings: Settings, login: Login) -> Login:
    """Fill in the issuer from the provider's name, or the name from the issuer.

    A logout token names an issuer, and finds a login without an ID Token by that alone.
    """
    if callable(settings.providers):
        return login
    known: dict[str, Any] = {name: getattr(login, name) for name in login.__slots__}
    for provider in settings.providers:
        if login.provider is None and login.iss is not None and issuer_of(provider) == login.iss:
            return Login(**{**known, "provider": name_of(provider)})
        if login.iss is None and login.provider is not None and name_of(provider) == login.provider:
            return Login(**{**known, "iss": issuer_of(provider)})
    return login


def _check_audience(settings: Settings, ledger: Ledger, login: Login) -> None:
    """Warn of an ID Token that was issued to another client, which its provider will refuse as a hint."""
    audience = unverified_claims(login.id_token).get("aud") if login.id_token else None
    if not audience or callable(settings.providers):
        return
    for provider in settings.providers:
        client_id = getattr(provider, "client_id", None)
        own = login.provider is not None and name_of(provider) == login.provider
        own = own or (login.iss is not None and issuer_of(provider) == login.iss) or len(settings.providers) == 1
        if (
            own
            and isinstance(client_id, str)
            and client_id not in (audience if isinstance(audience, list) else [audience])
        ):
            journal.other_audience(ledger.advised, audience, client_id)


async def forget(ledger: Ledger, request: Request, verdict: Verdict, deadline: Deadline) -> SetCookies:
    """Drop what is remembered, without ending anything."""
    if verdict.claim.handle is not None:
        await ledger.forget(verdict.claim.handle, deadline)
    session = request.live_session()
    if session is not None:
        session.pop(HANDLE_IN_SESSION, None)
        session.pop(ANONYMOUS_IN_SESSION, None)
    return [request.own.deletion(request.own.login)] if verdict.claim.carried else []


async def judge_again(ledger: Ledger, verdict: Verdict, deadline: Deadline) -> Verdict:
    """Return the verdict of this moment if something has died while the application was at work, else the same one."""
    if verdict.ended is not None or not verdict.claim.keys:
        return verdict
    try:
        now = await ledger.judge(verdict.claim, deadline)
    except StoreError:
        now = ledger.judge_here(verdict.claim)
    more = not set(now.dead).issubset(verdict.dead) or (now.dead_bearer and not verdict.dead_bearer)
    return now if now.ended is not None or more else verdict


async def lift_reissued(ledger: Ledger, claim: Claim, issued: Iterable[str], deadline: Deadline) -> None:
    """Let a revoked value live again that the application issues anew, to a request with nothing dead in it.

    Session ids are random, but some applications derive theirs from the user: after a logout and a new login such a
    user would find the door shut for as long as a session lives. A request that brings the value itself, in a cookie or
    as a bearer token, lifts nothing. Takes the digests of what is issued.
    """
    digests = set(issued) - set(claim.digests)
    if not digests or ledger.idle:
        return
    try:
        await ledger.lift(map(cookie_key, digests), deadline)
    except StoreError as error:
        ledger.complain("a session cookie that was blocked and is issued again may stay blocked", error)


def hides_session(request: Request, verdict: Verdict) -> bool:
    """Return whether the session around us must be kept from the application.

    Without a handle in it nobody can tell from which of the request's cookies it was read, and one of them is dead.
    """
    unsure = bool(verdict.dead) or verdict.claim.excess
    return verdict.ended is not None or (unsure and HANDLE_IN_SESSION not in (request.session or ()))


def renew_session(request: Request) -> None:
    """Put a fresh session in place of one whose login died meanwhile, so that nothing of it is written back."""
    session = request.live_session()
    if session is None:
        return
    try:
        request.scope["session"] = type(session)()
    except TypeError:
        session.clear()


def writes_session(request: Request) -> bool:
    """Return whether a session middleware around us is about to set its cookie."""
    session: MutableMapping[str, Any] | None = request.live_session()
    # Starlette says so since 1.0; of any other session it has to be assumed.
    return session is not None and bool(getattr(session, "modified", True))


def show(context: Context, verdict: Verdict) -> None:
    """Let ``current_login`` see what is known."""
    context.recalled = verdict.login
    if verdict.login is None and verdict.ended is not None:
        context.recalled = Login(ended=verdict.ended)
