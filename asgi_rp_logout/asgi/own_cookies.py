"""The middleware's own cookies: their names at one mount, and the lines that set and expire them. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OwnCookies:
    """The names of the middleware's own cookies, for one mount and one scheme.

    ``login`` identifies a remembered login, ``deferred`` a logout that the next page finishes, ``return_trip`` the
    browser that is at the provider, and ``silent_trip`` the one that fetches an ID Token there. ``travels`` says that
    the application's session is sent with requests of other sites, and so ``deferred`` must be.
    """

    login: str
    return_trip: str
    deferred: str
    silent_trip: str
    secure: bool
    travels: bool = False

    @classmethod
    def of(cls, root_path: str, *, secure: bool, travels: bool = False) -> OwnCookies:
        """Return the names; two mounts of one origin get different ones, since ``__Host-`` cookies have no path."""
        suffix = "_" + hashlib.sha256(root_path.encode("utf-8", "replace")).hexdigest()[:8] if root_path else ""
        prefix = "__Host-" if secure else ""
        login, back, later, silent = (f"{prefix}rp_{what}{suffix}" for what in ("login", "return", "later", "silent"))
        travels = travels and secure  # browsers take SameSite=None over https only
        return cls(login, back, later, silent, secure, travels)

    def setting(self, name: str, value: str, max_age: float) -> bytes:
        """Return the Set-Cookie value that sets one of them for ``max_age`` seconds."""
        return f"{name}={value}; Path=/; Max-Age={int(max_age)}{self._attributes(name)}".encode("ascii")

    def deletion(self, name: str) -> bytes:
        """Return the Set-Cookie value that expires one of them."""
        expired = "Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
        return f"{name}=; Path=/; {expired}{self._attributes(name)}".encode("ascii")

    def _attributes(self, name: str) -> str:
        same_site = "None" if self.travels and name == self.deferred else "Lax"
        return f"; HttpOnly; SameSite={same_site}{'; Secure' if self.secure else ''}"


def values_of(name: str, header: str) -> Iterator[str]:
    """Yield the values of one of the middleware's own cookies; no other spelling of them is valid."""
    if name in header:
        for match in re.finditer(rf"(?:^|;)[ \t]*{re.escape(name)}=([^;]*)", header):
            yield match[1].strip()


def may_hold_one(header: str) -> bool:
    """Return whether a Cookie header may hold one of the middleware's own cookies; quick if it does not."""
    return header.find(_COMMON, 0, header.rfind("=") + 1) >= 0


_COMMON = "rp_l"
"""The common part of the names of the two cookies that are looked for in every request."""
