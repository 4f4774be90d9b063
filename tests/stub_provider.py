"""OpenID providers for faults that no real one commits: discovery, keys and tokens with a knob for each of them.

`StubProvider` has no sessions. Its issuer ends in a slash and its positive token has no typ and an unknown claim, as in
the conformance suite. `SilentProvider` also answers authorization requests with prompt=none.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlencode

import anyio
import httpx
from joserfc import jwe, jws
from joserfc.jwk import ECKey, Key, OctKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

EVENT = "http://schemas.openid.net/event/backchannel-logout"
MALFORMED_KEYS: list[Any] = [
    {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
    {"kty": "RSA", "kid": "no-modulus", "e": "AQAB"},
    {"kty": "ML-DSA", "kid": "from-the-future"},
    {"kid": "no-type"},
    {"kty": ["RSA"]},
    "not a key",
    None,
]


@cache
def generated(kind: str, number: int = 0) -> Key:
    """Give one key pair per kind and number: making RSA keys is slow."""
    parameters: Any = {"kid": f"{kind.lower()}-{number}", "use": "enc" if kind == "RSA-enc" else "sig"}
    if kind.startswith("RSA"):
        return RSAKey.generate_key(2048, parameters)
    return ECKey.generate_key("P-256", parameters)


def without_kid(key: Key, *, private: bool = True) -> Any:
    """Give a key as a dict that has no kid."""
    return {name: value for name, value in key.as_dict(private=private).items() if name != "kid"}


@dataclass
class Draft:
    """A logout token before it is signed."""

    header: dict[str, Any]
    claims: dict[str, Any]
    key: Key
    alg_none: bool = False
    broken: bool = False


Knob = Callable[[Draft], object]


def _set(**claims: Any) -> Knob:
    return lambda draft: draft.claims.update(claims)


def _shift(**seconds: float) -> Knob:
    return lambda draft: draft.claims.update({name: draft.claims["iat"] + by for name, by in seconds.items()})


def _drop(*names: str) -> Knob:
    return lambda draft: [draft.claims.pop(name) for name in names]


def _head(**values: Any) -> Knob:
    return lambda draft: draft.header.update(values)


def _append(name: str, suffix: str) -> Knob:
    return lambda draft: draft.claims.update({name: draft.claims[name] + suffix})


def _no_exp_and(*, age: float) -> Knob:
    return lambda draft: (draft.claims.pop("exp"), draft.claims.update(iat=draft.claims["iat"] - age))


def _alg_none(draft: Draft) -> None:
    draft.header, draft.alg_none = {"alg": "none"}, True


def _wrong_alg(draft: Draft) -> None:
    draft.key = generated("EC")
    draft.header.update(alg="ES256", kid=draft.key.kid)


def _confused_alg(draft: Draft) -> None:
    public = generated("RSA").as_dict(private=False)
    draft.key = OctKey(json.dumps(public).encode(), json.dumps(public).encode())
    draft.header["alg"] = "HS256"


def _id_token(draft: Draft) -> None:
    draft.claims.pop("events")
    draft.claims.update(nonce="n-0S6_WzA2Mj", auth_time=draft.claims["iat"], at_hash="77QmUPtjPfzWtF2AnpK9RQ")


KNOBS: dict[str, Knob] = {
    # the modules of the conformance suite
    "alg_none": _alg_none,
    "no_event": _drop("events"),
    "with_nonce": _set(nonce="logout_tokens_must_not_contain_a_nonce"),
    "wrong_alg": _wrong_alg,
    "wrong_aud": _append("aud", "INVALID"),
    "wrong_event": _set(events={"http://schemas.openid.net/event/foobar": {}}),
    "wrong_iss": _append("iss", "INVALID"),
    # who is meant
    "no_sid": _drop("sid"),
    "no_sub": _drop("sub"),
    "no_sub_no_sid": _drop("sub", "sid"),
    "sid_null": _set(sid=None),
    "sid_empty": _set(sid=""),
    "sub_number": _set(sub=7),
    "sub_half_surrogate": _set(sub="\ud800"),
    "other_sub": _set(sub="mallory"),
    # when
    "no_iat": _drop("iat"),
    "iat_text": _set(iat="now"),
    "iat_true": _set(iat=True),
    "iat_nan": _set(iat=float("nan")),
    "iat_infinite": _set(iat=float("-inf")),
    "iat_huge": _set(iat=10**400),
    "iat_future": _shift(iat=3600, exp=3720),
    "iat_slightly_ahead": _shift(iat=30, exp=150),
    "iat_fraction": _shift(iat=-0.5),
    "expired": _shift(iat=-3600, exp=-3480),
    "expired_just_now": _shift(iat=-150, exp=-30),
    "exp_text": _set(exp="later"),
    "exp_null": _set(exp=None),
    "no_exp": _drop("exp"),
    "no_exp_old_iat": _no_exp_and(age=3600),
    # identifier, events, nonce, audience
    "no_jti": _drop("jti"),
    "jti_empty": _set(jti=""),
    "jti_number": _set(jti=7),
    "event_value_text": _set(events={EVENT: "yes"}),
    "event_value_null": _set(events={EVENT: None}),
    "events_text": _set(events=EVENT),
    "events_array": _set(events=[EVENT]),
    "event_with_content": _set(events={EVENT: {"reason": "idle"}}),
    "another_event_too": _set(events={EVENT: {}, "http://schemas.openid.net/event/foobar": {}}),
    "nonce_null": _set(nonce=None),
    "aud_list": lambda draft: draft.claims.update(aud=[draft.claims["aud"]]),
    "aud_empty_list": _set(aud=[]),
    "aud_extra": lambda draft: draft.claims.update(aud=[draft.claims["aud"], "another-client"]),
    "no_aud": _drop("aud"),
    "no_iss": _drop("iss"),
    "iss_without_slash": lambda draft: draft.claims.update(iss=draft.claims["iss"].rstrip("/")),
    "id_token": _id_token,
    # header and signature
    "typ_jwt": _head(typ="JWT"),
    "typ_logout": _head(typ="logout+jwt"),
    "typ_application": _head(typ="Application/Logout+JWT"),
    "typ_access_token": _head(typ="at+jwt"),
    "bad_signature": lambda draft: setattr(draft, "broken", True),
    "confused_alg": _confused_alg,
    "foreign_key": lambda draft: setattr(draft, "key", generated("RSA", 99)),
    "unknown_kid": _head(kid="nobody"),
    "no_kid": lambda draft: draft.header.pop("kid"),
    "own_header": _head(tenant="acme"),
    "crit": _head(crit=["b64"], b64=True),
}


class StubProvider:
    """Serve discovery and keys as ``app``; count what is fetched; break on demand.

    The knobs of the keys: ``keys`` (what is published, dicts), ``status``, ``delay`` (seconds), ``issuer_in_document``.
    """

    def __init__(self, issuer: str = "https://op.example/", client_id: str = "rp") -> None:
        self.issuer = self.issuer_in_document = issuer
        self.client_id = client_id
        self.signing_key = generated("RSA")
        self.keys: list[Any] = [*MALFORMED_KEYS, *(generated(kind).as_dict(private=False) for kind in ("EC", "RSA"))]
        self.status = 200
        self.delay = 0.0
        self.fetched: Counter[str] = Counter()
        self.more_metadata: dict[str, Any] = {}
        routes = [Route("/.well-known/openid-configuration", self._discovery), Route("/jwks", self._jwks)]
        self.app = Starlette(routes=routes)

    def client(self) -> httpx.AsyncClient:
        """Give an HTTP client that reaches this provider, and nobody else, without a socket."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app))

    async def jwks_uri(self) -> str:
        return f"{self.issuer}jwks"

    def rotate(self, number: int = 1) -> None:
        """Sign with another key from now on, and publish that one only."""
        self.signing_key = generated("RSA", number)
        self.keys = [self.signing_key.as_dict(private=False)]

    async def _discovery(self, request: Request) -> Response:
        self.fetched["discovery"] += 1
        paths = {"authorization_endpoint": "auth", "token_endpoint": "token", "end_session_endpoint": "end_session"}
        document = {name: self.issuer + path for name, path in paths.items()} | self.more_metadata
        return JSONResponse(document | {"issuer": self.issuer_in_document, "jwks_uri": await self.jwks_uri()})

    async def _jwks(self, request: Request) -> Response:
        self.fetched["jwks"] += 1
        await anyio.sleep(self.delay)
        if self.status != 200:
            return PlainTextResponse("down", self.status)
        return JSONResponse({"keys": self.keys})

    def make_logout_token(
        self, *knobs: str, now: float | None = None, key: Key | None = None, alg: str = "RS256", **claims: Any
    ) -> str:
        """Make a logout token for sub alice, sid s1, as these knobs say; ``claims`` replace those of the token."""
        iat = int(time.time() if now is None else now)
        body = {"iss": self.issuer, "aud": self.client_id, "sub": "alice", "sid": "s1", "iat": iat, "exp": iat + 120}
        body |= {"jti": str(uuid.uuid4()), "events": {EVENT: {}}, "ignored_claim": {"any": ["thing"]}}
        used = key or self.signing_key
        draft = Draft({"alg": alg} | ({"kid": used.kid} if used.kid else {}), body | claims, used)
        for knob in knobs:
            KNOBS[knob](draft)
        return sign(draft)


class SilentProvider(StubProvider):
    """Answer authorization requests for the user whom the cookie `op` names, and redeem their codes.

    What it does wrong, or otherwise than others: `answers` (what the authorization endpoint does: "by the book", the
    text of an error, a status with a page, or "nothing"), `iss` (what its answers name; None for nothing), `claims`
    (which replace those of the ID Token), `tokens` (which replace the token endpoint's answer; a status for a failure),
    `token_delay` (seconds), `checks_verifier`, `signs_with`.
    """

    def __init__(self, *, client_secret: str | None = "the-client-secret") -> None:
        super().__init__()
        self.client_secret = client_secret
        self.redirect_uris = ["http://127.0.0.1/back"]
        self.more_metadata = {"authorization_response_iss_parameter_supported": True}
        self.answers: str | int = "by the book"
        self.iss: str | None = self.issuer
        self.iss_in_errors = True
        self.claims: dict[str, Any] = {}
        self.tokens: dict[str, Any] | int = {}
        self.token_delay = 0.0
        self.authorize_delay = 0.0
        self.checks_verifier = True
        self.requests: list[dict[str, str]] = []
        self.cookies: list[str | None] = []
        self.redeemed: list[dict[str, str]] = []
        self.authenticated: list[str] = []
        self.revoked: list[str] = []
        self.revocation_status = 200
        self.secrets: list[str] = []
        self._codes: dict[str, tuple[dict[str, str], str]] = {}
        for path, endpoint in (("auth", self._auth), ("token", self._token), ("revoke", self._revoke)):
            self.app.add_route(f"/{path}", endpoint, methods=["GET"] if path == "auth" else ["POST"])

    async def visit(self, url: str, user: str | None = "alice") -> str | None:
        """Follow a redirect to the authorization endpoint as this user's browser; give where it leads, if anywhere."""
        async with self.client() as browser:
            answer = await browser.get(url, headers={"cookie": f"op={user}"} if user else {})
        location = answer.headers.get("location")
        return location.removeprefix("http://127.0.0.1") if location else None

    async def _auth(self, request: Request) -> Response:
        self.fetched["auth"] += 1
        await anyio.sleep(self.authorize_delay)
        asked, user = dict(request.query_params), request.cookies.get("op")
        self.requests.append(asked)
        self.cookies.append(request.headers.get("cookie"))
        if isinstance(self.answers, int):
            return PlainTextResponse("a page", self.answers)
        if asked["redirect_uri"] not in self.redirect_uris:
            return PlainTextResponse("this address is not registered", 400)
        answer = {"state": asked["state"], **({"iss": self.iss} if self.iss is not None else {})}
        if user is None or self.answers != "by the book":
            if not self.iss_in_errors:
                answer.pop("iss", None)
            answer["error"] = "login_required" if self.answers == "by the book" else self.answers
        else:
            answer["code"] = str(uuid.uuid4())
            self.secrets.append(answer["code"])
            self._codes[answer["code"]] = asked, user
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(answer)}", 303)

    async def _token(self, request: Request) -> Response:
        self.fetched["token"] += 1
        await anyio.sleep(self.token_delay)
        form = {name: str(value) for name, value in (await request.form()).items()}
        self.redeemed.append(form)
        self.authenticated.append(self._authentication(request, form))
        if isinstance(self.tokens, int):
            return JSONResponse({"error": "server_error"}, self.tokens)
        asked, user = self._codes.pop(form["code"], ({}, ""))
        challenge = hashlib.sha256(form["code_verifier"].encode()).digest()
        proven = base64.urlsafe_b64encode(challenge).rstrip(b"=").decode() == asked.get("code_challenge")
        if not asked or asked["redirect_uri"] != form["redirect_uri"] or (self.checks_verifier and not proven):
            return JSONResponse({"error": "invalid_grant"}, 400)
        tokens = {"access_token": "the-access-token", "refresh_token": "the-refresh-token", "token_type": "Bearer"}
        tokens |= {"id_token": self.make_id_token(user, nonce=asked["nonce"])} | self.tokens
        self.secrets += [str(value) for name, value in tokens.items() if name.endswith("_token")]
        return JSONResponse({name: value for name, value in tokens.items() if value is not None})

    def _authentication(self, request: Request, form: dict[str, str]) -> str:
        basic = base64.b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
        if request.headers.get("authorization") == f"Basic {basic}":
            return "basic"
        return "post" if self.client_secret and form.get("client_secret") == self.client_secret else "none"

    async def _revoke(self, request: Request) -> Response:
        self.revoked.append(str((await request.form())["token"]))
        return Response(status_code=self.revocation_status)

    def make_id_token(self, user: str, **claims: Any) -> str:
        """Make an ID Token for a user, with the `claims` of this provider in place of its own."""
        iat = int(time.time())
        body = {"iss": self.issuer, "aud": self.client_id, "sub": user, "sid": f"sid-of-{user}", "iat": iat}
        body |= {"exp": iat + 600} | claims | self.claims
        body = {name: value for name, value in body.items() if value is not None}
        return sign(Draft({"alg": "RS256", "kid": self.signing_key.kid}, body, self.signing_key))


def sign(draft: Draft) -> str:
    """Sign a draft, or leave it unsigned, or break its signature."""
    payload = json.dumps(draft.claims)
    if draft.alg_none:
        return f"{_encode(json.dumps(draft.header))}.{_encode(payload)}."
    registry = jws.JWSRegistry(algorithms=[draft.header["alg"]], strict_check_header=False)
    token = jws.serialize_compact(draft.header, payload, draft.key, registry=registry)
    if draft.broken:
        head, body, signature = token.split(".")
        return f"{head}.{body}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    return token


def encrypt(token: str, key: Key, *, alg: str = "RSA-OAEP-256", **header: Any) -> str:
    """Encrypt a signed token to a key, as a provider does that was given one."""
    protected = {"alg": alg, "enc": "A256GCM", "cty": "JWT", **header}
    algorithms = [alg, "A256GCM", "DEF"]
    return jwe.encrypt_compact(
        protected, token, key, registry=jwe.JWERegistry(algorithms=algorithms, strict_check_header=False)
    )


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
