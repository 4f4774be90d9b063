"""What the options alone tell: addresses, the place of the middleware, cookies, sessions, and the store."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

import anyio

from ..protocol.cookies import PREFIXES, Cookie
from ..store import COLLECTION, MemoryStore
from .findings import Finding, found
from .search import Place, SignedSession
from .setup import Setup

STORE_TIMEOUT = 5.0
"""Seconds for the store to answer."""

_WORKERS = ("WEB_CONCURRENCY", "UVICORN_WORKERS", "GRANIAN_WORKERS")
_GUNICORN = re.compile(r"(?:-w|--workers)[ =]?(\d+)")


def check_addresses(setup: Setup) -> Iterator[Finding]:
    """Check what is known of the app's address, and of the one to come back to."""
    public_url = setup.options.public_url
    if setup.needs_url:
        yield found("url.unknown", setup.name)
    if setup.url is not None and public_url is not None and setup.url != public_url:
        yield found("url.differs", setup.name, url=setup.url, public_url=public_url)
    if setup.over_http:
        yield found("url.not_https", setup.name)
    if setup.options.post_logout_redirect_uri is None and setup.options.callback_path is None:
        yield found("return.unknown", setup.name)


def check_place(setup: Setup) -> Iterator[Finding]:
    """Check where the middleware stands, and the signed sessions around it and inside of it."""
    place = setup.place or Place()
    if place.per_route:
        yield found("placement.per_route", setup.name)
    for session in place.around:
        yield from _check_session(setup, session)
    for session in place.inside:
        named = _is_named(setup, session)
        if not named and (place.around or setup.options.session_declared):  # the app's own session is another one
            yield found("session.second_cookie", setup.name, cookie=session.cookie)
            continue
        if not place.around:
            yield found("placement.outside", setup.name, cookie=session.cookie)
        if not named:
            declared = " and ".join(repr(cookie.name) for cookie in setup.options.session_cookie.cookies) or "none"
            yield found("session.other_cookie", setup.name, cookie=session.cookie, declared=declared)
        yield from _check_session(setup, session)


def _is_named(setup: Setup, session: SignedSession) -> bool:
    names = {cookie.base_name for cookie in setup.options.session_cookie.cookies}
    return Cookie(session.cookie).base_name in names


def _check_session(setup: Setup, session: SignedSession) -> Iterator[Finding]:
    if not session.secure and (setup.base or "").startswith("https:"):
        yield found("session.not_secure", setup.name, cookie=session.cookie)
    lifetime = setup.options.session_lifetime
    if session.max_age is None or session.max_age > lifetime:
        max_age = "ever" if session.max_age is None else f"{session.max_age:g} s"
        yield found("session.outlives", setup.name, cookie=session.cookie, max_age=max_age, lifetime=f"{lifetime:g} s")


def check_cookies(setup: Setup) -> Iterator[Finding]:
    """Check whether browsers keep the session cookies over the app's scheme (RFC 6265bis, section 5.7)."""
    for cookie in setup.options.session_cookie.cookies if setup.over_http else ():
        if cookie.name.startswith(PREFIXES) or cookie.partitioned or cookie.samesite == "none":
            yield found("cookies.need_https", setup.name, cookie=cookie.name)


async def check_store(setup: Setup, environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Check whether the store answers, and whether all workers share it; one record is read, and none is written."""
    store, workers = setup.options.store, workers_of(environment)
    if isinstance(store, MemoryStore):
        if workers > 1:
            return [found("store.not_shared", setup.name, workers=workers)]
        return [found("store.memory", setup.name)]
    try:
        with anyio.fail_after(STORE_TIMEOUT):
            await store.get("ended_until:", collection=COLLECTION)
    except Exception as error:  # its text may hold the password
        return [found("store.unreachable", setup.name, error=type(error).__name__)]
    return []


def workers_of(environment: Mapping[str, str]) -> int:
    """Return how many workers the environment asks servers for; 1 if it says nothing."""
    given = [environment.get(name, "") for name in _WORKERS]
    given += _GUNICORN.findall(environment.get("GUNICORN_CMD_ARGS", ""))
    return max([int(number) for number in given if number.isdecimal()], default=1)
