"""What a provider's POST to the back-channel endpoint is answered: the conformance suite's modules, and what it lacks.

The modules are those of the OpenID Foundation's conformance suite, plan oidcc-client-back-channel-logout-rp-basic; each
test of one is named after it. Every case goes over one path, on which a valid token is taken before and after: a
refusal that would meet every token proves nothing.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asgi_rp_logout import RPLogoutMiddleware, current_login, remember_login
from asgi_rp_logout.endpoints import back_channel as endpoint
from asgi_rp_logout.endpoints.intake import RefusalLog
from asgi_rp_logout.errors import StoreError
from asgi_rp_logout.logins.guarded_store import StoreBudget
from asgi_rp_logout.logins.registry import EndedSessions
from asgi_rp_logout.providers.oidc import OIDCProvider
from tests.asgi import Answer, call, http_scope
from tests.exchanges import exchange_of
from tests.stub_provider import KNOBS, StubProvider, encrypt, generated
from tests.virtual_time import in_virtual_time

FORM = {"content-type": "application/x-www-form-urlencoded"}


class RelyingParty:
    """The back-channel endpoint by itself, for the stub provider, and what it was told to end."""

    def __init__(self, stub: StubProvider, *providers: Any, **options: Any) -> None:
        self.stub = stub
        self.provider = OIDCProvider(stub.issuer, stub.client_id, **options)
        self.provider.use_http_client(stub.client())
        self.providers = [*providers, self.provider]
        self.ended: list[Any] = []
        self.failure: Exception | None = None
        self.delay = 0.0
        self.signed_in = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await endpoint.back_channel(exchange_of(scope, send, registry=self, providers=self.listed), receive)

    async def listed(self) -> list[Any]:
        return self.providers

    async def end_sessions(self, token: EndedSessions, budget: StoreBudget) -> bool:
        """Stand in for the registry of logins."""
        await anyio.sleep(self.delay)
        if self.failure is not None:
            raise self.failure
        self.ended.append(token)
        self.signed_in = self.signed_in and (token.sub, token.sid) != ("alice", "s1")
        return True

    async def sign_in(self) -> None:
        """Sign alice in, in session s1, ten seconds ago."""
        self.signed_in = True

    async def is_signed_in(self) -> bool:
        return self.signed_in

    async def post(self, token: str, **more: str) -> Answer:
        """Post a token as the suite does, with a parameter that must be ignored."""
        body = urlencode({"ignored_parameter": "ignored", "logout_token": token, **more}).encode()
        return await call(self, http_scope("/backchannel", "POST", FORM), body)


class Application(RelyingParty):
    """A whole application behind the middleware, with one browser."""

    def __init__(self, stub: StubProvider, *providers: Any, **options: Any) -> None:
        super().__init__(stub, *providers, **options)
        self.cookies: dict[str, str] = {}
        app = Starlette(routes=[Route("/", self._home), Route("/login", self._login)])
        self.app = RPLogoutMiddleware(
            app, providers=self.providers, backchannel_path="/backchannel", freshness=0, on_logout=self.ended.append
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    async def _login(self, request: Request) -> Response:
        id_token = self.stub.make_logout_token("id_token", now=time.time() - 10)
        remember_login(request, id_token=id_token, provider=self.provider.name)
        response = PlainTextResponse("welcome")
        response.set_cookie("session", "an-opaque-session-identifier")
        return response

    async def _home(self, request: Request) -> Response:
        login = current_login(request)
        return PlainTextResponse(login.sub or "" if login else "nobody")

    async def sign_in(self) -> None:
        self.cookies = (await call(self, http_scope("/login"))).cookies()

    async def is_signed_in(self) -> bool:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return (await call(self, http_scope("/", headers={"cookie": cookie}))).body == b"alice"


def code_of(answer: Answer, log: Callable[[], list[str]]) -> str:
    """Give the code under which the last refusal was logged, after checking the form of the answer."""
    assert answer.status == 400
    assert answer.header("cache-control") == "no-store"
    assert answer.header("content-type") == "application/json"
    content = json.loads(answer.body)
    assert content.keys() == {"error", "error_description"}
    assert content["error"] == "invalid_request"
    line = log()[-1]
    assert content["error_description"] in line
    return line.partition("(")[2].partition(")")[0]


def is_taken(answer: Answer) -> bool:
    return (answer.status, answer.body, answer.header("cache-control")) == (200, b"", "no-store")


@pytest.fixture(autouse=True)
def _each_refusal_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    # A clock that goes a minute at each look: no refusal is left out because of the one before.
    monkeypatch.setattr(endpoint, "refusals", RefusalLog(itertools.count(step=60).__next__))


@pytest.fixture
def stub() -> StubProvider:
    return StubProvider()


@pytest.fixture(params=[RelyingParty, Application])
def rp(request: pytest.FixtureRequest, stub: StubProvider) -> RelyingParty:
    made: RelyingParty = request.param(stub)
    return made


@pytest.fixture
def alone(stub: StubProvider) -> RelyingParty:
    return RelyingParty(stub)


async def assert_refused(rp: RelyingParty, token: str, code: str, log: Callable[[], list[str]]) -> None:
    """Assert that a token is refused with this code, ends nothing, and that nothing but the token is to blame."""
    await rp.sign_in()
    assert is_taken(await rp.post(rp.stub.make_logout_token(sub="bob", sid="s2")))
    assert code_of(await rp.post(token), log) == code
    assert len(rp.ended) == 1
    assert await rp.is_signed_in()
    assert is_taken(await rp.post(rp.stub.make_logout_token()))
    assert len(rp.ended) == 2
    assert not await rp.is_signed_in()
    assert len(log()) == 1
    assert not any(token[:20] in line for line in log())


# The modules of the suite


async def test_oidcc_client_test_rp_backchannel_rpinitlogout(rp: RelyingParty, stub: StubProvider) -> None:
    """A valid token is answered with 200, exactly, and its session is ended."""
    await rp.sign_in()
    assert await rp.is_signed_in()
    assert is_taken(await rp.post(stub.make_logout_token()))
    (ended,) = rp.ended
    assert (ended.iss, ended.sub, ended.sid) == (stub.issuer, "alice", "s1")
    assert not await rp.is_signed_in()


async def test_oidcc_client_test_rp_backchannel_rpinitlogout_alg_none(rp: RelyingParty, log: Any) -> None:
    """An unsigned token is refused."""
    await assert_refused(rp, rp.stub.make_logout_token("alg_none"), "alg", log)


async def test_oidcc_client_test_rp_backchannel_rpinitlogout_no_event(rp: RelyingParty, log: Any) -> None:
    """A token without events is refused."""
    await assert_refused(rp, rp.stub.make_logout_token("no_event"), "events", log)


async def test_oidcc_client_test_rp_backchannel_rpinitlogout_with_nonce(rp: RelyingParty, log: Any) -> None:
    """A token with a nonce is refused."""
    await assert_refused(rp, rp.stub.make_logout_token("with_nonce"), "nonce", log)


async def test_oidcc_client_test_rp_backchannel_rpinitlogout_wrong_alg(rp: RelyingParty, log: Any) -> None:
    """A token signed with another algorithm is refused, though the key that signed it is the provider's."""
    await assert_refused(rp, rp.stub.make_logout_token("wrong_alg"), "alg", log)


async def test_oidcc_client_test_rp_backchannel_rpinitlogout_wrong_aud(rp: RelyingParty, log: Any) -> None:
    """A token for another client is refused."""
    await assert_refused(rp, rp.stub.make_logout_token("wrong_aud"), "aud", log)


async def test_oidcc_client_test_rp_backchannel_rpinitlogout_wrong_event(rp: RelyingParty, log: Any) -> None:
    """A token about another event is refused."""
    await assert_refused(rp, rp.stub.make_logout_token("wrong_event"), "events", log)


async def test_oidcc_client_test_rp_backchannel_rpinitlogout_wrong_iss(rp: RelyingParty, log: Any) -> None:
    """A token of another issuer is refused."""
    await assert_refused(rp, rp.stub.make_logout_token("wrong_iss"), "iss", log)


# What the suite lacks: the token

REFUSED = {
    "no_sub_no_sid": "sub_or_sid",
    "sid_null": "sub_or_sid",
    "sid_empty": "sub_or_sid",
    "sub_number": "sub_or_sid",
    "sub_half_surrogate": "sub_or_sid",
    "no_iat": "iat",
    "iat_text": "iat",
    "iat_true": "iat",
    "iat_nan": "iat",
    "iat_infinite": "iat",
    "iat_huge": "iat",
    "iat_future": "iat",
    "no_exp_old_iat": "iat",
    "expired": "exp",
    "exp_text": "exp",
    "exp_null": "exp",
    "no_jti": "jti",
    "jti_empty": "jti",
    "jti_number": "jti",
    "event_value_text": "events",
    "event_value_null": "events",
    "events_text": "events",
    "events_array": "events",
    "nonce_null": "nonce",
    "aud_empty_list": "aud",
    "aud_extra": "aud",
    "no_aud": "aud",
    "no_iss": "iss",
    "iss_without_slash": "iss",
    "id_token": "events",
    "typ_access_token": "typ",
    "bad_signature": "signature",
    "confused_alg": "alg",
    "foreign_key": "signature",  # a stranger's key, under a kid that the provider has published
    "unknown_kid": "kid",
    "crit": "malformed",
}
TAKEN = [
    *("no_sid", "no_sub", "other_sub", "iat_slightly_ahead", "iat_fraction", "expired_just_now", "no_exp", "aud_list"),
    *("event_with_content", "another_event_too", "typ_jwt", "typ_logout", "typ_application", "no_kid", "own_header"),
]
MODULES = {"alg_none", "no_event", "with_nonce", "wrong_alg", "wrong_aud", "wrong_event", "wrong_iss"}


def test_every_knob_of_the_stub_is_turned() -> None:
    assert sorted([*MODULES, *REFUSED, *TAKEN]) == sorted(KNOBS)


@pytest.mark.parametrize(("knob", "code"), REFUSED.items())
async def test_a_token_is_refused_for_its_own_reason(rp: RelyingParty, log: Any, knob: str, code: str) -> None:
    await assert_refused(rp, rp.stub.make_logout_token(knob), code, log)


@pytest.mark.parametrize("knob", TAKEN)
async def test_a_token_is_taken(rp: RelyingParty, knob: str) -> None:
    assert is_taken(await rp.post(rp.stub.make_logout_token(knob)))
    (ended,) = rp.ended
    assert ended.sid == (None if knob == "no_sid" else "s1")
    assert ended.sub == {"no_sub": None, "other_sub": "mallory"}.get(knob, "alice")


async def test_a_token_that_is_posted_twice_is_taken_twice(rp: RelyingParty, stub: StubProvider) -> None:
    """A provider may repeat what was lost; what a token ends was begun before it, so a repeat ends nothing newer."""
    token = stub.make_logout_token()
    assert is_taken(await rp.post(token))
    assert is_taken(await rp.post(token))
    ends = [(one.iss, one.sub, one.sid) for one in rp.ended]
    assert ends[0] == ends[-1]


async def test_a_token_that_is_posted_twice_is_told_to_the_application_once(stub: StubProvider) -> None:
    rp = Application(stub)
    token = stub.make_logout_token()
    for _ in range(2):
        assert is_taken(await rp.post(token))
    assert [(event.iss, event.sub, event.sid) for event in rp.ended] == [(stub.issuer, "alice", "s1")]


async def test_a_token_without_exp_is_refused_where_one_is_required(stub: StubProvider, log: Any) -> None:
    await assert_refused(RelyingParty(stub, require_exp=True), stub.make_logout_token("no_exp"), "exp", log)


async def test_an_encrypted_token_is_refused_where_none_was_agreed(
    rp: RelyingParty, stub: StubProvider, log: Any
) -> None:
    token = encrypt(stub.make_logout_token(), generated("RSA-enc"), iss=stub.issuer)
    await assert_refused(rp, token, "encrypted", log)


async def test_an_encrypted_token_is_taken_where_that_was_agreed(stub: StubProvider, log: Any) -> None:
    key = generated("RSA-enc")
    rp = RelyingParty(stub, decryption_key=key.as_dict(private=True))
    assert is_taken(await rp.post(encrypt(stub.make_logout_token(), key, iss=stub.issuer)))
    assert is_taken(await rp.post(encrypt(stub.make_logout_token(), key)))  # no iss in sight, and one provider only
    assert code_of(await rp.post(stub.make_logout_token()), log) == "unencrypted"
    assert code_of(await rp.post(encrypt(stub.make_logout_token("wrong_aud"), key)), log) == "aud"
    assert len(rp.ended) == 2


# What the suite lacks: the request


async def test_a_get_is_not_a_logout(rp: RelyingParty, stub: StubProvider) -> None:
    query = urlencode({"logout_token": stub.make_logout_token()})
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
        answer = await call(rp, http_scope(f"/backchannel?{query}", method, FORM))
        assert (answer.status, answer.header("allow"), answer.header("cache-control")) == (405, "POST", "no-store")
    assert rp.ended == []


FORMS: dict[str, tuple[dict[str, str], str, str]] = {
    "no token": (FORM, "ignored_parameter=1", "missing"),
    "an empty token": (FORM, "logout_token=", "missing"),
    "an empty body": (FORM, "", "missing"),
    "two tokens": (FORM, "logout_token={token}&logout_token={token}", "duplicate"),
    "two tokens, one of them disguised": (FORM, "logout_token={token}&logout%5Ftoken={token}", "duplicate"),
    "JSON": ({"content-type": "application/json"}, '{{"logout_token": "{token}"}}', "content_type"),
    "a multipart form": ({"content-type": "multipart/form-data; boundary=x"}, "logout_token={token}", "content_type"),
    "no content type": ({}, "logout_token={token}", "content_type"),
    "bytes that are not UTF-8": (FORM, "logout_token=%ff", "form"),
    "a thousand fields": (FORM, "logout_token={token}" + "&a=b" * 1000, "form"),
    "a body of 64 KiB and a byte": (FORM, "logout_token={token}&a=" + "x" * 65536, "too_large"),
    "a token of one part": (FORM, "logout_token=abc", "malformed"),
    "a token of rubbish": (FORM, "logout_token=a.b.c", "malformed"),
    "a token of two tokens": (FORM, "logout_token={token}.{token}", "malformed"),
}


@pytest.mark.parametrize(("headers", "body", "code"), FORMS.values(), ids=FORMS.keys())
async def test_a_request_is_refused(rp: RelyingParty, log: Any, headers: Any, body: str, code: str) -> None:
    content = body.format(token=rp.stub.make_logout_token()).encode()
    assert code_of(await call(rp, http_scope("/backchannel", "POST", headers), content), log) == code
    assert rp.ended == []
    assert is_taken(await rp.post(rp.stub.make_logout_token()))


async def test_a_content_type_may_have_a_charset_and_capitals(rp: RelyingParty, stub: StubProvider) -> None:
    headers = {"content-type": "Application/X-WWW-Form-Urlencoded ; charset=UTF-8"}
    body = urlencode({"logout_token": stub.make_logout_token()}).encode()
    assert is_taken(await call(rp, http_scope("/backchannel", "POST", headers), body))


async def test_no_more_than_the_limit_is_read_of_a_body_without_end(rp: RelyingParty, log: Any) -> None:
    read = 0

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 1000
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    answer = Answer()

    async def send(message: Any) -> None:
        answer.messages.append(message)

    await rp(http_scope("/backchannel", "POST", FORM), receive, send)
    assert code_of(answer, log) == "too_large"
    assert read == 66_000


async def test_a_body_in_pieces_is_put_together(rp: RelyingParty, stub: StubProvider) -> None:
    body = urlencode({"logout_token": stub.make_logout_token()}).encode()
    pieces = [body[at : at + 100] for at in range(0, len(body), 100)]
    answer = Answer()

    async def receive() -> dict[str, Any]:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        answer.messages.append(message)

    await rp(http_scope("/backchannel", "POST", FORM), receive, send)
    assert is_taken(answer)


async def test_a_client_that_goes_away_in_the_middle_gets_no_answer_and_ends_nothing(
    rp: RelyingParty, stub: StubProvider, log: Any
) -> None:
    body = urlencode({"logout_token": stub.make_logout_token()}).encode()
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": body, "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await rp(http_scope("/backchannel", "POST", FORM), receive, send)
    assert (sent, rp.ended, log()) == ([], [], [])


# What fails on this side


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (StoreError("the store did not answer"), "store"),
        (OSError("password=hunter2"), "failed"),
        (TimeoutError("password=hunter2"), "deadline"),
    ],
)
async def test_a_store_that_fails_is_a_400(alone: RelyingParty, log: Any, failure: Exception, code: str) -> None:
    """The specification knows no other answer, and a 200 would tell the provider that the session is over."""
    alone.failure = failure
    assert code_of(await alone.post(alone.stub.make_logout_token()), log) == code
    assert "hunter2" not in " ".join(log())
    alone.failure = None
    assert is_taken(await alone.post(alone.stub.make_logout_token()))


@in_virtual_time
async def test_a_store_that_hangs_is_a_400_within_the_deadline(alone: RelyingParty, log: Any) -> None:
    alone.delay = 60
    with anyio.fail_after(30):
        assert code_of(await alone.post(alone.stub.make_logout_token()), log) == "deadline"
    assert alone.ended == []


@in_virtual_time
async def test_a_body_that_never_ends_is_a_400_within_the_deadline(alone: RelyingParty, log: Any) -> None:
    answer = Answer()

    async def send(message: Any) -> None:
        answer.messages.append(message)

    with anyio.fail_after(30):
        await alone(http_scope("/backchannel", "POST", FORM), anyio.sleep_forever, send)
    assert code_of(answer, log) == "deadline"


@in_virtual_time
async def test_keys_that_hang_are_a_400_within_the_deadline(alone: RelyingParty, stub: StubProvider, log: Any) -> None:
    stub.delay = 60
    with anyio.fail_after(30):
        assert code_of(await alone.post(stub.make_logout_token()), log) == "keys"
    assert alone.ended == []


@in_virtual_time
async def test_a_logout_is_finished_when_the_provider_hangs_up_on_it(alone: RelyingParty, stub: StubProvider) -> None:
    """Some servers cancel a request when its client goes away; a token that is here is worth the half second."""
    alone.delay = 0.05
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alone.post, stub.make_logout_token())
        await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert len(alone.ended) == 1


@pytest.mark.parametrize("trouble", ["status", "issuer"])
async def test_keys_that_cannot_be_fetched_are_a_400(stub: StubProvider, log: Any, trouble: str) -> None:
    stub.status = 500 if trouble == "status" else 200
    stub.issuer_in_document = "https://evil.example/" if trouble == "issuer" else stub.issuer
    rp = RelyingParty(stub)
    assert code_of(await rp.post(stub.make_logout_token()), log) == "keys"
    assert rp.ended == []


# Several providers


async def test_the_token_goes_to_the_provider_that_its_iss_names(stub: StubProvider, log: Any) -> None:
    other = StubProvider("https://other.example/")
    second = RelyingParty(other)

    class WithoutBackChannel:
        async def get_end_session_url(self) -> None: ...

    rp = RelyingParty(stub, WithoutBackChannel(), second.provider)
    assert is_taken(await rp.post(other.make_logout_token()))
    assert is_taken(await rp.post(stub.make_logout_token()))
    assert [ended.iss for ended in rp.ended] == [other.issuer, stub.issuer]
    assert code_of(await rp.post(other.make_logout_token(iss="https://third.example/")), log) == "iss"
    # The key of the one does not sign for the other.
    forged = other.make_logout_token(iss=stub.issuer, key=generated("RSA", 5))
    assert code_of(await rp.post(forged), log) == "kid"


async def test_two_clients_of_one_provider_each_get_their_tokens(stub: StubProvider, log: Any) -> None:
    first = OIDCProvider(stub.issuer, "first", name="first")
    first.use_http_client(stub.client())
    rp = RelyingParty(stub, first)
    assert is_taken(await rp.post(stub.make_logout_token()))
    assert is_taken(await rp.post(stub.make_logout_token(aud="first")))
    assert code_of(await rp.post(stub.make_logout_token(aud="third")), log) == "aud"


async def test_a_provider_of_somebody_elses_that_breaks_is_a_400(stub: StubProvider, log: Any) -> None:
    class Broken:
        issuer = stub.issuer

        async def verify_logout_token(self, token: str, now: float) -> Any:
            raise ZeroDivisionError(token)

    rp = RelyingParty(stub)
    rp.providers = [Broken()]
    token = stub.make_logout_token()
    assert code_of(await rp.post(token), log) == "failed"
    assert token not in " ".join(log())


# Floods


@pytest.mark.slow
async def test_ten_thousand_invalid_tokens_end_nothing_and_fetch_next_to_nothing(
    stub: StubProvider, monkeypatch: pytest.MonkeyPatch, log: Any
) -> None:
    """Who floods the endpoint gets 400s: no session ends, the log stays short, and the provider is asked next to never.

    Once for its keys, and for newer ones once in 30 s.
    """
    rp, clock = RelyingParty(stub), itertools.count(step=0.01)
    monkeypatch.setattr(endpoint, "refusals", RefusalLog(lambda: next(clock)))
    rp.provider.verifier.keys.clock = lambda: 0.0
    kinds = [stub.make_logout_token(knob) for knob in sorted(MODULES | REFUSED.keys()) if knob != "iat_huge"]
    tokens = itertools.cycle(
        [*kinds, *(stub.make_logout_token(kid) for kid in ["unknown_kid"] * 20), "", "a.b.c", "x" * 9000]
    )
    for token in itertools.islice(tokens, 10_000):
        assert (await rp.post(token)).status == 400
    assert rp.ended == []
    assert stub.fetched == {"discovery": 1, "jwks": 2}
    # 10,000 refusals in 100 seconds, of some twenty codes, would be one line a second for each.
    assert len(log()) <= 100 * len({line.partition(")")[0] for line in log()})
    assert "more like it since the last line" in log()[-1]
    rp.provider.verifier.keys.clock = lambda: 31.0
    assert (await rp.post(stub.make_logout_token("unknown_kid"))).status == 400
    assert stub.fetched == {"discovery": 1, "jwks": 3}
    assert is_taken(await rp.post(stub.make_logout_token()))
