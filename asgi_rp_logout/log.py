"""The logger, and what is logged about a logout: what became of it, or why something was not one. Never a secret.

Warnings that anybody can cause are limited: see ``Notices``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

logger = logging.getLogger("asgi_rp_logout")

SHOWN = 80
"""Characters of a path that are logged, at DEBUG only."""

_MOST_SENTENCES = 100


class WarningLimiter:
    """Log what anybody can cause: at most one line a second for each kind, with the number of those left out."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or (lambda: time.monotonic())  # noqa: PLW0108  # looked up at each call, not at import
        self._logged: dict[str, tuple[float, int]] = {}

    def warning(self, kind: str, sentence: str) -> None:
        """Log a sentence without secrets, unless one of its kind was logged within the last second."""
        now = self._clock()
        last, left_out = self._logged.get(kind, (now - 1, 0))
        if now - last < 1:
            self._logged[kind] = (last, left_out + 1)
            return
        self._logged[kind] = (now, 0)
        more = f"; {left_out} more like it since the last line" if left_out else ""
        logger.warning("%s%s", sentence, more)


class Notices:
    """The warnings of one middleware: those that stay true are logged once, those that repeat once a second."""

    def __init__(self) -> None:
        self.limiter = WarningLimiter()
        self.said: set[str] = set()

    def once(self, sentence: str, *, kind: str = "") -> None:
        """Log a warning that stays true until the configuration changes; once, or once for its ``kind``."""
        key = kind or sentence
        if key not in self.said and len(self.said) < _MOST_SENTENCES:
            self.said.add(key)
            logger.warning("%s", sentence)

    def limited(self, kind: str, sentence: str) -> None:
        """Log a warning that anybody can cause, at most once a second for each kind."""
        self.limiter.warning(kind, sentence)


def shown(path: str) -> str:
    """Return a path for the log: quoted, and cut short, because it may hold the token of a password reset."""
    return repr(path[:SHOWN])


def no_logout(method: str, path: str, status: int) -> None:
    """Log that a response on a logout path was not a logout."""
    logger.debug("%s %s, answered %d, was not a logout", method, shown(path), status)


def prefetch(path: str) -> None:
    """Log that a logout path was only prefetched."""
    logger.debug("GET %s is a prefetch, answered 503, because a hover must log nobody out", shown(path))


def no_evidence(cookie_names: list[str], *, require_login: bool) -> None:
    """Log that the browser was not sent to a provider because the request has no session."""
    names = " or ".join(map(repr, cookie_names))
    cookies = "" if require_login or not names else f", and the request has no cookie {names}"
    logger.debug("logged out here only: no live login is remembered%s", cookies)


def local_only(*, by_application: bool) -> None:
    """Log why a logout stays local although there is a session."""
    other = "another site made this request, or a page's image or script"
    logger.debug("logged out here only, %s", "as the application said" if by_application else other)


def deferred() -> None:
    """Log that a logout waits for the next page."""
    logger.debug("logged out here; the next page that this browser opens goes by way of the provider")


def sent_to_provider(name: str | None, kind: str, *, hint: bool) -> None:
    """Log where the browser is sent, and what is missing on the way."""
    bare = "" if hint else "; no ID Token is known to send as a hint: call remember_login() at login"
    logger.debug("logged out here, and the browser (%s) goes on to %r%s", kind, name, bare)


def logout(channel: str, outcome: str, provider: str | None) -> None:
    """Log a logout, for whoever counts them. The line names no user."""
    logger.info("logout channel=%s outcome=%s provider=%r", channel, outcome, provider)


def asks_silently(name: str | None) -> None:
    """Log that the browser fetches an ID Token first."""
    logger.debug("on its way, the browser asks %r without a page who is signed in there (silent_hint)", name)


def handled_as_anonymous(path: str, *, ended: str | None, excess: bool) -> None:
    """Log that something of a request is hidden from the application."""
    if excess:
        logger.debug("%s: more session cookies than any browser sends, handled as anonymous", shown(path))
    elif ended is not None:
        logger.debug("%s: login already ended (%s), handled as anonymous", shown(path), ended)
    else:
        logger.debug("%s: a session cookie of an ended login was removed from the request", shown(path))


def deletes_session(notices: Notices, method: str, path: str, *, live: bool) -> None:
    """Log that a likely logout is not configured as one: once as a warning, if a login has lost its session."""
    logger.debug("%s deletes the session, but is not configured as a logout", f"{method} {shown(path)}")
    if live:
        notices.once(
            "an answer deleted the session of a live login, but is not configured as a logout: the user stays signed "
            "in at the provider, and copies of the session cookie keep working. Add the path (logged at DEBUG) to "
            "logout_path, or put @rp_logout directly above the function, below the route's decorator",
            kind="undeclared",
        )


def changes_value(notices: Notices, name: str) -> None:
    """Warn once that a session cookie changes while its login lives, which makes copies of it harder to end."""
    notices.once(
        f"the session cookie {name!r} changed its value during a login, so the session seems to be stored in it: each "
        "value costs a write to the store, and copies of values that the store did not take keep working after a "
        "logout. Add RPLogoutMiddleware inside the session middleware, or store sessions on the server",
        kind="changes",
    )


def same_value(notices: Notices) -> None:
    """Warn once that two logins have got the same session cookie."""
    notices.once(
        "a session cookie has the same value in two logins: the logout of one ends the other, and the next login "
        "unblocks copies. List such a cookie in clear_cookies, and one that differs in each login in session_cookie",
        kind="same",
    )


def lost_login(notices: Notices, *, local: bool) -> None:
    """Warn once that a session names a login that the store does not have."""
    remedy = (
        "MemoryStore is for one process, and is lost at a restart: set store= to one that all workers share, such "
        "as RedisStore"
        if local
        else "was the store emptied, or do the workers use different stores?"
    )
    notices.once(
        f"a session belongs to a login that the store does not have, so its logout has no ID Token: {remedy}",
        kind="lost",
    )


def other_audience(notices: Notices, audience: object, client_id: str) -> None:
    """Warn once that an ID Token was issued to another client than the provider's."""
    notices.once(
        f"the ID Token of a login was issued to {audience!r}, but its provider is configured with "
        f"client_id={client_id!r}, so the provider will refuse its logout: configure the client_id with which the "
        "application signs users in",
        kind="audience",
    )


def unseen_login(path: str) -> None:
    """Log that a login does not count."""
    logger.debug(
        "%s: a login by a subresource, a prefetch or a frame without a click does not count while a logout waits for "
        "the next page",
        shown(path),
    )


def not_remembered(status: int) -> None:
    """Log why a login was not remembered."""
    logger.debug("a login was not remembered: the answer (%d) is an error, or there is no session", status)
