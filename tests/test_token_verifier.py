"""Which signatures are believed, and how seldom a provider is asked for its keys."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from asgi_rp_logout.errors import ConfigurationError, LogoutTokenError, ProviderError
from asgi_rp_logout.protocol.end_session import checked_url
from asgi_rp_logout.providers.token_verifier import (
    ASYMMETRIC,
    KEYS_FRESH,
    MAX_KEYS,
    MAX_TOKEN,
    REFETCH_AFTER,
    TokenVerifier,
)
from tests.stub_provider import MALFORMED_KEYS, StubProvider, encrypt, generated, without_kid
from tests.virtual_time import in_virtual_time

SECRET = "a secret of more than thirty-two bytes, with é"


class Verifier(TokenVerifier):
    """A verifier for the stub provider, whose clock is moved by hand."""

    def __init__(self, stub: StubProvider, **options: Any) -> None:
        self.seconds = 1000.0
        super().__init__(jwks_uri=stub.jwks_uri, clock=lambda: self.seconds, **options)
        self.keys.http_client = stub.client()


@pytest.fixture
def stub() -> StubProvider:
    return StubProvider()


@pytest.fixture
def verifier(stub: StubProvider) -> Verifier:
    return Verifier(stub)


async def refusal(verifier: TokenVerifier, token: str) -> LogoutTokenError:
    with pytest.raises(LogoutTokenError) as caught:
        await verifier.verify(token)
    assert token[:20] not in str(caught.value)
    return caught.value


async def code(verifier: TokenVerifier, token: str) -> str:
    return (await refusal(verifier, token)).code


# Construction


@pytest.mark.parametrize("algorithm", ["none", "None", "", "rs256", "RS1", "A128KW", "dir", "RS256 HS256"])
def test_an_algorithm_that_cannot_be_pinned_is_a_configuration_error(stub: StubProvider, algorithm: str) -> None:
    with pytest.raises(ConfigurationError, match="expected one of ES256"):
        Verifier(stub, algorithm=algorithm, client_secret=SECRET)


@pytest.mark.parametrize("secret", [None, ""])
def test_an_hmac_without_a_secret_is_a_configuration_error(stub: StubProvider, secret: str | None) -> None:
    with pytest.raises(ConfigurationError, match=r"HS256.*client_secret"):
        Verifier(stub, algorithm="HS256", client_secret=secret)


def test_a_public_key_is_no_secret(stub: StubProvider) -> None:
    key = generated("RSA")
    assert isinstance(key, RSAKey)
    pem = key.as_pem(private=False).decode()
    with pytest.raises(ConfigurationError, match="expected a secret") as caught:
        Verifier(stub, algorithm="HS256", client_secret=pem)
    assert pem[30:60] not in str(caught.value)


@pytest.mark.parametrize("key", ["a secret", 7, {}, {"kty": "RSA"}, {"kty": ["RSA"]}])
def test_something_that_is_no_key_cannot_decrypt(stub: StubProvider, key: Any) -> None:
    with pytest.raises(ConfigurationError, match="a joserfc key or a JWK") as caught:
        Verifier(stub, decryption_key=key)
    assert "a secret" not in str(caught.value)


# Signatures


async def test_a_verified_token_gives_its_header_and_claims(verifier: Verifier, stub: StubProvider) -> None:
    header, claims = await verifier.verify(stub.make_logout_token("own_header"))
    assert header == {"alg": "RS256", "kid": "rsa-0", "tenant": "acme"}
    assert (claims["sub"], claims["ignored_claim"]) == ("alice", {"any": ["thing"]})


KEYS: dict[str, Any] = {
    "ES256": lambda: ECKey.generate_key("P-256"),
    "ES384": lambda: ECKey.generate_key("P-384"),
    "ES512": lambda: ECKey.generate_key("P-521"),
    "EdDSA": lambda: OKPKey.generate_key("Ed25519"),
    "Ed25519": lambda: OKPKey.generate_key("Ed25519"),
    "Ed448": lambda: OKPKey.generate_key("Ed448"),
}


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated:joserfc.errors.SecurityWarning")
@pytest.mark.parametrize("algorithm", sorted(ASYMMETRIC))
async def test_each_asymmetric_algorithm_verifies(stub: StubProvider, algorithm: str) -> None:
    key = KEYS[algorithm]() if algorithm in KEYS else generated("RSA")
    stub.keys = [*stub.keys, *(make().as_dict(private=False) for make in KEYS.values()), key.as_dict(private=False)]
    verifier = Verifier(stub, algorithm=algorithm)
    token = stub.make_logout_token(key=key, alg=algorithm)
    assert (await verifier.verify(token))[0]["alg"] == algorithm
    assert await code(verifier, stub.make_logout_token("bad_signature", key=key, alg=algorithm)) == "signature"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_an_hmac_verifies_with_the_secret_and_asks_nobody(stub: StubProvider, algorithm: str) -> None:
    verifier = Verifier(stub, algorithm=algorithm, client_secret=SECRET)
    key, wrong = OctKey.import_key(SECRET.encode()), OctKey.import_key(SECRET.upper().encode())
    assert await verifier.verify(stub.make_logout_token(key=key, alg=algorithm))
    assert await code(verifier, stub.make_logout_token(key=wrong, alg=algorithm)) == "signature"
    assert await code(verifier, stub.make_logout_token()) == "alg"
    assert stub.fetched == {}


async def test_a_secret_does_not_open_the_door_to_hmac(stub: StubProvider) -> None:
    """With RS256 pinned, a token signed with the client secret is refused: the secret is no signing key then."""
    token = stub.make_logout_token(key=OctKey.import_key(SECRET.encode()), alg="HS256")
    assert await code(Verifier(stub, client_secret=SECRET), token) == "alg"


async def test_a_symmetric_key_among_the_published_ones_verifies_nothing(stub: StubProvider) -> None:
    published = OctKey.import_key(SECRET.upper().encode())
    stub.keys = [published.as_dict(private=True)]
    token = stub.make_logout_token(key=published, alg="HS256")
    assert await code(Verifier(stub, algorithm="HS256", client_secret=SECRET), token) == "signature"


async def test_what_fails_before_the_signature_asks_nobody(verifier: Verifier, stub: StubProvider) -> None:
    for knob in ("alg_none", "wrong_alg", "confused_alg"):
        assert await code(verifier, stub.make_logout_token(knob)) == "alg"
    assert await code(verifier, stub.make_logout_token("crit")) == "malformed"
    assert await code(verifier, "x" * (MAX_TOKEN + 1)) == "too_large"
    assert stub.fetched == {}


@pytest.mark.parametrize(
    "payload", ["", "[]", "7", '"text"', "null", "{", '{"a": ' * 3000, "\ufeff{}", b"\xff", b"{\x00}\x00"]
)
async def test_a_signed_content_that_is_no_json_object_is_refused(
    verifier: Verifier, stub: StubProvider, payload: Any
) -> None:
    token = jws.serialize_compact({"alg": "RS256", "kid": "rsa-0"}, payload, stub.signing_key)
    assert await code(verifier, token) == "malformed"


HEADERS = ["null", "7", "[]", '["alg"]', '"alg"', '"alg b64"', "{}", '{"alg": null}', '{"alg": ["RS256"]}', "{" * 9000]
HEADERS += ['{"alg": "RS256", "kid": 7}', '{"alg": "RS256", "kid": null, "crit": []}', '{"alg": "RS256", "b64": false}']


@pytest.mark.parametrize("header", HEADERS)
async def test_a_header_that_is_none_is_refused(verifier: Verifier, stub: StubProvider, header: str) -> None:
    head = base64.urlsafe_b64encode(header.encode()).rstrip(b"=").decode()
    assert await code(verifier, f"{head}.e30.AAAA") in {"malformed", "alg"}
    assert stub.fetched == {}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text() | st.lists(st.text("eyJhbGciOiJSUzI1NiJ9_-=", max_size=30), max_size=6).map(".".join))
def test_any_text_is_refused(token: str) -> None:
    async def run() -> None:
        stub = StubProvider()
        stub.keys = []
        await refusal(Verifier(stub), token + "!")

    anyio.run(run)


# Encryption


async def test_an_encrypted_token_is_decrypted_and_then_verified(stub: StubProvider) -> None:
    key = generated("RSA-enc")
    for given_as in (key, key.as_dict(private=True)):
        verifier = Verifier(stub, decryption_key=given_as)
        assert (await verifier.verify(encrypt(stub.make_logout_token(), key, kid=key.kid)))[1]["sub"] == "alice"
        assert await code(verifier, encrypt(stub.make_logout_token("bad_signature"), key)) == "signature"
        assert await code(verifier, encrypt(stub.make_logout_token("alg_none"), key)) == "alg"
        assert await code(verifier, stub.make_logout_token()) == "unencrypted"


async def test_an_encrypted_token_is_refused_without_a_key_or_with_another(stub: StubProvider) -> None:
    token = encrypt(stub.make_logout_token(), generated("RSA-enc", 1))
    assert await code(Verifier(stub), token) == "encrypted"
    assert await code(Verifier(stub, decryption_key=generated("RSA-enc")), token) == "decryption"
    assert await code(Verifier(stub, decryption_key=generated("RSA-enc")), "....") == "decryption"


async def test_a_compressed_token_is_not_inflated(stub: StubProvider) -> None:
    """A sender could make much out of little; a logout token needs no compression."""
    key = generated("RSA-enc")
    verifier = Verifier(stub, decryption_key=key)
    assert await code(verifier, encrypt(stub.make_logout_token(), key, zip="DEF")) == "decryption"
    assert await verifier.verify(encrypt(stub.make_logout_token(), key))


async def test_an_encryption_that_a_sender_can_make_slow_or_probe_is_refused(stub: StubProvider) -> None:
    secret = OctKey.import_key(SECRET.encode())
    slow = encrypt(stub.make_logout_token(), secret, alg="PBES2-HS256+A128KW", p2c=1000)
    assert await code(Verifier(stub, decryption_key=secret), slow) == "decryption"


# The keys


async def test_malformed_keys_beside_a_good_one_do_no_harm(verifier: Verifier, stub: StubProvider) -> None:
    stub.keys = [*MALFORMED_KEYS, stub.signing_key.as_dict(private=False), *MALFORMED_KEYS]
    assert await verifier.verify(stub.make_logout_token())


@pytest.mark.parametrize(
    "keys", [[], MALFORMED_KEYS, None, {"kid": "x"}, "keys"], ids=["none", "bad", "null", "object", "text"]
)
async def test_a_key_set_without_a_usable_key_is_a_failure(verifier: Verifier, stub: StubProvider, keys: Any) -> None:
    stub.keys = keys
    error = await refusal(verifier, stub.make_logout_token())
    assert error.code == "keys"
    assert isinstance(error.__cause__, ProviderError)
    assert error.__cause__.code == "jwks"


async def test_a_key_for_something_else_does_not_verify(verifier: Verifier, stub: StubProvider) -> None:
    public = stub.signing_key.as_dict(private=False)
    other = generated("RSA", 1).as_dict(private=False)
    for change in ({"use": "enc"}, {"alg": "RS512"}):
        stub.keys = [public | change, other]
        assert await code(Verifier(stub), stub.make_logout_token()) == "kid"
    stub.keys = [{name: value for name, value in public.items() if name != "use"} | {"key_ops": ["encrypt"]}]
    assert await code(Verifier(stub), stub.make_logout_token()) == "signature"


@pytest.mark.filterwarnings("ignore:Key size should be:joserfc.errors.SecurityWarning")
async def test_a_small_rsa_key_is_passed_over(stub: StubProvider) -> None:
    weak = RSAKey.generate_key(1024)
    stub.keys = [weak.as_dict(private=False), *stub.keys]
    assert await code(Verifier(stub), stub.make_logout_token(key=weak)) == "signature"


async def test_without_a_kid_each_key_is_tried_up_to_a_limit(stub: StubProvider) -> None:
    others = [generated("RSA", number).as_dict(private=False) for number in range(1, MAX_KEYS + 1)]
    mine = stub.signing_key.as_dict(private=False)
    stub.keys = [*others[1:], mine]
    assert await Verifier(stub).verify(stub.make_logout_token("no_kid"))
    stub.keys = [*others, mine]
    assert await code(Verifier(stub), stub.make_logout_token("no_kid")) == "signature"


async def test_a_key_that_is_published_without_kid_may_have_signed_under_any(stub: StubProvider) -> None:
    stub.keys = [without_kid(stub.signing_key, private=False)]
    assert await Verifier(stub).verify(stub.make_logout_token())
    assert await Verifier(stub).verify(stub.make_logout_token("no_kid"))


async def test_the_keys_are_fetched_once(verifier: Verifier, stub: StubProvider) -> None:
    for _ in range(5):
        await verifier.verify(stub.make_logout_token())
    assert stub.fetched == {"jwks": 1}


@pytest.mark.parametrize("same_kid", [False, True], ids=["a new kid", "the same kid"])
async def test_a_rotated_key_is_fetched_when_it_is_first_used(
    verifier: Verifier, stub: StubProvider, same_kid: bool
) -> None:
    await verifier.verify(stub.make_logout_token())
    stub.rotate()
    kid: dict[str, Any] = {"kid": "rsa-0"} if same_kid else {}
    stub.keys = [key | kid for key in stub.keys]
    token = stub.make_logout_token(key=RSAKey.import_key(stub.signing_key.as_dict(private=True) | kid))
    assert await verifier.verify(token)
    assert stub.fetched == {"jwks": 2}


async def test_an_unknown_kid_refetches_once_in_thirty_seconds(verifier: Verifier, stub: StubProvider) -> None:
    await verifier.verify(stub.make_logout_token())
    for elapsed, fetches in ((0, 2), (29.9, 2), (30, 3), (31, 3), (59.9, 3), (60, 4)):
        verifier.seconds = 1000 + elapsed
        for _ in range(3):
            assert await code(verifier, stub.make_logout_token("unknown_kid")) == "kid"
        assert stub.fetched["jwks"] == fetches, elapsed
    assert await verifier.verify(stub.make_logout_token())


async def test_keys_that_were_fetched_for_this_very_token_are_not_fetched_again(
    verifier: Verifier, stub: StubProvider
) -> None:
    assert await code(verifier, stub.make_logout_token("unknown_kid")) == "kid"
    assert stub.fetched == {"jwks": 1}
    verifier.seconds += KEYS_FRESH + 1
    assert await code(verifier, stub.make_logout_token("unknown_kid")) == "kid"
    assert stub.fetched == {"jwks": 2}


async def test_a_failed_fetch_counts_and_is_remembered(verifier: Verifier, stub: StubProvider) -> None:
    stub.status = 500
    for _ in range(3):
        error = await refusal(verifier, stub.make_logout_token())
        assert error.code == "keys"
        assert isinstance(error.__cause__, ProviderError)
        assert error.__cause__.code == "fetch_status"
    assert stub.fetched == {"jwks": 1}
    stub.status = 200
    verifier.seconds += REFETCH_AFTER
    assert await verifier.verify(stub.make_logout_token())


UNREADABLE: dict[str, tuple[dict[str, Any], str]] = {
    "not found": ({"status": 404}, "https://op.example/jwks answered 404, not 200"),
    "none for the algorithm": (
        {"keys": [without_kid(generated("EC"))]},
        "https://op.example/jwks has no key for RS256",
    ),
    "an internal address": ({"at": "http://keycloak:8080/jwks"}, "neither https nor http on a loopback host"),
    "a bug": ({"at": None}, "AttributeError"),
}


@pytest.mark.parametrize(("broken", "reason"), UNREADABLE.values(), ids=UNREADABLE)
async def test_why_keys_cannot_be_read_is_logged_once_and_not_for_each_token(
    stub: StubProvider, log: Any, broken: dict[str, Any], reason: str
) -> None:
    """The sender is told nothing of it, and whoever runs the application has nothing else to go by."""
    vars(stub).update(broken)

    async def jwks_uri() -> str:
        return checked_url(broken["at"].strip(), "jwks_uri") if "at" in broken else f"{stub.issuer}jwks?key=s3cr3t"

    verifier = TokenVerifier(jwks_uri=jwks_uri)
    verifier.keys.http_client = stub.client()
    for _ in range(5):
        assert reason not in str(await refusal(verifier, stub.make_logout_token()))
    (line,) = log()
    assert line.startswith(
        "the provider's keys cannot be read, so its logout tokens are refused and its ID Tokens ignored: "
    )
    assert line.endswith(reason)


async def test_keys_at_hand_go_on_serving_when_a_fetch_fails(verifier: Verifier, stub: StubProvider) -> None:
    await verifier.verify(stub.make_logout_token())
    for broken in ({"status": 500}, {"status": 200, "keys": []}):
        vars(stub).update(broken)
        verifier.seconds += REFETCH_AFTER
        assert await code(verifier, stub.make_logout_token("unknown_kid")) == "kid"
        assert await verifier.verify(stub.make_logout_token())
    assert stub.fetched == {"jwks": 3}


async def test_a_withdrawn_key_dies_within_the_hour(verifier: Verifier, stub: StubProvider) -> None:
    token = stub.make_logout_token()
    stub.keys = [stub.keys[-1], generated("RSA", 1).as_dict(private=False)]
    await verifier.verify(token)
    del stub.keys[0]
    verifier.seconds += KEYS_FRESH
    assert await verifier.verify(token)
    verifier.seconds += 1
    assert await code(verifier, token) == "kid"


async def test_requests_at_once_share_one_fetch(verifier: Verifier, stub: StubProvider) -> None:
    stub.delay = 0.05
    verified = []

    async def verify() -> None:
        verified.append(await verifier.verify(stub.make_logout_token()))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(verify)
    assert len(verified) == 20
    assert stub.fetched == {"jwks": 1}


@in_virtual_time
async def test_a_request_that_is_given_up_does_not_spend_the_fetch(verifier: Verifier, stub: StubProvider) -> None:
    """Else a sender who hangs up every thirty seconds would keep the keys away for good."""
    stub.delay = 0.05
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(verifier.verify, stub.make_logout_token())
        await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert await verifier.verify(stub.make_logout_token())
    assert stub.fetched == {"jwks": 1}


async def test_a_fetch_that_is_cancelled_all_the_same_counts(verifier: Verifier, stub: StubProvider) -> None:
    """A server may cancel the task itself, which no shield holds up; a sender must not gain further fetches by it."""
    stub.delay = 3600
    task = asyncio.ensure_future(verifier.verify(stub.make_logout_token()))
    while not stub.fetched:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    stub.delay = 0
    assert await code(verifier, stub.make_logout_token()) == "keys"
    assert stub.fetched == {"jwks": 1}
    verifier.seconds += REFETCH_AFTER
    assert await verifier.verify(stub.make_logout_token())


@in_virtual_time
async def test_the_fetch_ends_with_the_callers_deadline(verifier: Verifier, stub: StubProvider) -> None:
    stub.delay = 60
    with anyio.fail_after(3):
        assert await code(verifier, stub.make_logout_token()) == "keys"


@pytest.mark.parametrize("url", ["http://[", "", "not a url", None, 7, "ftp://op.example/jwks"])
async def test_an_address_that_is_none_is_a_failure_like_any_other(stub: StubProvider, url: Any) -> None:
    async def jwks_uri() -> Any:
        return url

    verifier = TokenVerifier(jwks_uri=jwks_uri)
    assert await code(verifier, stub.make_logout_token()) == "keys"


async def test_the_keys_come_over_a_real_socket(serve: Any, stub: StubProvider) -> None:
    stub.issuer = serve(stub.app) + "/"
    verifier = TokenVerifier(jwks_uri=stub.jwks_uri)
    header, claims = await verifier.verify(stub.make_logout_token())
    assert json.dumps([header["alg"], claims["iss"]]) == json.dumps(["RS256", stub.issuer])
