"""httpx and httpx2: a client of either reaches a provider, and neither is needed for the other.

scripts/test runs this file twice, with httpx alone and with httpx2 beside it.
"""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode

import anyio
import httpx
import pytest

from asgi_rp_logout import AuthlibProvider, ConfigurationError, Login, LogoutEvent, OIDCProvider, ProviderError
from asgi_rp_logout.providers.transport import Credentials, fetch_json, revoke_refresh_token
from tests.apps import guarded, log_out, signs_out
from tests.asgi import call, http_scope
from tests.conftest import Serve
from tests.stub_provider import StubProvider

LIBRARIES = [name for name in ("httpx", "httpx2") if importlib.util.find_spec(name) is not None]
OP = "https://op.example"
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(request.param)


def answering(library: Any, answer: Callable[[Any], Any]) -> Any:
    """Make a client of a library whose every request ``answer`` answers."""
    return library.AsyncClient(transport=library.MockTransport(answer))


async def test_a_client_of_either_library_serves_discovery_and_revocation(library: Any) -> None:
    asked: list[tuple[str, str, dict[str, list[str]], str | None]] = []

    def answer(request: Any) -> Any:
        form = parse_qs(request.content.decode())
        asked.append((request.method, request.url.path, form, request.headers.get("authorization")))
        endpoints = {"end_session_endpoint": f"{OP}/end", "revocation_endpoint": f"{OP}/revoke"}
        return library.Response(200, json={"issuer": OP, **endpoints})

    provider = OIDCProvider(OP, "rp", "secret", name="op", revoke="refresh_token")
    async with answering(library, answer) as client:
        login = Login("op", refresh_token="the-refresh-token")
        guard = guarded(signs_out(), providers=[provider], login_source=lambda _: login, http_client=client)
        assert ((await log_out(guard)).header("location") or "").startswith(f"{OP}/end?")
        assert not client.is_closed
    form = {"token": ["the-refresh-token"], "token_type_hint": ["refresh_token"]}
    assert asked == [
        ("GET", "/.well-known/openid-configuration", {}, None),
        ("POST", "/revoke", form, "Basic cnA6c2VjcmV0"),
    ]


async def test_a_client_of_either_library_serves_the_keys(library: Any, serve: Serve, unused_port: Any) -> None:
    port = unused_port()
    stub = StubProvider(f"http://127.0.0.1:{port}/")
    serve(stub.app, port=port)
    events: list[LogoutEvent] = []
    async with library.AsyncClient() as client:
        provider = OIDCProvider(stub.issuer, "rp")
        options = {"http_client": client, "backchannel_path": "/bc", "on_logout": events.append}
        guard = guarded(signs_out(), providers=[provider], **options)
        body = urlencode({"logout_token": stub.make_logout_token()}).encode()
        assert (await call(guard, http_scope("/bc", "POST", FORM), body)).status == 200
    assert [event.sub for event in events] == ["alice"]


ERRORS = ["ConnectError", "ReadTimeout", "RemoteProtocolError", "ProxyError", "DecodingError", "InvalidURL"]


@pytest.mark.parametrize("name", ERRORS)
async def test_the_errors_of_either_library_are_a_providers(library: Any, name: str) -> None:
    def fail(request: Any) -> Any:
        raise getattr(library, name)("no answer")

    async with answering(library, fail) as client:
        for asking in (
            fetch_json(f"{OP}/jwks?key=s3cr3t", client=client),
            revoke_refresh_token(f"{OP}/jwks?key=s3cr3t", Credentials("rp", method="none"), "s3cr3t", client=client),
        ):
            with pytest.raises(ProviderError) as caught:
                await asking
            assert caught.value.code == "fetch_failed"
            assert str(caught.value).startswith(f"{OP}/jwks cannot be reached: {name}")


async def test_an_error_that_is_no_librarys_is_left_alone(library: Any) -> None:
    """The control: what a bug raises is not taken for a provider that is down."""

    def fail(request: Any) -> Any:
        raise LookupError

    async with answering(library, fail) as client:
        with pytest.raises(LookupError):
            await fetch_json(OP, client=client)


async def test_a_client_of_either_library_meets_the_same_limits(library: Any) -> None:
    """No redirect is followed, whatever the client itself would do."""
    asked: list[str] = []

    def answer(request: Any) -> Any:
        asked.append(request.url.path)
        return library.Response(302, headers={"location": f"{OP}/elsewhere"})

    transport = library.MockTransport(answer)
    async with library.AsyncClient(transport=transport, follow_redirects=True) as client:
        with pytest.raises(ProviderError, match="answered 302, not 200"):
            await fetch_json(f"{OP}/moved", client=client)
        with pytest.raises(ProviderError, match="answered 302, not 200"):
            await revoke_refresh_token(f"{OP}/moved", Credentials("rp", method="none"), "token", client=client)
    assert asked == ["/moved", "/moved"]


async def test_an_authlib_client_of_either_library_is_a_provider(serve: Serve, unused_port: Any, log: Any) -> None:
    """Authlib takes httpx2 where it is installed; what it raises is a failure with a reason all the same."""
    from authlib.integrations.starlette_client import OAuth

    oauth = OAuth()
    port = unused_port()
    stub = StubProvider(f"http://127.0.0.1:{port}/")
    oauth.register("it", client_id="rp", server_metadata_url=f"{stub.issuer}.well-known/openid-configuration")
    oauth.register("nobody", client_id="rp", server_metadata_url=f"http://127.0.0.1:{unused_port()}/")
    oauth.register("nothing", client_id="rp", server_metadata_url=f"{stub.issuer}nothing")
    serve(stub.app, port=port)
    assert (await AuthlibProvider(oauth.it).get_end_session_url() or "").startswith(f"{stub.issuer}end_session")
    for client, reason in ((oauth.nobody, r"ConnectError \("), (oauth.nothing, r"HTTPStatusError \(404\)")):
        with pytest.raises(ProviderError, match=f"Authlib has no metadata: {reason}"):
            await AuthlibProvider(client).get_end_session_url()


def test_only_an_asynchronous_client_is_taken(library: Any) -> None:
    with library.Client() as client:
        for wrong in (client, library.AsyncClient, library.URL(OP)):
            with pytest.raises(ConfigurationError, match="expected an AsyncClient of httpx or httpx2"):
                guarded(signs_out(), http_client=wrong)


REVOKING = """
import sys, anyio, asgi_rp_logout, asgi_rp_logout.providers.transport as transport
try:
    rp = transport.Credentials("rp", "secret", "client_secret_basic")
    anyio.run(transport.revoke_refresh_token, "http://127.0.0.1:1/", rp, "token")
except asgi_rp_logout.ProviderError as error:
    print(error.code, "httpx2" in sys.modules, file=sys.stdout)
"""


def test_neither_importing_nor_revoking_imports_httpx2_or_prints_a_warning() -> None:
    """Our own connections go through httpx, and what others have installed changes nothing about them."""
    done = subprocess.run([sys.executable, "-W", "always", "-c", REVOKING], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("fetch_failed False", "")


def test_our_own_connections_go_through_httpx(monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
    """Also where the application has imported the other one."""
    made: list[Any] = []

    class Noted(httpx.AsyncClient):
        def __init__(self, **options: Any) -> None:
            made.append(self)
            super().__init__(**options, transport=httpx.MockTransport(lambda request: httpx.Response(200, json={})))

    monkeypatch.setattr(httpx, "AsyncClient", Noted)
    assert anyio.run(fetch_json, OP) == {}
    assert len(made) == 1
    assert made[0].is_closed
