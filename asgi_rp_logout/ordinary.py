"""What an answer that is no logout does to a login: remember, forget, renew it, or keep it dead."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

from . import journal
from .asgi.types import Message
from .context import Context
from .later import cancel
from .ledger import Deadline, Ledger
from .log import logger
from .login import Login
from .logins import (
    forget,
    hides_session,
    is_emptied,
    judge_again,
    keep_handle,
    lift_reissued,
    note_session_begun,
    remember,
    renew_session,
    writes_session,
)
from .messages import (
    HEADERS_AT_MOST,
    clears_cookies,
    headers_of,
    may_be_shared,
    set_cookies_of,
    with_cookies,
    without_cookies,
)
from .protocol.cookie_values import Secret
from .protocol.cookies import is_deletion, name_set_by
from .request import APART_IN_SESSION, HANDLE_IN_SESSION, Request
from .settings import Settings
from .verdict import Verdict


async def ordinary(
    settings: Settings,
    ledger: Ledger,
    request: Request,
    context: Context,
    verdict: Verdict,
    start: Message,
    deadline: Deadline,
) -> Message:
    """Return the start message as it goes out, for an answer that is no logout."""
    if context.remembered is not None and is_accepted(settings, request, verdict, start):
        return await _remembering(settings, ledger, request, verdict, context.remembered, start, deadline)
    if context.remembered is not None:
        journal.not_remembered(int(start["status"]))
    issued = settings.session_cookies.issued(set_cookies_of(start))
    if context.forgotten:
        ledger.note_issued(issued)
        return with_cookies(start, await forget(ledger, request, verdict, deadline))
    if verdict.ended is not None or verdict.claim.excess:
        ledger.note_issued(issued)
        return _dead(settings, request, verdict, start)
    note_session_begun(ledger, request)
    sets_session = any(settings.session_cookies.sets(line) for line in set_cookies_of(start))
    writes = verdict.claim.keys and not ledger.idle and (sets_session or writes_session(request))
    if writes and await _withholds(ledger, request, verdict, deadline):
        # No deletion is added: it would hurt a newer login of the same browser, which this answer knows nothing of.
        return without_cookies(start, settings.session_cookies.sets)
    if not context.handled and deletes_session(settings, request, start):
        journal.deletes_session(ledger.advised, request, verdict)
    keep_handle(request, verdict)
    if has_just_ended(ledger) and _begins(request):
        # A signed cookie is the same to the letter if the same is signed within the same second, and would be as dead
        # as the one that a logout has just revoked.
        request.scope["session"][APART_IN_SESSION] = secrets.token_urlsafe(9)
    if sets_session:
        start = await _issuing(ledger, request, verdict, issued, start, deadline)
    return _dead(settings, request, verdict, start) if verdict.hides else start


async def _withholds(ledger: Ledger, request: Request, verdict: Verdict, deadline: Deadline) -> bool:
    """Return whether an answer must not set a session cookie.

    Something of the request may have died meanwhile. Or it brings the logins of several users, and nobody can tell
    whose session goes on: a companion of one's own must not cover what is issued for a stolen cookie.
    """
    now, handle = await judge_again(ledger, verdict, deadline), verdict.handle
    if now is not verdict and hides_session(request, now):
        renew_session(request)
    several = handle is not None and any(tie.sub_key != handle.sub_key for tie in verdict.ties.values())
    return now is not verdict or several


async def _issuing(
    ledger: Ledger, request: Request, verdict: Verdict, issued: Sequence[Secret], start: Message, deadline: Deadline
) -> Message:
    """Note the session cookies that an answer sets: of whose login they are, or that nobody has invented them."""
    claim, handle = verdict.claim, verdict.handle
    # What the request has brought itself may be somebody else's, and dead by now: its answer says nothing new of it.
    new = [one.digest for one in issued if one.digest and one.digest not in claim.digests]
    if not verdict.hides:
        await lift_reissued(ledger, claim, new, deadline)
    if not verdict.live or handle is None:
        ledger.note_issued(issued)
        return start
    await ledger.tie(handle, new, deadline)
    if new and request.session is None:
        journal.changes_value(ledger.advised, issued, claim)
    if claim.carried and claim.handle is not None and not verdict.by_cookie:
        return with_cookies(start, [request.own.setting(request.own.login, claim.handle.text, ledger.lifetime)])
    return start


def is_accepted(settings: Settings, request: Request, verdict: Verdict, start: Message) -> bool:
    """Return whether the application has let in whom it remembers: no error, and a session to be signed in by.

    The session is the one around us, or a session cookie that the answer sets or the request has brought. Where the
    cookie's name was never declared, its absence tells nothing.
    """
    if int(start["status"]) >= 400:
        return False
    session, cookies = request.live_session(), settings.session_cookies
    if session or not settings.session_declared:
        return True
    lines = set_cookies_of(start)
    if any(cookies.sets(line) for line in lines):
        return True
    return bool(verdict.claim.cookies) and not any(cookies.has(name_set_by(line)) for line in lines)


def has_just_ended(ledger: Ledger) -> bool:
    """Return whether some login has ended in this process within the last second."""
    return time.monotonic() - ledger.ended_at < 1


def _begins(request: Request) -> bool:
    """Return whether a session without a login of ours is about to be written around us."""
    session = request.live_session()
    return bool(session and HANDLE_IN_SESSION not in session) and writes_session(request)


def deletes_session(settings: Settings, request: Request, start: Message) -> bool:
    """Return whether an answer deletes a session cookie and sets none, or empties the session around us."""
    lines = [line for line in set_cookies_of(start) if settings.session_cookies.has(name_set_by(line))]
    deleted = all(map(is_deletion, lines)) if lines else clears_cookies(start)
    return deleted or is_emptied(request.session, request.live_session())


async def _remembering(
    settings: Settings,
    ledger: Ledger,
    request: Request,
    verdict: Verdict,
    login: Login,
    start: Message,
    deadline: Deadline,
) -> Message:
    lines = await remember(settings, ledger, request, verdict, login, start, deadline)
    start = with_cookies(start, lines)
    if not set(lines).issubset(set_cookies_of(start)):
        logger.warning(
            "a login is not remembered: with the cookie for it the headers of its answer would exceed %d bytes, which "
            "nginx and other proxies refuse; shorten the application's own headers, or put RPLogoutMiddleware inside "
            "the session middleware",
            HEADERS_AT_MOST,
        )
    if verdict.claim.later is not None:
        # Whoever has just signed in does not want the logout of before.
        await cancel(ledger, verdict.claim.later, deadline)
        start = with_cookies(start, [request.own.deletion(request.own.later)])
    return start


def _dead(settings: Settings, request: Request, verdict: Verdict, start: Message) -> Message:
    """Expire the session cookies that are dead, but neither a living one of the same name nor one that is set anew."""
    if verdict.ended == "replaced":
        return start  # by a login of this very browser, whose cookies have the same names
    if may_be_shared(headers_of(start)):
        return start  # whoever else gets it from a cache must keep their cookies
    dead = {name for secret in verdict.dead for name, _ in secret.parts}
    living = {name for secret in verdict.claim.cookies if secret not in verdict.dead for name, _ in secret.parts}
    anew = {name_set_by(line) for line in set_cookies_of(start) if settings.session_cookies.sets(line)}
    gone = dead - living - anew
    found = (
        settings.session_cookies.deletions(sorted(gone), secure=request.own.secure, host=request.host) if gone else []
    )
    lines = [line for line in found if name_set_by(line) in gone]
    if verdict.claim.carried and verdict.ended is not None:
        lines.append(request.own.deletion(request.own.login))
    return with_cookies(start, lines)
