"""What each kind of option must look like.

Every check takes the value and the option's name, and returns the value in the form in which it is used. All raise
``ConfigurationError`` with the value and the accepted form.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import re
from collections.abc import Callable, Iterable
from re import Pattern
from typing import Any, ParamSpec
from urllib.parse import urlsplit

from starlette.routing import PARAM_REGEX, compile_path

from .errors import ConfigurationError
from .protocol.cookies import Cookie, CookieSet
from .providers.transport import HTTPClient, is_http_client
from .relay.token_relay import TokenRelay
from .store import Store, process_store

P = ParamSpec("P")

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PATH = re.compile(r"/(?!/)[^\s?#\\\x00-\x1f\x7f]*")
_ABSOLUTE = re.compile(r"https?://[^\s/?#@\\]+[^\s\\\x00-\x1f\x7f]*")
_RESERVED_HEADERS = frozenset(
    {"location", "set-cookie", "content-length", "content-type", "transfer-encoding", "cookie"}
)
DIRECTIVES = ("cache", "cookies", "storage", "executionContexts", "clientHints", "prefetchCache", "*")


def refuse_unknown_options(init: Callable[P, None]) -> Callable[P, None]:
    """Make a constructor raise ``ConfigurationError`` for an option it does not have; its signature stays as it is."""
    known = inspect.signature(init).parameters

    @functools.wraps(init)
    def checked(*args: P.args, **options: P.kwargs) -> None:
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                meant = f"{near[0]!r}, or another" if near else "one"
                raise ConfigurationError(f"unknown option {name!r}: expected {meant} of those in docs/options.md")
        init(*args, **options)

    return checked


def flag(value: object, option: str) -> bool:
    """Check True or False."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{option}={value!r}: expected True or False")
    return value


def flag_or_none(value: object, option: str) -> bool | None:
    """Check True, False or None."""
    if not isinstance(value, bool | None):
        raise ConfigurationError(f"{option}={value!r}: expected True, False or None")
    return value


def path_or_none(path: object, option: str) -> str | None:
    """Check one path, or None."""
    return None if path is None else path_of(path, option)


def path_of(path: object, option: str) -> str:
    """Check a path that is compared with the route path of requests."""
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        example = "/logout" if option == "logout_path" else f"/auth/{option.removesuffix('_path')}"
        raise ConfigurationError(f"{option}={path!r}: expected a path such as {example!r}, without query")
    if any(mark in path for mark in "{}*"):
        raise ConfigurationError(f"{option}={path!r}: expected a whole path, not a pattern")
    return path


class Paths:
    """Route paths, and patterns of them in Starlette's syntax, such as ``/{lang}/logout``."""

    def __init__(self, paths: Iterable[str], patterns: Iterable[Pattern[str]] = ()) -> None:
        self.exact = frozenset(paths)
        self.patterns = tuple(patterns)

    def __contains__(self, path: str) -> bool:
        return path in self.exact or any(pattern.match(path) for pattern in self.patterns)

    def with_exact(self, paths: Iterable[str]) -> Paths | frozenset[str]:
        """Return a container of these and of ``paths``: a plain set if there are no patterns."""
        exact = self.exact.union(paths)
        return Paths(exact, self.patterns) if self.patterns else exact


def paths(paths: object, option: str) -> Paths:
    """Check one path or several; those with braces are patterns."""
    if isinstance(paths, bytes) or not isinstance(paths, Iterable):
        raise ConfigurationError(f"{option}={paths!r}: expected a path such as '/logout', or several")
    given = (paths,) if isinstance(paths, str) else tuple(paths)
    patterns = [path for path in given if isinstance(path, str) and "{" in path]
    exact = [path_of(path, option) for path in given if path not in patterns]
    return Paths(exact, [_checked_pattern(path, option) for path in patterns])


def _checked_pattern(path: str, option: str) -> Pattern[str]:
    try:
        path_of(PARAM_REGEX.sub("x", path), option)
        return compile_path(path)[0]
    except (
        ConfigurationError,
        AssertionError,
        KeyError,
        ValueError,
    ):  # KeyError: what the assertion is under python -O
        raise ConfigurationError(
            f"{option}={path!r}: expected a pattern in Starlette's syntax, such as '/{{lang}}/logout'"
        ) from None


def header_name(name: object, option: str) -> bytes | None:
    """Check the name of the marker header."""
    if name is None:
        return None
    if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name) or name.lower() in _RESERVED_HEADERS:
        raise ConfigurationError(f"{option}={name!r}: expected a header name of your own, such as 'X-RP-Logout'")
    return name.lower().encode("ascii")


def cookies(given: object, option: str) -> CookieSet:
    """Check one cookie or several, given by name or as ``Cookie``."""
    if isinstance(given, str | Cookie):
        given = (given,)
    if not isinstance(given, Iterable):
        raise ConfigurationError(f"{option}={given!r}: expected a cookie name, a Cookie(...), or several")
    checked = []
    for cookie in given:
        if not isinstance(cookie, str | Cookie):
            raise ConfigurationError(f"{option}={cookie!r}: expected a cookie name or a Cookie(...)")
        checked.append(Cookie(cookie) if isinstance(cookie, str) else cookie)
    return CookieSet(checked)


def return_address(target: object, option: str) -> str | None:
    """Check the address to return to: None, a path, or an absolute URL that is registered at the provider."""
    if target is None:
        return None
    plain = isinstance(target, str) and target.isascii() and target.isprintable() and "#" not in target
    if plain and (_PATH.fullmatch(str(target).partition("?")[0]) or _is_absolute(str(target))):
        return str(target)
    raise ConfigurationError(f"{option}={target!r}: expected a path such as '/login', an absolute URL, or None")


def base_url(url: object, option: str) -> str | None:
    """Check the address under which browsers reach the application."""
    if url is None:
        return None
    if not isinstance(url, str) or not _is_absolute(url) or "?" in url or "#" in url or not url.isascii():
        raise ConfigurationError(f"{option}={url!r}: expected a URL such as 'https://app.example.com/prefix'")
    return url.rstrip("/")


def _is_absolute(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(_ABSOLUTE.fullmatch(url) and parts.hostname and parts.port != 0 and "@" not in parts.netloc)
    except ValueError:
        return False


def seconds(*, least: float) -> Callable[[object, str], float]:
    """Return a check of a finite number of seconds."""

    def check(value: object, option: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
            raise ConfigurationError(f"{option}={value!r}: expected seconds, {least:g} or more")
        return value

    return check


def length(*, least: int) -> Callable[[object, str], int]:
    """Return a check of a whole number of bytes."""

    def check(value: object, option: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigurationError(f"{option}={value!r}: expected a whole number of bytes, {least} or more")
        return value

    return check


def choice(*choices: str) -> Callable[[object, str], str]:
    """Return a check of one of a few words."""

    def check(value: object, option: str) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ConfigurationError(f"{option}={value!r}: expected {' or '.join(map(repr, choices))}")
        return value

    return check


def function(value: Any, option: str) -> Any:
    """Check something to call, or None."""
    if value is not None and not callable(value):
        raise ConfigurationError(f"{option}={value!r}: expected a function, sync or async, or None")
    return value


def http_client(client: Any, option: str) -> HTTPClient | None:
    """Check the client for requests to providers."""
    if client is None or is_http_client(client):
        return client  # type: ignore[no-any-return]
    raise ConfigurationError(f"{option}={client!r}: expected an AsyncClient of httpx or httpx2, or None")


def token_relays(given: object, option: str) -> tuple[TokenRelay, ...]:
    """Check one token relay, several, or None."""
    relays = () if given is None else (given,) if isinstance(given, TokenRelay) else given
    if not isinstance(relays, list | tuple) or not all(isinstance(relay, TokenRelay) for relay in relays):
        raise ConfigurationError(f"{option}={given!r}: expected a TokenRelay, several, or None")
    ports = [relay.port for relay in relays]
    if len(set(ports)) < len(ports):
        raise ConfigurationError(f"{option}={given!r}: expected a port of its own for each")
    return tuple(relays)


def store_of(store: Any, option: str = "store") -> Store:
    """Check that a store has the four methods that are used."""
    if store is None:
        return process_store()
    missing = [name for name in ("get", "get_many", "put", "delete") if not callable(getattr(store, name, None))]
    if isinstance(store, type):
        raise ConfigurationError(f"{option}={store.__name__}: expected an object, not its class")
    if missing:
        raise ConfigurationError(
            f"{option}={type(store).__name__}: expected the method {missing[0]}() of AsyncKeyValue"
        )
    return store  # type: ignore[no-any-return]


def directives(value: object, option: str) -> tuple[str, ...]:
    """Check the directives of Clear-Site-Data, given without their quotes."""
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, Iterable):
        raise ConfigurationError(f"{option}={value!r}: expected names such as 'storage'")
    check = choice(*DIRECTIVES)
    return tuple(check(name, option) for name in given)
