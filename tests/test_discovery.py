"""The discovery document: what is believed of it, how long it is kept, and how a failure is remembered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import httpx
import pytest

from asgi_rp_logout import ConfigurationError, OIDCProvider, ProviderError
from asgi_rp_logout.protocol.discovery import (
    FAILURE_REMEMBERED_FOR,
    FRESH_FOR,
    checked_document,
    endpoint_of,
    well_known_url,
)
from asgi_rp_logout.providers.oidc import Discovery
from asgi_rp_logout.providers.transport import FETCH_TIMEOUT, MAX_DOCUMENT, time_left
from tests.apps import guarded, log_out, parameters, saying, signs_out
from tests.asgi import call, http_scope

ISSUER = "https://op.example"


def document(**changes: Any) -> dict[str, Any]:
    return {"issuer": ISSUER, "end_session_endpoint": f"{ISSUER}/end", "jwks_uri": f"{ISSUER}/jwks"} | changes


class Provider:
    """Answer for the discovery document: `answer` is a document, a response or a function that gives one."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = document() if answer is None else answer
        self.asked: list[str] = []
        self.now = 0.0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        await anyio.sleep(0.01)
        answer = self.answer() if callable(self.answer) else self.answer
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self))

    def discovery(self, issuer: str = ISSUER) -> Discovery:
        made = Discovery(issuer, clock=lambda: self.now)
        made.http_client = self.client()
        return made


# What is believed


@pytest.mark.parametrize(
    ("issuer", "url"),
    [
        ("https://op.example", "https://op.example/.well-known/openid-configuration"),
        ("https://op.example/", "https://op.example/.well-known/openid-configuration"),
        ("https://op.example/realms/a", "https://op.example/realms/a/.well-known/openid-configuration"),
        ("https://op.example/realms/a/", "https://op.example/realms/a/.well-known/openid-configuration"),
    ],
)
async def test_the_document_is_fetched_below_the_issuer_without_its_last_slash(issuer: str, url: str) -> None:
    """Discovery 1.0, section 4.1; the issuer itself is compared slash and all."""
    provider = Provider(document(issuer=issuer))
    await provider.discovery(issuer).get()
    assert provider.asked == [url] == [well_known_url(issuer)]


@pytest.mark.parametrize(
    "issuer",
    [f"{ISSUER}/", "https://OP.example", "http://op.example", "https://evil.example", "", None, 7, [ISSUER]],
)
def test_the_issuer_has_to_be_equal_in_every_character(issuer: object) -> None:
    """Discovery 1.0, section 4.3: another one could send our users anywhere."""
    with pytest.raises(ProviderError) as caught:
        checked_document(document(issuer=issuer), ISSUER)
    assert caught.value.code == "issuer_mismatch"
    assert ISSUER in str(caught.value)
    assert str(caught.value).endswith(repr(issuer))  # what to configure instead, if it is the right one


def test_of_another_issuer_the_error_shows_no_more_than_200_characters() -> None:
    with pytest.raises(ProviderError) as caught:
        checked_document(document(issuer="x" * 300), ISSUER)
    assert str(caught.value).endswith(", '" + "x" * 199)


ENDPOINTS: dict[str, Callable[[OIDCProvider], Awaitable[object]]] = {
    "end_session_endpoint": OIDCProvider.end_session_endpoint,
    "revocation_endpoint": OIDCProvider.revocation_endpoint,
    "jwks_uri": OIDCProvider.jwks_uri,
}


@pytest.mark.parametrize("bad", ENDPOINTS)
@pytest.mark.parametrize(
    "url", ["http://op.example/x", "javascript:x", "/end", 7, ["https://op.example"], "https://a@b/"]
)
async def test_an_endpoint_that_cannot_be_used_is_refused_where_it_is_used_and_the_others_serve(
    bad: str, url: object
) -> None:
    """A provider in a container network mixes public addresses with internal ones."""
    good = document(revocation_endpoint=f"{ISSUER}/revoke")
    provider = OIDCProvider(ISSUER, "rp")
    provider.use_http_client(Provider(good | {bad: url}).client())
    for name, ask in ENDPOINTS.items():
        if name != bad:
            assert await ask(provider) == good[name]
    with pytest.raises(ProviderError, match=f"{bad} of {ISSUER}") as caught:
        await ENDPOINTS[bad](provider)
    assert caught.value.code == "url"


@pytest.mark.parametrize("absent", [None, "", False])
def test_an_endpoint_that_is_absent_stays_absent(absent: object) -> None:
    assert "end_session_endpoint" not in checked_document(document(end_session_endpoint=absent), ISSUER)
    assert endpoint_of(document(end_session_endpoint=absent), "end_session_endpoint") is None
    assert endpoint_of(document(), "revocation_endpoint") is None


@pytest.mark.parametrize(
    "issuer",
    [
        "",
        "op.example",
        "http://op.example",
        "https://op.example?x=y",
        "https://op.example?",
        "https://op.example#f",
        "https://user@op.example",
        "https://op.example\n",
        7,
        None,
    ],
)
def test_an_issuer_that_cannot_be_one_is_refused_at_construction(issuer: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"issuer=.*expected") as caught:
        OIDCProvider(issuer, "rp")
    assert repr(issuer) in str(caught.value)


def test_the_address_of_the_discovery_document_is_no_issuer() -> None:
    address = well_known_url(ISSUER)
    with pytest.raises(ConfigurationError) as caught:
        OIDCProvider(address, "rp")
    assert str(caught.value) == f"issuer={address!r}: expected the issuer itself, which its discovery document names"


# What goes wrong on the way


def stream(chunk: bytes, count: int) -> Callable[[], httpx.Response]:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield chunk

    return lambda: httpx.Response(200, content=chunks())


FAILURES: dict[str, tuple[Any, str]] = {
    "not found": (httpx.Response(404, json=document()), "fetch_status"),
    "server error": (httpx.Response(500), "fetch_status"),
    "created": (httpx.Response(201, json=document()), "fetch_status"),
    "redirect": (httpx.Response(302, headers={"location": f"{ISSUER}/elsewhere"}), "fetch_status"),
    "html": (httpx.Response(200, text="<html>"), "fetch_not_json"),
    "empty": (httpx.Response(200), "fetch_not_json"),
    "array": (httpx.Response(200, json=[document()]), "fetch_not_json"),
    "null": (httpx.Response(200, text="null"), "fetch_not_json"),
    "latin-1": (httpx.Response(200, content='{"a": "é"}'.encode("latin-1")), "fetch_not_json"),
    "nested": (httpx.Response(200, content=b"[" * 100_000), "fetch_not_json"),
    "too large": (stream(b" " * 1024 * 1024, 10), "fetch_too_large"),
    "issuer": (document(issuer="https://other.example"), "issuer_mismatch"),
}


@pytest.mark.parametrize(("answer", "code"), FAILURES.values(), ids=FAILURES)
async def test_an_answer_that_is_no_document_is_a_named_error(answer: Any, code: str) -> None:
    provider = Provider(answer)
    with pytest.raises(ProviderError) as caught:
        await provider.discovery().get()
    assert caught.value.code == code
    assert len(provider.asked) == 1  # a redirect is not followed


async def test_a_document_just_under_the_limit_is_taken() -> None:
    padding = MAX_DOCUMENT - len(json.dumps(document(x="")))
    answer = httpx.Response(200, content=json.dumps(document(x="a" * padding)))
    assert (await Provider(answer).discovery().get())["issuer"] == ISSUER
    answer = httpx.Response(200, content=json.dumps(document(x="a" * (padding + 1))))
    with pytest.raises(ProviderError):
        await Provider(answer).discovery().get()


async def test_nobody_listening_is_a_named_error(free_port: int) -> None:
    with pytest.raises(ProviderError) as caught:
        await Discovery(f"http://127.0.0.1:{free_port}").get()
    assert caught.value.code == "fetch_failed"


# How long it is kept


async def test_a_document_is_fetched_once_and_kept_for_an_hour() -> None:
    provider = Provider()
    discovery = provider.discovery()
    for provider.now in (0.0, 1.0, FRESH_FOR):
        assert (await discovery.get())["end_session_endpoint"] == f"{ISSUER}/end"
        await discovery.refresh()
        assert not discovery.stale
    assert len(provider.asked) == 1


async def test_a_stale_document_still_serves_and_is_fetched_anew_afterwards() -> None:
    provider = Provider()
    discovery = provider.discovery()
    await discovery.get()
    provider.now, provider.answer = FRESH_FOR + 1, document(end_session_endpoint=f"{ISSUER}/new")
    assert (await discovery.get())["end_session_endpoint"] == f"{ISSUER}/end"
    assert len(provider.asked) == 1
    await discovery.refresh()
    assert (await discovery.get())["end_session_endpoint"] == f"{ISSUER}/new"
    assert len(provider.asked) == 2


async def test_a_refresh_that_fails_leaves_the_old_document_and_waits_before_the_next() -> None:
    provider = Provider()
    discovery = provider.discovery()
    await discovery.get()
    provider.now, provider.answer = FRESH_FOR + 1, httpx.Response(500)
    await discovery.refresh()
    await discovery.refresh()
    assert (len(provider.asked), discovery.stale) == (2, False)
    assert (await discovery.get())["issuer"] == ISSUER
    provider.now += FAILURE_REMEMBERED_FOR + 1
    provider.answer = document(end_session_endpoint=f"{ISSUER}/new")
    await discovery.refresh()
    assert (await discovery.get())["end_session_endpoint"] == f"{ISSUER}/new"


async def test_a_failure_is_remembered_for_half_a_minute() -> None:
    """Each logout in between would wait for the same silence."""
    provider = Provider(httpx.Response(500))
    discovery = provider.discovery()
    for provider.now in (0.0, 1.0, FAILURE_REMEMBERED_FOR - 1):
        with pytest.raises(ProviderError) as caught:
            await discovery.get()
        assert caught.value.code == "fetch_status"
    assert len(provider.asked) == 1
    provider.now, provider.answer = FAILURE_REMEMBERED_FOR, document()
    assert (await discovery.get())["issuer"] == ISSUER
    assert len(provider.asked) == 2


async def test_one_fetch_at_a_time_whose_document_serves_all() -> None:
    provider = Provider()
    discovery = provider.discovery()
    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(discovery.get)
    assert len(provider.asked) == 1


async def test_all_who_wait_for_a_fetch_that_fails_share_the_failure() -> None:
    provider = Provider(httpx.Response(500))
    discovery = provider.discovery()
    failed: list[str] = []

    async def ask() -> None:
        try:
            await discovery.get()
        except ProviderError as error:
            failed.append(error.code)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(ask)
    assert (len(provider.asked), failed) == (1, ["fetch_status"] * 5)


async def test_a_fetch_that_was_cancelled_is_no_failure() -> None:
    """A browser that went away says nothing about the provider."""
    provider = Provider()
    discovery = provider.discovery()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await discovery.get()
    assert (await discovery.get())["issuer"] == ISSUER


async def test_a_fetch_ends_before_the_deadline_of_the_logout_that_waits_for_it() -> None:
    """So that it is a failure, which is remembered, and no cancellation."""
    assert time_left() == FETCH_TIMEOUT
    with anyio.fail_after(FETCH_TIMEOUT):
        assert 0 < time_left() <= 0.9 * FETCH_TIMEOUT
    with anyio.CancelScope(deadline=anyio.current_time() - 1, shield=True):
        assert time_left() == 0


async def test_a_fetch_that_ran_out_of_time_is_a_failure_that_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forever() -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(1)
        return await forever()

    monkeypatch.setattr("asgi_rp_logout.providers.transport.time_left", lambda: 0.01)
    asked: list[int] = []
    discovery = Discovery(ISSUER, clock=lambda: 0.0)
    discovery.http_client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    for _ in range(2):
        with pytest.raises(ProviderError, match=r"did not answer within 0\.0 s") as caught:
            await discovery.get()
        assert caught.value.code == "fetch_timeout"
    assert asked == [1]


# Through the middleware


async def test_the_refresh_comes_after_the_response_in_the_same_call() -> None:
    """There may be no lifespan, so there are no background tasks."""
    provider = Provider()
    oidc = OIDCProvider(ISSUER, "rp")
    oidc.metadata = provider.discovery()
    guard = guarded(signs_out(), providers=[oidc], http_client=provider.client())
    assert parameters(await log_out(guard))["client_id"] == "rp"
    provider.now, provider.answer = FRESH_FOR + 1, document(end_session_endpoint=f"{ISSUER}/new")
    asked_when_sent: list[int] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        asked_when_sent.append(len(provider.asked))

    await guard(http_scope("/logout", "POST", {"cookie": "session=1"}), receive, send)
    assert (asked_when_sent, len(provider.asked)) == ([1, 1], 2)
    answer = await log_out(guard, headers={"cookie": "session=2"})
    assert (answer.header("location") or "").startswith(f"{ISSUER}/new?")


async def test_a_request_that_is_no_logout_asks_no_provider() -> None:
    provider = Provider()
    app = saying([{"type": "http.response.start", "status": 200, "headers": []}, {"type": "http.response.body"}])
    guard = guarded(app, providers=[OIDCProvider(ISSUER, "rp")], http_client=provider.client())
    await call(guard, http_scope("/", "GET", {"cookie": "session=1"}))
    await call(guard, http_scope("/logout", "GET", {"cookie": "session=1"}))
    await call(guard, http_scope("/logout", "POST"))
    assert provider.asked == []
    await call(guard, http_scope("/logout", "POST", {"cookie": "session=1"}))
    assert len(provider.asked) == 1


async def test_a_start_that_finds_no_provider_is_not_held_against_it() -> None:
    """Nobody has waited for that fetch yet, and the first logout asks anew."""
    provider = Provider(lambda: httpx.Response(503))
    oidc = OIDCProvider(ISSUER, "rp")
    oidc.metadata = provider.discovery()
    with pytest.raises(ProviderError):
        await oidc.prefetch()
    provider.answer = document()
    assert (await oidc.metadata.get())["issuer"] == ISSUER
