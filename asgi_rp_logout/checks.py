"""What each kind of option must look like. Every check gives the value back in the form in which it is used."""

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
from .store import Store, process_store

P = ParamSpec("P")

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PATH = re.compile(r"/(?!/)[^\s?#\\\x00-\x1f\x7f]*")
_ABSOLUTE = re.compile(r"https?://[^\s/?#@\\]+[^\s\\\x00-\x1f\x7f]*")
_RESERVED_HEADERS = frozenset(
    {"location", "set-cookie", "content-length", "content-type", "transfer-encoding", "cookie"}
)
DIRECTIVES = ("cache", "cookies", "storage", "executionContexts", "clientHints", "prefetchCache", "*")


def refusing_unknown_options(init: Callable[P, None]) -> Callable[P, None]:
    """Let a constructor raise ``ConfigurationError`` for an option it does not have; its signature stays as it is."""
    known = inspect.signature(init).parameters

    @functools.wraps(init)
    def checked(*args: P.args, **options: P.kwargs) -> None:
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                meant = f"{near[0]!r}, or another" if near else "one"
                raise ConfigurationError(f"unknown option {name!r}: expected {meant} of those in the README")
        init(*args, **options)

    return checked


def checked_path(path: object, option: str) -> str:
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
        """Return what tells whether a path is one of these or of ``paths``: a plain set if there are no patterns."""
        exact = self.exact.union(paths)
        return Paths(exact, self.patterns) if self.patterns else exact


def checked_paths(paths: object, option: str) -> Paths:
    """Check one path or several; those with braces are patterns."""
    if isinstance(paths, bytes) or not isinstance(paths, Iterable):
        raise ConfigurationError(f"{option}={paths!r}: expected a path such as '/logout', or several")
    given = (paths,) if isinstance(paths, str) else tuple(paths)
    patterns = [path for path in given if isinstance(path, str) and "{" in path]
    exact = [checked_path(path, option) for path in given if path not in patterns]
    return Paths(exact, [_checked_pattern(path, option) for path in patterns])


def _checked_pattern(path: str, option: str) -> Pattern[str]:
    try:
        checked_path(PARAM_REGEX.sub("x", path), option)
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


def checked_marker(name: object) -> bytes | None:
    """Check the name of the marker header."""
    if name is None:
        return None
    if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name) or name.lower() in _RESERVED_HEADERS:
        raise ConfigurationError(f"marker_header={name!r}: expected a header name of your own, such as 'X-RP-Logout'")
    return name.lower().encode("ascii")


def checked_cookies(cookies: object, option: str, scope: str = "") -> CookieSet:
    """Check one cookie or several, given by name or as ``Cookie``."""
    if isinstance(cookies, str | Cookie):
        cookies = (cookies,)
    if not isinstance(cookies, Iterable):
        raise ConfigurationError(f"{option}={cookies!r}: expected a cookie name, a Cookie(...), or several")
    checked = []
    for cookie in cookies:
        if not isinstance(cookie, str | Cookie):
            raise ConfigurationError(f"{option}={cookie!r}: expected a cookie name or a Cookie(...)")
        checked.append(Cookie(cookie) if isinstance(cookie, str) else cookie)
    return CookieSet(checked, scope)


def checked_return(target: object) -> str | None:
    """Check the address to return to: None, a path, or an absolute URL that is registered at the provider."""
    if target is None:
        return None
    plain = isinstance(target, str) and target.isascii() and target.isprintable() and "#" not in target
    if plain and (_PATH.fullmatch(str(target).partition("?")[0]) or _is_absolute(str(target))):
        return str(target)
    raise ConfigurationError(
        f"post_logout_redirect_uri={target!r}: expected a path such as '/login', an absolute URL, or None"
    )


def checked_public_url(url: object) -> str | None:
    """Check the address under which browsers reach the application."""
    if url is None:
        return None
    if not isinstance(url, str) or not _is_absolute(url) or "?" in url or "#" in url or not url.isascii():
        raise ConfigurationError(f"public_url={url!r}: expected a URL such as 'https://app.example.com/prefix'")
    return url.rstrip("/")


def _is_absolute(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(_ABSOLUTE.fullmatch(url) and parts.hostname and parts.port != 0 and "@" not in parts.netloc)
    except ValueError:
        return False


def checked_seconds(value: object, option: str, *, least: float) -> float:
    """Check a finite number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
        raise ConfigurationError(f"{option}={value!r}: expected seconds, {least:g} or more")
    return value


def checked_length(value: object, option: str, *, least: int) -> int:
    """Check a whole number of bytes."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{option}={value!r}: expected a whole number of bytes, {least} or more")
    return value


def checked_choice(value: object, option: str, choices: tuple[str, ...]) -> Any:
    """Check one of a few words."""
    if value not in choices:
        raise ConfigurationError(f"{option}={value!r}: expected {' or '.join(map(repr, choices))}")
    return value


def checked_callable(value: Any, option: str) -> Any:
    """Check something to call, or None."""
    if value is not None and not callable(value):
        raise ConfigurationError(f"{option}={value!r}: expected a function, sync or async, or None")
    return value


def checked_http_client(client: Any) -> HTTPClient | None:
    """Check the client for requests to providers."""
    if client is None or is_http_client(client):
        return client  # type: ignore[no-any-return]
    raise ConfigurationError(f"http_client={client!r}: expected an AsyncClient of httpx or httpx2, or None")


def checked_store(store: Any) -> Store:
    """Check that a store has the four methods that are used."""
    if store is None:
        return process_store()
    missing = [name for name in ("get", "get_many", "put", "delete") if not callable(getattr(store, name, None))]
    if isinstance(store, type):
        raise ConfigurationError(f"store={store.__name__}: expected an object, not its class")
    if missing:
        raise ConfigurationError(f"store={type(store).__name__}: expected the method {missing[0]}() of AsyncKeyValue")
    return store  # type: ignore[no-any-return]


def checked_directives(value: object) -> tuple[str, ...]:
    """Check the directives of Clear-Site-Data, given without their quotes."""
    directives = (value,) if isinstance(value, str) else value
    if not isinstance(directives, Iterable):
        raise ConfigurationError(f"clear_site_data={value!r}: expected names such as 'storage'")
    checked = tuple(directives)
    for name in checked:
        checked_choice(name, "clear_site_data", DIRECTIVES)
    return checked
