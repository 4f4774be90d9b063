"""Back-channel logout through a client that the application registered with Authlib, over real connections."""

from __future__ import annotations

import warnings
from typing import Any
from urllib.parse import urlencode

import pytest
from authlib.deprecate import AuthlibDeprecationWarning

from asgi_rp_logout import AuthlibProvider, LogoutEvent, RPLogoutMiddleware
from tests.asgi import Answer, call, http_scope
from tests.stub_provider import StubProvider

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
    answer = await post(stub, stub.make_logout_token(), events)
    assert (answer.status, answer.header("cache-control")) == (200, "no-store")
    assert events == [LogoutEvent("back-channel", "it", stub.issuer, "alice", "s1")]


@pytest.mark.parametrize("knob", ["wrong_aud", "wrong_iss", "alg_none", "wrong_alg"])
async def test_a_doubtful_token_is_refused(stub: StubProvider, knob: str) -> None:
    events: list[LogoutEvent] = []
    answer = await post(stub, stub.make_logout_token(knob), events)
    assert (answer.status, events) == (400, [])
