"""What the demo's OpenID provider knows: clients, sessions, codes, tokens, and the key that it signs with.

No HTTP in here: `provider.py` has the endpoints. Everything hangs on one `Provider` object, so that several of them
live side by side in one process and a test can look inside: `app.state.provider`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
CODE_TTL = 60  # seconds
TOKEN_TTL = 3600
FORM_TTL = 600  # how long a confirmation page may stay open


@dataclass(frozen=True)
class Client:
    """One application that the provider knows; a client without a secret is public and must use PKCE."""

    client_id: str
    client_secret: str | None = None
    redirect_uris: Sequence[str] = ()
    post_logout_redirect_uris: Sequence[str] = ()
    backchannel_logout_uri: str | None = None
    frontchannel_logout_uri: str | None = None
    frontchannel_logout_session_required: bool = True


@dataclass
class Session:
    """One signed-in browser. The sid goes into tokens, so the cookie holds another secret."""

    user: str
    auth_time: int
    sid: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    clients: set[str] = field(default_factory=set)
    ended: bool = False


@dataclass
class Grant:
    """What a code stands for, and every token made from it."""

    client: Client
    session: Session
    scope: str
    nonce: str | None = None
    revoked: bool = False

    @property
    def active(self) -> bool:
        return not self.revoked and (not self.session.ended or "offline_access" in self.scope.split())


@dataclass
class Code:
    grant: Grant
    redirect_uri: str
    challenge: str | None
    expires_at: float
    used: bool = False


@dataclass(frozen=True)
class Token:
    grant: Grant
    kind: str  # "access" or "refresh"
    expires_at: float


@dataclass(frozen=True)
class EndSessionRequest:
    """What came to the end-session endpoint, kept as it came (also if it was refused)."""

    method: str
    params: Mapping[str, str]


@dataclass(frozen=True)
class PendingLogout:
    """A checked logout that waits for the user's yes."""

    client: Client | None
    return_to: str | None
    state: str | None
    sid: str | None
    expires_at: float


@dataclass(frozen=True)
class Delivery:
    """One logout token on its way to a client: the status it answered with, or None if it did not answer."""

    client_id: str
    uri: str
    token: str
    status: int | None


class Provider:
    """The provider's whole state."""

    def __init__(
        self,
        issuer: str,
        clients: Sequence[Client],
        users: Mapping[str, str],
        *,
        name: str,
        claims: Mapping[str, Any],
    ) -> None:
        self.issuer = issuer
        self.name = name
        self.clients = {client.client_id: client for client in clients}
        self.users = dict(users)
        self.claims = dict(claims)
        self.id_token_ttl = 600
        self.key = RSAKey.generate_key(2048, parameters={"use": "sig", "alg": "RS256"}, auto_kid=True)
        # One host may serve several providers, and browsers send a cookie to all of its ports.
        self.cookie = f"sso_{hashlib.sha256(issuer.encode()).hexdigest()[:8]}"
        self.sessions: dict[str, Session] = {}  # by cookie value
        self.codes: dict[str, Code] = {}
        self.tokens: dict[str, Token] = {}
        self.pending: dict[str, PendingLogout] = {}
        self.revoked: list[str] = []  # tokens given to the revocation endpoint, in order
        self.requests: list[EndSessionRequest] = []
        self.deliveries: list[Delivery] = []
        self._form_key = secrets.token_bytes(32)

    # Sessions

    def check_password(self, user: str, password: str) -> bool:
        """Return whether the password is the user's, in the same time for names that do not exist."""
        expected = self.users.get(user)
        same = hmac.compare_digest((expected or secrets.token_urlsafe()).encode(), password.encode())
        return same and expected is not None

    def sign_in(self, user: str, cookie: str | None) -> str:
        """Start a session, or renew the one of the same user, under a new cookie value, which is returned."""
        session = self.sessions.pop(cookie or "", None)
        if session is None or session.user != user:
            session = Session(user, auth_time=int(time.time()))
        session.auth_time = int(time.time())
        value = secrets.token_urlsafe(32)
        self.sessions[value] = session
        return value

    def end(self, session: Session) -> None:
        """End a session: its cookie means nothing any more, and its tokens are dead."""
        session.ended = True
        self.sessions = {cookie: other for cookie, other in self.sessions.items() if other is not session}

    # Forms

    def form_token(self, browser: str) -> str:
        """Return the CSRF token of the forms shown to one browser, known by a random cookie."""
        return hmac.new(self._form_key, browser.encode(), hashlib.sha256).hexdigest()

    def remember_logout(self, client: Client | None, return_to: str | None, state: str | None, sid: str | None) -> str:
        """Keep a checked logout until the user has answered, and return its key."""
        now = time.time()
        self.pending = {key: waiting for key, waiting in self.pending.items() if waiting.expires_at > now}
        key = secrets.token_urlsafe(16)
        self.pending[key] = PendingLogout(client, return_to, state, sid, now + FORM_TTL)
        return key

    def waiting_logout(self, key: str) -> PendingLogout | None:
        waiting = self.pending.get(key)
        return waiting if waiting and waiting.expires_at > time.time() else None

    # Codes and tokens

    def issue_code(self, grant: Grant, redirect_uri: str, challenge: str | None) -> str:
        """Return a code for this client and session; it works once, within 60 seconds."""
        now = time.time()
        self.codes = {value: code for value, code in self.codes.items() if code.expires_at > now}
        grant.session.clients.add(grant.client.client_id)
        value = secrets.token_urlsafe(32)
        self.codes[value] = Code(grant, redirect_uri, challenge, now + CODE_TTL)
        return value

    def redeem_code(self, value: str, client: Client, redirect_uri: str, verifier: str) -> Grant | None:
        """Return the grant of a code, or None. A second use also kills what the first one got (RFC 6749 §4.1.2)."""
        code = self.codes.get(value)
        if code is None or code.grant.client is not client:
            return None
        if code.used:
            code.grant.revoked = True
            return None
        code.used = True
        fits = code.redirect_uri == redirect_uri and code.expires_at > time.time() and code.grant.active
        return code.grant if fits and _proves(verifier, code.challenge) else None

    def issue_token(self, grant: Grant, kind: str) -> str:
        now = time.time()
        self.tokens = {value: token for value, token in self.tokens.items() if token.expires_at > now}
        value = secrets.token_urlsafe(32)
        self.tokens[value] = Token(grant, kind, now + TOKEN_TTL * (1 if kind == "access" else 24))
        return value

    def live_token(self, value: str, kind: str) -> Token | None:
        token = self.tokens.get(value)
        fits = token is not None and token.kind == kind and token.expires_at > time.time() and token.grant.active
        return token if fits else None

    def revoke(self, value: str) -> None:
        """Revoke a known token; with a refresh token go all tokens of its grant (RFC 7009 §2.1)."""
        self.revoked.append(value)
        if self.tokens[value].kind == "refresh":
            self.tokens[value].grant.revoked = True
        else:
            del self.tokens[value]

    # Signed tokens

    def person(self, user: str) -> dict[str, Any]:
        """Return the claims about a user that go into ID tokens and userinfo."""
        return {"sub": user, "name": user.capitalize(), "email": f"{user}@example.com", **self.claims}

    def id_token(self, grant: Grant) -> str:
        now = int(time.time())
        session = grant.session
        claims = self.person(session.user) | {
            "iss": self.issuer,
            "aud": grant.client.client_id,
            "iat": now,
            "exp": now + self.id_token_ttl,
            "auth_time": session.auth_time,
            "sid": session.sid,
        }
        if grant.nonce is not None:
            claims["nonce"] = grant.nonce
        return self.sign(claims, typ="JWT")

    def logout_token(self, client: Client, session: Session) -> str:
        """Return the token that notifies a client of the end of a session (Back-Channel Logout 1.0 §2.4)."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": client.client_id,
            "iat": now,
            "exp": now + 120,
            "jti": secrets.token_urlsafe(16),
            "sub": session.user,
            "sid": session.sid,
            "events": {LOGOUT_EVENT: {}},
        }
        return self.sign(claims, typ="logout+jwt")

    def sign(self, claims: Mapping[str, Any], *, typ: str) -> str:
        return jwt.encode({"alg": "RS256", "typ": typ, "kid": self.key.kid}, dict(claims), self.key)

    def read_hint(self, hint: str) -> dict[str, Any] | None:
        """Return the claims of an ID token of ours, expired or not, or None for anything else."""
        try:
            claims = jwt.decode(hint, self.key, algorithms=["RS256"]).claims
        except (JoseError, ValueError):
            return None
        return None if "events" in claims else claims  # a logout token has our signature too


def _proves(verifier: str, challenge: str | None) -> bool:
    """Return whether the verifier belongs to the S256 challenge; without one, none is needed (RFC 7636 §4.6)."""
    if challenge is None:
        return not verifier
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return hmac.compare_digest(digest.encode(), challenge.encode())
