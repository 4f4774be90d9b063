r"""Cookies: which of them are meant by a name, how each is expired, and what applications read from a Cookie header.

A browser forgets a cookie only if the deletion has the name, Domain, Path and partition that the cookie was set with
(RFC 6265bis, section 5.7, step 23), and ignores the deletion altogether if it breaks a rule of its name: ``__Secure-``
wants Secure, ``__Host-`` wants Secure, Path=/ and no Domain (steps 20 and 21), SameSite=None and Partitioned want
Secure. Several deletions that find nothing do no harm, so one is sent for every form the cookie may have.

A Cookie header has no one reading. Starlette, Django and most others split it at ";". ``http.cookies`` (Bottle,
CherryPy, Emmett) and aiohttp end a value at a blank too, and WebOb at every character that it does not expect, such as
a comma; a quoted string may span a ";"; BlackSheep decodes percent-encoding in names. ``secrets`` returns what any of
them reads for a session cookie. It finds the *name* wherever a parser may begin one, and reads the value behind it in
all ways.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from heapq import merge
from itertools import count, takewhile
from typing import Literal, NamedTuple
from urllib.parse import unquote

from ..errors import ConfigurationError
from .cookie_values import Secret, bearer_digests, secret_digests, unquoted

PREFIXES = ("__Host-", "__Secure-")
ROOM = 2048
"""Bytes that all deletions of one answer may take, whatever the request names."""
MOST_SECRETS = 16
"""Session cookies that a request may bring, one in chunks counted as one."""
_MOST_MENTIONS = 32
"""Places that name one, chunks included. Libraries make a chunk of two kilobytes at least."""
_LONGEST = 8000
"""Characters of a session cookie. Browsers keep 4096, with its name, and few servers take a line longer than this."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ATTRIBUTE = re.compile(r"[\x20-\x3a\x3c-\x7e]*")
_DOMAIN = re.compile(r"\.?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_HOST = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z](?:[a-z0-9-]*[a-z0-9])?")

# What WebOb takes for a part of a name or of a value.
_WEBOB = r"A-Za-z0-9_~!@#$%^&*()+=\-`.?|:/{}<>'"
# What may stand before a name. A pattern that begins with a set of characters is searched for fast.
_BEFORE = rf"[^{_WEBOB.replace('A-Z', 'A-SU-Z')}](?:(?<![{_WEBOB}])|(?<=GMT))"
_PLAIN = re.compile(rf"[{_WEBOB}]*")
_PIECE = re.compile(r"[^;]*")
_WIDE = re.compile(r"[^;]*(?:;(?! )[^;]*)*")
_WORD = re.compile(r'"[^\\"]*(?:\\.[^\\"]*)*"|[^\s;]*', re.DOTALL)
_RUN = re.compile(rf'"(?:\\"|.)*?"|[{_WEBOB}]*(?:\\.[{_WEBOB}]*)*', re.DOTALL)

# How libraries number the chunks of one cookie. Litestar reads as many digits as there are.
_NUMBERED = r"(?:-[0-9]+|(?:\.|_C|__?)[0-9]{1,3})"
_CHUNKS = (r"(-)([0-9]+)", *(rf"({one})([0-9]{{1,3}})" for one in (r"\.", "_", "__", "_C")))
_END = r"[-._C0-9%A-Fa-f]*"  # of a chunk's name, to be looked at more closely


@dataclass(frozen=True, slots=True)
class Cookie:
    """Name a cookie with the attributes it was set with, without which a browser ignores its deletion.

    ``name`` with or without its prefix: ``session`` stands for ``__Host-session`` and ``__Secure-session`` too, and for
    the chunks ``session.0``, ``session-0``, ``session_1``, ``session__1`` and ``session_C1``. Raises
    ``ConfigurationError`` for what no browser would have stored.
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
        """Return every whole name that the cookie may have: bare, and with each prefix that its attributes allow."""
        secured = "__Secure-" + self.base_name
        if self.domain is None and self.path == "/":
            return (self.base_name, "__Host-" + self.base_name, secured)
        return (self.base_name, secured)

    def deletion(self, name: str, *, secure: bool, path: str | None = None, domain: str | None = None) -> bytes:
        """Return the Set-Cookie value that expires this cookie under one of its names, in one place.

        ``secure`` means that the browser sees https. The place is ``path`` and ``domain``, no Domain without one.
        """
        secure = secure or self.needs_https(name)
        parts = [f"{name}=", "Max-Age=0", "Expires=Thu, 01 Jan 1970 00:00:00 GMT", f"Path={path or self.path}"]
        parts += [f"Domain={domain}"] if domain else []
        parts += ["Secure"] if secure else []
        parts += [f"SameSite={self.samesite.capitalize()}"]
        parts += ["Partitioned"] if self.partitioned else []
        return "; ".join(parts).encode("ascii")

    def needs_https(self, name: str) -> bool:
        """Return whether browsers take the cookie, and its deletion, over https only."""
        return name.startswith(PREFIXES) or self.partitioned or self.samesite == "none"

    def places(self, name: str, host: str | None) -> list[tuple[str, str | None]]:
        """Return every path and Domain that a browser may keep the cookie under, as declared first.

        Browsers keep a cookie with a Domain and one without as two, and likewise the paths "/app" and "/app/".
        """
        if name.startswith("__Host-"):
            return [("/", None)]
        other = self.path[:-1] if self.path.endswith("/") else self.path + "/"
        paths = [self.path] if self.path == "/" else [self.path, other]
        domains = [self.domain, None] if self.domain else [None, *_domain_of(host)]
        return [(path, domain) for path in paths for domain in domains]


def _domain_of(host: str | None) -> list[str]:
    name = (host or "").partition(":")[0].lower()
    return [name] if _HOST.fullmatch(name) else []


def _spelled(text: str) -> str:
    """Return a pattern for a name as it is, or percent-encoded as BlackSheep reads it."""
    return "".join(rf"(?:{re.escape(char)}|%(?i:{ord(char):02x}))" for char in text)


_Values = tuple[str, ...]


def _values_at(header: str, begin: int) -> tuple[_Values, int]:
    """Return what is read there, and how many characters were read in more than one way.

    It is read by the parsers that split at ";", by BlackSheep, the standard library, and WebOb.
    """
    plain = _PLAIN.match(header, begin)
    if plain is not None and header[plain.end() : plain.end() + 2] in ("; ", ";", ""):
        return (plain[0],) * 4, 0  # nothing in it is read in another way by any of them
    stop = begin + _LONGEST + 1
    found = (one.match(header, begin, stop) for one in (_PIECE, _WIDE, _WORD, _RUN))
    piece, *others = (match[0] if match else "" for match in found)
    room = len(piece) + sum(len(value) for value in set(others) if value != piece)
    piece, *others = (value.strip().rstrip("; ") for value in (piece, *others))
    return (piece, *(value if 0 < len(value) <= _LONGEST else piece for value in others)), room


def _without_pieces(header: str, begins: Iterable[int]) -> str:
    """Return the header without what stands between two ";" around the positions, which are in order."""
    pieces, at, number = set(), 0, 0
    for begin in begins:
        number += header.count(";", at, begin)
        at = begin
        pieces.add(number)
    return ";".join(piece for number, piece in enumerate(header.split(";")) if number not in pieces).strip()


class _Mention(NamedTuple):
    """Where the value of a session cookie may begin in a header, the name before it, and the readings of the value."""

    name: str
    begin: int
    values: _Values


class CookieSet:
    """The declared cookies: which cookies of a request or a response belong to them, and what their values are.

    ``scope`` begins every digest: what is known of a value counts within one scope only.
    """

    def __init__(self, cookies: Sequence[Cookie], scope: str = "") -> None:
        self._scope = scope
        self.cookies = tuple(cookies)
        self._names = {prefix + cookie.base_name for cookie in cookies for prefix in ("", *PREFIXES)}
        prefixes = "|".join(map(_spelled, PREFIXES))
        names = "|".join(_spelled(cookie.base_name) for cookie in cookies)
        name = rf"(?:{prefixes})?(?:{names})"
        plain = rf"(?:{'|'.join(PREFIXES)})?(?:{'|'.join(re.escape(cookie.base_name) for cookie in cookies)})"
        self._mention = re.compile(rf"{_BEFORE}({plain}{_END})\s*=(?=(\s*))") if cookies else None
        self._encoded = re.compile(rf";\s*({name}{_END})\s*=(?=(\s*))") if cookies else None
        # What stands between two ";" and mentions one: all but what has a percent-encoded number.
        before = rf"(?:\s*|[^;]*(?:[^{_WEBOB};]|GMT))"
        self._pieces = re.compile(rf"(?:^|;){before}{name}{_NUMBERED}?\s*=[^;]*") if cookies else None
        whole = "|".join(map(re.escape, self._names))
        self._chunk = re.compile(rf"(?:{whole}){_NUMBERED}") if cookies else None
        self._chunks = [re.compile(rf"({whole}){numbered}") for numbered in _CHUNKS]

    def has(self, name: str) -> bool:
        """Return whether ``name`` is one of the cookies, under a prefix or as a chunk too."""
        return name in self._names or self.chunk_of(name) is not None

    def chunk_of(self, name: str) -> tuple[str, str, str] | None:
        """Return the whole cookie's name, the separator and the digits that a chunk's name is made of, or None.

        A chunk is the exact name, a separator and a number. Matching by prefix would take "session_hint" along.
        """
        if name in self._names or self._chunk is None or not self._chunk.fullmatch(name):
            return None
        found = (one.fullmatch(name) for one in self._chunks)
        match = next(filter(None, found), None)  # "s__1" may be a chunk of "s" or of "s_"
        return (match[1], match[2], match[3]) if match else None

    def deletions(self, seen: Iterable[str] = (), *, secure: bool, host: str | None = None) -> list[bytes]:
        """Return the Set-Cookie values that expire these cookies; see ``deletions``."""
        return deletions([self], seen, secure=secure, host=host)

    def sets(self, line: bytes) -> bool:
        """Return whether a Set-Cookie value gives one of them a value, rather than expiring it."""
        return self.has(name_set_by(line)) and not is_deletion(line)

    def secrets(self, header: str) -> list[Secret] | None:
        """Return what any known parser reads for these cookies from a Cookie header, or None if it is too much.

        Several headers have to be joined by "; " first. More than ``MOST_SECRETS`` are too many: no browser sends them.
        The time is linear in the length of the header.
        """
        mentions = self._read(header)
        found = None if mentions is None else self._secrets([(one.name, one.values) for one in mentions])
        return found if found is not None and len(found) <= MOST_SECRETS else None

    def bearers(self, authorization: str) -> list[str]:
        """Return the digests that the token of an Authorization header has if it is the value of one of these."""
        return [self._scope + digest for digest in bearer_digests(authorization)] if self.cookies else []

    def issued(self, lines: Iterable[bytes]) -> list[Secret]:
        """Return the secrets that the Set-Cookie values of one answer give out."""
        pairs = [(name_set_by(line), value_set_by(line)) for line in lines if self.sets(line)]
        return self._secrets([(name, (value,)) for name, value in pairs])

    def likely(self, secrets: Iterable[Secret]) -> list[Secret]:
        """Return, for each declared cookie, the secret that an application most likely reads: the last one."""
        found: dict[str, tuple[int, Secret]] = {}
        for secret in secrets:
            name = self.declared(secret)
            # One with a prefix goes before one without: no other host, and nobody on the way, can have planted it.
            prefix = int(secret.parts[0][0].startswith(PREFIXES))
            rank, other = found.get(name, (0, None))
            if prefix >= rank and (other is None or other.parts != secret.parts):
                found[name] = (prefix, secret)
        return [secret for _, secret in found.values()]

    def declared(self, secret: Secret) -> str:
        """Return the declared name that a secret was found under, without a prefix."""
        name = secret.parts[0][0]
        whole = (self.chunk_of(name) or (name,))[0]
        return whole.removeprefix(next((one for one in PREFIXES if whole.startswith(one)), ""))

    def without(self, header: str, dead: Collection[Secret]) -> str:
        """Return a Cookie header's value from which no known parser can read one of the dead secrets any more.

        Everything between two ";" is removed if a dead value begins there. If the rest could be read as a secret that
        was not there before, then everything that names a session cookie is removed.
        """
        mentions, secrets = self._read(header), self.secrets(header)
        if mentions is None or secrets is None:
            return self.without_any(header)
        gone = {part for secret in dead for part in secret.parts}
        begins = [one.begin for one in mentions if any((one.name, value) in gone for value in one.values)]
        if not begins:
            return header
        left = _without_pieces(header, begins)
        after = self.secrets(left)
        before = set(map(_identity, secrets)) - set(map(_identity, dead))
        return left if after is not None and before.issuperset(map(_identity, after)) else self.without_any(header)

    def without_any(self, header: str) -> str:
        """Return a Cookie header's value without everything that names one of these cookies."""
        left = self._pieces.sub("", header).lstrip("; ") if self._pieces else header
        return _without_pieces(left, [begin for _, begin in self._named(left)])

    def _named(self, header: str) -> Iterator[tuple[str, int]]:
        """Yield the name of every mention, decoded, and where its value begins."""
        text, end = ";" + header, header.rfind("=") + 1  # no name is after the last "="
        found: list[Iterator[re.Match[str]]] = []
        if self._mention and any(header.find(cookie.base_name, 0, end) >= 0 for cookie in self.cookies):
            found.append(self._mention.finditer(text))
        if self._encoded and header.find("%", 0, end) >= 0:
            found.append(match for match in self._encoded.finditer(text) if "%" in match[1])
        for match in found[0] if len(found) == 1 else merge(*found, key=re.Match.end):
            name = unquote(match[1])
            if self.has(name):
                yield name, match.end(2) - 1

    def _read(self, header: str) -> list[_Mention] | None:
        mentions: list[_Mention] = []
        whole, room = MOST_SECRETS, len(header) + 2 * _LONGEST
        for name, begin in self._named(header):
            end = header.find(";", begin)
            whole -= name in self._names
            if whole < 0 or len(mentions) == _MOST_MENTIONS or (end if end >= 0 else len(header)) - begin > _LONGEST:
                return None
            values, read = _values_at(header, begin)
            room -= read
            if room < 0:
                return None
            mentions.append(_Mention(name, begin, values))
        return mentions

    def _secrets(self, read: Sequence[tuple[str, _Values]]) -> list[Secret]:
        """Return the secrets, each once; some more than ``MOST_SECRETS`` if there are too many."""
        found: dict[object, tuple[tuple[str, str], ...]] = {}
        for parts in self._candidates(read):
            digests = secret_digests("".join([unquoted(value) for _, value in parts]))
            for identity in digests or (parts,):
                known = found.get(identity)
                found[identity] = tuple(dict.fromkeys((*known, *parts))) if known else parts
            if len(found) > MOST_SECRETS:
                break
        scope = self._scope
        return [Secret(scope + one if isinstance(one, str) else None, parts) for one, parts in found.items()]

    def _candidates(self, read: Sequence[tuple[str, _Values]]) -> Iterator[tuple[tuple[str, str], ...]]:
        """Yield the parts of every whole cookie, and of every way to put chunks together."""
        values: dict[str, list[_Values]] = {}
        groups: dict[tuple[str, str], dict[str, str]] = {}
        for name, readings in read:
            values.setdefault(name, []).append(readings)
            chunk = self.chunk_of(name)
            if chunk is None:
                yield from (((name, value),) for value in dict.fromkeys(readings))
            else:
                groups.setdefault(chunk[:2], {})[name] = chunk[2]
        for (whole, separator), numbers in groups.items():
            for names in _orders(whole, separator, numbers, whole in values):
                plain = all(len({*values[name][0], *values[name][-1]}) == 1 for name in names)
                ways = [
                    tuple((name, values[name][which][parser]) for name in names)
                    for which in ((0,) if plain else (0, -1))
                    for parser in range(1 if plain else len(values[names[0]][0]))
                ]
                yield from dict.fromkeys(ways)


def _orders(whole: str, separator: str, numbers: dict[str, str], has_whole: bool) -> list[tuple[str, ...]]:
    """Return the orders in which libraries put the chunks of one cookie together.

    All of them by number or by name, or one after the other up to the first that is missing: from 0 on, or from 1 after
    "_C". Litestar puts the cookie without a number before all others.
    """
    by_name = tuple(sorted(numbers))
    by_number = tuple(sorted(numbers, key=lambda name: (len(digits := numbers[name].lstrip("0")), digits, name)))
    orders = [by_number, by_name]
    first = 1 if separator == "_C" else 0
    row = takewhile(numbers.__contains__, (f"{whole}{separator}{number}" for number in count(first)))
    orders.append(tuple(row))
    if separator == "-" and has_whole:
        orders += [(whole, *by_number), (whole, *by_name)]
    return [order for order in dict.fromkeys(orders) if order]


def _identity(secret: Secret) -> object:
    return secret.digest or secret.parts


def deletions(
    sets: Sequence[CookieSet], seen: Iterable[str] = (), *, secure: bool, host: str | None = None, room: int = ROOM
) -> list[bytes]:
    """Return the Set-Cookie values that expire all cookies of the sets, the most important first, in ``room`` bytes.

    ``seen`` are the names that the request brought, ``secure`` means that the browser sees https, ``host`` is the
    request's Host. First come the cookies of the request, then those that are declared, then both in the other places
    where a browser may keep them (``Cookie.places``). On plain http, what a browser takes over https only is left
    out, unless the request brought it: then the browser does see https.
    """
    seen = list(dict.fromkeys(seen))
    ranked: list[list[bytes]] = [[], [], [], [], []]
    for one in sets:
        brought = [(name, (one.chunk_of(name) or (name,))[0]) for name in seen if one.has(name)][:_MOST_MENTIONS]
        for cookie in one.cookies:
            mine = {prefix + cookie.base_name for prefix in ("", *PREFIXES)}
            here = [name for name, whole in brought if whole in mine]
            others = [name for name in cookie.names() if name not in here and (secure or not cookie.needs_https(name))]
            for name in (*here, *others):
                lines = [
                    cookie.deletion(name, secure=secure, path=path, domain=domain)
                    for path, domain in cookie.places(name, host)
                ]
                rank = 0 if name in here else 1 if name == cookie.base_name else 2
                ranked[rank].append(lines[0])
                ranked[3 if rank == 0 else 4] += lines[1:]
    kept = []
    for line in dict.fromkeys(line for lines in ranked for line in lines):
        size = len(b"set-cookie: \r\n") + len(line)
        if size <= room:
            kept.append(line)
            room -= size
    return kept


def parse_cookies(values: Iterable[str]) -> list[tuple[str, str]]:
    """Return name and raw value of every cookie of every Cookie header, in order, repeated names included."""
    pairs = []
    for header in values:
        for piece in header.split(";"):
            name, separator, value = piece.partition("=")
            if separator and name.strip():
                pairs.append((name.strip(), value.strip()))
    return pairs


def name_set_by(line: bytes) -> str:
    """Return the name of the cookie that a Set-Cookie value is about."""
    return line.partition(b";")[0].partition(b"=")[0].strip().decode("latin-1")


def value_set_by(line: bytes) -> str:
    """Return the value that a Set-Cookie value gives its cookie."""
    return line.partition(b";")[0].partition(b"=")[2].strip().decode("latin-1")


def is_deletion(line: bytes) -> bool:
    """Return whether a Set-Cookie value expires its cookie: Max-Age first, then Expires (section 5.7, steps 3, 4)."""
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
