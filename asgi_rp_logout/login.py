"""``Login`` and ``LogoutIntent``: a login, and what a logout is to do. The application and all modules pass them on."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Login:
    """Describe one login of one user at one provider.

    ``provider``: the provider's name in the list of providers. ``id_token``: the last ID Token, whole, sent as
    ``id_token_hint``. ``sub``, ``sid``, ``iss``: its claims of these names; read from the ID Token where they are not
    given. ``refresh_token``: revoked at logout if the provider is configured so. ``logout_hint``: sent as it is
    (RP-Initiated Logout 1.0, section 2). ``ended``: None while the login lives, else what ended it: ``"logout"``,
    ``"back-channel"``, ``"front-channel"``, ``"replaced"`` by a newer login of this browser, or ``"buried"`` if only
    the value of the session cookie is known. A login that has ended is falsy, so ``if current_login(request):`` is true
    for a live login only. ``known_by``: where it is known from, one of ``"remember_login"``, ``"authlib"`` (noticed by
    ``AuthlibProvider``), ``"relay"`` (noticed by ``TokenRelay``), ``"login_source"`` and ``"silent_hint"`` (fetched
    from the provider at logout).
    """

    provider: str | None = None
    id_token: str | None = field(default=None, repr=False)
    sub: str | None = None
    sid: str | None = None
    iss: str | None = None
    refresh_token: str | None = field(default=None, repr=False)
    logout_hint: str | None = field(default=None, repr=False)
    ended: str | None = field(default=None, kw_only=True)
    known_by: str | None = field(default=None, kw_only=True, compare=False)

    def __post_init__(self) -> None:
        if self.id_token and not (self.iss and self.sub and self.sid):
            claims = unverified_claims(self.id_token)
            for name in ("iss", "sub", "sid"):
                if getattr(self, name) is None and isinstance(claims.get(name), str):
                    object.__setattr__(self, name, claims[name])

    def __bool__(self) -> bool:
        return self.ended is None


@dataclass(frozen=True, slots=True)
class LogoutIntent:
    """Describe what a logout is to do.

    ``provider``: the name of the provider to log out at, if the application named one. ``local``: whether the logout
    ends the application's session only. ``return_to``: the page that the application wants to show afterwards, a path
    on this origin. ``everywhere``: whether it ends all logins of the user here, on all devices.
    """

    provider: str | None = None
    local: bool = False
    return_to: str | None = None
    everywhere: bool = False


def unverified_claims(token: str) -> dict[str, Any]:
    """Read the claims of a JWT without checking anything; ``{}`` if there are none to read.

    Only for tokens that the application received from its provider's token endpoint: TLS vouches for them (OpenID
    Connect Core 1.0, section 3.1.3.7, step 6), and Authlib has verified them by then.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
