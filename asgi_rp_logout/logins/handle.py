"""The login handle: how this package recognises a login. Pure, but for the random number in a new one.

A handle is 256 random bits, the times at which the login was made, and digests of its (iss, sid) and (iss, sub). It
travels with the browser, in the application's session or in a companion cookie. Because it carries those digests, one
read of the store answers everything, and a logout from the provider finds its login even after the login's own record
has expired. The record's key is a digest of the whole handle. So a handle that was tampered with has no record, and is
worth no more than none.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass

from ..login import Login, unverified_claims

_HANDLE = re.compile(r"[\w-]{43}\.([0-9]{1,11})\.([0-9]{1,14})\.([\w-]{0,22})\.([\w-]{0,22})", re.ASCII)


def digest(*parts: str) -> str:
    """Return a short digest of ``parts``, different from that of any other sequence of parts."""
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()).decode()[:22]


def sid_digest(iss: str, sid: str) -> str:
    """Return the digest of a session at a provider."""
    return digest(iss, "sid", sid)


def sub_digest(iss: str, sub: str) -> str:
    """Return the digest of a subject at a provider."""
    return digest(iss, "sub", sub)


@dataclass(frozen=True, slots=True)
class LoginHandle:
    """Identify one login.

    ``text`` is what the browser carries, and is empty where only the store knows the login. ``at`` is when the login
    was made by the provider's clock, ``made`` by ours, in seconds since the epoch. ``sid`` and ``sub`` are digests,
    empty where the login has none. ``key`` is what follows the colon in the store's keys of this login.
    """

    text: str
    at: float
    made: float
    sid: str
    sub: str
    key: str

    @classmethod
    def new(cls, login: Login, now: float) -> LoginHandle:
        """Return the handle of a new login; ``now`` is in seconds since the epoch."""
        claims = unverified_claims(login.id_token) if login.id_token else {}
        iat = claims.get("iat")
        at = iat if isinstance(iat, int | float) and not isinstance(iat, bool) and 0 < iat < 1e11 else now
        sid = sid_digest(login.iss, login.sid) if login.iss and login.sid else ""
        sub = sub_digest(login.iss, login.sub) if login.iss and login.sub else ""
        text = f"{secrets.token_urlsafe(32)}.{int(at)}.{int(now * 1000)}.{sid}.{sub}"
        return cls(text, float(int(at)), int(now * 1000) / 1000, sid, sub, digest(text))

    @classmethod
    def parse(cls, text: object) -> LoginHandle | None:
        """Read a handle that a browser or a session carries; None if it is none."""
        match = _HANDLE.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            return None
        return cls(match[0], float(match[1]), int(match[2]) / 1000, match[3], match[4], digest(match[0]))

    def record_keys(self) -> list[str]:
        """Return the store's keys that say whether this login lives: its record, tombstone and not-before times."""
        befores = [f"ended_until:{key}" for key in (self.sid, self.sub) if key]
        return [f"login:{self.key}", f"ended:{self.key}", *befores]
