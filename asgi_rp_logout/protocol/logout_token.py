"""What a logout token must be, step by step: Back-Channel Logout 1.0, sections 2.4 to 2.6. Pure.

No I/O, no clock, no randomness here: the time is an argument, and ``TokenVerifier`` has verified the signature before.

Rules that hold for every step:

- A claim that is there but of the wrong kind is refused, never read as absent: a ``sid`` of null beside a ``sub`` would
  otherwise turn "this session" into "every session of this user".
- What is refused has a code of its own, and a sentence that repeats nothing of the token: it goes into logs and back to
  whoever sent the request, who may be anybody.
- Unknown claims and unknown form fields are ignored (sections 2.4 and 2.5).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import LogoutTokenError
from .form import read_fields

EVENT = "http://schemas.openid.net/event/backchannel-logout"

LEEWAY = 60.0
"""Seconds by which the clocks of provider and application may differ (section 4: "allow small clock skew")."""

MAX_AGE = 300.0
"""Seconds for which a token without ``exp`` is taken. Providers that send ``exp`` are asked for two minutes at most."""

LATEST = 253402300799.0
"""The end of the year 9999: no time beyond it is meant, and none beyond it makes sums overflow."""

# Section 2.4 recommends logout+jwt; most providers send JWT or nothing, and to require the explicit type "will break
# most existing deployments" (section 4.1). Any other explicit type is another kind of token, such as at+jwt.
TYPES = frozenset({"jwt", "logout+jwt", "application/logout+jwt"})


@dataclass(frozen=True, slots=True)
class LogoutToken:
    """What a valid logout token says.

    ``iss``: the provider's issuer. ``sub`` and ``sid``: the user, the session, or both. ``iat``: when it was made, in
    seconds of the provider's clock. ``jti``: its identifier (section 2.4).
    """

    iss: str
    sub: str | None
    sid: str | None
    iat: float
    jti: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What a logout token must be: from which issuer, for which client, and how it is signed.

    ``require_exp``: whether it must say when it expires.
    """

    issuer: str
    client_id: str
    algorithm: str = "RS256"
    require_exp: bool = False


def read_logout_token(
    header: Mapping[str, Any], claims: Mapping[str, Any], expected: Expected, *, now: float
) -> LogoutToken:
    """Validate a logout token whose signature is verified (Back-Channel Logout 1.0, section 2.6).

    Takes its header and claims, what is expected of it, and the time in seconds since 1970. Returns the token. Raises
    ``LogoutTokenError`` with the code of the first step that fails: ``alg``, ``typ``, ``iss``, ``aud``, ``iat``,
    ``exp``, ``sub_or_sid``, ``events``, ``nonce``, ``jti``.
    """
    # TokenVerifier has done steps 1 and 2, decryption and signature.
    _check_algorithm(header, expected.algorithm)  # step 3
    _check_type(header)  # section 2.4
    _check_issuer(claims, expected.issuer)  # step 4, here to _check_expiry
    _check_audience(claims, expected.client_id)
    iat = _read_issued_at(claims, now)
    _check_expiry(claims, now, iat, expected.require_exp)
    sub, sid = _read_subject(claims)  # step 5
    _check_events(claims)  # step 6
    _check_no_nonce(claims)  # step 7
    jti = _read_identifier(claims)  # step 8
    # Steps 9 to 11, whether iss, sub and sid are those of a session here, are left to the remembered logins. A session
    # that is unknown or gone is a success (section 2.7).
    return LogoutToken(iss=expected.issuer, sub=sub, sid=sid, iat=iat, jti=jti)


def _check_algorithm(header: Mapping[str, Any], algorithm: str) -> None:
    # One algorithm, pinned beforehand. A token that may choose its own can choose none, or a public key as HMAC secret.
    if header.get("alg") != algorithm:
        raise LogoutTokenError(f"the token is not signed with {algorithm}", code="alg")


def _check_type(header: Mapping[str, Any]) -> None:
    if "typ" not in header:
        return
    typ = header["typ"]
    if not isinstance(typ, str) or typ.lower() not in TYPES:
        raise LogoutTokenError("the typ is not that of a logout token", code="typ")


def _check_issuer(claims: Mapping[str, Any], issuer: str) -> None:
    # Code point for code point: no normalisation, a trailing slash counts (Discovery 1.0, section 4.3).
    if claims.get("iss") != issuer:
        raise LogoutTokenError("the iss is not the provider's issuer", code="iss")


def _check_audience(claims: Mapping[str, Any], client_id: str) -> None:
    aud = claims.get("aud")
    audiences = aud if isinstance(aud, list) else [aud]
    if client_id not in audiences:
        raise LogoutTokenError("the aud does not name this client", code="aud")
    # Another client of the same provider could pass on a token that is meant for both (Core 1.0, section 3.1.3.7).
    if any(audience != client_id for audience in audiences):
        raise LogoutTokenError("the aud names other clients too", code="aud")


def _read_issued_at(claims: Mapping[str, Any], now: float) -> float:
    iat = _time(claims, "iat")
    if iat > now + LEEWAY:
        raise LogoutTokenError("the iat is in the future", code="iat")
    return iat


def _check_expiry(claims: Mapping[str, Any], now: float, iat: float, require_exp: bool) -> None:
    # exp is required since the errata of 2023 only, and providers written before that leave it out.
    if "exp" in claims:
        if now >= _time(claims, "exp") + LEEWAY:
            raise LogoutTokenError("the token has expired", code="exp")
    elif require_exp:
        raise LogoutTokenError("the exp is missing", code="exp")
    elif iat < now - MAX_AGE:
        raise LogoutTokenError(f"the token has no exp and is older than {MAX_AGE:.0f} seconds", code="iat")


def _read_subject(claims: Mapping[str, Any]) -> tuple[str | None, str | None]:
    sub = _text(claims, "sub", code="sub_or_sid") if "sub" in claims else None
    sid = _text(claims, "sid", code="sub_or_sid") if "sid" in claims else None
    if sub is None and sid is None:
        raise LogoutTokenError("the token has neither sub nor sid", code="sub_or_sid")
    return sub, sid


def _check_events(claims: Mapping[str, Any]) -> None:
    # This is what tells a logout token from an ID Token, which nobody may turn into a logout.
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(EVENT), dict):
        raise LogoutTokenError("the events do not hold a back-channel logout", code="events")


def _check_no_nonce(claims: Mapping[str, Any]) -> None:
    # Forbidden whatever its value, null included, so that a logout token never passes as an ID Token.
    if "nonce" in claims:
        raise LogoutTokenError("the token has a nonce, which is forbidden", code="nonce")


def _read_identifier(claims: Mapping[str, Any]) -> str:
    # No jti is remembered. A token ends only sessions that began before its iat, so a replay ends nothing newer; and a
    # provider may repeat a token if our 200 got lost (section 2.5).
    return _text(claims, "jti", code="jti")


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    # bool is an int in Python, and json.loads reads NaN and Infinity; a comparison with NaN is false.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
        raise LogoutTokenError(f"the {name} is missing, or is not a time in seconds", code=name)
    return float(value)


def _text(claims: Mapping[str, Any], name: str, *, code: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise LogoutTokenError(f"the {name} is missing, empty or not a string", code=code)
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair, which no store can take
        raise LogoutTokenError(f"the {name} is not Unicode text", code=code) from None
    return value


def parse_form(body: bytes, content_type: str) -> str:
    """Read the one ``logout_token`` out of a request (Back-Channel Logout 1.0, section 2.5).

    Takes the whole body and the Content-Type header's value. Returns the token, unchecked. Raises ``LogoutTokenError``
    with the code ``content_type``, ``form``, ``missing`` or ``duplicate``.
    """
    if content_type.partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise LogoutTokenError("the body must be application/x-www-form-urlencoded", code="content_type")
    values = read_fields(body, "logout_token")["logout_token"]
    if len(values) > 1:
        raise LogoutTokenError("the form has more than one logout_token", code="duplicate")
    if values in ([], [""]):
        raise LogoutTokenError("the form has no logout_token", code="missing")
    return values[0]


def unverified_issuer(token: str) -> str | None:
    """Read the ``iss`` of a token without checking anything, only to choose which provider shall check it.

    Takes a compact JWT. Returns its ``iss``, or None if there is none to read, or no header beside it. An encrypted
    token carries it in the header (Back-Channel Logout 1.0, section 2.4).
    """
    parts = token.split(".", 5)
    if len(parts) not in (3, 5):
        return None
    header = _object_in(parts[0])
    iss = (_object_in(parts[1]) if len(parts) == 3 else header).get("iss")
    return iss if isinstance(iss, str) and header else None


def _object_in(part: str) -> dict[str, Any]:
    try:
        content = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
