"""ID Tokens for the tests and the benchmarks."""

from __future__ import annotations

import base64
import json


def id_token(sub: str = "alice", sid: str = "s1", iss: str = "https://a.example", **claims: object) -> str:
    """Return an unsigned ID Token. The middleware reads it and sends it on; it never checks the signature."""
    parts = [{"alg": "none"}, {"iss": iss, "sub": sub, "sid": sid, **claims}]
    return ".".join([*(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts), "sig"])
