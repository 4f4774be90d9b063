"""The only module that opens a socket: small JSON documents from a provider, and the revocation of a token.

A provider's document decides where browsers are sent, so the fetch is strict: https (http on loopback, for tests and
demos), the certificate is checked, redirects are not followed, the size and the time are limited.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
from authlib.deprecate import AuthlibDeprecationWarning

from .errors import ProviderError, without_query

MAX_DOCUMENT = 512 * 1024
"""Bytes of a discovery document or key set; the largest seen in the wild has about 40 KB."""

FETCH_TIMEOUT = 5.0
"""Seconds for one document, all in all, unless the deadline of the logout that asks for it is nearer."""


@contextlib.asynccontextmanager
async def open_client(client: httpx.AsyncClient | None) -> AsyncIterator[httpx.AsyncClient]:
    """Give the caller's own client, left open afterwards, or a new one for this one exchange."""
    if client is not None:
        yield client
        return
    async with httpx.AsyncClient(timeout=FETCH_TIMEOUT) as fresh:
        yield fresh


async def fetch_json(url: str, *, client: httpx.AsyncClient | None = None) -> dict[str, Any]:
    """Fetch one JSON object.

    Takes an absolute URL and the HTTP client to use, if any. Gives the object. Raises ``ProviderError``: not reached,
    too slow, a status other than 200 (a redirect included), too large, or not a JSON object.
    """
    # An outer deadline that is nearer ends the fetch a little earlier than itself, so that the caller sees a failure
    # to remember and not a cancellation, which could as well be a browser that went away.
    seconds = min(FETCH_TIMEOUT, max(anyio.current_effective_deadline() - anyio.current_time() - 0.05, 0.01))
    where = without_query(url)
    try:
        with anyio.fail_after(seconds):
            body = await _read(url, client)
        document = json.loads(body)
    except TimeoutError as error:
        raise ProviderError(f"{where} did not answer within {seconds:.1f} s", code="fetch_timeout") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # What the connection failed at tells a name from a port from a certificate, and holds nothing of a request.
        why = f" ({error.__cause__ or error})" if isinstance(error, httpx.ConnectError) else ""
        raise ProviderError(f"{where} cannot be reached: {type(error).__name__}{why}", code="fetch_failed") from error
    except (ValueError, RecursionError) as error:
        raise ProviderError(f"{where} is not JSON", code="fetch_not_json") from error
    if not isinstance(document, dict):
        raise ProviderError(f"{where} is JSON, but not an object", code="fetch_not_json")
    return document


async def _read(url: str, client: httpx.AsyncClient | None) -> bytes:
    request_headers = {"accept": "application/json"}
    async with (
        open_client(client) as http,
        http.stream("GET", url, headers=request_headers, follow_redirects=False, timeout=FETCH_TIMEOUT) as response,
    ):
        if response.status_code != 200:
            raise ProviderError(f"{without_query(url)} answered {response.status_code}, not 200", code="fetch_status")
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_DOCUMENT:
                raise ProviderError(f"{without_query(url)} is over {MAX_DOCUMENT} bytes", code="fetch_too_large")
        return bytes(body)


async def revoke_refresh_token(
    endpoint: str, client_id: str, client_secret: str | None, token: str, *, client: httpx.AsyncClient | None = None
) -> None:
    """Revoke a refresh token, with Authlib's request and client authentication (RFC 7009, section 2.1).

    Takes the endpoint, the client's credentials, the token, and the HTTP client to use, if any. The grant's access
    tokens die with it; 200 means revoked or unknown, and the body says nothing (section 2.2). Raises ``ProviderError``
    for another status.
    """
    # Imported here: few need it, and Authlib tells every importer which HTTP library it would rather have.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AuthlibDeprecationWarning)
        from authlib.integrations.httpx_client import OAuth2ClientAuth  # noqa: PLC0415
        from authlib.oauth2.rfc7009 import prepare_revoke_token_request  # noqa: PLC0415

    body, headers = prepare_revoke_token_request(token, "refresh_token")
    auth = OAuth2ClientAuth(client_id, client_secret, "client_secret_basic" if client_secret else "none")
    async with open_client(client) as http:
        options = {"auth": auth, "follow_redirects": False, "timeout": FETCH_TIMEOUT}
        response = await http.post(endpoint, content=body, headers=headers, **options)
    if response.status_code != 200:
        raise ProviderError(f"{without_query(endpoint)} answered {response.status_code}, not 200", code="revocation")
