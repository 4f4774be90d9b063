"""Ask a provider at logout for an ID Token, without a page: ``prompt=none`` (OpenID Connect Core 1.0, section 3.1.2.1).

Not every provider answers such a request with a redirect. Some show a page, and a browser that ends on it is never
logged out. So the provider is tried first:

1. The same request is sent from here, without a browser and its cookies: the probe. Only a redirect to our own address,
   with our state and an error, shows that the provider knows this kind of request, and the address. A registration may
   change, and a browser that is stranded does not come back to tell: so it is tried again every ``PROBED_FOR``.
2. After ``MOST_FAILURES`` failures in a row, no browser is sent for ``OFF_FOR``. ``login_required`` is no failure, and
   does not interrupt the row either: anybody can send it.

Authlib writes the requests, and ``TokenVerifier`` verifies the ID Token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import anyio

from ..errors import ProviderError, RPLogoutError
from ..log import logger
from ..protocol.authorization import AuthorizationResponse, is_error_at, is_from_issuer
from ..protocol.discovery import FAILURE_REMEMBERED_FOR, required_endpoint
from ..protocol.id_token import ExpectedToken, check_id_token
from .cached_document import Metadata
from .token_verifier import TokenVerifier
from .transport import Credentials, get, request_token, revoke_refresh_token

MOST_FAILURES = 3
"""Logouts in a row without a hint, after which no browser is sent for a while."""

OFF_FOR = 3600.0
"""Seconds for which no browser is sent then. Anybody can make three logouts fail, so it is not for good."""

PROBED_FOR = 3600.0
"""Seconds after which a provider is probed again, after the response of a logout."""

MOST_ADDRESSES = 8
"""Addresses of our own that are probed. Without a ``public_url`` they come from the Host header, so from anybody."""


@dataclass(frozen=True, slots=True)
class SilentRequest:
    """One authorization request: our address, and a secret from which everything else about it is derived.

    The secret is the cookie of the browser, and is stored nowhere else. State and nonce are hashes of it (RFC 6749,
    section 10.12; OpenID Connect Core 1.0, section 15.5.2), and so is the code verifier (RFC 7636, section 4.1).
    """

    redirect_uri: str
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def state(self) -> str:
        """The state."""
        return self._derived(b"state")

    @property
    def nonce(self) -> str:
        """The nonce."""
        return self._derived(b"nonce")

    @property
    def code_verifier(self) -> str:
        """The code verifier, which only the token endpoint gets to know."""
        return self._derived(b"code_verifier")

    def _derived(self, purpose: bytes) -> str:
        key = self.secret.encode("utf-8", "replace")
        return base64.urlsafe_b64encode(hmac.digest(key, purpose, hashlib.sha256)).rstrip(b"=").decode("ascii")


@dataclass(frozen=True, slots=True, repr=False)
class SilentAnswer:
    """What a request has brought: a verified ID Token with its subject and session, and a refresh token for nobody."""

    id_token: str | None = None
    sub: str | None = None
    sid: str | None = None
    refresh_token: str | None = None


@dataclass(frozen=True, slots=True)
class _Probed:
    """The outcome of a probe, and when it may be made again."""

    on: bool
    at: float
    again_at: float


class SilentHint:
    """Ask one provider for ID Tokens with ``prompt=none``. ``revocation_endpoint`` finds its endpoint, if any."""

    def __init__(
        self,
        name: str,
        credentials: Credentials,
        metadata: Metadata,
        verifier: TokenVerifier,
        revocation_endpoint: Callable[[], Awaitable[str | None]],
    ) -> None:
        self.name = name
        self._credentials = credentials
        self._metadata = metadata
        self._verifier = verifier
        self._revocation_endpoint = revocation_endpoint
        self._clock: Callable[[], float] = lambda: time.monotonic()  # noqa: PLW0108  # looked up at each call
        self._probed: dict[str, _Probed] = {}
        self._probing = False
        self._failures = 0
        self._off_until = -math.inf
        self._warned: set[str] = set()

    # -- may a browser be sent? ----------------------------------------------------------------------------------

    def is_on(self, redirect_uri: str) -> bool:
        """Return whether a browser may be sent, to come back to this address of ours."""
        probed = self._probed.get(redirect_uri)
        return probed is not None and probed.on and self._clock() >= self._off_until

    def needs_probe(self, redirect_uri: str) -> bool:
        """Return whether ``probe()`` would send a request for this address now."""
        now, probed = self._clock(), self._probed.get(redirect_uri)
        if self._probing or (probed is not None and now < probed.again_at):
            return False
        return probed is not None or len(self._probed) < MOST_ADDRESSES or self._to_forget(now) is not None

    def _to_forget(self, now: float) -> str | None:
        """Return the address that may make room for another one: none of this half minute, the oldest one first.

        One that works stays, unless they all work. A provider with a wildcard redirect URI answers at any address, and
        invented ones must not keep ours out.
        """
        old = [uri for uri, one in self._probed.items() if now - one.at >= FAILURE_REMEMBERED_FOR]
        useless = [uri for uri in old if not self._probed[uri].on]
        all_work = all(one.on for one in self._probed.values())
        return min(old if all_work else useless, key=lambda uri: self._probed[uri].at, default=None)

    async def probe(self, redirect_uri: str) -> None:
        """Find out whether a browser may be sent. A provider that is down is asked again after half a minute."""
        if not self.needs_probe(redirect_uri):
            return
        self._probing = True
        try:
            outcome = await self._probe(redirect_uri)
        finally:
            self._probing = False
        if redirect_uri not in self._probed and len(self._probed) >= MOST_ADDRESSES:
            self._probed.pop(self._to_forget(outcome.at) or "", None)
        self._probed[redirect_uri] = outcome

    async def prefetch(self, redirect_uri: str) -> None:
        """Probe ahead of need; a provider that has not answered by then is asked again after the first logout."""
        await self.probe(redirect_uri)
        probed = self._probed.get(redirect_uri)
        if probed is not None and not probed.on:
            del self._probed[redirect_uri]

    async def try_address(self, redirect_uri: str) -> tuple[bool, int]:
        """Send the request without a browser; return whether a browser may be sent, and the status of the answer.

        Raises ``ProviderError`` if the provider cannot be asked.
        """
        request = SilentRequest(redirect_uri)
        answer = await get(await self.url(request), client=self._metadata.http_client)
        location = answer.headers.get("location", "")
        works = 300 <= answer.status < 400 and is_error_at(location, redirect_uri, request.state)
        return works, answer.status

    async def _probe(self, redirect_uri: str) -> _Probed:
        try:
            works, status = await self.try_address(redirect_uri)
        except Exception as error:  # whatever it is, no logout fails by it
            logger.info("whether %r answers prompt=none is not known yet: %s", self.name, _why(error))
            return self._outcome(on=False, again_in=FAILURE_REMEMBERED_FOR)
        if works:
            return self._outcome(on=True, again_in=PROBED_FOR)
        self._warn_once(
            f"silent_hint of provider {self.name!r} is off, so its logouts go without an ID Token: asked with "
            f"prompt=none, it answered {status} and no error at the address of callback_path. Register that address "
            "there as a redirect URI of this client, and set public_url. If it is registered, this provider cannot be "
            "asked: leave silent_hint out"
        )
        passing = status >= 500 or status == 429
        return self._outcome(on=False, again_in=FAILURE_REMEMBERED_FOR if passing else PROBED_FOR)

    def _outcome(self, *, on: bool, again_in: float) -> _Probed:
        now = self._clock()
        return _Probed(on, now, now + again_in)

    def _note(self, *, failed: bool) -> None:
        self._failures = self._failures + 1 if failed else 0
        if self._failures >= MOST_FAILURES:
            self._failures, self._off_until = 0, self._clock() + OFF_FOR
            self._warn_once(
                f"{MOST_FAILURES} logouts in a row came back from provider {self.name!r} without the ID Token that "
                f"they asked for, so silent_hint is off for {OFF_FOR / 60:.0f} minutes at a time, and logouts go "
                "without an ID Token: see the lines at INFO for the reasons"
            )

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            logger.warning("%s", sentence)

    # -- the request and its answer ------------------------------------------------------------------------------

    async def url(self, request: SilentRequest) -> str:
        """Return the URL of an authorization request (OpenID Connect Core 1.0, section 3.1.2.1).

        Raises ``ProviderError``.
        """
        from authlib.oauth2.rfc6749.parameters import prepare_grant_uri  # noqa: PLC0415  # as in transport
        from authlib.oauth2.rfc7636 import create_s256_code_challenge  # noqa: PLC0415

        return str(
            prepare_grant_uri(
                await self._endpoint("authorization_endpoint"),
                client_id=self._credentials.client_id,
                response_type="code",
                redirect_uri=request.redirect_uri,
                scope="openid",
                state=request.state,
                nonce=request.nonce,
                prompt="none",
                code_challenge=create_s256_code_challenge(request.code_verifier),
                code_challenge_method="S256",
            )
        )

    async def answer(self, request: SilentRequest, response: AuthorizationResponse, seconds: float) -> SilentAnswer:
        """Return what a response is good for, within ``seconds``. What is wrong with it is logged, and counted."""
        answer = SilentAnswer()
        if self._clock() < self._off_until:  # trips that have begun before must not go on asking it
            return answer
        failure: str | None = f"no answer within {seconds:g} s"
        with anyio.move_on_after(seconds):
            try:
                if response.code is not None:
                    tokens = await self._redeem(request, response)
                    answer = SilentAnswer(refresh_token=_text(tokens, "refresh_token"))
                    answer = await self._verified(request, tokens, answer)
                    failure = None
                else:
                    failure = _error_code(response)
            except Exception as error:  # whatever it is, the logout goes on
                failure = _why(error)
        if failure == "login_required":
            logger.debug("a logout goes to %r without an ID Token: nobody is signed in there, it says", self.name)
            return answer
        if failure is not None:
            logger.info("a logout goes to %r without an ID Token: %s", self.name, failure)
        self._note(failed=failure is not None)
        return answer

    async def _redeem(self, request: SilentRequest, response: AuthorizationResponse) -> dict[str, Any]:
        metadata = await self._metadata.get()
        if not is_from_issuer(response, metadata):
            raise ProviderError("the answer names another issuer, or none", code="iss")
        parameters = {
            "grant_type": "authorization_code",
            "code": response.code or "",
            "redirect_uri": request.redirect_uri,
            "code_verifier": request.code_verifier,
        }
        credentials = self._credentials.accepted_by(metadata)
        endpoint = await self._endpoint("token_endpoint")
        return await request_token(endpoint, credentials, parameters, client=self._metadata.http_client)

    async def _verified(self, request: SilentRequest, tokens: dict[str, Any], answer: SilentAnswer) -> SilentAnswer:
        id_token = _text(tokens, "id_token")
        if id_token is None:
            raise ProviderError("the token endpoint returned no ID Token", code="id_token")
        _, claims = await self._verifier.verify(id_token)
        issuer = (await self._metadata.get()).get("issuer")
        expected = ExpectedToken(str(issuer or ""), self._credentials.client_id, request.nonce)
        check_id_token(claims, expected, now=time.time())
        return replace(answer, id_token=id_token, sub=claims["sub"], sid=_text(claims, "sid"))

    async def revoke(self, refresh_token: str) -> None:
        """Revoke a refresh token, if the provider has an endpoint for that (RFC 7009, section 2.1). Never raises."""
        try:
            endpoint = await self._revocation_endpoint()
            if endpoint is not None:
                credentials = self._credentials.accepted_by(await self._metadata.get())
                await revoke_refresh_token(endpoint, credentials, refresh_token, client=self._metadata.http_client)
        except Exception as error:
            logger.warning(
                "the refresh token that came with the ID Token of a logout was not revoked, and stays valid at %r "
                "until it expires: %s",
                self.name,
                _why(error),
            )

    async def _endpoint(self, name: str) -> str:
        return required_endpoint(await self._metadata.get(), name, self.name, code="no_endpoint")


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, RPLogoutError) else type(error).__name__


def _text(tokens: dict[str, Any], name: str) -> str | None:
    value = tokens.get(name)
    return value if isinstance(value, str) and value else None


def _error_code(response: AuthorizationResponse) -> str:
    """Return the code of an error if it looks like one: anybody can write anything into the query."""
    code = response.error or ""
    return code if re.fullmatch("[a-z_]{1,40}", code) else "an error"
