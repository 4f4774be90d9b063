"""What an ID Token must say before its login is used (OpenID Connect Core 1.0, section 3.1.3.7). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ProviderError

LEEWAY = 60.0
"""Seconds by which the clocks of provider and application may differ."""


@dataclass(frozen=True, slots=True)
class ExpectedToken:
    """What an ID Token must be: from which issuer, for which client, and in answer to which request.

    Without a ``nonce``, that is left to the client that has sent it.
    """

    issuer: str
    client_id: str
    nonce: str | None = None


def check_id_token(claims: Mapping[str, Any], expected: ExpectedToken, *, now: float) -> None:
    """Validate the claims of an ID Token whose signature is verified; ``now`` is in seconds since 1970.

    Raises ``ProviderError`` with the code ``id_token``.
    """
    aud = claims.get("aud")
    audiences = aud if isinstance(aud, list) else [aud]
    azp, exp = claims.get("azp"), claims.get("exp")
    lives = isinstance(exp, int | float) and not isinstance(exp, bool) and now < exp + LEEWAY
    checks = {
        "iss": claims.get("iss") == expected.issuer,  # step 2
        "aud": expected.client_id in audiences,  # step 3
        "azp": azp == expected.client_id if azp is not None or len(audiences) > 1 else True,  # steps 4 and 5
        "exp": lives,  # step 9
        "nonce": expected.nonce is None or claims.get("nonce") == expected.nonce,  # step 11
        "sub": isinstance(claims.get("sub"), str) and claims["sub"] != "",
    }
    wrong = next((name for name, right in checks.items() if not right), None)
    if wrong is not None:
        raise ProviderError(f"the {wrong} of the ID Token is not the expected one", code="id_token")
