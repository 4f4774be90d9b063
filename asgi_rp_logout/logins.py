"""Steps 0 and 2: who is this, and what dies with the logout. Also what an ordinary answer does to a login."""

from __future__ import annotations

import inspect
import time
from collections.abc import MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import anyio
from starlette.requests import HTTPConnection

from ._asgi import Message, Scope, logger
from .checks import DIRECTIVES
from .client import is_of_another_site
from .context import Context
from .errors import StoreError
from .ledger import Deadline, Ledger
from .live import announce
from .login import Login
from .messages import headers_of, set_cookies_of, value_set_by, with_cookies, without_cookies
from .protocol.cookies import name_set_by, secret_digest
from .providers.base import issuer_of, name_of
from .request import HANDLE_IN_SESSION, Request
from .settings import Settings
from .store import Record
from .verdict import SECOND_CLICK, Claim, Handle, Verdict, judge, login_from

SetCookies = list[bytes]

HINT_FOR = 10.0
"""Seconds after its end in which a login's ID Token still goes out with a second click."""


async def ask_login_source(settings: Settings, scope: Scope) -> Login | None:
    """Ask the application who is signed in; None if it does not know, fails, or takes too long."""
    if settings.login_source is None:
        return None
    try:
        with anyio.fail_after(settings.provider_timeout):
            login = settings.login_source(HTTPConnection(scope))
            if inspect.isawaitable(login):
                login = await login
        if login is None or isinstance(login, Login):
            return login
        logger.warning("login_source gave a %s: expected a Login or None", type(login).__name__)
    except Exception as error:
        logger.warning("login_source raised %s: nobody is known, this logout stays here", type(error).__name__)
    return None


def has_evidence(settings: Settings, request: Request, verdict: Verdict, login: Login | None) -> bool:
    """Tell whether there is a session to end at the provider; without evidence nobody is sent there."""
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
) -> None:
    """End what the request's login was. Nothing after this can undo it, not even a browser that goes away.

    ``word`` is what a second click needs to know: ``local``, the ``provider`` named, and where ``to`` afterwards.
    ``by`` says how it ended, as in ``Login.ended``.
    """
    if verdict.ended is not None:
        return
    claim = verdict.claim
    known = verdict.live or login is not None
    # A handle that the store knows nothing of may be invented, unless a session vouches for it. Tombstones for
    # invented ones would push out real ones.
    vouched = verdict.live or not verdict.known or HANDLE_IN_SESSION in (request.session or ())
    with _to_its_end(ledger):
        if claim.handle is not None and vouched:
            await ledger.end(claim.handle, verdict, by, deadline, **word)
        await ledger.bury(claim.cookies, known, deadline, **word)
        await announce(ledger, deadline)
        echo = next((cookie.digest for cookie in claim.cookies if cookie.digest), None)
        if login is not None and claim.handle is None and echo is not None:
            await ledger.put(f"echo:{echo}", {"provider": login.provider, "iss": login.iss}, SECOND_CLICK, deadline)


def _to_its_end(ledger: Ledger) -> AbstractContextManager[object]:
    """Let nothing stop what has begun; where the store is in this process nothing waits, and so nothing can."""
    return nullcontext() if ledger.is_local else anyio.CancelScope(shield=True)


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
        return login if now - verdict.ended_at < HINT_FOR else Login(provider=login.provider, iss=login.iss)
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
    Nothing of the kind for a request that another site made and that brings no session: a form there comes without Lax
    cookies, and the browser would delete them all the same.
    """
    brings_session = claim.cookies or claim.carried or request.session
    if not brings_session and is_of_another_site(request.headers):
        return start
    seen = [name for name, _ in request.cookies]
    declared = (settings.session_cookies, settings.clear_cookies)
    lines = [line for cookies in declared for line in cookies.deletions(seen)]
    lines += [request.own.deletion(request.own.login)] if claim.carried else []
    kept = without_cookies(start, lambda line: any(cookies.sets(line) for cookies in declared))
    start = with_cookies(kept, lines)
    names = settings.clear_site_data
    if waits:  # browsers obey it after Set-Cookie, and "cookies" takes them all
        names = tuple(name for name in (DIRECTIVES if "*" in names else names) if name not in ("cookies", "*"))
    if names:
        value = ", ".join(f'"{name}"' for name in names).encode("ascii")
        start = {**start, "headers": [*headers_of(start), (b"clear-site-data", value)]}
    return start


def empty_session(request: Request) -> None:
    """Remove from the session what was in it when the request came in; what the handler put there since stays."""
    session = request.live_session()
    if session is not None and request.session is not None:
        for key in (*request.session, HANDLE_IN_SESSION):
            session.pop(key, None)


async def remember(
    settings: Settings, ledger: Ledger, request: Request, verdict: Verdict, login: Login, deadline: Deadline
) -> SetCookies:
    """Write a new login under a new handle, and end the one before it.

    Gives the cookies to set: none if the handle went into the session.
    """
    login = _completed(settings, login)
    handle = Handle.new(login, time.time())
    with _to_its_end(ledger):
        if verdict.live and verdict.claim.handle is not None:
            await ledger.end(verdict.claim.handle, None, "replaced", deadline, local=True)
            await announce(ledger, deadline)
        await ledger.remember(handle, login, deadline)
    session = request.live_session()
    if session is not None:
        session[HANDLE_IN_SESSION] = handle.text
        return []
    return [request.own.setting(request.own.login, handle.text, ledger.lifetime)]


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


async def forget(ledger: Ledger, request: Request, verdict: Verdict, deadline: Deadline) -> SetCookies:
    """Drop what is remembered, without ending anything."""
    if verdict.claim.handle is not None:
        await ledger.forget(verdict.claim.handle, deadline)
    session = request.live_session()
    if session is not None:
        session.pop(HANDLE_IN_SESSION, None)
    return [request.own.deletion(request.own.login)] if verdict.claim.carried else []


async def judge_again(ledger: Ledger, verdict: Verdict, deadline: Deadline) -> Verdict:
    """Give the verdict of this moment: a login may have ended while the application was at work on the request."""
    if verdict.ended is not None or not verdict.claim.keys:
        return verdict
    try:
        now = judge(verdict.claim, await ledger.read(verdict.claim.keys, deadline))
    except StoreError:
        now = judge(verdict.claim, ledger.owed(verdict.claim.keys))
    return now if now.ended is not None else verdict


async def lift_reissued(settings: Settings, ledger: Ledger, claim: Claim, start: Message, deadline: Deadline) -> None:
    """Let a buried value live again that the application issues anew, to a request with nothing dead in it.

    Session ids are random, but some applications derive theirs from the user: after a logout and a new login such a
    user would find the door shut for as long as a session lives.
    """
    lines = [line for line in set_cookies_of(start) if settings.session_cookies.sets(line)]
    digests = {secret_digest(name_set_by(line), value_set_by(line)) for line in lines}
    digests -= {None, *(cookie.digest for cookie in claim.cookies)}
    if not digests or ledger.idle:
        return
    try:
        await ledger.lift([f"{kind}:{one}" for kind in ("buried", "invented") for one in digests], deadline)
    except StoreError as error:
        logger.warning("whether a session cookie was buried before cannot be told: %s", error)


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
    """Tell whether a session middleware around us is about to set its cookie."""
    session: MutableMapping[str, Any] | None = request.live_session()
    # Starlette says so since 1.0; of any other session it has to be assumed.
    return session is not None and bool(getattr(session, "modified", True))


def show(context: Context, verdict: Verdict) -> None:
    """Let ``current_login`` see what is known."""
    context.recalled = verdict.login
    if verdict.login is None and verdict.ended is not None:
        context.recalled = Login(ended=verdict.ended)
