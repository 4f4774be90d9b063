"""Where a browser may return to. Pure text in, pure text out: no I/O, no clock, no scope.

The one rule: whatever comes in, from an application's ``Location`` or from a stored return target, goes out as a path
on this origin, or not at all (RFC 9700, sections 2.1 and 4.11.1: no open redirector). It holds by construction: a
result begins with exactly one "/", is ASCII, and has neither backslash nor control character, and every URL parser
reads such a reference as a path of the origin that sent it. The readers in between are the difficulty. A browser
follows the WHATWG URL Standard (tabs vanish, a backslash is a slash, ``%2e`` is a dot); a proxy or framework may decode
once more, fold Unicode, or drop what it cannot see, and redirect again to what is left. So the path is judged in all
of these readings.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote, unquote

MAX_TARGET = 2048
"""Characters of a return target, before and after encoding: what every proxy and browser still takes in a header."""

_DEFAULT_PORTS = {"http": 80, "https": 443}

# re.ASCII: without it, re.IGNORECASE lets U+017F stand for "s" and U+212A (Kelvin) for "k", and browsers fold these.
_HTTP_URL = re.compile(r"(https?)://([^/?#]*)", re.ASCII | re.IGNORECASE)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_HOST_AND_PORT = re.compile(
    rf"(\[[0-9a-f:.]+\]|{_LABEL}(?:\.{_LABEL})*)(?::([0-9]{{1,5}}))?",
    re.ASCII | re.IGNORECASE,
)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)

# Browsers delete tabs and line breaks anywhere and trim spaces and controls at both ends before they parse, so that
# "/\t/evil.example" is "//evil.example"; they read a backslash as a slash. None of these is in an honest target.
_REFUSED = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ud800-\udfff]|\A | \Z")

# What a path and a query may hold as they are (RFC 3986, section 3.3 and 3.4); "%" stays, so nothing is encoded twice.
_PATH_SAFE = "/%:@!$&'()*+,;=-._~"
_QUERY_SAFE = _PATH_SAFE + "?"
_FRAGMENT_SAFE = _QUERY_SAFE + "#"  # the first "#" begins the fragment, and browsers keep any other as it is

# What most targets look like: no reader finds anything in it but a path and a query of this origin.
_PLAIN = re.compile(r"/(?:[a-z0-9_-]+/)*[a-z0-9_-]*(?:\?[a-z0-9_=&-]*)?", re.ASCII | re.IGNORECASE)

_DELIMITERS = frozenset("/\\.:?#@%;")
# Slashes, backslashes and full stops to the eye, or to IDNA, that compatibility normalisation (NFKC) leaves alone.
_LOOKALIKES = frozenset("\u2044\u2215\u29f8\u2571\u27cb\u2216\u29f5\u29f9\u2572\u27cd\u3002")
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0")  # letters by category, nothing to the eye, dropped by some folders
_MAX_DECODINGS = 4


@dataclass(frozen=True, slots=True)
class Origin:
    """An origin: ``scheme`` and ``host`` in lower case (IPv6 in brackets), ``port`` always filled in."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        default = self.port == _DEFAULT_PORTS[self.scheme]
        return f"{self.scheme}://{self.host}" + ("" if default else f":{self.port}")


def origin_of(url: str) -> Origin | None:
    """Return the origin of an absolute http or https URL.

    Takes any text. Returns None for another scheme, for userinfo (``https://app.example.com@evil.example``), and for a
    host or port that parsers could read in more than one way: not ASCII, percent-encoded, numeric but no plain IPv4,
    zoned (WHATWG URL, section 3.5; RFC 6454, section 4).
    """
    found = _HTTP_URL.match(url)
    authority = _HOST_AND_PORT.fullmatch(found[2]) if found else None
    if found is None or authority is None:
        return None
    scheme = found[1].lower()
    host = _canonical_host(authority[1].lower())
    port = int(authority[2]) if authority[2] else _DEFAULT_PORTS[scheme]
    if host is None or not 0 < port < 65536:
        return None
    return Origin(scheme, host, port)


def _canonical_host(host: str) -> str | None:
    try:
        if host.startswith("["):
            return f"[{IPv6Address(host[1:-1]).compressed}]"
        # Browsers read a host that ends in a number as an IPv4 address in any base: 0x7f.1 is 127.0.0.1.
        if _NUMBER.fullmatch(host.rpartition(".")[2]):
            return str(IPv4Address(host))
    except ValueError:
        return None
    return host if len(host) <= 253 else None


def local_path(target: str, *, own: Collection[Origin], current_path: str = "/") -> str | None:
    """Return a return target as a reference that cannot leave this origin, or None.

    Takes a ``Location`` value or a stored target as it was produced: an absolute URL on one of the ``own`` origins, an
    absolute path, or a reference relative to ``current_path``; text, or bytes decoded as latin-1. Returns path and
    query, dot segments resolved, percent-encoding kept, other characters percent-encoded as UTF-8, without a fragment.
    None for everything that some reader could take elsewhere, and over ``MAX_TARGET`` characters (RFC 9700, section
    4.11.1).
    """
    if not target or len(target) > MAX_TARGET:
        return None
    if _PLAIN.fullmatch(target):
        return target
    text = _as_text(target)
    if _REFUSED.search(text):
        return None
    reference = _without_own_origin(text.partition("#")[0], own)
    if reference is None:
        return None
    path, mark, query = reference.partition("?")
    path = _without_dots(_joined(path, current_path))
    if _may_leave(path):
        return None
    result = quote(path, safe=_PATH_SAFE) + mark + quote(query, safe=_QUERY_SAFE)
    return result if len(result) <= MAX_TARGET else None


def local_reference(target: str, *, own: Collection[Origin], current_path: str = "/") -> str | None:
    """Return what ``local_path`` does, with the target's fragment: pages that route by it would lose their place.

    A fragment never reaches a server and cannot leave this origin. It is ASCII here, like the rest, and is left out
    where it would make the reference longer than ``MAX_TARGET``.
    """
    path = local_path(target, own=own, current_path=current_path)
    fragment = _as_text(target).partition("#")[2]
    if path is None or not fragment:
        return path
    reference = f"{path}#{quote(fragment, safe=_FRAGMENT_SAFE)}"
    return reference if len(reference) <= MAX_TARGET else path


def _as_text(target: str) -> str:
    """Undo latin-1 over UTF-8, which is how a raw ``Location`` arrives and how browsers read it."""
    try:
        return target.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return target


def _without_own_origin(text: str, own: Collection[Origin]) -> str | None:
    """Return a reference without scheme and authority; None if it has some that are not ours."""
    # A scheme ends at a colon before any slash. "https:evil" and "https:/evil" are left out with it: browsers take them
    # as relative or as absolute, depending on the scheme of the page.
    if ":" in re.split("[/?]", text, maxsplit=1)[0]:
        found = _HTTP_URL.match(text)
        if found is None or origin_of(text) not in own:
            return None
        rest = text[found.end() :]
        return rest if rest.startswith("/") else "/" + rest
    # "//evil.example" is a host to every browser, whatever own origin stands behind it: the scheme would be a guess.
    return None if text.startswith("//") else text


def _joined(path: str, current_path: str) -> str:
    """Resolve a path against the request's own (RFC 3986, section 5.2.2), dot segments still in it."""
    if path.startswith("/"):
        return path
    if not current_path.startswith("/"):
        current_path = "/"
    return current_path[: current_path.rindex("/") + 1] + path if path else current_path


def _without_dots(path: str) -> str:
    """Resolve dot segments as browsers do, for whom ``%2e`` is a dot (WHATWG URL, section 4.4, path state)."""
    kept: list[str] = []
    ends_open = False
    for segment in path.split("/")[1:]:
        dots = segment.lower().replace("%2e", ".")
        ends_open = dots in (".", "..")
        if dots == "..":
            del kept[-1:]
        elif dots != ".":
            kept.append(segment)
    if ends_open:
        kept.append("")
    return "/" + "/".join(kept)


def _may_leave(path: str) -> bool:
    """Return whether a path begins, in some reader's eyes, with the two slashes that begin a host.

    ``/%2fevil.example`` stays on this origin in a browser, but a proxy that decodes it and redirects sends the browser
    to ``//evil.example``; a second proxy may decode once more. So every reading is judged, and no honest path still
    changes after ``_MAX_DECODINGS``.
    """
    for _ in range(_MAX_DECODINGS + 1):
        seen = _as_seen(path)
        if seen is None:
            return True
        readings = (path.replace("\\", "/"), seen)
        if any(text.startswith("//") or _without_dots(text).startswith("//") for text in readings):
            return True
        decoded = unquote(path)
        if decoded == path:
            return False
        path = decoded
    return True


def _as_seen(path: str) -> str | None:
    """Return a path as a lenient reader takes it: backslashes turned, parameters and invisible characters gone.

    None: it has a control character, a lone surrogate, a character that folds into a delimiter, such as U+FF0F or
    U+3002, or IIS's ``%u002f``; none of them has a place in a path that is meant to be read.
    """
    if re.search("%u[0-9a-f]{4}", path, re.ASCII | re.IGNORECASE):
        return None
    seen: list[str] = []
    for character in path:
        category = unicodedata.category(character)
        if category in ("Cc", "Cs"):
            return None
        if character > "\x7f" and (character in _LOOKALIKES or _DELIMITERS & set(_folded(character))):
            return None
        # U+FFFD stands for bytes that are no UTF-8. Old decoders took some of them, %c0%af above all, for a slash.
        if character in "\\\ufffd":
            seen.append("/")
        elif category[0] not in "CMZ" and character not in _FILLERS:
            seen.append(character)
    return re.sub(";[^/]*", "", "".join(seen))  # "/..;/" is "/../" to servlet containers


def _folded(character: str) -> str:
    """Fold as IDNA does, and take what only looks like a slash for one."""
    folded = unicodedata.normalize("NFKC", character)
    return "/" if _LOOKALIKES & set(folded) else folded


def absolute_url(path: str, base: str) -> str:
    """Put a path that begins with "/" behind a base such as ``https://app.example.com/prefix``."""
    return base.rstrip("/") + path


def without_query(path_or_url: str) -> str:
    """Drop query and fragment: providers compare return URLs exactly (RP-Initiated Logout 1.0, section 3)."""
    return re.split("[?#]", path_or_url, maxsplit=1)[0]


def public_base(*, public_url: str | None, scheme: str, host: str | None, root_path: str) -> str | None:
    """Return the URL that this application has for browsers, without a slash at its end.

    Takes the configured ``public_url``, which wins, or the request's scheme, Host header value and root_path. Returns
    None if there is no Host, or it is not exactly a name, an IPv4 or a bracketed IPv6 address with an optional port:
    the header is the client's to choose, and ``app.example.com@evil.example`` would make a URL of another host.
    """
    if public_url is not None:
        return public_url.rstrip("/")
    if host is None or not _HOST_AND_PORT.fullmatch(host):
        return None
    origin = origin_of(f"{scheme}://{host}")
    # root_path may come from a header too (X-Forwarded-Prefix), so it is judged as any other path.
    prefix = local_path(root_path.rstrip("/") or "/", own=())
    if origin is None or prefix is None or "?" in prefix:
        return None
    return str(origin) + prefix.rstrip("/")
