"""Which provider a logout goes to, what it is told, whether anybody is sent at all, and where the browser returns."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from asgi_rp_logout import ConfigurationError, Login, OIDCProvider, StaticProvider
from asgi_rp_logout.providers.vendors import LocalOnly
from tests.apps import COOKIE, END, guarded, log_out, page, parameters, signs_out, went_to_provider
from tests.asgi import call, http_scope
from tests.conftest import Log
from tests.stub_provider import StubProvider, encrypt, generated
from tests.tokens import id_token

ISS = {"red": "https://red.example", "blue": "https://blue.example"}
RED = StaticProvider("https://red.example/end", name="red", client_id="r", issuer=ISS["red"])
BLUE = StaticProvider("https://blue.example/end", name="blue", client_id="b", issuer=ISS["blue"])
NO_ENDPOINT = LocalOnly(name="grey", issuer="https://grey.example")


async def where(providers: Any, login: Login | None, marker: str = "1", **options: Any) -> str | None:
    """Give the host that a logout went to, or None."""
    options.setdefault("require_login", False)
    guard = guarded(
        signs_out("/login", ("x-rp-logout", marker)), providers=providers, login_source=lambda _: login, **options
    )
    location = (await log_out(guard)).header("location") or ""
    return location.partition("//")[2].partition(".")[0] or None


# Which one


@pytest.mark.parametrize(
    ("providers", "login", "marker", "expected"),
    [
        # what the application names goes first
        ([RED, BLUE], None, "blue", "blue"),
        ([RED, BLUE], Login("red"), "blue", "blue"),
        ([RED, BLUE], Login("red"), "green", None),
        ([RED], Login("red"), "grey", None),
        # then the login's own, by name, else by issuer
        ([RED, BLUE], Login("blue"), "1", "blue"),
        ([RED, BLUE], Login(iss=ISS["blue"]), "1", "blue"),
        ([RED, BLUE], Login("blue", iss=ISS["red"]), "1", "blue"),
        ([RED, BLUE], Login("unknown", iss=ISS["blue"]), "1", "blue"),
        # a login of a provider that is not in the list goes nowhere
        ([RED, BLUE], Login("green"), "1", None),
        ([RED], Login("green"), "1", None),
        ([RED], Login(iss="https://green.example"), "1", None),
        ([RED], Login(iss=ISS["red"] + "/"), "1", None),
        # a login that names no provider is the only one's
        ([RED], Login(id_token="x"), "1", "red"),
        ([RED], Login(), "1", "red"),
        ([RED, BLUE], Login(sub="alice"), "1", None),
        # without a login, the only candidate with an endpoint
        ([RED], None, "1", "red"),
        ([RED, BLUE], None, "1", None),
        ([NO_ENDPOINT, BLUE], None, "1", "blue"),
        ([NO_ENDPOINT], None, "1", None),
        ([], None, "1", None),
        # the login's own has none, and no other will do
        ([NO_ENDPOINT, BLUE], Login("grey"), "1", None),
    ],
)
async def test_the_choice_of_the_provider(
    providers: list[Any], login: Login | None, marker: str, expected: str
) -> None:
    assert await where(providers, login, marker) == expected


class Refusing:
    name = "broken"

    def get_end_session_url(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("order", [1, -1])
async def test_a_candidate_that_fails_leaves_nothing_certain(order: int) -> None:
    """It might have been the one; the other must not get somebody else's user."""
    assert await where([RED, Refusing()][::order], None) is None
    assert await where([RED, Refusing()][::order], Login("red")) == "red"


# What it is told


async def told(login: Login, marker: str, **options: Any) -> dict[str, str]:
    guard = guarded(
        signs_out("/login", ("x-rp-logout", marker)), providers=[RED, BLUE], login_source=lambda _: login, **options
    )
    return parameters(await log_out(guard))


async def test_the_logins_own_provider_gets_hint_logout_hint_and_client_id() -> None:
    login = Login("red", id_token="a.b.c", logout_hint="alice")
    assert await told(login, "1") == {
        "id_token_hint": "a.b.c",
        "logout_hint": "alice",
        "client_id": "r",
        "post_logout_redirect_uri": "http://127.0.0.1/login",
    }


async def test_no_other_provider_gets_anything_of_the_login() -> None:
    """An ID Token is somebody's name and mail address."""
    login = Login("red", id_token="a.b.c", logout_hint="alice", sid="s", sub="u")
    assert await told(login, "blue") == {"client_id": "b", "post_logout_redirect_uri": "http://127.0.0.1/login"}


OF_RED = id_token(iss=ISS["red"])
OF_NOBODY = "a.b.c"
"""A token that names no issuer."""
PLAIN = StaticProvider("https://plain.example/end", name="plain", client_id="p")
"""A provider whose issuer is not known."""


@pytest.mark.parametrize(
    ("providers", "login", "host", "hinted"),
    [
        # the provider whose issuer is the token's
        ([RED, BLUE], Login("red", OF_RED), "red", True),
        ([RED, BLUE], Login(id_token=OF_RED), "red", True),
        ([RED], Login(id_token=OF_RED), "red", True),
        # one whose issuer is another gets nothing, whoever named it
        ([RED, BLUE], Login("blue", OF_RED), "blue", False),
        ([BLUE], Login("blue", OF_RED), "blue", False),
        ([BLUE], Login("blue", OF_RED, iss=ISS["blue"]), "blue", False),
        ([BLUE], Login("blue", OF_NOBODY, iss=ISS["red"]), "blue", False),
        # one whose issuer is unknown, only if the application named it for this login
        ([PLAIN, BLUE], Login("plain", OF_RED), "plain", True),
        ([PLAIN], Login(id_token=OF_RED), "plain", False),
        # a token that names no issuer, only to the provider that is named, or the only one
        ([RED, BLUE], Login("red", OF_NOBODY), "red", True),
        ([RED], Login(id_token=OF_NOBODY), "red", True),
        ([PLAIN], Login(id_token=OF_NOBODY), "plain", True),
        # beside several providers a login that names none is nobody's, though only one has an endpoint
        ([NO_ENDPOINT, BLUE], Login(id_token=OF_NOBODY), "blue", False),
    ],
)
async def test_an_id_token_goes_to_its_issuer_only(providers: list[Any], login: Login, host: str, hinted: bool) -> None:
    login = replace(login, logout_hint="alice")
    guard = guarded(signs_out(), providers=providers, login_source=lambda _: login)
    answer = await log_out(guard)
    assert (answer.header("location") or "").startswith(f"https://{host}.example/end?")
    query = parameters(answer)
    expected = (login.id_token, "alice") if hinted else (None, None)
    assert (query.get("id_token_hint"), query.get("logout_hint")) == expected


async def test_a_provider_that_gets_no_id_token_is_warned_of_once(log: Any) -> None:
    """Else a newcomer wonders why the provider asks its users whether they mean it."""
    guard = guarded(signs_out(), providers=[PLAIN], login_source=lambda _: Login(id_token=OF_RED))
    for _ in range(3):
        await log_out(guard)
    (line,) = log()
    assert line.startswith(f"provider 'plain' gets no ID Token: its issuer is None, and the token's is {ISS['red']!r}")
    assert OF_RED not in line


async def test_a_token_whose_issuer_is_no_text_has_no_issuer_of_ours() -> None:
    odd = id_token(iss=["https://red.example"])  # type: ignore[arg-type]
    assert "id_token_hint" not in await told(Login("red", odd), "1")


# An ID Token that is encrypted (RP-Initiated Logout 1.0, section 2)


KEY = generated("RSA-enc")
ENCRYPTED = encrypt(OF_RED, KEY)


def decrypting(key: Any, issuer: str = ISS["red"]) -> OIDCProvider:
    provider = OIDCProvider(issuer, "r", name="red", decryption_key=key)
    provider.metadata.document = {"issuer": issuer, "end_session_endpoint": END}
    return provider


@pytest.mark.parametrize(
    ("provider", "id_token", "hint"),
    [
        (decrypting(KEY), ENCRYPTED, OF_RED),
        # without its key, or for somebody else, it is left out: it would be an error page
        (decrypting(None), ENCRYPTED, None),
        (decrypting(generated("RSA-enc", 1)), ENCRYPTED, None),
        (decrypting(KEY), encrypt("no token", KEY), None),
        (decrypting(KEY), encrypt("é.é.é", KEY), None),
        (decrypting(KEY, ISS["blue"]), ENCRYPTED, None),
        (StaticProvider(END, name="red"), ENCRYPTED, None),
        # the control: a signed one needs no key
        (decrypting(KEY), OF_RED, OF_RED),
        (decrypting(None), OF_RED, OF_RED),
    ],
)
async def test_an_encrypted_id_token_is_decrypted_or_left_out(provider: Any, id_token: str, hint: str | None) -> None:
    guard = guarded(signs_out(), providers=[provider], login_source=lambda _: Login("red", id_token))
    answer = await log_out(guard)
    assert went_to_provider(answer)
    assert parameters(answer).get("id_token_hint") == hint


@pytest.mark.parametrize("named", ["red", "blue"])
async def test_a_custom_object_sees_the_login_only_if_it_is_its_own(named: str) -> None:
    seen: list[Any] = []

    class Custom:
        name = "red"

        def get_end_session_url(self, login: Login | None, id_token_hint: str | None, logout_hint: str | None) -> str:
            seen.append((login, id_token_hint, logout_hint))
            return END

    login = Login(named, id_token="a.b.c", logout_hint="alice")
    guard = guarded(signs_out("/", ("x-rp-logout", "red")), providers=[Custom(), BLUE], login_source=lambda _: login)
    assert went_to_provider(await log_out(guard))
    assert seen == [(login, "a.b.c", "alice") if named == "red" else (None, None, None)]


# Evidence: nobody is sent to the provider without a session to end


@pytest.mark.parametrize(
    ("source", "options", "headers", "sent"),
    [
        # with no login source, a session cookie of the request
        (None, {}, {"cookie": COOKIE}, True),
        (None, {}, {"cookie": "session="}, True),
        (None, {}, {}, False),
        (None, {}, {"cookie": "other=1; session_hint=1; xsession=1"}, False),
        (None, {"require_login": True}, {"cookie": COOKIE}, False),
        (None, {"require_login": False}, {"cookie": COOKIE}, True),
        # with one, its word: None means nobody
        ("nobody", {}, {"cookie": COOKIE}, False),
        ("nobody", {"require_login": True}, {"cookie": COOKIE}, False),
        ("nobody", {"require_login": False}, {"cookie": COOKIE}, True),
        ("nobody", {"require_login": False}, {}, False),
        ("somebody", {}, {}, True),
        ("somebody", {"require_login": True}, {}, True),
        ("somebody", {"require_login": False}, {}, True),
    ],
)
@pytest.mark.parametrize("path", ["/logout", "/marked"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_the_evidence(
    source: str | None, options: dict[str, Any], headers: dict[str, str], sent: bool, path: str, is_async: bool
) -> None:
    login = Login("idp") if source == "somebody" else None

    async def ask_async(connection: HTTPConnection) -> Login | None:
        await asyncio.sleep(0)
        return login

    asks: Any = ask_async if is_async else (lambda connection: login)
    app = signs_out("/login", *([("x-rp-logout", "1")] if path == "/marked" else []))
    guard = guarded(app, login_source=asks if source else None, **options)
    answer = await log_out(guard, path, headers=headers)
    assert went_to_provider(answer) is sent
    assert "session" in answer.expired()


async def test_a_logout_path_asks_the_login_source_before_the_app_forgets() -> None:
    signed_in = {"alice": True}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        signed_in.clear()
        await signs_out()(scope, receive, send)

    def source(connection: HTTPConnection) -> Login | None:
        return Login("idp", id_token="a.b.c") if signed_in else None

    answer = await log_out(guarded(app, login_source=source))
    assert parameters(answer)["id_token_hint"] == "a.b.c"


async def test_a_marked_answer_asks_over_the_request_as_it_came() -> None:
    """Path, root_path, headers and session as the application found them."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"].clear()
        scope["path"], scope["root_path"], scope["headers"] = "/changed", "/changed", []
        await signs_out("/", ("x-rp-logout", "1"))(scope, receive, send)

    def source(connection: HTTPConnection) -> Login | None:
        seen.append((connection.url.path, dict(connection.cookies), dict(connection.session)))
        return Login("idp")

    guard = guarded(app, login_source=source)
    headers = {"cookie": "a=1"}
    answer = await log_out(guard, "/p/bye", headers=headers, root_path="/p", session={"user": "alice"})
    assert went_to_provider(answer)
    assert seen == [("/p/bye", {"a": "1"}, {"user": "alice"})]


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
async def test_a_request_that_cannot_be_a_logout_asks_no_login_source(method: str) -> None:
    asked: list[str] = []
    guard = guarded(signs_out(), login_source=lambda connection: asked.append(connection.scope["method"]))
    await log_out(guard, method=method)
    await log_out(guard, "/other")
    assert asked == []
    await log_out(guard)
    assert asked == ["POST"]


async def raising(connection: HTTPConnection) -> Login:
    raise RuntimeError("s3cr3t")


def raising_at_once(connection: HTTPConnection) -> Login:
    raise RuntimeError("s3cr3t")


async def hanging(connection: HTTPConnection) -> Login:
    await asyncio.sleep(60)
    raise AssertionError


@pytest.mark.parametrize("source", [raising, raising_at_once, hanging, lambda _: "alice", lambda _: {"sub": "alice"}])
@pytest.mark.parametrize("path", ["/logout", "/marked"])
async def test_a_login_source_that_fails_means_nobody_and_one_warning(source: Any, path: str, log: Log) -> None:
    """The logout here is complete all the same."""
    app = signs_out("/login", *([("x-rp-logout", "1")] if path == "/marked" else []))
    answer = await log_out(guarded(app, login_source=source, provider_timeout=0.05 if source is hanging else 30), path)
    assert (answer.status, answer.header("location"), "session" in answer.expired()) == (303, "/login", True)
    assert len(log()) == 1
    assert "s3cr3t" not in log()[0]
    assert "login_source" in log()[0]


# Where the browser returns (post_logout_redirect_uri)


@pytest.mark.parametrize(
    ("configured", "public_url", "root_path", "location", "expected"),
    [
        ("https://www.example/bye?x=1", None, "", "/login", "https://www.example/bye?x=1"),
        ("myapp+x://bye", None, "", "/login", "refused"),
        ("/login", None, "", "/x", "http://app.example/login"),
        ("/login?a=b", None, "", "/x", "http://app.example/login?a=b"),
        ("/login", None, "/prefix", "/x", "http://app.example/prefix/login"),
        ("/login", "https://public.example", "/prefix", "/x", "https://public.example/login"),
        ("/login", "https://public.example/base/", "", "/x", "https://public.example/base/login"),
        # None: the application's own target, without query and fragment
        (None, None, "", "/bye?next=/a#top", "http://app.example/bye"),
        (None, None, "", "http://app.example/bye?next=/a", "http://app.example/bye"),
        (None, None, "", "login", "http://app.example/login"),
        (None, None, "/prefix", "/prefix/login", "http://app.example/prefix/login"),
        (None, None, "/prefix", "login", "http://app.example/prefix/login"),
        (None, "https://public.example/base", "", "/base/bye", "https://public.example/base/bye"),
        (None, "https://public.example", "", "https://public.example/bye", "https://public.example/bye"),
        (None, "https://public.example", "", "http://app.example/bye", "https://public.example/bye"),
        # only on this origin
        (None, None, "", "https://elsewhere.example/bye", None),
        (None, None, "", "//elsewhere.example/bye", None),
        (None, None, "", "https://app.example/bye", None),
        (None, None, "", "http://app.example:81/bye", None),
        (None, None, "", "/\\evil.example", None),
        (None, None, "", "javascript:alert(1)", None),
    ],
)
async def test_where_the_browser_returns(
    configured: str | None, public_url: str | None, root_path: str, location: str, expected: str | None
) -> None:
    options = {"post_logout_redirect_uri": configured, "public_url": public_url}
    if expected == "refused":
        with pytest.raises(ValueError, match="post_logout_redirect_uri"):
            guarded(signs_out(location), **options)
        return
    headers = {"cookie": COOKIE, "host": "app.example"}
    answer = await log_out(
        guarded(signs_out(location), **options), f"{root_path}/logout", headers=headers, root_path=root_path
    )
    assert went_to_provider(answer)
    assert parameters(answer).get("post_logout_redirect_uri") == expected


async def test_an_answer_without_a_target_has_no_return_address() -> None:
    assert parameters(await log_out(guarded(page(204)))) == {"client_id": "rp"}


@pytest.mark.parametrize(
    "hosts",
    [
        ["evil.example/path?"],
        ["evil.example@app.example"],
        ["app.example\\evil"],
        ["app.example, evil.example"],
        ["app.example", "evil.example"],
        ["app.example:port"],
        ["app.example:99999"],
        ["app example"],
        ["äpp.example"],
        ["[::1"],
        [""],
    ],
)
@pytest.mark.parametrize("configured", ["/login", None])
async def test_a_host_header_that_is_none_leaves_the_return_address_out(
    hosts: list[str], configured: str | None
) -> None:
    """The logout goes on: the provider then shows a page of its own."""
    headers = [("cookie", COOKIE), *(("host", host.encode()) for host in hosts)]
    answer = await log_out(guarded(signs_out(), post_logout_redirect_uri=configured), headers=headers)
    assert parameters(answer) == {"client_id": "rp"}


async def test_the_scheme_and_port_are_those_of_the_request() -> None:
    headers = {"cookie": COOKIE, "host": "app.example:8443"}
    answer = await log_out(guarded(signs_out()), headers=headers, scheme="https")
    assert parameters(answer)["post_logout_redirect_uri"] == "https://app.example:8443/login"


# The list


async def listed_async() -> list[Any]:
    await asyncio.sleep(0)
    return [RED]


@pytest.mark.parametrize(
    "providers", [[RED], (RED,), iter([RED]), lambda: [RED], lambda: (RED,), listed_async, lambda: iter([RED])]
)
async def test_the_providers_are_a_sequence_or_a_callable_sync_or_async(providers: Any) -> None:
    guard = guarded(signs_out(), providers=providers)
    for number in range(2):
        answer = await log_out(guard, headers={"cookie": f"session={number}"})
        assert (answer.header("location") or "").startswith("https://red.example/end")


async def test_a_callable_is_asked_at_each_logout() -> None:
    """Registries fill late."""
    registry: list[Any] = []
    guard = guarded(signs_out(), providers=lambda: registry)
    assert (await log_out(guard, headers={"cookie": "session=1"})).header("location") == "/login"
    registry.append(OIDCProvider("https://red.example", "r"))
    registry[0].metadata.document = {"issuer": "https://red.example", "end_session_endpoint": END}
    assert went_to_provider(await log_out(guard, headers={"cookie": "session=2"}))


@pytest.mark.parametrize("broken", [lambda: None, lambda: 1 / 0])
async def test_a_callable_that_fails_is_said_to_have_failed_and_not_a_provider(broken: Any, log: Any) -> None:
    answer = await log_out(guarded(signs_out(), providers=broken))
    assert (answer.header("location"), "session" in answer.expired()) == ("/login", True)
    (line,) = log()
    assert "the function given as providers raised " in line


@pytest.mark.parametrize("status", [200, 204])
async def test_several_providers_and_an_answer_without_a_redirect_go_nowhere(status: int, log: Any) -> None:
    """Nothing tells which one is meant, and the first one is as wrong as the second."""
    answer = await log_out(guarded(page(status), providers=[RED, BLUE]))
    assert (answer.status, answer.header("location")) == (status, None)
    assert "nothing tells which one signed the user in" in log()[0]
    assert parameters(await log_out(guarded(page(status), providers=[RED])))["client_id"] == "r"


class PasswordProvider:
    """An entry of an application's registry that knows nothing of logouts, as there are in the wild."""

    name = "basic"


class Raising:
    name = "raising"

    @property
    def get_end_session_url(self) -> Any:
        raise RuntimeError

    @property
    def issuer(self) -> str:
        raise RuntimeError


BAD_ENTRIES: dict[str, Any] = {
    "without the method": PasswordProvider(),
    "a method that is none": type("P", (), {"name": "p", "get_end_session_url": END})(),
    "a class": StaticProvider,
    "the same name again": StaticProvider("https://green.example/end", name="red"),
    "a name that the marker means otherwise": StaticProvider("https://green.example/end", name="local"),
    "one that raises": Raising(),
    "nothing": None,
}


@pytest.mark.parametrize("entry", BAD_ENTRIES.values(), ids=BAD_ENTRIES)
async def test_a_bad_entry_of_a_registry_has_no_endpoint_and_stops_no_other(entry: Any, log: Any) -> None:
    assert await where(lambda: [RED, entry], None) == "red"
    assert await where(lambda: [RED, entry, BLUE], Login(iss=ISS["blue"])) == "blue"
    assert log() == []
    assert [line for line in log(logging.DEBUG) if "counts as one without an end-session endpoint" in line]
    with pytest.raises((ConfigurationError, RuntimeError)):
        guarded(signs_out(), providers=[RED, entry])


async def test_a_login_of_an_entry_without_an_endpoint_stays_here(log: Any) -> None:
    registry = [RED, PasswordProvider()]
    assert await where(lambda: registry, Login("basic")) is None
    assert log() == ["logged out here, but not at the provider: 'basic' has no end-session endpoint"]


async def test_an_entry_without_an_endpoint_takes_logout_tokens_all_the_same() -> None:
    """What is wrong with its end-session URL says nothing about its keys."""
    stub = StubProvider()
    verifying = OIDCProvider(stub.issuer, stub.client_id)
    verifying.use_http_client(stub.client())
    parts = {"issuer": stub.issuer, "verify_logout_token": staticmethod(verifying.verify_logout_token)}
    entry = type("Half", (), parts)()
    guard = guarded(signs_out(), providers=lambda: [RED, entry], backchannel_path="/bc")
    form = {"content-type": "application/x-www-form-urlencoded"}
    body = f"logout_token={stub.make_logout_token()}".encode()
    assert (await call(guard, http_scope("/bc", "POST", form), body)).status == 200


@pytest.mark.parametrize("gives", ["", None])
async def test_a_provider_without_an_endpoint_is_warned_of_once(gives: str | None, log: Any) -> None:
    provider = type("P", (), {"name": "idp", "get_end_session_url": lambda self: gives})()
    guard = guarded(signs_out(), providers=[provider])
    for number in range(3):
        assert (await log_out(guard, headers={"cookie": f"session={number}"})).header("location") == "/login"
    assert log() == ["logged out here, but not at the provider: 'idp' has no end-session endpoint"]
    assert (
        len([line for line in log(logging.INFO) if "has no end-session endpoint" in line]) == 4
    )  # still told, quietly


async def test_the_applications_own_redirect_settles_which_of_several_providers_is_meant(log: Any) -> None:
    """It goes there by itself: its answer is left alone, and there is nothing to warn of."""
    own = "https://blue.example/end?client_id=its-own"
    guard = guarded(signs_out(own, ("x-rp-logout", "1")), providers=[RED, BLUE])
    answer = await log_out(guard)
    assert (answer.header("location"), log()) == (own, [])
    elsewhere = await log_out(guarded(signs_out("/login", ("x-rp-logout", "1")), providers=[RED, BLUE]))
    assert (elsewhere.header("location"), len(log())) == ("/login", 1)
