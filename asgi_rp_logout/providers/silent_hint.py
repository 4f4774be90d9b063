"""Ask a provider at logout for an ID Token, without a page: ``prompt=none`` (OpenID Connect Core 1.0, section 3.1.2.1).

Not every provider answers such a request with a redirect. Some show a page, and a browser that ends on it is never
logged out. So the provider is tried first:

1. The same request is sent from here, without a browser and its cookies: the probe. Only a redirect to our own address,
   with our state and an error, shows that the provider knows this kind of request, and the address. A registration may
   change, and a browser that is stranded does not come back to tell: so it is tried again every ``PROBED_FOR``.
2. After ``MOST_FAILURES`` failures of a kind in a row, no browser is sent for a while. Anybody can begin a logout and
   invent the answer, so it depends on who can cause the failure:

   - An error in the answer, or a wrong ``iss``, does not count: it is about this user (OpenID Connect Core 1.0, section
     3.1.2.6), or invented. It does count, for ``OFF_FOR``, if the provider answered the probe with another error than
     ``login_required``, and has returned no ID Token since the process started: it may never return one.
   - If the token endpoint does not redeem a code, for any reason: ``FAILURE_REMEMBERED_FOR``. An invented code is
     refused too, and the pause limits how many of them the token endpoint gets.
   - If it returns tokens, but no valid ID Token: ``OFF_FOR``. This takes an account at the provider.

   Only an ID Token interrupts a row.

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
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import anyio

from ..errors import ProviderError, RPLogoutError
from ..log import logger
from ..protocol.authorization import AuthorizationResponse, error_at, is_from_issuer
from ..protocol.discovery import FAILURE_REMEMBERED_FOR, required_endpoint
from ..protocol.id_token import ExpectedToken, check_id_token
from .cached_document import Metadata
from .token_verifier import TokenVerifier
from .transport import Credentials, get, request_token, revoke_refresh_token

MOST_FAILURES = 3
"""Failures in a row after which no browser is sent for a while."""

OFF_FOR = 3600.0
"""Seconds for which no browser is sent after failures that nobody without an account at the provider can cause."""

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
        self._shown_to_work: bool | None = None  # None: not tried yet
        self._failures: Counter[float] = Counter()  # in a row, by the seconds for which they switch it off
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

    async def try_address(self, redirect_uri: str) -> tuple[str | None, int]:
        """Send the request without a browser; return the error that it brings to our address, and the status.

        Without such an error no browser may be sent. Raises ``ProviderError`` if the provider cannot be asked.
        """
        request = SilentRequest(redirect_uri)
        answer = await get(await self.url(request), client=self._metadata.http_client)
        location = answer.headers.get("location", "")
        is_redirect = 300 <= answer.status < 400
        return error_at(location, redirect_uri, request.state) if is_redirect else None, answer.status

    async def _probe(self, redirect_uri: str) -> _Probed:
        try:
            answered, status = await self.try_address(redirect_uri)
        except Exception as error:  # whatever it is, no logout fails by it
            logger.info("whether %r answers prompt=none is not known yet: %s", self.name, _why(error))
            return self._outcome(on=False, again_in=FAILURE_REMEMBERED_FOR)
        if answered is not None:
            self._shown_to_work = self._shown_to_work or answered == "login_required"
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

    def _note(self, failure: str | None, off_for: float) -> None:
        """Log how a trip has ended, and count its failure, unless ``off_for`` is 0."""
        if failure is None:
            self._shown_to_work = True
            self._failures.clear()
        elif failure == "login_required":
            logger.debug("a logout goes to %r without an ID Token: nobody is signed in there, it says", self.name)
        else:
            logger.info("a logout goes to %r without an ID Token: %s", self.name, failure)
            if off_for:
                self._count_failure(off_for)

    def _count_failure(self, off_for: float) -> None:
        self._failures[off_for] += 1
        if self._failures[off_for] < MOST_FAILURES:
            return
        self._failures[off_for] = 0
        self._off_until = self._clock() + off_for
        self._warn_once(
            f"{MOST_FAILURES} logouts in a row came back from provider {self.name!r} without the ID Token that they "
            f"asked for, so silent_hint is off for {off_for / 60:g} minutes at a time, and logouts go without an ID "
            "Token: see the lines at INFO for the reasons"
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
        off_for = 0.0  # what a failure counts for at the step that is reached: see above
        with anyio.move_on_after(seconds):
            try:
                if not is_from_issuer(response, await self._metadata.get()):
                    raise ProviderError("the answer names another issuer, or none", code="iss")
                if response.code is None:
                    failure, off_for = _error_code(response), OFF_FOR if self._shown_to_work is False else 0.0
                else:
                    off_for = FAILURE_REMEMBERED_FOR
                    tokens = await self._redeem(request, response.code)
                    off_for = OFF_FOR
                    answer = SilentAnswer(refresh_token=_text(tokens, "refresh_token"))
                    answer = await self._verified(request, tokens, answer)
                    failure = None
            except Exception as error:  # whatever it is, the logout goes on
                failure = _why(error)
        self._note(failure, off_for)
        return answer

    async def _redeem(self, request: SilentRequest, code: str) -> dict[str, Any]:
        parameters = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": request.redirect_uri,
            "code_verifier": request.code_verifier,
        }
        credentials = self._credentials.accepted_by(await self._metadata.get())
        endpoint = await self._endpoint("token_endpoint")
        tokens = await request_token(endpoint, credentials, parameters, client=self._metadata.http_client)
        if not tokens.keys() & {"access_token", "id_token"}:  # a refusal with the status 200
            raise ProviderError("the token endpoint returned no token", code="id_token")
        return tokens

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
