"""Step 2: whose logout is it, and is there a session to end at the provider?"""

from __future__ import annotations

import time
from dataclasses import replace

import anyio
from starlette.requests import HTTPConnection

from ..asgi.types import Scope
from ..exchange import Exchange
from ..login import Login
from ..options import Options
from ..providers.calling import run

HINT_FOR = 10.0
"""Seconds after a login has ended in which a second click still sends its ID Token as a hint."""


async def ask_login_source(options: Options, scope: Scope) -> Login | None:
    """Ask the application who is signed in; None if it does not know, fails, or takes too long."""
    if options.login_source is None:
        return None
    try:
        with anyio.fail_after(options.provider_timeout):
            login = await run(options.login_source, HTTPConnection(scope))
        if login is None or isinstance(login, Login):
            return login if login is None or login.known_by else replace(login, known_by="login_source")
        sentence = f"login_source returned a {type(login).__name__}, so this logout stays local"
        options.notices.limited("type", f"{sentence}: expected a Login or None")
    except Exception as error:
        sentence = f"login_source raised {type(error).__name__}, so this logout stays local"
        options.notices.limited("source", sentence)
    return None


async def ask_before_application(exchange: Exchange) -> None:
    """On a logout path, ask who is signed in before the application clears its session."""
    if not exchange.status.live and exchange.request.method not in ("HEAD", "OPTIONS", "TRACE", "CONNECT"):
        exchange.source = await ask_login_source(exchange.options, exchange.request.scope)
        exchange.source_asked = True


async def login_to_end(exchange: Exchange) -> Login | None:
    """Return the login to end: the remembered one, that of a second click, or the one from ``login_source``."""
    if exchange.status.live:
        return exchange.status.login
    if exchange.source_asked and exchange.source is not None:
        return exchange.source  # the application knows somebody, although something dead came along
    clicked = await login_of_second_click(exchange)
    # What is dead in a request must not speak for its user: the application may still have that session.
    if clicked is None and not exchange.source_asked and not exchange.status.has_dead:
        exchange.source = await ask_login_source(exchange.options, exchange.request.as_it_came())
    return clicked or exchange.source


async def login_of_second_click(exchange: Exchange) -> Login | None:
    """Return the login of a second click within two minutes, if the first click has left a record of it.

    A thief's request, with cookies copied before the logout, looks the same. So the ID Token, and whatever else names
    the user, is returned for ``HINT_FOR`` only. After that only the provider is. A request without the login's handle,
    with a session cookie alone, never gets the tokens.
    """
    status, now = exchange.status, time.time()
    if status.ended is None or not status.just_ended(now):
        return None
    if status.record is not None:
        login = status.record.login
        return login if now - status.ended.at < HINT_FOR else Login(provider=login.provider, iss=login.iss)
    digest = next((cookie.digest for cookie in status.credentials.cookies if cookie.digest), None)
    return await exchange.registry.last_login(digest, exchange.budget) if digest is not None else None


def has_evidence(exchange: Exchange, login: Login | None) -> bool:
    """Return whether there is a session to end at the provider; without evidence the browser is not sent there."""
    status = exchange.status
    if exchange.source_asked and login is not None and login is exchange.source:
        return True
    if status.ended is not None and not status.live:
        return status.just_ended(time.time()) and not status.ended.intent.local
    if status.live or login is not None:
        return True
    return not exchange.options.needs_login and bool(status.credentials.cookies or exchange.request.session)


async def has_ended_before(exchange: Exchange, login: Login | None) -> bool:
    """Return whether an earlier request has ended what this one ends, so that the two are one logout.

    ``login`` is the one to end. It may be alive beside something dead, if ``login_source`` knows it. Of two requests at
    the same time in one process, the second is the repeated one.
    """
    status = exchange.status
    if status.ended is not None:
        return login is None or login is not exchange.source
    return await exchange.registry.has_ended_here(status, exchange.budget)
