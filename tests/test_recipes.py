"""The recipes of docs/everywhere.md, run as they are written: real servers, real signatures."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from asgi_rp_logout import current_login, remember_login
from tests.conftest import Serve
from tests.stub_provider import generated
from tests.test_docs import block_of, run
from tests.test_workers import send
from tests.tokens import id_token
from tests.workers import SOON

REVOKED = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
Device = dict[str, str]


class Recipe:
    """An application of the page, as a server; `/test/login` and `/test` are added to see whether it works."""

    def __init__(self, serve: Serve, names: dict[str, Any], iss: str) -> None:
        self.iss = iss
        self.okta = names.get("okta")
        app: FastAPI = names["app"]
        app.add_api_route("/test/login", self.login)
        app.add_api_route("/test", self.home)
        self.url = serve(names["protected"])

    async def login(self, request: Request) -> Response:
        user, iat = request.query_params["user"], request.query_params.get("iat")
        token = id_token(user, iss=self.iss, iat=int(iat)) if iat else None
        remember_login(request, iss=self.iss, sub=user, id_token=token)
        response = Response()
        response.set_cookie("session", f"the server-side session of {user}, number {time.monotonic_ns()}")
        return response

    async def home(self, request: Request) -> Response:
        login = current_login(request)
        return JSONResponse(login.sub if login else None)

    def sign_in(self, user: str, at: int | None = None) -> Device:
        """Sign in, with an ID Token of that second if one is named."""
        iat = f"&iat={at}" if at is not None else ""
        return dict(send("GET", f"{self.url}/test/login?user={user}{iat}", {}).cookies)

    def who(self, *devices: Device) -> list[str | None]:
        return [send("GET", f"{self.url}/test", cookies).json() for cookies in devices]


# The button


@pytest.fixture
def account(serve: Serve) -> Recipe:
    iss = "https://id.example.com/realms/acme"
    return Recipe(serve, run(block_of("docs/everywhere.md", "sign_out_everywhere")), iss)


@pytest.mark.parametrize(
    ("path", "who"),
    [
        ("/account/sign-out-everywhere", "alice"),
        ("/account/password", "alice"),
        ("/admin/users/alice/sign-out", "bob"),
    ],
)
def test_the_fastapi_button_signs_out_on_all_devices(account: Recipe, path: str, who: str) -> None:
    """So does a changed password, and an administrator, who stays signed in."""
    here, there, bob = account.sign_in("alice"), account.sign_in("alice"), account.sign_in("bob")
    assert account.who(here, there, bob) == ["alice", "alice", "bob"]
    pressed = send("POST", account.url + path, here if who == "alice" else bob)
    assert pressed.status_code in (200, 303)
    assert account.who(here, there, bob) == [None, None, "bob"]


# Okta and Shared Signals


class Senders:
    """Okta's keys and those of a transmitter, as a server that counts."""

    def __init__(self) -> None:
        self.fetched, self.down, self.number = 0, False, 0
        routes = [Route("/oauth2/v1/keys", self.keys), Route("/jwks.json", self.keys)]
        self.app = Starlette(routes=routes)

    async def keys(self, request: Request) -> Response:
        self.fetched += 1
        if self.down:
            return Response(status_code=500)
        return JSONResponse({"keys": [key(self.number).as_dict(private=False)]})


@pytest.fixture
def senders() -> Senders:
    return Senders()


@pytest.fixture
def receiver(serve: Serve, senders: Senders) -> Recipe:
    source = block_of("docs/everywhere.md", "universal_logout")
    keys = serve(senders.app)
    for host in ("acme.okta.com", "signals.example.com"):
        source = source.replace(f'f"{{{"OKTA" if "okta" in host else "TRANSMITTER"}}}/', f'f"{keys}/')
    assert source.count(keys) == 2
    return Recipe(serve, run(source), "https://acme.okta.com")


def signed(typ: str, *, number: int = 0, kid: str | None = None, **claims: Any) -> str:
    from joserfc import jwt

    return jwt.encode({"alg": "RS256", "typ": typ, "kid": kid or key().kid}, claims, key(number))


def key(number: int = 0) -> Any:
    return generated("RSA", number) if number else generated("RSA")


def okta_token(**changed: Any) -> str:
    """What Okta sends along with a request."""
    now = int(time.time())
    claims = {"iss": "https://acme.okta.com", "aud": "https://app.example.com/okta/universal-logout", "jti": "1"}
    times = {"iat": now, "nbf": now - 300, "exp": now + 300}
    kid, number, typ = (
        changed.pop("kid", None),
        changed.pop("number", 0),
        changed.pop("typ", "global-token-revocation+jwt"),
    )
    given = {name: value for name, value in (claims | times | changed).items() if value is not None}
    return signed(typ, number=number, kid=kid, **given)


def from_okta(receiver: Recipe, body: object, token: str | None = None) -> int:
    headers = {"authorization": f"Bearer {token or okta_token()}"}
    return httpx.post(f"{receiver.url}/okta/universal-logout", json=body, headers=headers).status_code


ISS_SUB = {"format": "iss_sub", "iss": "https://acme.okta.com", "sub": "alice"}
EMAIL = {"format": "email", "email": "alice@example.com"}


@pytest.mark.parametrize("body", [{"sub_id": ISS_SUB}, {"sub_id": EMAIL}, {"subject": ISS_SUB}])
def test_okta_signs_a_user_out_on_all_devices(receiver: Recipe, body: object) -> None:
    here, there, bob = receiver.sign_in("alice"), receiver.sign_in("alice"), receiver.sign_in("bob")
    assert receiver.who(here, there, bob) == ["alice", "alice", "bob"]
    assert from_okta(receiver, body) == 204
    assert receiver.who(here, there, bob) == [None, None, "bob"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: okta_token(iss="https://evil.okta.com"),
        lambda: okta_token(aud="https://app.example.com"),
        lambda: okta_token(exp=int(time.time()) - 120),
        lambda: okta_token(exp=None),
        lambda: okta_token(typ="JWT"),
        lambda: okta_token(number=1),
        lambda: okta_token().rpartition(".")[0] + ".",
        lambda: "hello",
    ],
    ids=["issuer", "audience", "expired", "no end", "type", "key", "unsigned", "no token"],
)
def test_nobody_else_does(receiver: Recipe, make: Callable[[], str]) -> None:
    here = receiver.sign_in("alice")
    assert from_okta(receiver, {"sub_id": ISS_SUB}, make()) == 401
    assert receiver.who(here) == ["alice"]


@pytest.mark.parametrize(
    "subject",
    [{**ISS_SUB, "iss": "https://other.example"}, {"format": "email", "email": "x@example.com"}, "alice", None],
)
def test_okta_is_told_of_a_user_who_is_not_known(receiver: Recipe, subject: object) -> None:
    assert from_okta(receiver, {"sub_id": subject}) == 404


def test_a_request_of_okta_without_an_object_is_refused(receiver: Recipe) -> None:
    headers = {"authorization": f"Bearer {okta_token()}", "content-type": "application/json"}
    for body in ("hello", "[]", '"alice"', "{" * 70_000):
        refused = httpx.post(f"{receiver.url}/okta/universal-logout", content=body, headers=headers)
        assert (refused.status_code, refused.json()["err"]) == (400, "invalid_request"), body[:10]


def event_token(*, typ: str = "secevent+jwt", event: str = REVOKED, **changed: Any) -> str:
    """Make a Security Event Token (RFC 8417). None takes a claim away."""
    now = int(time.time())
    claims: dict[str, Any] = {"iss": "https://signals.example.com", "aud": ["https://app.example.com"]}
    claims |= {"iat": now, "jti": "1", "events": {event: {"event_timestamp": now}}, "sub_id": ISS_SUB}
    number, kid = changed.pop("number", 0), changed.pop("kid", None)
    given = {name: value for name, value in (claims | changed).items() if value is not None}
    return signed(typ, number=number, kid=kid, **given)


def post_signal(receiver: Recipe, token: str, content_type: str = "application/secevent+jwt") -> httpx.Response:
    """Push one token (RFC 8935)."""
    return httpx.post(f"{receiver.url}/signals", content=token, headers={"content-type": content_type})


def signal(receiver: Recipe, **changed: Any) -> httpx.Response:
    return post_signal(receiver, event_token(**changed))


@pytest.mark.parametrize(
    "said",
    [
        {"sub_id": ISS_SUB},
        {"sub_id": EMAIL},
        {"sub_id": {"user": ISS_SUB}},
        {"sub_id": {"format": "complex", "user": EMAIL, "session": {"format": "opaque", "id": "s1"}}},
        {"sub_id": None, "events": {REVOKED: {"subject": ISS_SUB}}},
        {"typ": "application/secevent+JWT"},
        {"aud": "https://app.example.com"},
    ],
    ids=["iss_sub", "email", "user", "complex", "in the event", "whole type", "one audience"],
)
def test_a_revoked_session_is_signed_out_on_all_devices(receiver: Recipe, said: dict[str, Any]) -> None:
    """By an (iss, sub), by an address, within a complex subject, and with the subject in the event, as it once was."""
    here, there, bob = receiver.sign_in("alice"), receiver.sign_in("alice"), receiver.sign_in("bob")
    assert receiver.who(here, there, bob) == ["alice", "alice", "bob"]
    assert signal(receiver, **said).status_code == 202
    assert receiver.who(here, there, bob) == [None, None, "bob"]


def test_an_old_signal_ends_no_login_that_was_begun_since(receiver: Recipe) -> None:
    """Somebody has kept it, or it is delivered late. What counts is when it happened, or else when it was issued."""
    now = int(time.time())
    ways: list[Callable[[int], tuple[object, int]]] = [  # the event's time and the token's, of one moment
        lambda moment: (moment, now),
        lambda moment: (moment + 0.5, now),
        lambda moment: (None, moment),
        lambda moment: (moment * 1000, moment),  # milliseconds, as in drafts of CAEP
        lambda moment: (str(moment - 60), moment),
        lambda moment: (True, moment),
        lambda moment: (float("nan"), moment),
        lambda moment: (-1, moment),
    ]
    for number, way in enumerate(ways):
        moment = now - 100 + 2 * number  # what an earlier event has ended stays ended
        happened, issued = way(moment)
        before, after = receiver.sign_in("alice", moment), receiver.sign_in("alice", moment + 1)
        assert receiver.who(before, after) == ["alice", "alice"]
        token = event_token(iat=issued, events={REVOKED: {"event_timestamp": happened}})
        for _ in range(2):
            assert post_signal(receiver, token).status_code == 202
            assert receiver.who(before, after) == [None, "alice"], (happened, issued)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"iss": "https://evil.example"}, "invalid_issuer"),
    ({"iss": None}, "invalid_issuer"),
    ({"aud": "https://other.example"}, "invalid_audience"),
    ({"aud": ["https://other.example"]}, "invalid_audience"),
    ({"aud": None}, "invalid_audience"),
    ({"typ": "JWT"}, "invalid_request"),
    ({"typ": "logout+jwt"}, "invalid_request"),
    ({"number": 1}, "authentication_failed"),
    ({"number": 1, "kid": "another"}, "invalid_key"),
    ({"iat": None}, "invalid_request"),
    ({"iat": "now"}, "invalid_request"),
    ({"iat": 2 * int(time.time())}, "invalid_request"),
    ({"exp": 1}, "invalid_request"),
    ({"events": None}, "invalid_request"),
    ({"events": [REVOKED]}, "invalid_request"),
    ({"sub_id": None, "events": {REVOKED: "yes"}}, "invalid_request"),
]


def test_a_signal_of_somebody_else_or_without_an_event_is_refused(receiver: Recipe) -> None:
    """RFC 8935, section 2.4."""
    here = receiver.sign_in("alice")
    for changed, code in REFUSED:
        refused = signal(receiver, **changed)
        assert (refused.status_code, refused.json()["err"]) == (400, code), changed
        assert (refused.headers["content-type"], refused.headers["content-language"]) == ("application/json", "en")
        assert receiver.who(here) == ["alice"], changed


def test_a_signal_of_another_content_type_is_refused(receiver: Recipe) -> None:
    here, token = receiver.sign_in("alice"), event_token()
    for content_type in ("application/jwt", "application/json", "text/plain", ""):
        refused = post_signal(receiver, token, content_type)
        assert (refused.status_code, refused.json()["err"]) == (400, "invalid_request")
        assert receiver.who(here) == ["alice"], content_type
    assert post_signal(receiver, token, "Application/SecEvent+JWT; charset=utf-8").status_code == 202
    assert receiver.who(here) == [None]


def test_what_is_no_token_is_refused(receiver: Recipe) -> None:
    for body in ("", "hello", "a.b.c", "\u00e9" * 100, "e30.e30.", "[" * 60_000):
        refused = post_signal(receiver, body)
        assert (refused.status_code, refused.json()["err"]) == (400, "invalid_request"), body[:10]


def test_a_body_is_read_up_to_its_limit(receiver: Recipe) -> None:
    """The answer comes although the body goes on."""
    host, port = receiver.url.removeprefix("http://").split(":")
    most = 64 * 1024
    with socket.create_connection((host, int(port)), timeout=SOON) as connection:
        head = f"POST /signals HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/secevent+jwt\r\n"
        connection.sendall(f"{head}transfer-encoding: chunked\r\n\r\n{most + 1:x}\r\n".encode() + b"x" * (most + 1))
        answer = connection.recv(4096).decode()
    assert answer.startswith("HTTP/1.1 400 ")
    at_the_limit = post_signal(receiver, "x" * most).json()
    assert at_the_limit == {"err": "invalid_request", "description": "not a signed token"}


def test_a_signal_about_a_subject_who_is_not_known_is_taken_and_ends_nothing(
    receiver: Recipe, caplog: pytest.LogCaptureFixture
) -> None:
    here = receiver.sign_in("alice")
    subjects: list[object] = [
        {**ISS_SUB, "iss": "https://other.example"},
        {"format": "email", "email": "x@example.com"},
        {"format": "opaque", "id": "alice"},
        {"format": "phone_number", "phone_number": "+12065550100"},
        {"format": "account", "uri": "acct:alice@example.com"},
        {"format": "iss_sub", "iss": "https://acme.okta.com", "sub": ["alice"]},
        {"format": "complex", "session": {"format": "opaque", "id": "s1"}},
        {"sub": "alice", "iss": "https://acme.okta.com"},
        "alice",
        None,
    ]
    for subject in subjects:
        caplog.clear()
        assert signal(receiver, sub_id=subject).status_code == 202
        assert "a session was revoked whose user this app does not know" in caplog.text, subject
    assert signal(receiver, sub_id={**ISS_SUB, "sub": "nobody"}).status_code == 202
    assert receiver.who(here) == ["alice"]


def test_another_event_is_taken_and_does_nothing(receiver: Recipe) -> None:
    here = receiver.sign_in("alice")
    verification = "https://schemas.openid.net/secevent/ssf/event-type/verification"
    assert signal(receiver, event=verification).status_code == 202
    assert receiver.who(here) == ["alice"]


def test_strangers_cannot_make_the_receiver_fetch(receiver: Recipe, senders: Senders) -> None:
    for _ in range(5):
        assert from_okta(receiver, {}, "hello") == 401
    assert senders.fetched == 1


def test_nothing_is_refused_as_forged_while_the_keys_cannot_be_fetched(receiver: Recipe, senders: Senders) -> None:
    """A sender gives up after 401 or 400, and the user would stay signed in."""
    senders.down = True
    for _ in range(5):
        assert from_okta(receiver, {"sub_id": ISS_SUB}) == 503
        assert signal(receiver).status_code == 503
    assert senders.fetched == 2  # one for each sender


def test_a_new_key_is_fetched_when_a_token_needs_it(
    receiver: Recipe, senders: Senders, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = receiver.sign_in("alice")
    assert from_okta(receiver, {"sub_id": {**ISS_SUB, "sub": "nobody"}}) == 204
    senders.number = 2
    new = okta_token(number=2, kid=key(2).kid)
    monkeypatch.setattr(receiver.okta, "asked_at", time.monotonic())
    assert from_okta(receiver, {"sub_id": ISS_SUB}, new) == 401
    assert senders.fetched == 1  # within half a minute
    monkeypatch.setattr(receiver.okta, "asked_at", time.monotonic() - 31)
    assert from_okta(receiver, {"sub_id": ISS_SUB}, new) == 204
    assert receiver.who(here) == [None]
    senders.down = True
    monkeypatch.setattr(receiver.okta, "asked_at", time.monotonic() - 3601)
    assert from_okta(receiver, {"sub_id": ISS_SUB}, new) == 204  # with the keys that it has
