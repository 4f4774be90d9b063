"""Back-channel logout through a client that the application registered with Authlib, over real connections."""

from __future__ import annotations

import logging
import warnings
from typing import Any
from urllib.parse import urlencode

import anyio
import anyio.lowlevel
import httpx
import pytest
from authlib.deprecate import AuthlibDeprecationWarning
from joserfc.jwk import OctKey

from asgi_rp_logout import AuthlibProvider, Login, LogoutEvent, RPLogoutMiddleware, StaticProvider
from asgi_rp_logout.login import unverified_claims
from asgi_rp_logout.protocol.discovery import FAILURE_REMEMBERED_FOR, FRESH_FOR
from tests.apps import END, guarded, log_out, parameters, signs_out
from tests.asgi import Answer, call, http_scope
from tests.stub_provider import StubProvider, generated
from tests.tokens import id_token

with warnings.catch_warnings():
    warnings.simplefilter("ignore", AuthlibDeprecationWarning)
    from authlib.integrations.starlette_client import OAuth

FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def stub(serve: Any, unused_port: Any) -> StubProvider:
    port = unused_port()
    provider = StubProvider(f"http://127.0.0.1:{port}/")
    serve(provider.app, port=port)
    return provider


async def post(stub: StubProvider, token: str, events: list[LogoutEvent]) -> Answer:
    """Post a token to an application that has not spoken to its provider yet, as a fresh worker has not."""
    oauth = OAuth()
    oauth.register("it", client_id="rp", server_metadata_url=f"{stub.issuer}.well-known/openid-configuration")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the application is not asked")

    provider = AuthlibProvider(oauth.it)
    wrapped = RPLogoutMiddleware(app, providers=[provider], backchannel_path="/backchannel", on_logout=events.append)
    body = urlencode({"logout_token": token}).encode()
    return await call(wrapped, http_scope("/backchannel", "POST", FORM), body)


async def test_a_valid_token_is_taken_by_a_worker_that_has_seen_no_login(stub: StubProvider) -> None:
    events: list[LogoutEvent] = []
    token = stub.make_logout_token()
    answer = await post(stub, token, events)
    assert (answer.status, answer.header("cache-control")) == (200, "no-store")
    iat = unverified_claims(token)["iat"]
    assert events == [LogoutEvent("back-channel", "it", stub.issuer, "alice", "s1", ended_until=iat)]


@pytest.mark.parametrize("knob", ["wrong_aud", "wrong_iss", "alg_none", "wrong_alg"])
async def test_a_doubtful_token_is_refused(stub: StubProvider, knob: str) -> None:
    events: list[LogoutEvent] = []
    answer = await post(stub, stub.make_logout_token(knob), events)
    assert (answer.status, events) == (400, [])


SECRET = "a secret of more than thirty-two bytes"
BY_SECRET: dict[str, Any] = {"key": OctKey.import_key(SECRET), "alg": "HS256"}
BY_CURVE: dict[str, Any] = {"key": generated("EC"), "alg": "ES256"}


@pytest.mark.parametrize(
    ("options", "signed", "knobs", "status"),
    [
        ({}, {}, [], 200),
        ({}, BY_SECRET, [], 400),
        ({"algorithm": "HS256"}, BY_SECRET, [], 200),
        ({"algorithm": "HS256"}, BY_SECRET, ["bad_signature"], 400),
        ({"algorithm": "HS256"}, {}, [], 400),
        ({"algorithm": "ES256"}, BY_CURVE, [], 200),
        ({"algorithm": "ES256"}, {}, [], 400),
        ({}, {}, ["no_exp"], 200),
        ({"require_exp": True}, {}, ["no_exp"], 400),
        ({"require_exp": True}, {}, [], 200),
    ],
)
async def test_the_algorithm_and_the_expiry_are_as_configured(
    stub: StubProvider, options: Any, signed: Any, knobs: list[str], status: int
) -> None:
    """One algorithm only. The key of HS256 is the client's secret, which the registration has."""
    provider = AuthlibProvider(registered(stub, client_secret=SECRET), **options)
    assert await post_to(endpoint(provider), stub.make_logout_token(*knobs, **signed)) == status


# A private certificate authority: the middleware's http_client knows it


@pytest.fixture
def private(serve: Any, unused_port: Any, certificate: Any) -> StubProvider:
    """A provider behind a certificate that only ``certificate.client_context()`` trusts."""
    port = unused_port()
    provider = StubProvider(f"https://localhost:{port}/")
    serve(provider.app, port=port, host="localhost", certificate=certificate)
    return provider


def registered(stub: StubProvider, **options: Any) -> Any:
    oauth = OAuth()
    oauth.register(
        "it", client_id="rp", server_metadata_url=f"{stub.issuer}.well-known/openid-configuration", **options
    )
    return oauth.it


def endpoint(provider: Any, **options: Any) -> RPLogoutMiddleware:
    paths: dict[str, Any] = {"backchannel_path": "/backchannel", "frontchannel_path": "/frontchannel"}
    return RPLogoutMiddleware(signs_out(), providers=[provider], **paths, **options)


async def post_to(app: Any, token: str) -> int:
    body = urlencode({"logout_token": token}).encode()
    return (await call(app, http_scope("/backchannel", "POST", FORM), body)).status


@pytest.mark.parametrize("loaded_by_authlib", [True, False])
async def test_the_http_client_reads_keys_and_what_authlib_has_not_loaded(
    private: StubProvider, certificate: Any, loaded_by_authlib: bool
) -> None:
    trust = {"client_kwargs": {"verify": certificate.client_context()}} if loaded_by_authlib else {}
    client = registered(private, **trust)
    if loaded_by_authlib:
        await client.load_server_metadata()  # as a login does
    async with httpx.AsyncClient(verify=certificate.client_context()) as http_client:
        app = endpoint(AuthlibProvider(client), http_client=http_client)
        assert await post_to(app, private.make_logout_token()) == 200
    assert private.fetched == {"discovery": 1, "jwks": 1}


async def test_why_nothing_could_be_read_is_logged_once_and_not_for_each_token(
    private: StubProvider, certificate: Any, log: Any
) -> None:
    """Without that client nobody vouches for the certificate: of the metadata or, where Authlib has it, of the keys."""
    oauth, trust = registered(private), {"verify": certificate.client_context()}
    for client_kwargs, what in (({}, "the issuer of provider 'it'"), (trust, "the provider's keys")):
        oauth.client_kwargs = client_kwargs
        app = endpoint(AuthlibProvider(oauth))
        for _ in range(5):
            assert await post_to(app, private.make_logout_token()) == 400
        (line,) = [line for line in log() if "cannot be read" in line and what in line]
        assert "CERTIFICATE_VERIFY_FAILED" in line


async def test_metadata_that_authlib_has_not_loaded_is_fetched_again_after_an_hour(stub: StubProvider) -> None:
    """After the response, as a discovery document is; what Authlib has loaded itself is Authlib's to renew."""
    now = 0.0
    async with httpx.AsyncClient() as http_client:
        provider = AuthlibProvider(registered(stub))
        provider.metadata.clock = lambda: now
        app = guarded(signs_out(), providers=[provider], http_client=http_client)
        for now, fetched in ((0.0, 1), (FRESH_FOR, 1), (FRESH_FOR + 1, 2), (FRESH_FOR + 2, 2)):
            answer = await log_out(app, headers={"cookie": f"session={now}"})
            assert (answer.header("location") or "").startswith(f"{stub.issuer}end_session")
            assert stub.fetched == {"discovery": fetched}


class Client:
    """What Authlib registers, as far as it is used here; ``load`` is what its metadata does."""

    name, client_id = "it", "rp"

    def __init__(self, load: Any) -> None:
        self.server_metadata: dict[str, Any] = {}
        self.load = load
        self.loads = 0

    async def load_server_metadata(self) -> dict[str, Any]:
        self.loads += 1
        await self.load()
        self.server_metadata["issuer"] = "https://op.example"
        return self.server_metadata


async def fails() -> None:
    raise OSError("s3cr3t")


WELL_FORMED = id_token(iss="https://op.example")
GARBAGE: dict[str, tuple[str, str, Any, bytes]] = {
    "no form": ("POST", "/backchannel", {}, f"logout_token={WELL_FORMED}".encode()),
    "no token": ("POST", "/backchannel", FORM, b"a=b"),
    "two tokens": ("POST", "/backchannel", FORM, f"logout_token={WELL_FORMED}&logout_token={WELL_FORMED}".encode()),
    "no jwt": ("POST", "/backchannel", FORM, b"logout_token=garbage"),
    "three parts of nothing": ("POST", "/backchannel", FORM, b"logout_token=a.b.c"),
    "no header": ("POST", "/backchannel", FORM, f"logout_token=a{WELL_FORMED[WELL_FORMED.index('.') :]}".encode()),
    "no iss": ("POST", "/backchannel", FORM, f"logout_token={id_token(iss=None)}".encode()),  # type: ignore[arg-type]
    "encrypted": ("POST", "/backchannel", FORM, b"logout_token=a.b.c.d.e"),
    "another method": ("PUT", "/backchannel", FORM, f"logout_token={WELL_FORMED}".encode()),
    "a frame about half a session": ("GET", "/frontchannel?iss=https://op.example", {}, b""),
    "a frame about nobody": ("GET", "/frontchannel", {}, b""),
    "a frame by another method": ("POST", "/frontchannel?iss=https://op.example&sid=s", {}, b""),
}


@pytest.mark.parametrize(("method", "path", "headers", "body"), GARBAGE.values(), ids=GARBAGE)
async def test_what_has_not_the_form_of_a_logout_costs_no_fetch(
    method: str, path: str, headers: Any, body: bytes
) -> None:
    """Anybody can send it, as often as they like."""
    client, listed = Client(fails), []
    provider = AuthlibProvider(client)

    async def providers() -> list[Any]:
        listed.append(1)
        return [provider]

    paths: dict[str, Any] = {"backchannel_path": "/backchannel", "frontchannel_path": "/frontchannel"}
    for app in (endpoint(provider), RPLogoutMiddleware(signs_out(), providers=providers, **paths)):
        answer = await call(app, http_scope(path, method, headers), body)
        assert answer.status in (200, 400, 405)
        assert (answer.status == 200) is (path == "/frontchannel")
    assert client.loads == 0
    assert len(listed) == (1 if body == b"logout_token=a.b.c.d.e" else 0)


@pytest.mark.parametrize("load", [fails, anyio.sleep_forever])
async def test_a_failed_load_is_remembered_for_half_a_minute(
    load: Any, monkeypatch: pytest.MonkeyPatch, log: Any
) -> None:
    """At either endpoint, and at a logout; a load that hangs ends before the request's deadline, and has failed."""
    monkeypatch.setattr("asgi_rp_logout.providers.authlib.time_left", lambda: 0.01)
    client, now = Client(load), 0.0
    provider = AuthlibProvider(client)
    provider.metadata.clock = lambda: now
    app = endpoint(provider, login_source=lambda _: Login(iss="https://op.example"))

    async def everything() -> None:
        for _ in range(3):
            assert await post_to(app, WELL_FORMED) == 400
            answer = await call(app, http_scope("/frontchannel?iss=https://op.example&sid=s1"))
            assert answer.status == 400
            assert (await log_out(app)).header("location") == "/login"

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(everything)
    assert client.loads == 1
    assert len([line for line in log() if "the issuer of provider 'it' cannot be read: Authlib ha" in line]) == 1
    now = FAILURE_REMEMBERED_FOR
    await everything()
    assert client.loads == 2
    assert "s3cr3t" not in "".join(log(logging.DEBUG))


async def test_a_login_that_names_its_issuer_finds_a_provider_that_has_not_loaded_it_yet() -> None:
    """As in a worker that has seen no login: the ID Token is this provider's own, and goes there."""
    metadata = {"end_session_endpoint": "https://op.example/end"}
    for login, providers in (
        (Login(id_token=WELL_FORMED), 1),
        (Login(id_token=WELL_FORMED), 2),
        (Login("it", WELL_FORMED), 2),
    ):
        client = Client(anyio.lowlevel.checkpoint)
        client.server_metadata |= metadata
        others = [StaticProvider(END, name="other")][: providers - 1]
        guard = guarded(signs_out(), providers=[AuthlibProvider(client), *others], login_source=lambda _, it=login: it)
        assert parameters(await log_out(guard))["id_token_hint"] == WELL_FORMED
        assert client.loads == 1


@pytest.mark.parametrize("named", [True, False])
async def test_a_login_whose_provider_is_known_waits_for_no_other(named: bool) -> None:
    client = Client(anyio.sleep_forever)
    known = StaticProvider(END, name="known", issuer="https://op.example")
    login = Login("known" if named else None, WELL_FORMED)
    guard = guarded(signs_out(), providers=[AuthlibProvider(client), known], login_source=lambda _: login)
    assert parameters(await log_out(guard))["id_token_hint"] == WELL_FORMED
    assert client.loads == 0


async def test_a_login_that_was_given_to_the_wrong_authlib_client_gets_no_hint() -> None:
    """Its issuer is read before the choice, so that a token of another issuer never goes there."""
    client = Client(anyio.lowlevel.checkpoint)
    client.server_metadata["end_session_endpoint"] = "https://op.example/end"
    login = Login("it", id_token(iss="https://other.example"))
    guard = guarded(signs_out(), providers=[AuthlibProvider(client)], login_source=lambda _: login)
    assert "id_token_hint" not in parameters(await log_out(guard))


async def hanging_list() -> Any:
    await anyio.sleep_forever()


@pytest.mark.parametrize("path", ["/backchannel", "/frontchannel?iss=https://op.example&sid=s1"])
async def test_a_list_of_providers_that_hangs_holds_no_endpoint(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("back_channel", "front_channel"):
        monkeypatch.setattr(f"asgi_rp_logout.endpoints.{module}.DEADLINE", 0.1)
    paths: dict[str, Any] = {"backchannel_path": "/backchannel", "frontchannel_path": "/frontchannel"}
    app = RPLogoutMiddleware(signs_out(), providers=hanging_list, **paths)
    method, body = ("GET", b"") if "?" in path else ("POST", f"logout_token={WELL_FORMED}".encode())
    with anyio.fail_after(20):
        answer = await call(app, http_scope(path, method, FORM), body)
    assert answer.status == (200 if "?" in path else 400)
