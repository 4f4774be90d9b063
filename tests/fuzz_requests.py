"""Mutated logout requests against everything that reads them; a seed makes a run repeatable.

Each input goes the way of a request: form, unverified issuer, signature, claims. Half of the tokens are mutated before
they are signed, with HS256, so that what stands behind the signature is reached as well. A refusal is a
LogoutTokenError; anything else that is raised, and a token that is taken without being one, ends the run.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from asgi_rp_logout.errors import LogoutTokenError
from asgi_rp_logout.protocol.front_channel import frame_headers, read_front_channel
from asgi_rp_logout.protocol.logout_token import parse_form, read_logout_token, unverified_issuer
from asgi_rp_logout.providers.token_verifier import TokenVerifier

ISSUER, CLIENT, SECRET, NOW = "https://op.example/", "rp", "a secret of at least 32 bytes......", 1_700_000_000
EVENT = "http://schemas.openid.net/event/backchannel-logout"
CLAIMS = {"iss": ISSUER, "aud": CLIENT, "sub": "alice", "sid": "s1", "iat": NOW, "exp": NOW + 120, "jti": "j"}
HEADER = json.dumps({"alg": "HS256", "typ": "logout+jwt", "kid": "k"}).encode()
BODY = json.dumps(CLAIMS | {"events": {EVENT: {}}}).encode()
FORM = "application/x-www-form-urlencoded"
# What parsers stumble over: halves of syntax, numbers at the edge, names that matter.
PIECES = rb"""{ } [ ] " : , . .. = & % %2 %ff + \ \ud800 \u0000 null true NaN -Infinity 1e999 -1 eyJ e30
&logout_token=x& iss= sid= "alg":"none", "crit":["b64"], "b64":false, "kid":[],
"nonce":0, "sid":null, "aud":["rp","x"], "events":[], "exp":0,""".split()
PIECES += [b"\x00", b"\xff", b"\xed\xa0\x80", b"9" * 5000, b"[" * 2000, b'{"a":' * 2000]
VALUES: list[Any] = [None, True, 0, -1, 1.5, NOW, NOW + 61, 10**400, float("nan"), float("inf")]
VALUES += ["", "x", "\ud800", ISSUER, CLIENT, [], [CLIENT], [CLIENT, "x"], {}, {EVENT: {}}, {EVENT: []}, {EVENT: None}]


def mutate(rng: random.Random, data: bytes) -> bytes:
    """Change a few places: drop, double, overwrite, or put in a piece."""
    mutated = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
        start = rng.randrange(len(mutated) + 1)
        end = min(len(mutated), start + rng.choice((0, 1, 1, 2, 10)))
        piece = rng.choice((b"", bytes([rng.randrange(256)]), bytes(mutated[start:end]) * 2, rng.choice(PIECES)))
        mutated[start:end] = piece
    return bytes(mutated)


def encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def mutate_claims(rng: random.Random) -> bytes:
    """Change whole claims: leave one out, or put something else in its place."""
    claims = {**CLAIMS, "events": {EVENT: {}}}
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice([*CLAIMS, "events", "nonce", "other"])
        if rng.random() < 0.4:
            claims.pop(name, None)
        else:
            claims[name] = rng.choice(VALUES)
    return json.dumps(claims).encode()


def make_body(rng: random.Random) -> bytes:
    """Make one request body: its token mutated before it is signed, or the whole afterwards."""
    early = rng.random() < 0.5
    header, claims = HEADER, BODY
    if early:
        header = mutate(rng, HEADER) if rng.random() < 0.2 else HEADER
        claims = mutate_claims(rng) if rng.random() < 0.5 else mutate(rng, BODY)
    signed = encode(header) + b"." + encode(claims)
    body = b"x=1&logout_token=" + signed + b"." + encode(hmac.digest(SECRET.encode(), signed, hashlib.sha256))
    return body if early else mutate(rng, body)


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing: with HS256 there are no keys to fetch."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("the verifier waited for something")


def read_back_channel(verifier: TokenVerifier, body: bytes) -> str:
    """Read one request body as the endpoint does; give the code of the refusal, or "taken"."""
    try:
        text = parse_form(body, FORM)
        issuer = unverified_issuer(text)
        header, claims = finish(verifier.verify(text))
        token = read_logout_token(header, claims, issuer=ISSUER, client_id=CLIENT, algorithm="HS256", now=NOW)
    except LogoutTokenError as refusal:
        return refusal.code
    if issuer != ISSUER or not (token.sub or token.sid) or "nonce" in claims or EVENT not in claims["events"]:
        raise RuntimeError("a token was taken that is none")
    for text in (token.sub or "", token.sid or "", token.jti):
        text.encode()
    return "taken"


def read_query(query: bytes) -> str:
    """Read one query string as the front-channel endpoint does."""
    try:
        named = read_front_channel(query)
    except LogoutTokenError as refusal:
        return f"query {refusal.code}"
    frame_headers(named[0] if named else None)
    return "query taken" if named else "query ignored"


def run(count: int, seed: int) -> Counter[str]:
    """Try ``count`` inputs; give how often each outcome was seen. Raises what a parser raises that it should not."""
    rng = random.Random(seed)
    verifier = TokenVerifier(algorithm="HS256", client_secret=SECRET, jwks_uri=_no_keys)
    seen: Counter[str] = Counter()
    for number in range(count):
        query = number % 8 == 0
        data = mutate(rng, b"iss=https://op.example/&sid=s1&x=%C3%A9") if query else make_body(rng)
        try:
            seen[read_query(data) if query else read_back_channel(verifier, data)] += 1
        except Exception:
            print(f"input {number} of seed {seed}: {data!r}", file=sys.stderr)
            raise
    return seen


async def _no_keys() -> str:
    raise RuntimeError("nothing is to be fetched")


def main(count: str = "1000000", seed: str = "0") -> int:
    started = time.perf_counter()
    try:
        seen = run(int(count), int(seed))
    except Exception:
        traceback.print_exc()
        return 1
    seconds = time.perf_counter() - started
    print(f"{int(count):,} inputs in {seconds:.0f} s, {int(count) / seconds:,.0f} a second, no unhandled exception")
    for outcome, number in seen.most_common():
        print(f"{number:>9,}  {outcome}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
