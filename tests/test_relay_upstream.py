"""How a token request reaches the provider: over a connection of the relay's own, or through the application's client.

The provider here is a socket that says given bytes, for answers and faults that no server of a library gives.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from asgi_rp_logout.errors import ProviderError
from asgi_rp_logout.providers.transport import MAX_DOCUMENT, Forwarded, certificates, client_for_many_users
from asgi_rp_logout.relay.endpoints import Upstream
from asgi_rp_logout.relay.upstream import OwnConnections, ThroughClient

from .conftest import Certificate, Serve, UnusedPort

BODY = b"grant_type=authorization_code&code=a%2Bcode"
FORM = (b"content-type", b"application/x-www-form-urlencoded")


def own() -> Upstream:
    trusted = certificates()
    return OwnConnections(client_for_many_users(trusted), trusted)


def through_client() -> Upstream:
    return ThroughClient(client_for_many_users(certificates()))


WAYS = pytest.mark.parametrize("way", [own, through_client])


def post(way: Callable[[], Upstream], endpoint: str, *headers: tuple[bytes, bytes]) -> Forwarded:
    return asyncio.run(way().post(endpoint, [FORM, *headers], BODY))


def told(way: Callable[[], Upstream], said: bytes, *, path: str = "/token") -> tuple[Forwarded, bytes]:
    """Post to a socket that says these bytes and hangs up; give the answer, and what has arrived there."""
    arrived = bytearray()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not arrived.endswith(BODY):
            arrived.extend(await reader.read(1000))
        writer.write(said)
        writer.close()

    async def run() -> Forwarded:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await way().post(f"http://127.0.0.1:{port}{path}", [FORM], BODY)

    return asyncio.run(run()), bytes(arrived)


@WAYS
@pytest.mark.parametrize(
    ("said", "headers", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", [(b"content-length", b"2")], b"{}"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", [], b"until the end"),
        (b"HTTP/1.0 200 OK\r\nX-Y: a\r\nx-y: b\r\n\r\n{}", [(b"x-y", b"a"), (b"x-y", b"b")], b"{}"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{}", [], b"{}"),
        (
            b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n5\r\n": 1}\r\n0\r\n\r\n',
            [(b"transfer-encoding", b"chunked")],
            b'{"a": 1}',
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8bx", [(b"content-encoding", b"gzip")], b"\x1f\x8bx"),
    ],
)
def test_an_answer_comes_as_it_is(
    way: Callable[[], Upstream], said: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    answer, _ = told(way, said)
    assert answer.status == 200
    assert [(name.lower(), value) for name, value in answer.headers] == headers
    assert answer.body == body


@WAYS
def test_an_answer_of_another_status_is_an_answer(way: Callable[[], Upstream]) -> None:
    assert told(way, b"HTTP/1.1 204 No Content\r\n\r\n")[0] == Forwarded(204, [], b"")
    assert told(way, b"HTTP/1.1 307 Elsewhere\r\nlocation: /x\r\n\r\n")[0].headers == [(b"location", b"/x")]


@WAYS
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a secret" * 50_000 + b"\r\n\r\n{}",
    ],
)
def test_an_answer_that_is_broken_is_said_without_a_word_of_it(way: Callable[[], Upstream], said: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        told(way, said, path="/token?tenant=a-secret")
    assert caught.value.code == "fetch_failed"
    assert "/token cannot be reached: RemoteProtocolError" in str(caught.value)
    assert "secret" not in str(caught.value)


@WAYS
def test_an_answer_may_have_as_many_headers_as_httpx_takes(way: Callable[[], Upstream]) -> None:
    """They come in several reads: a limit that only what is incomplete has to keep must not depend on that."""
    said = b"HTTP/1.1 200 OK\r\nx: " + b"y" * 90_000 + b"\r\ncontent-length: 2\r\n\r\n{}"
    assert told(way, said)[0].body == b"{}"


@WAYS
@pytest.mark.parametrize("framing", [b"", b"content-length: 900000\r\n"])
def test_an_answer_that_is_too_large_is_refused(way: Callable[[], Upstream], framing: bytes) -> None:
    said = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n"
    if not framing:
        assert len(told(way, said + b"x" * MAX_DOCUMENT)[0].body) == MAX_DOCUMENT
    with pytest.raises(ProviderError) as caught:
        told(way, said + b"x" * (MAX_DOCUMENT + 1))
    assert caught.value.code == "fetch_too_large"


def test_the_request_is_one_of_http_1_1_with_its_target_and_body() -> None:
    _, arrived = told(own, b"HTTP/1.1 200 OK\r\n\r\n", path="/realms/acme/token?p=B2C&q=%2F")
    head, _, body = arrived.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    assert line == b"POST /realms/acme/token?p=B2C&q=%2F HTTP/1.1"
    sent = dict(field.lower().split(b": ", 1) for field in fields)
    assert sent.pop(b"host").startswith(b"127.0.0.1:")
    assert sent == {
        b"accept-encoding": b"identity",
        b"connection": b"close",
        b"content-length": b"%d" % len(BODY),
        FORM[0]: FORM[1],
    }
    assert len(fields) == len(sent) + 1
    assert body == BODY


def test_an_endpoint_without_a_path_has_one() -> None:
    assert told(own, b"HTTP/1.1 200 OK\r\n\r\n", path="")[1].startswith(b"POST / HTTP/1.1\r\n")
    assert told(own, b"HTTP/1.1 200 OK\r\n\r\n", path="?a=b")[1].startswith(b"POST /?a=b HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("https://ID.example:443", "ID.example"),
        ("https://id.example:", "id.example"),
        ("https://id.example:80", "id.example:80"),
        ("http://[::1]:80", "[::1]"),
        ("http://[::1]:443", "[::1]:443"),
    ],
)
def test_the_host_field_has_no_port_that_is_the_schemes_own(
    monkeypatch: pytest.MonkeyPatch, authority: str, host: str
) -> None:
    """As every client sends it: a proxy that chooses by the whole field knows the provider by no other."""
    sent: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(note, "127.0.0.1", 0) as server:
            connect, port = asyncio.open_connection, server.sockets[0].getsockname()[1]
            monkeypatch.setattr(asyncio, "open_connection", lambda *_, **__: connect("127.0.0.1", port))
            await own().post(f"{authority}/token", [FORM], BODY)

    asyncio.run(run())
    assert f"\r\nhost: {host}\r\n" in sent[0].decode()


def test_a_path_may_begin_with_two_slashes() -> None:
    assert told(own, b"HTTP/1.1 200 OK\r\n\r\n", path="//token")[1].startswith(b"POST //token HTTP/1.1\r\n")


def test_a_header_that_no_http_message_can_have_is_said(serve: Serve) -> None:
    with pytest.raises(ProviderError, match="LocalProtocolError"):
        post(own, serve(echo, lifespan="off"), (b"x-tenant", b"a\nb"))


async def echo(scope: Any, receive: Any, send: Any) -> None:
    request = Request(scope, receive)
    answer: Response = JSONResponse({"host": request.headers["host"], "body": (await request.body()).decode()})
    await answer(scope, receive, send)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_over_tls_the_provider_is_one_that_the_environment_trusts(
    serve: Serve, certificate: Certificate, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    at = serve(echo, host=host, certificate=certificate, lifespan="off")
    with pytest.raises(ProviderError, match=r"cannot be reached: SSLCertVerificationError .*self-signed certificate"):
        post(own, f"{at}/token")
    with_context = OwnConnections(client_for_many_users(certificates()), certificate.client_context())
    assert post(lambda: with_context, f"{at}/token").status == 200
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.cert))
    answer = post(own, f"{at}/token")
    assert json.loads(answer.body) == {"host": at.removeprefix("https://"), "body": BODY.decode()}


def test_a_certificate_for_another_host_is_refused(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.cert))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.cert, certificate.key)
    greeted: list[object] = []

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeted.append(writer)
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(hang_up, "127.0.0.2", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            await own().post(f"https://127.0.0.2:{port}/token", [FORM], BODY)

    with pytest.raises(ProviderError, match="IP address mismatch"):
        asyncio.run(run())
    assert not greeted


def test_a_port_that_nobody_listens_on_is_said(unused_port: UnusedPort) -> None:
    with pytest.raises(ProviderError, match=r"cannot be reached: ConnectionRefusedError \(.*Connect call failed"):
        post(own, f"http://127.0.0.1:{unused_port()}/token")


def test_a_host_without_an_address_is_said() -> None:
    with pytest.raises(ProviderError, match=r"https://id\.invalid/token cannot be reached: gaierror \("):
        post(own, "https://id.invalid/token?a=b")


@WAYS
@pytest.mark.parametrize("host", ["id..invalid", ".invalid", "a" * 64 + ".invalid", "xn--a.invalid"])
def test_a_host_that_no_name_can_be_is_said(way: Callable[[], Upstream], host: str) -> None:
    with pytest.raises(ProviderError, match="/token cannot be reached: ") as caught:
        post(way, f"https://{host}/token")
    assert caught.value.code == "fetch_failed"


@pytest.mark.parametrize(("endpoint", "port"), [("https://id.example.com/t", 443), ("http://id.localhost/t", 80)])
def test_an_endpoint_without_a_port_has_that_of_its_scheme(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, port: int
) -> None:
    asked: list[object] = []

    async def refuse(host: str, port: int, **_: object) -> None:
        asked.append(port)
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio, "open_connection", refuse)
    with pytest.raises(ProviderError):
        post(own, endpoint)
    assert asked == [port]
