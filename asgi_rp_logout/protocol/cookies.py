"""Cookies: which of them are meant by a name, how each is expired, and what their values are compared by.

A browser forgets a cookie only if the deletion has the name, Domain, Path and partition that the cookie was set with
(RFC 6265bis, section 5.7, step 23), and ignores the deletion altogether if it breaks a rule of its name: ``__Secure-``
wants Secure, ``__Host-`` wants Secure, Path=/ and no Domain (steps 20 and 21), SameSite=None and Partitioned want
Secure. Several deletions that find nothing do no harm, so one is sent for every name the cookie may have.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal
from urllib.parse import unquote

from ..errors import ConfigurationError

PREFIXES = ("__Host-", "__Secure-")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ATTRIBUTE = re.compile(r"[\x20-\x3a\x3c-\x7e]*")
_DOMAIN = re.compile(r"\.?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_ESCAPE = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))", re.DOTALL)
SHORTEST_SECRET = 16
"""Characters of a value that may identify one browser. ``logged_in=1`` is everybody's, and must never be buried."""


@dataclass(frozen=True, slots=True)
class Cookie:
    """Name a cookie with the attributes it was set with, without which a browser ignores its deletion.

    ``name`` with or without its prefix: ``session`` stands for ``__Host-session`` and ``__Secure-session`` too, and for
    the chunks ``session.0``, ``session_1``. Raises ``ConfigurationError`` for what no browser would have stored.
    """

    name: str
    path: str = "/"
    domain: str | None = None
    partitioned: bool = False
    samesite: Literal["lax", "strict", "none"] = "lax"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _TOKEN.fullmatch(self.name) or not self.base_name:
            raise ConfigurationError(f"cookie name {self.name!r}: expected letters, digits and !#$%&'*+-.^_`|~")
        path = self.path if isinstance(self.path, str) else ""
        if not path.startswith("/") or not _ATTRIBUTE.fullmatch(path) or len(path) > 1024:
            raise ConfigurationError(f"path={self.path!r} of cookie {self.name!r}: expected a path such as '/app'")
        if self.domain is not None and not (isinstance(self.domain, str) and _DOMAIN.fullmatch(self.domain)):
            raise ConfigurationError(f"domain={self.domain!r} of cookie {self.name!r}: expected a host name")
        if self.name.startswith("__Host-") and (self.domain is not None or self.path != "/"):
            raise ConfigurationError(f"cookie {self.name!r}: a __Host- cookie has the path '/' and no domain")
        if self.samesite not in ("lax", "strict", "none"):
            raise ConfigurationError(f"samesite={self.samesite!r}: expected 'lax', 'strict' or 'none'")
        if not isinstance(self.partitioned, bool):
            raise ConfigurationError(
                f"partitioned={self.partitioned!r} of cookie {self.name!r}: expected True or False"
            )

    @property
    def base_name(self) -> str:
        """The name without ``__Host-`` or ``__Secure-``."""
        for prefix in PREFIXES:
            if self.name.startswith(prefix):
                return self.name[len(prefix) :]
        return self.name

    def names(self) -> tuple[str, ...]:
        """Give every whole name that the cookie may have: bare, and with each prefix that its attributes allow."""
        secured = "__Secure-" + self.base_name
        if self.domain is None and self.path == "/":
            return (self.base_name, "__Host-" + self.base_name, secured)
        return (self.base_name, secured)

    def deletion(self, name: str, *, secure: bool = False) -> bytes:
        """Give the Set-Cookie value that expires this cookie under one of its names."""
        secure = secure or name.startswith(PREFIXES) or self.partitioned or self.samesite == "none"
        parts = [f"{name}=", "Max-Age=0", "Expires=Thu, 01 Jan 1970 00:00:00 GMT", f"Path={self.path}"]
        parts += [f"Domain={self.domain}"] if self.domain else []
        parts += ["Secure"] if secure else []
        parts += [f"SameSite={self.samesite.capitalize()}"]
        parts += ["Partitioned"] if self.partitioned else []
        return "; ".join(parts).encode("ascii")


def _pattern(cookies: Sequence[Cookie]) -> re.Pattern[str]:
    names = "|".join(re.escape(name) for cookie in cookies for name in cookie.names())
    # A chunk is the whole name, a separator and a number. Matching by prefix would take "session_hint" along.
    return re.compile(rf"(?:{names})(?:(?:\.|__?)[0-9]{{1,3}})?")


class CookieSet:
    """Answer which of a request's or a response's cookies belong to the declared ones."""

    def __init__(self, cookies: Sequence[Cookie]) -> None:
        self.cookies = tuple(cookies)
        self._patterns = [_pattern([cookie]) for cookie in cookies]
        self._lines = [{name: cookie.deletion(name) for name in cookie.names()} for cookie in cookies]
        self._pattern = _pattern(cookies) if cookies else None

    def has(self, name: str) -> bool:
        """Tell whether ``name`` is one of the cookies, under a prefix or as a chunk too."""
        return self._pattern is not None and self._pattern.fullmatch(name) is not None

    def deletions(self, seen: Iterable[str] = (), *, secure: bool) -> list[bytes]:
        """Return the Set-Cookie values that expire all of them; ``seen`` are the names in the request.

        ``secure`` says that the browser came over https: then each has Secure. Over plain http browsers ignore a name
        with a prefix, and it is left out unless the request brought it: then a proxy in front speaks https.
        """
        brought = sorted({name for name in seen if self.has(name)})
        lines: list[bytes] = []
        for cookie, pattern, known in zip(self.cookies, self._patterns, self._lines, strict=True):
            names = [name for name in known if secure or not name.startswith(PREFIXES)]
            names += [name for name in brought if name not in names and pattern.fullmatch(name)]
            lines += [cookie.deletion(name, secure=secure) for name in names]
        return lines

    def sets(self, line: bytes) -> bool:
        """Tell whether a Set-Cookie value gives one of them a value, rather than expiring it."""
        return self.has(name_set_by(line)) and not is_deletion(line)


def parse_cookies(values: Iterable[str]) -> list[tuple[str, str]]:
    """Give name and raw value of every cookie of every Cookie header, in order, repeated names included."""
    pairs = []
    for header in values:
        for piece in header.split(";"):
            name, separator, value = piece.partition("=")
            if separator and name.strip():
                pairs.append((name.strip(), value.strip()))
    return pairs


def without_cookies(header: str, dead: Iterable[tuple[str, str]]) -> str:
    """Give a Cookie header's value without the pairs of name and raw value that are dead."""
    gone = set(dead)
    kept = []
    for piece in header.split(";"):
        name, _, value = piece.partition("=")
        if (name.strip(), value.strip()) not in gone:
            kept.append(piece.strip())
    return "; ".join(piece for piece in kept if piece)


def name_set_by(line: bytes) -> str:
    """Give the name of the cookie that a Set-Cookie value is about."""
    return line.partition(b";")[0].partition(b"=")[0].strip().decode("latin-1")


def is_deletion(line: bytes) -> bool:
    """Tell whether a Set-Cookie value expires its cookie: Max-Age first, then Expires (section 5.7, steps 3 and 4)."""
    attributes = {}
    for piece in line.decode("latin-1").split(";")[1:]:
        name, _, value = piece.partition("=")
        attributes[name.strip().lower()] = value.strip()
    max_age = attributes.get("max-age", "")
    if re.fullmatch(r"-?[0-9]+", max_age):
        return max_age.startswith("-") or not max_age.strip("0")
    try:
        expires = parsedate_to_datetime(attributes["expires"])
    except (KeyError, ValueError, TypeError, IndexError, OverflowError):
        return False
    return expires.replace(tzinfo=expires.tzinfo or UTC) <= datetime(1990, 1, 1, tzinfo=UTC)


def secret_digest(name: str, value: str) -> str | None:
    """Give what a session cookie's value is buried by, or None for a value too short to be one browser's own.

    The value is first read as applications read it, so that no other spelling of the same value gets past: quotes
    dropped, backslash escapes (as Python's own cookie module writes them) and percent-encoding resolved.
    """
    for _ in range(3):
        plain = unquote(_unquoted(value), encoding="latin-1")
        if plain == value:
            break
        value = plain
    if len(value) < SHORTEST_SECRET:
        return None
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return hashlib.sha256(f"{name}={value}".encode("utf-8", "surrogatepass")).hexdigest()[:43]


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return _ESCAPE.sub(lambda match: chr(int(match[1], 8)) if match[1] else match[2], value[1:-1])
    return value
