"""What the log says at DEBUG: what became of a logout, and why something was none. No secret comes by here."""

from __future__ import annotations

from collections.abc import Sequence

from ._asgi import logger
from .client import Client
from .context import Mark
from .login import Login
from .providers.base import Provider, name_of
from .request import Request
from .settings import Settings
from .verdict import Verdict


def no_logout(request: Request, status: int) -> None:
    """Say that an answer on a logout path was none."""
    logger.debug("%s %s, answered %d, was no logout", request.method, request.path, status)


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
    """Say that what a request brings is kept from the application."""
    if verdict.ended is not None:
        logger.debug("%s: its login has ended (%s), so that the application sees nobody", request.path, verdict.ended)
    else:
        logger.debug("%s: a dead session cookie is kept from the application", request.path)


def deletes_session(request: Request) -> None:
    """Say that what looks like a logout is none by the configuration."""
    logger.debug("%s %s expires the session cookie, but nothing says that it is a logout", request.method, request.path)
