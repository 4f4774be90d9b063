"""The recipes of docs/everywhere.md, run as they are written: real servers, real signatures."""

from __future__ import annotations

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
        user = request.query_params["user"]
        remember_login(request, iss=self.iss, sub=user)
        response = Response()
        response.set_cookie("session", f"the server-side session of {user}, number {time.monotonic_ns()}")
        return response

    async def home(self, request: Request) -> Response:
        login = current_login(request)
        return JSONResponse(login.sub if login else None)

    def sign_in(self, user: str) -> Device:
        return dict(send("GET", f"{self.url}/test/login?user={user}", {}).cookies)

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


def signal(receiver: Recipe, *, typ: str = "secevent+jwt", event: str = REVOKED, **changed: Any) -> httpx.Response:
    """Push one Security Event Token (RFC 8935)."""
    claims: dict[str, Any] = {"iss": "https://signals.example.com", "aud": ["https://app.example.com"]}
    claims |= {"iat": int(time.time()), "jti": "1", "events": {event: {"event_timestamp": int(time.time())}}}
    number = changed.pop("number", 0)
    token = signed(typ, number=number, **(claims | {"sub_id": ISS_SUB} | changed))
    return httpx.post(f"{receiver.url}/signals", content=token, headers={"content-type": "application/secevent+jwt"})


def test_a_revoked_session_is_signed_out_on_all_devices(receiver: Recipe) -> None:
    """By an (iss, sub), by an address, within a complex subject, and with the subject in the event, as it once was."""
    subjects: list[dict[str, Any]] = [
        {"sub_id": ISS_SUB},
        {"sub_id": EMAIL},
        {"sub_id": {"user": ISS_SUB}},
        {"sub_id": None, "events": {REVOKED: {"subject": ISS_SUB}}},
    ]
    for number, said in enumerate(subjects):
        here, bob = receiver.sign_in("alice"), receiver.sign_in("bob")
        assert receiver.who(here, bob) == ["alice", "bob"], number
        assert signal(receiver, **said).status_code == 202
        assert receiver.who(here, bob) == [None, "bob"], number


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://evil.example"},
        {"aud": "https://other.example"},
        {"typ": "JWT"},
        {"number": 1},
    ],
    ids=["issuer", "audience", "type", "key"],
)
def test_a_signal_of_somebody_else_is_refused(receiver: Recipe, changed: dict[str, Any]) -> None:
    here = receiver.sign_in("alice")
    refused = signal(receiver, **changed)
    assert (refused.status_code, refused.json()["err"]) == (400, "authentication_failed")
    assert receiver.who(here) == ["alice"]


def test_another_event_and_an_unknown_user_are_taken_and_do_nothing(receiver: Recipe) -> None:
    here = receiver.sign_in("alice")
    verification = "https://schemas.openid.net/secevent/ssf/event-type/verification"
    assert signal(receiver, event=verification).status_code == 202
    assert signal(receiver, sub_id={**ISS_SUB, "sub": "nobody"}).status_code == 202
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
