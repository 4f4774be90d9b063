"""What an ID Token must say before its login is remembered (OpenID Connect Core 1.0, section 3.1.3.7). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ProviderError

LEEWAY = 60.0
"""Seconds by which the clocks of provider and application may differ."""


def check_id_token(claims: Mapping[str, Any], *, issuer: str, client_id: str, now: float) -> None:
    """Validate the claims of an ID Token whose signature is verified.

    Takes what its ``iss`` and ``aud`` must be, and the time in seconds since 1970. The nonce is left to the client that
    has sent it. Raises ``ProviderError`` with the code ``id_token``.
    """
    aud = claims.get("aud")
    audiences = aud if isinstance(aud, list) else [aud]
    azp, exp = claims.get("azp"), claims.get("exp")
    checks = {
        "iss": claims.get("iss") == issuer,  # step 2
        "aud": client_id in audiences,  # step 3
        "azp": azp == client_id if azp is not None or len(audiences) > 1 else True,  # steps 4 and 5
        "exp": isinstance(exp, int | float) and now < exp + LEEWAY,  # step 9
        "sub": isinstance(claims.get("sub"), str) and claims["sub"] != "",
    }
    wrong = next((name for name, right in checks.items() if not right), None)
    if wrong is not None:
        raise ProviderError(f"the {wrong} of the ID Token is not the expected one", code="id_token")
