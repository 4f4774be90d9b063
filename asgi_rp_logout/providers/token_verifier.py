"""The only module that verifies a signature. joserfc does the cryptography; what it is allowed to do is decided here.

Everything that comes in is hostile: anybody can post to the back-channel endpoint. So:

1. One algorithm, pinned at construction. What the token's header says is compared, never obeyed.
2. The cheap checks come first: size, form, algorithm; a token that fails them costs no fetch and no signature.
3. Keys are fetched anew for a token that none of them fits at most once in ``REFETCH_AFTER`` seconds, and so are keys
   that could not be had, whatever arrives and however the fetch ends: an unknown ``kid`` is free to invent, and must
   not become a way to make this server call another one.
4. Keys that are at hand go on serving when the provider cannot be reached.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from joserfc import jwe, jws
from joserfc.jwk import JWKRegistry, Key, KeySet, OctKey, RSAKey

from ..errors import ConfigurationError, LogoutTokenError, ProviderError, without_query
from ..log import logger
from .transport import FETCH_TIMEOUT, HTTPClient, fetch_json

MAX_TOKEN = 64 * 1024
"""Characters of a token. A logout token has about one thousand."""

MAX_KEYS = 8
"""Keys that are tried on one token. Providers publish two or three."""

REFETCH_AFTER = 30.0
"""Seconds between two fetches of the keys for the same reason, successful or not."""

KEYS_FRESH = 3600.0
"""Seconds after which keys are fetched again, so that one that the provider has withdrawn does not live on here."""

MIN_RSA_BITS = 2048
"""Smaller RSA keys are passed over (RFC 7518, section 3.3)."""

HMAC = frozenset({"HS256", "HS384", "HS512"})
ASYMMETRIC = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519", "Ed448"}
)

# No RSA1_5 (padding oracles), no PBES2 (the sender chooses how long it takes), no zip (the sender chooses how large).
DECRYPTION = [
    *("RSA-OAEP", "RSA-OAEP-256", "ECDH-ES", "ECDH-ES+A128KW", "ECDH-ES+A192KW", "ECDH-ES+A256KW"),
    *("dir", "A128KW", "A192KW", "A256KW", "A128GCMKW", "A192GCMKW", "A256GCMKW"),
    *("A128CBC-HS256", "A192CBC-HS384", "A256CBC-HS512", "A128GCM", "A192GCM", "A256GCM"),
]


class _Signatures(jws.JWSRegistry):
    # A header may carry a certificate chain (x5c), and a signature may come from a key of 8192 bits.
    max_header_length = 16 * 1024
    max_payload_length = MAX_TOKEN
    max_signature_length = 2048

    def get_alg(self, name: str) -> Any:
        # joserfc warns of an algorithm at each use; this one was chosen once, by the operator.
        if name not in (self.allowed or ()):
            raise LogoutTokenError("the token is signed with another algorithm", code="alg")
        return self.algorithms[name]


class _Encryptions(jwe.JWERegistry):
    max_protected_header_length = 16 * 1024


class TokenVerifier:
    """Verify tokens of one provider, with one algorithm and its keys (Back-Channel Logout 1.0, section 2.6, steps 1-3).

    ``algorithm``: what ``id_token_signed_response_alg`` is registered as. ``client_secret``: the key for HS256, HS384
    and HS512, as UTF-8. ``decryption_key``: a joserfc key, or a JWK as a dict; with it only encrypted tokens are taken.
    ``jwks_uri``: gives the URL of the provider's keys. ``clock``: seconds that never run backwards. Raises
    ``ConfigurationError`` for an algorithm that is none, unknown, or lacks its secret.
    """

    def __init__(
        self,
        *,
        algorithm: str = "RS256",
        client_secret: str | None = None,
        decryption_key: Any = None,
        jwks_uri: Callable[[], Awaitable[str]],
        http_client: HTTPClient | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.algorithm = algorithm
        self._secret = _secret_key(algorithm, client_secret)
        self._decryption_key = _decryption_key(decryption_key)
        self._registry = _Signatures(algorithms=[algorithm], strict_check_header=False)
        self._encryptions = _Encryptions(algorithms=DECRYPTION, strict_check_header=False)
        self._jwks_uri = jwks_uri
        self.http_client = http_client
        self._clock = clock
        self._lock = anyio.Lock()
        self._keys: list[Key] = []
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._refetched_at: float | None = None
        self._failure: Exception | None = None

    async def verify(self, token: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Verify the signature of one compact JWT, decrypted first if need be.

        Takes the token. Returns its header and claims, which say nothing yet about whom the token is for: see
        ``protocol.logout_token.read_logout_token``. Raises ``LogoutTokenError`` with the code ``too_large``,
        ``unencrypted``, ``encrypted``, ``decryption``, ``malformed``, ``alg``, ``keys``, ``kid`` or ``signature``.
        """
        if len(token) > MAX_TOKEN:
            raise LogoutTokenError(f"the token is longer than {MAX_TOKEN} characters", code="too_large")
        parsed, kid = self._parse(self._decrypt(token))
        before = self._fetched_at
        keys: list[Key] = [self._secret] if self._secret is not None else await self._keys_for(kid)
        fresh = self._secret is not None or self._fetched_at != before  # there is nothing newer to be had
        if not self._is_signed_by(keys, parsed) and (fresh or not await self._is_signed_by_newer_keys(parsed, kid)):
            code = "signature" if keys else "kid"
            raise LogoutTokenError("the signature matches none of the provider's keys", code=code)
        return parsed.headers(), _claims(parsed)

    def decrypted(self, id_token: str) -> str | None:
        """Return the signed ID Token inside an encrypted one; None without a key for it, or if it holds none."""
        try:
            signed = self._decrypt(id_token).decode("ascii")
        except (LogoutTokenError, UnicodeDecodeError):
            return None
        return signed if signed.count(".") == 2 else None

    def _decrypt(self, token: str) -> bytes:
        encrypted = is_encrypted(token)
        if self._decryption_key is None:
            if encrypted:
                raise LogoutTokenError("the token is encrypted, and no decryption key is configured", code="encrypted")
            return token.encode(errors="replace")
        if not encrypted:
            raise LogoutTokenError("the token is not encrypted, but a decryption_key is configured", code="unencrypted")
        try:
            return jwe.decrypt_compact(token, self._decryption_key, registry=self._encryptions).plaintext or b""
        except Exception as error:  # a parser of hostile input: whatever it raises, the token is refused
            raise LogoutTokenError("the token cannot be decrypted", code="decryption") from error

    def _parse(self, token: bytes) -> tuple[jws.CompactSignature, str | None]:
        try:
            parsed = jws.extract_compact(token, registry=self._registry)
            header = parsed.headers()
            algorithm, kid = header["alg"], header.get("kid")
        except Exception as error:  # as above
            raise LogoutTokenError("the token is not a signed JWT", code="malformed") from error
        if algorithm != self.algorithm:
            raise LogoutTokenError(f"the token is not signed with {self.algorithm}", code="alg")
        # An extension that must be understood is not: among them b64, which a JWT must not use (RFC 7797, section 7).
        if "crit" in header or not isinstance(kid, str | None):
            raise LogoutTokenError("the header of the token is not that of a JWT", code="malformed")
        return parsed, kid

    def _is_signed_by(self, keys: list[Key], parsed: jws.CompactSignature) -> bool:
        for key in keys:
            try:
                if jws.validate_compact(parsed, key, registry=self._registry):
                    return True
            except Exception:  # noqa: S112  # a key that does not fit after all is not the one that signed
                continue
        return False

    async def _is_signed_by_newer_keys(self, parsed: jws.CompactSignature, kid: str | None) -> bool:
        # The provider may have changed its keys, even under the same kid, as servers in development do.
        before = self._keys
        await self._fetch(again=True)
        return self._keys is not before and self._is_signed_by(self._select(kid), parsed)

    async def _keys_for(self, kid: str | None) -> list[Key]:
        if self._fetched_at is None or self._clock() - self._fetched_at > KEYS_FRESH:
            await self._fetch()
        if self._fetched_at is None:
            raise LogoutTokenError("the keys of the provider cannot be read", code="keys") from self._failure
        return self._select(kid)

    def _select(self, kid: str | None) -> list[Key]:
        # A kid is a hint (RFC 7515, section 4.1.4): without one any key may be meant, and a key without one by any.
        if kid is None:
            return self._keys[:MAX_KEYS]
        named = [key for key in self._keys if key.kid == kid]
        return (named or [key for key in self._keys if key.kid is None])[:MAX_KEYS]

    async def _fetch(self, *, again: bool = False) -> None:
        async with self._lock:
            # Whoever waited here for another's fetch finds it done.
            last, now = self._refetched_at if again else self._tried_at, self._clock()
            if last is not None and now - last < REFETCH_AFTER:
                return
            self._tried_at, self._refetched_at = now, now if again else self._refetched_at
            # Shielded: senders that hang up must not be able to spend the one fetch of 30 seconds for nothing.
            seconds = min(2 * FETCH_TIMEOUT, anyio.current_effective_deadline() - anyio.current_time())
            try:
                with anyio.fail_after(max(seconds, 0), shield=True):
                    uri = await self._jwks_uri()
                    self._keys = self._import(await fetch_json(uri, client=self.http_client), uri)
            except Exception as error:  # remembered, and what is at hand goes on serving
                self._failure = error
                reason = error if isinstance(error, ProviderError) else type(error).__name__
                logger.warning("the keys for logout tokens cannot be read, so logout tokens are refused: %s", reason)
            else:
                self._fetched_at = self._clock()

    def _import(self, document: dict[str, Any], uri: str) -> list[Key]:
        published = document.get("keys")
        keys = []
        for jwk in published if isinstance(published, list) else []:
            try:
                key = JWKRegistry.import_key(jwk)
                self._registry.algorithms[self.algorithm].check_key(key)
            except Exception:  # noqa: S112  # one malformed or foreign key must not fail the others (RFC 7517, section 5)
                continue
            if not isinstance(key, RSAKey) or key.raw_value.key_size >= MIN_RSA_BITS:
                keys.append(key)
        if not keys:
            raise ProviderError(f"{without_query(uri)} has no key for {self.algorithm}", code="jwks")
        return keys


def is_encrypted(token: str) -> bool:
    """Return whether a JWT is encrypted: a JWE has five parts (RFC 7516, section 3.1)."""
    return token.count(".") == 4


def _secret_key(algorithm: str, client_secret: str | None) -> OctKey | None:
    if not isinstance(algorithm, str) or algorithm not in HMAC | ASYMMETRIC:
        accepted = ", ".join(sorted(HMAC | ASYMMETRIC))
        raise ConfigurationError(f"algorithm={algorithm!r}: expected one of {accepted}")
    if algorithm in ASYMMETRIC:
        return None
    if not client_secret:
        raise ConfigurationError(f"algorithm={algorithm!r}: expected a client_secret with it, which is its key")
    try:
        return OctKey.import_key(client_secret.encode())
    except ValueError as error:
        raise ConfigurationError("client_secret is a public key, which everybody has: expected a secret") from error


def _decryption_key(key: Any) -> Key | KeySet | None:
    if key is None or isinstance(key, Key | KeySet):
        return key
    try:
        imported: Key = JWKRegistry.import_key(key)
        return imported
    except Exception as error:
        accepted = "a joserfc key or a JWK as a dict"
        raise ConfigurationError(f"decryption_key of type {type(key).__name__}: expected {accepted}") from error


def _claims(parsed: jws.CompactSignature) -> dict[str, Any]:
    try:
        claims = json.loads(parsed.payload.decode())
    except (ValueError, RecursionError) as error:
        raise LogoutTokenError("the content of the token is not JSON", code="malformed") from error
    if not isinstance(claims, dict):
        raise LogoutTokenError("the content of the token is not a JSON object", code="malformed")
    return claims
