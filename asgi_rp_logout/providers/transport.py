"""Small documents from a provider, and requests for and about tokens: nothing else opens a socket, but the relay.

A provider's document decides where browsers are sent, so the fetch is strict: https (http on loopback, for tests and
demos), the certificate is checked, redirects are not followed, the size and the time are limited.

There are two HTTP libraries with one interface: httpx, on which this package depends, and httpx2, which Authlib and
Starlette prefer where it is installed. The application may pass an ``AsyncClient`` of either. Connections of our own
always go through httpx: the two check certificates against different stores, and a package that is installed for
something else must not change whom this one trusts. httpx2 is never imported here; an application that passes one of
its clients has imported it.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import sys
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, NamedTuple, Protocol

import anyio
import httpx

from ..errors import ProviderError, without_query

MAX_DOCUMENT = 512 * 1024
"""Bytes of a discovery document or key set; the largest seen in the wild has about 40 KB."""

FETCH_TIMEOUT = 5.0
"""Seconds for one document, all in all, unless the deadline of the logout that asks for it is nearer."""


class HTTPClient(Protocol):
    """Describe what is used of an ``AsyncClient``, of httpx or httpx2."""

    def stream(
        self,
        method: str,
        url: str,
        *,
        content: bytes | str | None = None,
        headers: Mapping[str, str] | Sequence[tuple[bytes, bytes]] | None = None,
        follow_redirects: bool = False,
        timeout: float | None = None,
    ) -> AbstractAsyncContextManager[Any]:
        """Send a request, and return the response before its body is read."""
        ...


def is_http_client(value: object) -> bool:
    """Return whether ``value`` is an ``AsyncClient`` of httpx or httpx2."""
    return isinstance(value, _classes("AsyncClient"))


def _classes(*names: str) -> tuple[type, ...]:
    """Return the classes of these names, those of httpx2 only if somebody has imported it."""
    libraries = [sys.modules.get(library) for library in ("httpx", "httpx2")]
    found = [getattr(library, name, None) for library in libraries for name in names]
    return tuple(one for one in found if isinstance(one, type))


def why(error: Exception) -> str:
    """Return what a request failed at, without anything of the request."""
    if isinstance(error, ProviderError):
        return str(error)
    name = type(error).__name__
    if isinstance(error, _classes("ConnectError")):
        # The cause shows whether the name, the port or the certificate is at fault, and is no part of the request.
        return f"{name} ({error.__cause__ or error})"
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"{name} ({status})" if isinstance(status, int) else name


def time_left() -> float:
    """Return the seconds that one fetch may take.

    An outer deadline that is nearer ends the fetch a little earlier than itself, so that the caller sees a failure to
    remember and not a cancellation, which could as well be a browser that went away.
    """
    return min(FETCH_TIMEOUT, max(0.9 * (anyio.current_effective_deadline() - anyio.current_time()), 0))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a GET was answered with: its status, its headers by their names in lower case, and its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def get(url: str, *, client: HTTPClient | None = None, must_be_ok: bool = False) -> Answer:
    """Fetch whatever is at a URL; a redirect is an answer, and is not followed.

    Takes an absolute URL, and the HTTP client to use, if any. Raises ``ProviderError``: not reached, too slow, too
    large, or, if it ``must_be_ok``, a status other than 200, whose body is not read.
    """
    accept = "application/json" if must_be_ok else "application/json, text/html"
    return await _fetch("GET", url, client, must_be_ok=must_be_ok, headers={"accept": accept})


async def _fetch(method: str, url: str, client: HTTPClient | None, *, must_be_ok: bool, **request: Any) -> Answer:
    where, seconds = without_query(url), time_left()
    try:
        with anyio.fail_after(seconds), _named_errors(where):
            async with _sent(method, url, client, **request) as response:
                if must_be_ok:
                    _check_ok(response.status_code, where)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status_code, headers, await _read(response.aiter_bytes(), where))
    except TimeoutError as error:
        raise ProviderError(f"{where} did not answer within {seconds:.1f} s", code="fetch_timeout") from error


async def fetch_json(url: str, *, client: HTTPClient | None = None) -> dict[str, Any]:
    """Fetch one JSON object.

    Takes an absolute URL and the HTTP client to use, if any. Returns the object. Raises ``ProviderError``: not reached,
    too slow, a status other than 200 (a redirect included), too large, or not a JSON object.
    """
    return read_json(await get(url, client=client, must_be_ok=True), without_query(url))


def read_json(answer: Answer, where: str) -> dict[str, Any]:
    """Return the JSON object of an answer; ``where`` names it in errors. Raises ``ProviderError``."""
    _check_ok(answer.status, where)
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise ProviderError(f"{where} is not JSON", code="fetch_not_json") from error
    if not isinstance(document, dict):
        raise ProviderError(f"{where} is JSON, but not an object", code="fetch_not_json")
    return document


def _check_ok(status: int, where: str) -> None:
    if status != 200:
        raise ProviderError(f"{where} answered {status}, not 200", code="fetch_status")


async def _read(chunks: AsyncIterable[bytes], where: str) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        check_size(body, where)
    return bytes(body)


def check_size(body: bytearray, where: str) -> None:
    """Raise ``ProviderError`` for more than ``MAX_DOCUMENT`` bytes of an answer; ``where`` names it in errors."""
    if len(body) > MAX_DOCUMENT:
        raise ProviderError(f"{where} is over {MAX_DOCUMENT} bytes", code="fetch_too_large")


@dataclass(frozen=True, slots=True)
class Credentials:
    """How a client authenticates at the token endpoint; without a ``method``, as the provider's metadata admits it."""

    client_id: str
    client_secret: str | None = None
    method: str | None = None

    def accepted_by(self, metadata: Mapping[str, Any]) -> Credentials:
        """Return the credentials with a method (OpenID Connect Discovery 1.0, section 3: basic is the default)."""
        if self.method is not None:
            return self
        admitted = metadata.get("token_endpoint_auth_methods_supported")
        methods = ("client_secret_basic", "client_secret_post")
        usable = [method for method in methods if isinstance(admitted, list) and method in admitted]
        return replace(self, method=[*usable, *methods][0] if self.client_secret else "none")


async def request_token(
    endpoint: str, credentials: Credentials, parameters: Mapping[str, str], *, client: HTTPClient | None = None
) -> dict[str, Any]:
    """Send a token request, with Authlib's client authentication, and return the answer (RFC 6749, section 5.1).

    Raises ``ProviderError`` for another answer than 200 with a JSON object, or if the endpoint cannot be reached.
    """
    from authlib.oauth2.auth import ClientAuth  # noqa: PLC0415  # as below
    from authlib.oauth2.rfc6749.parameters import prepare_token_request  # noqa: PLC0415

    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    auth = ClientAuth(credentials.client_id, credentials.client_secret, credentials.method)
    url, headers, body = auth.prepare("POST", endpoint, headers, prepare_token_request(**parameters))
    answer = await _fetch("POST", url, client, must_be_ok=True, headers=headers, content=body)
    return read_json(answer, without_query(endpoint))


async def revoke_refresh_token(
    endpoint: str, credentials: Credentials, token: str, *, client: HTTPClient | None = None
) -> None:
    """Revoke a refresh token, with Authlib's request and client authentication (RFC 7009, section 2.1).

    Takes the endpoint, the client's credentials, the token, and the HTTP client to use, if any. The grant's access
    tokens die with it; 200 means revoked or unknown, and the body says nothing (section 2.2). Raises ``ProviderError``
    for another status, or if the endpoint cannot be reached.
    """
    # Imported here: few need it. Authlib's own HTTP client is not used, since it belongs to one of the two libraries.
    from authlib.oauth2.auth import ClientAuth  # noqa: PLC0415
    from authlib.oauth2.rfc7009 import prepare_revoke_token_request  # noqa: PLC0415

    body, headers = prepare_revoke_token_request(token, "refresh_token")
    auth = ClientAuth(credentials.client_id, credentials.client_secret, credentials.method)
    url, headers, body = auth.prepare("POST", endpoint, headers, body)
    where = without_query(endpoint)
    with _named_errors(where):
        async with _sent("POST", url, client, headers=headers, content=body) as response:
            status = response.status_code
    if status != 200:
        raise ProviderError(f"{where} answered {status}, not 200", code="revocation")


class Forwarded(NamedTuple):
    """The answer to a token request that was passed on."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def certificates() -> ssl.SSLContext:
    """Return the authorities that are trusted: those that the environment names, else those of httpx."""
    return httpx.create_ssl_context()


def client_for_many_users(trusted: ssl.SSLContext) -> httpx.AsyncClient:
    """Return a client that keeps neither a cookie nor a connection, and uses no proxy of the environment."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    transport = httpx.AsyncHTTPTransport(verify=trusted, limits=limits)
    cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    return httpx.AsyncClient(transport=transport, cookies=cookies)


async def forward_token_request(
    endpoint: str, headers: Sequence[tuple[bytes, bytes]], body: bytes, *, client: HTTPClient
) -> Forwarded:
    """Post a token request as it is, and return the answer as it is; the caller sets a deadline.

    Raises ``ProviderError``: not reached, or an answer over ``MAX_DOCUMENT`` bytes.
    """
    where = without_query(endpoint)
    plain = [*headers, (b"accept-encoding", b"identity")]
    with _named_errors(where):
        stream = client.stream("POST", endpoint, content=body, headers=plain, follow_redirects=False, timeout=None)
        async with stream as response:
            answer = await _read(response.aiter_raw(), where)
            return Forwarded(response.status_code, list(response.headers.raw), answer)


@contextlib.asynccontextmanager
async def _sent(method: str, url: str, client: HTTPClient | None, **request: Any) -> AsyncIterator[Any]:
    """Send a request with the application's own client, which is left open, or with a new one for this request."""
    async with contextlib.AsyncExitStack() as stack:
        http: HTTPClient = client if client is not None else await stack.enter_async_context(httpx.AsyncClient())
        yield await stack.enter_async_context(
            http.stream(method, url, follow_redirects=False, timeout=FETCH_TIMEOUT, **request)
        )


@contextlib.contextmanager
def _named_errors(where: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not isinstance(error, (UnicodeError, *_classes("HTTPError", "InvalidURL"))):  # UnicodeError: of a host name
            raise
        raise ProviderError(f"{where} cannot be reached: {why(error)}", code="fetch_failed") from error
