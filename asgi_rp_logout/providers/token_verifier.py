"""The only module that verifies a signature. joserfc does the cryptography; what it is allowed to do is decided here.

Anybody can post to the back-channel endpoint, so every token may be hostile. Therefore:

1. One algorithm, pinned at construction. The algorithm in the token's header is compared with it, never obeyed.
2. The cheap checks come first: size, form, algorithm. A token that fails them costs no fetch and no signature.
3. Keys are fetched for two reasons: there are none that are fresh, or none of them has signed a token. For each reason
   they are fetched at most once in ``REFETCH_AFTER`` seconds, whatever arrives and however the fetch ends. Anybody can
   invent a ``kid``, and must not be able to make this server call another one with it.
4. Keys that were fetched before stay in use if the provider cannot be reached.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from joserfc import jwe, jws
from joserfc.jwk import JWKRegistry, Key, KeySet, OctKey, RSAKey

from ..errors import ConfigurationError, LogoutTokenError, ProviderError, without_query
from ..log import logger
from .cached_document import CachedDocument
from .transport import FETCH_TIMEOUT, fetch_json

MAX_TOKEN = 64 * 1024
"""Characters of a token. A logout token has about one thousand."""

MAX_KEYS = 8
"""Keys that are tried on one token. Providers publish two or three."""

REFETCH_AFTER = 30.0
"""Seconds between two fetches of the keys for the same reason, whether or not they succeed."""

KEYS_FRESH = 3600.0
"""Seconds after which keys are fetched again, so that a key that the provider has withdrawn stops working here."""

MIN_RSA_BITS = 2048
"""Smaller RSA keys are ignored (RFC 7518, section 3.3)."""

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
        # joserfc would warn about some algorithms at each use. The operator has chosen this one.
        if name not in (self.allowed or ()):
            raise LogoutTokenError("the token is signed with another algorithm", code="alg")
        return self.algorithms[name]


class _Encryptions(jwe.JWERegistry):
    max_protected_header_length = 16 * 1024


class TokenVerifier:
    """Verify tokens of one provider, with one algorithm and its keys (Back-Channel Logout 1.0, section 2.6, steps 1-3).

    ``jwks_uri``: an async function that returns the URL of the provider's keys. ``algorithm``: the value of
    ``id_token_signed_response_alg`` in the client's registration. ``client_secret``: the key for HS256, HS384 and
    HS512, as UTF-8. ``decryption_key``: a joserfc key, or a JWK as a dict; with it only encrypted tokens are accepted.
    ``clock``: seconds that never run backwards. Raises ``ConfigurationError`` for an unknown algorithm, or one that
    lacks its secret.
    """

    def __init__(
        self,
        *,
        jwks_uri: Callable[[], Awaitable[str]],
        algorithm: str = "RS256",
        client_secret: str | None = None,
        decryption_key: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.algorithm = algorithm
        self._secret = _secret_key(algorithm, client_secret)
        self._decryption_key = _decryption_key(decryption_key)
        self._registry = _Signatures(algorithms=[algorithm], strict_check_header=False)
        self._encryptions = _Encryptions(algorithms=DECRYPTION, strict_check_header=False)
        self.keys = PublishedKeys(jwks_uri, algorithm, clock)

    async def verify(self, token: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Verify the signature of one compact JWT, after decrypting it if need be.

        Returns its header and its claims. Whom the token is for has not been checked yet: see
        ``protocol.logout_token.read_logout_token``. Raises ``LogoutTokenError`` with the code ``too_large``,
        ``unencrypted``, ``encrypted``, ``decryption``, ``malformed``, ``alg``, ``keys``, ``kid`` or ``signature``.
        """
        if len(token) > MAX_TOKEN:
            raise LogoutTokenError(f"the token is longer than {MAX_TOKEN} characters", code="too_large")
        parsed, kid = self._parse(self._decrypt(token))
        before = self.keys.document
        keys: list[Key] = [self._secret] if self._secret is not None else _fitting(await self.keys.get(), kid)
        signed = self._is_signed_by(keys, parsed)
        if not signed and self._secret is None and self.keys.document is before:  # else they were fetched just now
            # The provider may have changed its keys, even under the same kid, as servers in development do.
            signed = self._is_signed_by(_fitting(await self.keys.newer(), kid), parsed)
        if not signed:
            code = "signature" if keys else "kid"
            raise LogoutTokenError("the signature matches none of the provider's keys", code=code)
        return parsed.headers(), _claims(parsed)

    def for_another_loop(self, jwks_uri: Callable[[], Awaitable[str]]) -> TokenVerifier:
        """Return a verifier of the same tokens with keys of its own: event loops cannot wait for each other's fetch."""
        other = copy.copy(self)
        other.keys = PublishedKeys(jwks_uri, self.algorithm, self.keys.clock)
        return other

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


class PublishedKeys(CachedDocument[list[Key]]):
    """Keep the keys that a provider publishes for one algorithm.

    There are two reasons to fetch them: there are none, or only old ones (``get``), and a token that none of them has
    signed (``newer``). For each reason one fetch is started in ``REFETCH_AFTER`` seconds, and a request that hangs up
    does not stop it: otherwise a sender could use up that fetch every time, and the keys would never arrive.
    """

    fresh_for = KEYS_FRESH

    def __init__(self, jwks_uri: Callable[[], Awaitable[str]], algorithm: str, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._jwks_uri = jwks_uri
        self._algorithm = algorithm
        self._tried_at: dict[str, float] = {}

    async def get(self) -> list[Key]:
        """Return the keys, fetched first if there are none or only old ones. Raises ``LogoutTokenError``."""
        if self.document is None or self.stale:
            await self._fetch_for("get")
        if self.document is None:
            raise LogoutTokenError("the keys of the provider cannot be read", code="keys") from self.failure
        return self.document

    async def newer(self) -> list[Key]:
        """Return keys that were fetched after this call began, or none."""
        before = self.document
        await self._fetch_for("newer")
        return self.document if self.document is not None and self.document is not before else []

    async def _fetch_for(self, reason: str) -> None:
        async with self.fetching:
            # Whoever has waited here for the fetch of another request finds it done.
            now = self.clock()
            if now - self._tried_at.get(reason, -math.inf) < REFETCH_AFTER:
                return
            self._tried_at |= {"get": now, reason: now}
            seconds = min(2 * FETCH_TIMEOUT, anyio.current_effective_deadline() - anyio.current_time())
            try:
                with anyio.fail_after(max(seconds, 0), shield=True):
                    await self.fetch()
            except Exception as error:
                self.failure = error  # also that of the deadline
                cause = error if isinstance(error, ProviderError) else type(error).__name__
                logger.warning(
                    "the provider's keys cannot be read, so its logout tokens are refused and its ID Tokens ignored: "
                    "%s",
                    cause,
                )

    async def load(self) -> list[Key]:
        """Fetch the key set and import the keys that fit the algorithm. Raises ``ProviderError`` if there are none."""
        uri = await self._jwks_uri()
        published = (await fetch_json(uri, client=self.http_client)).get("keys")
        keys = []
        for jwk in published if isinstance(published, list) else []:
            try:
                key = JWKRegistry.import_key(jwk)
                jws.JWSRegistry.algorithms[self._algorithm].check_key(key)
            except Exception:  # noqa: S112  # one malformed or foreign key must not fail the others (RFC 7517, section 5)
                continue
            if not isinstance(key, RSAKey) or key.raw_value.key_size >= MIN_RSA_BITS:
                keys.append(key)
        if not keys:
            raise ProviderError(f"{without_query(uri)} has no key for {self._algorithm}", code="jwks")
        return keys


def _fitting(keys: list[Key], kid: str | None) -> list[Key]:
    # A kid is a hint (RFC 7515, section 4.1.4): without one any key may be meant, and a key without one by any.
    if kid is None:
        return keys[:MAX_KEYS]
    named = [key for key in keys if key.kid == kid]
    return (named or [key for key in keys if key.kid is None])[:MAX_KEYS]


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
