"""What the log says at DEBUG: what became of a logout, and why something was none. No secret comes by here."""

from __future__ import annotations

from collections.abc import Sequence

from .client import Client
from .context import Mark
from .log import logger
from .login import Login
from .protocol.cookie_values import Secret
from .providers.provider import Provider, name_of
from .request import Request
from .settings import Settings
from .verdict import Claim, Verdict


def no_logout(request: Request, status: int) -> None:
    """Log that an answer on a logout path was not a logout."""
    logger.debug("%s %s, answered %d, was not a logout", request.method, shown(request.path), status)


def is_prefetch(request: Request) -> None:
    """Log that a logout path was only prefetched."""
    logger.debug("GET %s is a prefetch, answered 503, because a hover must log nobody out", shown(request.path))


def no_session(settings: Settings) -> None:
    """Log why the browser was not sent to a provider: there is no evidence of a session."""
    names = " or ".join(repr(cookie.name) for cookie in settings.session_cookies.cookies)
    cookies = "" if settings.require_login or not names else f", and the request has no cookie {names}"
    logger.debug("logged out here only: no live login is remembered%s", cookies)


def stays_here(mark: Mark) -> None:
    """Log why a logout stays here although there is a session."""
    why = "as the application said" if mark.local else "another site made this request, or a page's image or script"
    logger.debug("logged out here only, %s", why)


def waits(cookies: Sequence[bytes]) -> None:
    """Log that a fetch's logout waits for the next page, if there is a cookie to know it by."""
    if cookies:
        logger.debug("logged out here; the next page that this browser opens goes by way of the provider")


def goes_on(provider: Provider, client: Client, login: Login | None) -> None:
    """Log where the browser is sent, and what is missing on the way."""
    bare = (
        "" if login and login.id_token else "; no ID Token is known to send as a hint: call remember_login() at login"
    )
    logger.debug("logged out here, and the browser (%s) goes on to %r%s", client.value, name_of(provider), bare)


def is_anonymous(request: Request, verdict: Verdict) -> None:
    """Log that what a request brings is kept from the application."""
    if verdict.claim.excess:
        logger.debug("%s: more session cookies than any browser sends, handled as anonymous", shown(request.path))
    elif verdict.ended is not None:
        logger.debug("%s: login already ended (%s), handled as anonymous", shown(request.path), verdict.ended)
    else:
        logger.debug("%s: a session cookie of an ended login was removed from the request", shown(request.path))


def deletes_session(advised: set[str], request: Request, verdict: Verdict) -> None:
    """Log that a likely logout is not configured as one: once as a warning, if a login has lost its session."""
    where = f"{request.method} {shown(request.path)}"
    logger.debug("%s deletes the session, but is not configured as a logout", where)
    if verdict.live and once(advised, "undeclared"):
        logger.warning(
            "an answer deleted the session of a live login, but is not configured as a logout: the user stays signed "
            "in at the provider, and copies of the session cookie keep working. Add the path (logged at DEBUG) to "
            "logout_path, or put @rp_logout directly above the function, below the route's decorator"
        )


def changes_value(advised: set[str], issued: Sequence[Secret], claim: Claim) -> None:
    """Warn once that a session cookie changes while its login lives, which makes copies of it harder to end."""
    brought = {name for cookie in claim.cookies if cookie.digest for name, _ in cookie.parts}
    names = sorted({name for one in issued for name, _ in one.parts} & brought)
    if names and once(advised, "changes"):
        logger.warning(
            "the session cookie %r changed its value during a login, so the session seems to be stored in it: each "
            "value costs a write to the store, and copies of values that the store did not take keep working after a "
            "logout. Add RPLogoutMiddleware inside the session middleware, or store sessions on the server",
            names[0],
        )


def same_value(advised: set[str]) -> None:
    """Warn once that two logins have got the same session cookie."""
    if once(advised, "same"):
        logger.warning(
            "a session cookie has the same value in two logins: the logout of one ends the other, and the next login "
            "unblocks copies. List such a cookie in clear_cookies, and one that differs in each login in session_cookie"
        )


def lost_login(advised: set[str], *, local: bool) -> None:
    """Warn once that a session names a login that the store does not have."""
    if once(advised, "lost"):
        remedy = (
            "MemoryStore is for one process, and is lost at a restart: set store= to one that all workers share, such "
            "as RedisStore"
            if local
            else "was the store emptied, or do the workers use different stores?"
        )
        logger.warning(
            "a session belongs to a login that the store does not have, so its logout has no ID Token: %s", remedy
        )


def other_audience(advised: set[str], audience: object, client_id: str) -> None:
    """Warn once that an ID Token was issued to another client than the provider's."""
    if once(advised, "audience"):
        logger.warning(
            "the ID Token of a login was issued to %r, but its provider is configured with client_id=%r, so the "
            "provider will refuse its logout: configure the client_id with which the application signs users in",
            audience,
            client_id,
        )


def not_remembered(status: int) -> None:
    """Log why a login was not remembered."""
    logger.debug("a login was not remembered: the answer (%d) is an error, or there is no session", status)


def once(advised: set[str], what: str) -> bool:
    """Return whether something is to be said now; it is said once."""
    if what in advised:
        return False
    advised.add(what)
    return True


def shown(path: str) -> str:
    """Return a path as it may stand in a log: quoted, and not whole, for it may hold the token of a password reset."""
    return repr(path[:SHOWN])


SHOWN = 80
"""Characters of a path that stand in a log, at DEBUG only."""
