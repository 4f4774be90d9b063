"""A request as it came in, kept because the application is about to change it.

Starlette's Mount rewrites ``path`` and ``root_path`` in place, a logout handler empties the session, and the login is
asked for after both.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from ..protocol.cookies import parse_cookies
from ..protocol.return_target import origin_of, public_base
from .own_cookies import OwnCookies, values_of
from .types import Headers, Scope, header_values

_LONGEST_HOST = 253 + len(":65535")


@functools.lru_cache(maxsize=256)  # a logout asks three times, each of them some 15 µs
def _base(public_url: str | None, scheme: str, host: str | None, root_path: str) -> str | None:
    return public_base(public_url=public_url, scheme=scheme, host=host, root_path=root_path)


@functools.lru_cache(maxsize=256)  # as above
def _origins(*bases: str | None) -> frozenset[bytes]:
    found = [origin_of(base) for base in bases if base is not None]
    return frozenset(str(origin).encode("ascii") for origin in found if origin is not None)


def _quoted(path: str) -> str:
    return quote(path, safe="/:@!$&'()*+,;=-._~")


@dataclass(slots=True)
class Request:
    """Keep a request as it came in. ``session`` is a shallow copy of what was readable, None if nothing was."""

    scope: Scope
    path: str
    root_path: str
    headers: Headers
    session: dict[str, Any] | None
    own: OwnCookies
    whole_path: str = field(init=False)
    _cookies: list[tuple[str, str]] | None = field(init=False, default=None)
    _hosts: list[str] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        # Without a root_path the route path is the whole one, which the scope may have lost by now.
        self.whole_path = str(self.scope["path"]) if self.root_path else self.path

    @property
    def full_path_and_query(self) -> str:
        """The whole address below the origin."""
        query: str = self.scope.get("query_string", b"").decode("latin-1")
        return f"{self.full_path}?{query}" if query else self.full_path

    def live_session(self) -> MutableMapping[str, Any] | None:
        """Return the session as it is now, if a session middleware is around this one; one further in is ignored."""
        return readable_session(self.scope) if self.session is not None else None

    @property
    def method(self) -> str:
        """The request's method, in capitals; GET for a WebSocket, whose handshake is one (RFC 6455, section 4.1)."""
        return str(self.scope.get("method", "GET")).upper()

    @property
    def full_path(self) -> str:
        """The path as browsers wrote it, percent-encoded, below the prefix that a proxy may have taken off."""
        return self.root_path.rstrip("/") + _quoted(self.path)

    def paths(self, public_url: str | None) -> tuple[str, ...]:
        """Return the paths by which browsers may know this request: below ``root_path``, or below the public URL's."""
        return (self.full_path, urlsplit(public_url or "").path + _quoted(self.path))

    @property
    def scheme(self) -> str:
        """``http`` or ``https``, as the server knows it; also for a WebSocket, because it is about the page."""
        scheme = str(self.scope.get("scheme", "http"))
        return {"ws": "http", "wss": "https"}.get(scheme, scheme)

    @property
    def host(self) -> str | None:
        """The Host header, unless there are several, or it is longer than any host name with a port."""
        if self._hosts is None:
            self._hosts = header_values(self.headers, b"host")
        return self._hosts[0] if len(self._hosts) == 1 and len(self._hosts[0]) <= _LONGEST_HOST else None

    def base(self, public_url: str | None) -> str | None:
        """Return the address of the application as browsers know it, without a trailing slash; None if unknown."""
        return _base(public_url, self.scheme, self.host, self.root_path)

    def origins(self, public_url: str | None) -> frozenset[bytes]:
        """Return the application's own origins, as browsers write them: by the request and by the public URL."""
        return _origins(self.base(None), self.base(public_url))

    def as_it_came(self) -> Scope:
        """Return a scope like the one that came in, for code that asks after the application has changed it."""
        kept: dict[str, Any] = {"path": self.whole_path, "root_path": self.root_path, "headers": self.headers}
        if self.session is not None:
            kept["session"] = self.session
        return {**self.scope, **kept}

    @property
    def cookies(self) -> list[tuple[str, str]]:
        """Name and raw value of every cookie."""
        if self._cookies is None:
            self._cookies = parse_cookies(header_values(self.headers, b"cookie"))
        return self._cookies

    @property
    def cookie_header(self) -> str:
        """What all Cookie headers say, as one; HTTP/2 may split it (RFC 9113, section 8.2.3)."""
        return "; ".join(header_values(self.headers, b"cookie"))

    def cookie(self, name: str) -> str | None:
        """Return the value of one of the middleware's own cookies."""
        return next(values_of(name, self.cookie_header), None)


def session_as_it_is(scope: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a shallow copy of the session, None if there is none that can be read by now."""
    session = readable_session(scope)
    try:
        return dict(session) if session is not None else None
    except Exception:  # raised by a lazy session that is half read by now
        return None


def readable_session(scope: Mapping[str, Any]) -> MutableMapping[str, Any] | None:
    """Return the session, if a session middleware is around this one and its session can be read by now.

    A session that loads itself later raises or gives no mapping; it counts as not readable.
    """
    try:
        session = scope.get("session")
        if isinstance(session, MutableMapping):
            session.get("")
            return session
    except Exception:  # whatever a lazy session raises
        return None
    return None
