"""What an answer that is no logout does to a login: remember, forget, renew it, or keep it dead."""

from __future__ import annotations

import logging
import secrets
import time

from . import journal
from ._asgi import Message, logger
from .context import Context
from .later import cancel
from .ledger import Deadline, Ledger
from .login import Login
from .logins import forget, judge_again, lift_reissued, remember, renew_session, writes_session
from .messages import looks_signed, set_cookies_of, value_set_by, with_cookies, without_cookies
from .protocol.cookies import is_deletion, name_set_by
from .request import APART_IN_SESSION, HANDLE_IN_SESSION, Request
from .settings import Settings
from .verdict import Claim, Verdict


async def ordinary(
    settings: Settings,
    ledger: Ledger,
    request: Request,
    context: Context,
    verdict: Verdict,
    start: Message,
    deadline: Deadline,
) -> Message:
    """Give the start message as it goes out, for an answer that is no logout."""
    claim = verdict.claim
    if context.remembered is not None:
        return await _remembering(settings, ledger, request, verdict, context.remembered, start, deadline)
    if context.forgotten:
        return with_cookies(start, await forget(ledger, request, verdict, deadline))
    if verdict.dead or verdict.ended is not None:
        return _dead(settings, request, verdict, start)
    sets_session = any(settings.session_cookies.sets(line) for line in set_cookies_of(start))
    writes = claim.keys and not ledger.idle and (sets_session or writes_session(request))
    if writes and (await judge_again(ledger, verdict, deadline)).ended is not None:
        # No deletion is added: it would hurt a newer login of the same browser, which this answer knows nothing of.
        renew_session(request)
        return without_cookies(start, settings.session_cookies.sets)
    if logger.isEnabledFor(logging.DEBUG) and deletes_session(settings, request, start):
        journal.deletes_session(request)
    if has_just_ended(ledger) and _begins(request):
        # A signed cookie is the same to the letter if the same is signed within the same second, and would be as dead
        # as the one that a logout has just buried.
        request.scope["session"][APART_IN_SESSION] = secrets.token_urlsafe(9)
    if sets_session:
        await lift_reissued(settings, ledger, claim, start, deadline)
        if verdict.live and claim.carried and claim.handle is not None:
            return with_cookies(start, [request.own.setting(request.own.login, claim.handle.text, ledger.lifetime)])
    return start


def has_just_ended(ledger: Ledger) -> bool:
    """Tell whether some login has ended in this process within the last second."""
    return time.monotonic() - ledger.ended_at < 1


def _begins(request: Request) -> bool:
    """Tell whether a session without a login of ours is about to be written around us."""
    session = request.live_session()
    return bool(session and HANDLE_IN_SESSION not in session) and writes_session(request)


def deletes_session(settings: Settings, request: Request, start: Message) -> bool:
    """Return whether an answer deletes a session cookie and sets none, or leaves the session around us empty."""
    lines = [line for line in set_cookies_of(start) if settings.session_cookies.has(name_set_by(line))]
    return bool(lines and all(map(is_deletion, lines))) or bool(request.session and not request.live_session())


async def _remembering(
    settings: Settings,
    ledger: Ledger,
    request: Request,
    verdict: Verdict,
    login: Login,
    start: Message,
    deadline: Deadline,
) -> Message:
    await lift_reissued(settings, ledger, Claim(), start, deadline)
    lines = await remember(settings, ledger, request, verdict, login, deadline)
    if lines and not ledger.advised:
        signed = [line for line in set_cookies_of(start) if settings.session_cookies.sets(line)]
        if any(looks_signed(value_set_by(line)) for line in signed):
            ledger.advised = True
            logger.warning(
                "the session lives in a signed cookie: put RPLogoutMiddleware inside the session middleware, or keep "
                "the session on the server; else a copy of the cookie as it was before works after the logout"
            )
    if verdict.claim.later is not None:
        # Whoever has just signed in does not want the logout of before.
        await cancel(ledger, verdict.claim.later, deadline)
        lines = [*lines, request.own.deletion(request.own.later)]
    return with_cookies(start, lines)


def _dead(settings: Settings, request: Request, verdict: Verdict, start: Message) -> Message:
    """Expire the session cookies that are dead, but neither a living one of the same name nor one that is set anew."""
    if verdict.ended == "replaced":
        return start  # by a login of this very browser, whose cookies have the same names
    living = {cookie.name for cookie in verdict.claim.cookies if cookie not in verdict.dead}
    anew = {name_set_by(line) for line in set_cookies_of(start) if settings.session_cookies.sets(line)}
    gone = {cookie.name for cookie in verdict.dead} - living - anew
    lines = [line for line in settings.session_cookies.deletions(gone) if name_set_by(line) in gone]
    if verdict.claim.carried and verdict.ended is not None:
        lines.append(request.own.deletion(request.own.login))
    return with_cookies(start, lines)
