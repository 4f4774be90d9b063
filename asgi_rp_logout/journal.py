"""What the log says at DEBUG: what became of a logout, and why something was none. No secret comes by here."""

from __future__ import annotations

from collections.abc import Sequence

from ._asgi import logger
from .client import Client
from .context import Mark
from .login import Login
from .protocol.cookie_values import Secret
from .providers.base import Provider, name_of
from .request import Request
from .settings import Settings
from .verdict import Claim, Verdict


def no_logout(request: Request, status: int) -> None:
    """Say that an answer on a logout path was none."""
    logger.debug("%s %s, answered %d, was no logout", request.method, shown(request.path), status)


def is_prefetch(request: Request) -> None:
    """Log that a logout path was only prefetched."""
    logger.debug("GET %s is a prefetch, answered 503: a hover must log nobody out", shown(request.path))


def no_session(settings: Settings) -> None:
    """Say why nobody was sent to a provider: there is no evidence of a session."""
    names = " or ".join(repr(cookie.name) for cookie in settings.session_cookies.cookies)
    cookies = "" if settings.require_login or not names else f", and the request has no cookie {names}"
    logger.debug("logged out here, and not at the provider: no login is remembered that lives%s", cookies)


def stays_here(mark: Mark) -> None:
    """Say why a logout stays here although there is a session."""
    why = "as the application said" if mark.local else "another site made this request, or a page's image or script"
    logger.debug("logged out here only, %s", why)


def waits(cookies: Sequence[bytes]) -> None:
    """Say that a fetch's logout waits for the next page, if there is a cookie to know it by."""
    if cookies:
        logger.debug("logged out here; the next page that this browser opens goes by way of the provider")


def goes_on(provider: Provider, client: Client, login: Login | None) -> None:
    """Say where the browser is sent, and what is missing on the way."""
    bare = "" if login and login.id_token else "; no ID Token is remembered to hint with: see remember_login()"
    logger.debug("logged out here, and the browser (%s) goes on to %r%s", client.value, name_of(provider), bare)


def is_anonymous(request: Request, verdict: Verdict) -> None:
    """Log that what a request brings is kept from the application."""
    if verdict.claim.excess:
        logger.debug("%s: more session cookies than any browser sends; handled as anonymous", shown(request.path))
    elif verdict.ended is not None:
        logger.debug("%s: login already ended (%s); handled as anonymous", shown(request.path), verdict.ended)
    else:
        logger.debug("%s: a dead session cookie is kept from the application", shown(request.path))


def deletes_session(advised: set[str], request: Request, verdict: Verdict) -> None:
    """Log that a likely logout is not configured as one: once as a warning, if a login has lost its session."""
    where = f"{request.method} {shown(request.path)}"
    logger.debug("%s expires the session, but nothing says that it is a logout", where)
    if verdict.live and once(advised, "undeclared"):
        logger.warning(
            "a live login has lost its session, but nothing says that this was a logout: the provider does not hear of "
            "it, and copies of the session cookie go on working; add the path to logout_path, or put @rp_logout "
            "directly above the endpoint, below the route's decorator (the path is logged at DEBUG)"
        )


def changes_value(advised: set[str], issued: Sequence[Secret], claim: Claim) -> None:
    """Warn once that a session cookie changes while its login lives, which makes copies of it dangerous."""
    brought = {name for cookie in claim.cookies if cookie.digest for name, _ in cookie.parts}
    names = sorted({name for one in issued for name, _ in one.parts} & brought)
    if names and once(advised, "changes"):
        logger.warning(
            "the session cookie %r changed its value during a login: if the session is stored in the cookie, copies of "
            "earlier values keep working after a logout. Add RPLogoutMiddleware inside the session middleware, or "
            "store sessions on the server",
            names[0],
        )


def same_value(advised: set[str]) -> None:
    """Warn once that two logins have got the same session cookie."""
    if once(advised, "same"):
        logger.warning(
            "a session cookie has the same value in two logins: the logout of one signs out the other, and the next "
            "login lets copies in again; declare such a cookie in clear_cookies, and the one that differs in "
            "session_cookie"
        )


def lost_login(advised: set[str], *, local: bool) -> None:
    """Warn once that a session names a login that the store does not have."""
    if once(advised, "lost"):
        remedy = (
            "MemoryStore is of one process and one start: give all workers one store=, such as a RedisStore"
            if local
            else "was the store emptied, or do the workers have different ones?"
        )
        logger.warning(
            "a session names a login that the store does not know, so that its logout has no ID Token: %s", remedy
        )


def other_audience(advised: set[str], audience: object, client_id: str) -> None:
    """Warn once that an ID Token was issued to another client than the provider's."""
    if once(advised, "audience"):
        logger.warning(
            "the ID Token of a login was issued to %r, but its provider is configured with client_id=%r: the provider "
            "will refuse its logout",
            audience,
            client_id,
        )


def not_remembered(status: int) -> None:
    """Log why a login was not remembered."""
    logger.debug("a login was not remembered: the answer (%d) is an error, or there is no session", status)


def once(advised: set[str], what: str) -> bool:
    """Tell whether something is to be said now; it is said once."""
    if what in advised:
        return False
    advised.add(what)
    return True


def shown(path: str) -> str:
    """Give a path as it may stand in a log: quoted, and not whole, for it may hold the token of a password reset."""
    return repr(path[:SHOWN])


SHOWN = 80
"""Characters of a path that stand in a log, at DEBUG only."""
