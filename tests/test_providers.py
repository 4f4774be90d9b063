"""Providers: any object with get_end_session_url(), and the ones that are built in."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import anyio
import httpx
import pytest
from authlib.integrations.starlette_client import OAuth

from asgi_rp_logout import AuthlibProvider, ConfigurationError, Login, OIDCProvider, StaticProvider, presets
from asgi_rp_logout.providers.calling import OwnThreads
from asgi_rp_logout.providers.provider import WithoutEndpoint, ask
from demo.provider import Client, create_provider
from tests.apps import END, guarded, log_out, parameters, signs_out, went_to_provider
from tests.asgi import call, http_scope
from tests.conftest import Log, Serve, UnusedPort

HERE = "http://127.0.0.1/login"
LOGIN = Login("it", id_token="a.b.c", logout_hint="alice")
STANDARD = {
    "id_token_hint": "a.b.c",
    "logout_hint": "alice",
    "client_id": "rp",
    "post_logout_redirect_uri": HERE,
}


async def sent(provider: Any, **options: Any) -> dict[str, str]:
    """Log out with one provider; give the query of the URL at ``END`` that the browser was sent to."""
    answer = await log_out(guarded(signs_out(), providers=[provider], login_source=lambda _: LOGIN, **options))
    assert went_to_provider(answer), answer.header("location")
    return parameters(answer)


# An object of the application's own: called with what its signature takes; the rest is appended


class Takes:
    """The keywords that each of its methods takes."""

    name = "it"
    client_id = "rp"

    def nothing(self) -> str:
        return END

    def hint(self, id_token_hint: str | None) -> str:
        return f"{END}?hint={id_token_hint}"

    def keyword_only(self, *, id_token_hint: str | None, state: str | None = None) -> str:
        return f"{END}?hint={id_token_hint}"

    def unknown_with_default(self, tenant: str = "acme") -> str:
        return f"{END}?tenant={tenant}"

    def login_and_scope(self, login: Login, scope: Any) -> str:
        return f"{END}?who={login.logout_hint}&path={scope['path']}"

    def whole(self, post_logout_redirect_uri: str) -> str:
        return f"{END}?returnTo=there"

    def anything(self, **given: Any) -> str:
        return f"{END}?given={'+'.join(sorted(given))}"

    def own_client(self) -> str:
        return f"{END}?client_id=mine&state=kept"

    async def asynchronous(self, logout_hint: str) -> str:
        await asyncio.sleep(0)
        return f"{END}?user={logout_hint}"

    def gives_a_coroutine(self, logout_hint: str) -> Any:
        return self.asynchronous(logout_hint)

    @staticmethod
    def static(logout_hint: str) -> str:
        return f"{END}?user={logout_hint}"

    @classmethod
    def of_the_class(cls, logout_hint: str) -> str:
        return f"{END}?user={logout_hint}"

    def positional(self, logout_hint: str, /) -> str:
        return END


REST_OF_HINT = {name: value for name, value in STANDARD.items() if name != "id_token_hint"}
REST_OF_LOGOUT_HINT = {name: value for name, value in STANDARD.items() if name != "logout_hint"}


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("nothing", STANDARD),
        ("hint", {"hint": "a.b.c", **REST_OF_HINT}),
        ("keyword_only", {"hint": "a.b.c", **REST_OF_HINT}),
        ("unknown_with_default", {"tenant": "acme", **STANDARD}),
        ("login_and_scope", {"who": "alice", "path": "/logout", **STANDARD}),
        ("whole", {"returnTo": "there"}),
        (
            "anything",
            {"given": "client_id id_token_hint login logout_hint post_logout_redirect_uri scope state"},
        ),
        ("own_client", {**STANDARD, "client_id": "mine", "state": "kept"}),
        ("asynchronous", {"user": "alice", **REST_OF_LOGOUT_HINT}),
        ("gives_a_coroutine", {"user": "alice", **REST_OF_LOGOUT_HINT}),
        ("static", {"user": "alice", **REST_OF_LOGOUT_HINT}),
        ("of_the_class", {"user": "alice", **REST_OF_LOGOUT_HINT}),
    ],
)
async def test_a_method_gets_the_keywords_that_it_takes_and_the_rest_is_appended(method: str, expected: Any) -> None:
    provider = Takes()
    provider.get_end_session_url = getattr(provider, method)  # type: ignore[attr-defined]
    assert await sent(provider) == expected


async def test_a_callable_object_and_a_partial_are_methods_as_well() -> None:
    class Callable_:
        async def __call__(self, logout_hint: str) -> str:
            return f"{END}?user={logout_hint}"

    for method in (Callable_(), functools.partial(Takes().hint), functools.partial(Takes().asynchronous)):
        provider = Takes()
        provider.get_end_session_url = method  # type: ignore[attr-defined]
        assert (await sent(provider))["client_id"] == "rp"


async def test_a_state_is_appended_with_the_address_that_it_comes_back_to() -> None:
    provider = Takes()
    provider.get_end_session_url = provider.nothing  # type: ignore[attr-defined]
    query = await sent(provider, callback_path="/back")
    assert query["post_logout_redirect_uri"] == "http://127.0.0.1/back"
    assert len(query["state"]) >= 32


class DashboardAuthProvider:
    """A dashboard's provider as it is in the wild: a name, five sync methods, and the one that was added."""

    name = "it"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.thread: int | None = None

    def start_login(self, redirect_uri: str) -> str:
        self.calls.append("start_login")
        return redirect_uri

    def complete_login(self, code: str, state: str) -> dict[str, str]:
        self.calls.append("complete_login")
        return {"access_token": code}

    def verify_session(self, token: str) -> bool:
        self.calls.append("verify_session")
        return bool(token)

    def refresh_session(self, token: str) -> str:
        self.calls.append("refresh_session")
        return token

    def revoke_session(self, token: str) -> None:
        self.calls.append("revoke_session")

    def get_end_session_url(self, *, id_token_hint: str | None = None, post_logout_redirect_uri: str = "") -> str:
        self.thread = threading.get_ident()
        return f"{END}?h={id_token_hint}&r={post_logout_redirect_uri}"


async def test_a_class_of_five_sync_methods_needs_only_this_one() -> None:
    provider = DashboardAuthProvider()
    assert await sent(provider) == {"h": "a.b.c", "r": HERE}
    assert provider.calls == []  # nobody asked it to revoke anything


async def test_a_sync_method_runs_in_a_thread_of_its_own() -> None:
    provider = DashboardAuthProvider()
    await sent(provider)
    assert provider.thread not in (None, threading.get_ident())


# Threads: our own methods need none; a method that hangs keeps one, and they are bounded


class Overriding(StaticProvider):
    def get_end_session_url(self, **given: Any) -> str:
        return super().get_end_session_url(**given)


def wrapped() -> Any:
    """A provider of ours whose method an application has wrapped, as decorators for metrics and caches do."""
    provider = StaticProvider(END)
    method = functools.wraps(StaticProvider.get_end_session_url)(lambda **given: END)
    provider.get_end_session_url = method  # type: ignore[method-assign]
    return provider


OURS: dict[str, Any] = {
    "static": StaticProvider(END, name="it"),
    "a subclass that overrides nothing": type("Own", (StaticProvider,), {})(END),
    "preset": presets.entra("acme", "rp"),
    "local only": presets.local_only("google"),
    "an entry without an endpoint": WithoutEndpoint(object(), "no method"),
}
THEIRS: dict[str, Any] = {"a subclass of ours": Overriding(END), "a wrapper of ours": wrapped()}


@pytest.mark.parametrize("provider", OURS.values(), ids=OURS)
async def test_a_sync_method_of_ours_runs_without_a_thread(provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It only computes, and a thread would cost more than the whole URL."""
    monkeypatch.setattr(OwnThreads, "run", refuses)
    await ask(provider, {})


@pytest.mark.parametrize("provider", THEIRS.values(), ids=THEIRS)
async def test_a_sync_method_on_top_of_ours_runs_in_a_thread(provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An override or a wrapper may wait for anything."""
    assert await ask(provider, {}) == END
    monkeypatch.setattr(OwnThreads, "run", refuses)
    with pytest.raises(RuntimeError, match="a thread"):
        await ask(provider, {})


async def refuses(threads: OwnThreads, function: Any) -> Any:
    raise RuntimeError("a thread is asked for")


async def test_hung_methods_take_no_more_threads_than_the_limit() -> None:
    threads, gate, ran = OwnThreads(limit=2), threading.Event(), []
    hung = threading.Semaphore(0)
    try:
        async with anyio.create_task_group() as left_alone:
            for _ in range(2):
                left_alone.start_soon(threads.run, lambda: (hung.release(), gate.wait()))
            for _ in range(2):
                await anyio.to_thread.run_sync(hung.acquire)
            left_alone.cancel_scope.cancel()
        with anyio.move_on_after(0.1) as waiting:
            await threads.run(lambda: ran.append(1))
        assert (waiting.cancelled_caught, ran) == (True, [])
    finally:
        gate.set()
    assert await with_a_free_thread(threads) == 42


async def with_a_free_thread(threads: OwnThreads) -> int:
    """Call as soon as a thread is free; a thread that never is fails the test."""
    with anyio.fail_after(30):
        return int(await threads.run(lambda: 42))


async def test_more_logouts_at_once_than_there_are_threads_wait_for_their_turn() -> None:
    class Slow:
        name = "slow"

        def get_end_session_url(self) -> str:
            time.sleep(0.02)
            return END

    guard = guarded(signs_out(), providers=[Slow()])
    answers = []

    async def click(number: int) -> None:
        answers.append(await log_out(guard, headers={"cookie": f"session=a-session-of-its-own-{number}"}))

    async with anyio.create_task_group() as clicks:
        for number in range(40):
            clicks.start_soon(click, number)
    assert [went_to_provider(answer) for answer in answers] == [True] * 40


async def test_a_provider_that_hangs_keeps_no_thread_from_another() -> None:
    gate = threading.Event()
    hung, well = Takes(), Takes()
    hung.get_end_session_url = lambda: gate.wait() and END  # type: ignore[attr-defined]
    well.get_end_session_url = lambda: END  # type: ignore[attr-defined]
    try:
        guard = guarded(signs_out(), providers=[hung], provider_timeout=0.2)
        async with anyio.create_task_group() as clicks:
            for number in range(20):
                clicks.start_soon(call, guard, http_scope("/logout", "POST", {"cookie": f"session={number}"}))
        assert went_to_provider(await log_out(guarded(signs_out(), providers=[well], provider_timeout=30)))
    finally:
        gate.set()


@pytest.mark.parametrize("ticks", range(4))
async def test_a_call_that_was_cancelled_before_it_began_holds_no_thread(ticks: int) -> None:
    """Else sixteen logouts that were given up too early would be the last ones of their process."""
    threads = OwnThreads(limit=1)
    for _ in range(3):
        task = asyncio.ensure_future(threads.run(lambda: None))
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await with_a_free_thread(threads) == 42


APPLICATIONS: dict[str, Callable[[Callable[[], Any]], dict[str, Any]]] = {
    "login_source": lambda looks: {"login_source": lambda connection: (looks(), Login("idp"))[1]},
    "on_logout": lambda looks: {"on_logout": lambda event: looks()},
    "providers": lambda looks: {"providers": lambda: (looks(), [StaticProvider(END, name="it")])[1]},
}
"""Where the application's own functions stand; each calls ``looks``."""

tenant: ContextVar[str] = ContextVar("tenant")


@pytest.mark.parametrize("make", APPLICATIONS.values(), ids=APPLICATIONS)
async def test_a_sync_function_of_the_app_runs_in_a_thread_with_the_requests_context(make: Any) -> None:
    """It may ask a database: Django's ORM refuses that in the event loop, and a slow one would stop the server."""
    seen: list[tuple[bool, str]] = []
    main = threading.current_thread()
    guard = guarded(signs_out(), **make(lambda: seen.append((threading.current_thread() is main, tenant.get("none")))))
    tenant.set("acme")
    assert went_to_provider(await log_out(guard))
    assert seen == [(False, "acme")]


@pytest.mark.parametrize("option", APPLICATIONS)
async def test_an_async_function_of_the_app_runs_in_the_event_loop(option: str) -> None:
    threads: list[threading.Thread] = []
    answers: dict[str, Any] = {
        "login_source": Login("idp"),
        "on_logout": None,
        "providers": [StaticProvider(END, name="it")],
    }

    async def function(*given: Any) -> Any:
        threads.append(threading.current_thread())
        return answers[option]

    for own in (function, lambda *given: function(*given), functools.partial(function)):
        assert went_to_provider(await log_out(guarded(signs_out(), **{option: own})))
    assert threads == [threading.current_thread()] * 3


@pytest.mark.parametrize("make", APPLICATIONS.values(), ids=APPLICATIONS)
async def test_a_function_of_the_app_that_hangs_keeps_to_its_deadline_and_its_own_threads(
    make: Any, monkeypatch: pytest.MonkeyPatch, log: Any
) -> None:
    monkeypatch.setattr("asgi_rp_logout.logout.afterwards.AFTER_DEADLINE", 0.1)
    gate, hung = threading.Event(), []
    guard = guarded(signs_out(), provider_timeout=0.1, **make(lambda: (hung.append(1), gate.wait())))
    try:
        with anyio.fail_after(30):
            for number in range(20):  # more than there are threads
                answer = await log_out(guard, headers={"cookie": f"session={number}"})
                assert answer.status == 303
        assert anyio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
        assert 0 < len(hung) <= 16
        assert log() != []
    finally:
        gate.set()


async def test_a_callable_that_cannot_be_a_key_or_says_nothing_of_its_arguments_is_called_too() -> None:
    @dataclass
    class Registry:
        listed: list[Any]

        def __call__(self) -> list[Any]:
            return self.listed

    provider = StaticProvider(END, name="it")
    for providers in (Registry([provider]), {"it": provider}.values):
        assert went_to_provider(await log_out(guarded(signs_out(), providers=providers)))


async def test_hung_providers_leave_the_apps_own_threads_alone() -> None:
    gate = threading.Event()
    provider = Takes()
    provider.get_end_session_url = lambda: gate.wait() and END  # type: ignore[attr-defined]
    try:
        await log_out(guarded(signs_out(), providers=[provider], provider_timeout=0.05))
        assert anyio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
    finally:
        gate.set()


async def test_several_sync_providers_are_asked_at_the_same_time() -> None:
    """All of them share one deadline. They wait for each other here: one after the other would never end."""
    barrier = threading.Barrier(3, timeout=30)

    def asked(name: str, url: str | None) -> Any:
        provider = Takes()
        provider.name = name
        provider.get_end_session_url = lambda: (barrier.wait(), url)[1]  # type: ignore[attr-defined]
        return provider

    guard = guarded(signs_out(), providers=[asked("a", None), asked("b", END), asked("c", "")])
    assert went_to_provider(await log_out(guard))


# The built-in ones


async def test_a_static_provider_sends_the_standard_parameters() -> None:
    assert await sent(StaticProvider(END, client_id="rp", name="it")) == STANDARD


async def test_a_static_provider_renames_drops_and_adds() -> None:
    provider = StaticProvider(
        f"{END}?tenant=acme",
        client_id="rp",
        name="it",
        parameters={"post_logout_redirect_uri": "returnTo", "id_token_hint": None, "logout_hint": None},
        extra={"federated": ""},
    )
    assert await sent(provider) == {"tenant": "acme", "client_id": "rp", "returnTo": HERE, "federated": ""}


@pytest.mark.parametrize("endpoint", ["", "id.example", "http://id.example", "https://u@id.example", None, 7])
def test_a_static_provider_refuses_an_endpoint_by_its_value(endpoint: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected an https URL") as caught:
        StaticProvider(endpoint)
    assert f"end_session_endpoint={endpoint!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, "name=''"),
        ({"name": " "}, "name=' '"),
        ({"name": "a\nb"}, "name='a\\nb'"),
        ({"name": 7}, "name=7"),
        ({"parameters": {"returnTo": "x"}}, "'returnTo'"),
        ({"parameters": {"state": ""}}, "''"),
        ({"parameters": {"state": 7}}, "7"),
        ({"parameters": ["state"]}, "['state']"),
        ({"extra": {"a": None}}, "'a'"),
        ({"extra": {"": "x"}}, "''"),
        ({"extra": {7: "x"}}, "7"),
        ({"extra": "federated"}, "'federated'"),
        ({"client_id": 7}, "client_id=7"),
    ],
)
def test_options_of_a_provider_are_checked_at_construction(options: dict[str, Any], message: str) -> None:
    client: dict[str, Any] = {} if "client_id" in options else {"client_id": "rp"}
    makers: list[Callable[..., object]] = [
        functools.partial(StaticProvider, END),
        functools.partial(OIDCProvider, "https://op.example", **client),
    ]
    if "client_id" not in options:
        makers.append(functools.partial(AuthlibProvider, registered()))
    for make in makers:
        with pytest.raises(ConfigurationError, match="expected") as caught:
            make(**options)
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"client_id": ""}, "client_id=''"),
        ({"client_id": None}, "client_id=None"),
        ({"revoke": "yes"}, "revoke='yes'"),
        ({"revoke": "http://id.example.com/revoke"}, "revoke='http://id.example.com/revoke'"),
        ({"revoke": True}, "revoke=True"),
        ({"algorithm": "none"}, "none"),
        ({"algorithm": "XX256"}, "XX256"),
        ({"algorithm": "HS256"}, "HS256"),  # needs a client_secret
    ],
)
def test_options_of_an_openid_provider_are_checked_at_construction(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=r"expected|accepted|needs") as caught:
        OIDCProvider("https://op.example", **({"client_id": "rp"} | options))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"revoke": "yes"}, "revoke='yes'"),
        ({"algorithm": "none"}, "none"),
        ({"algorithm": "HS256"}, "HS256"),  # needs a client_secret
        ({"require_exp": 1}, "require_exp of type int"),
    ],
)
def test_options_of_an_authlib_provider_are_checked_at_construction(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match="expected") as caught:
        AuthlibProvider(registered(client_secret=None), **options)
    assert message in str(caught.value)


def test_no_provider_shows_its_secret() -> None:
    client = registered(client_secret="s3cret")
    for provider in (OIDCProvider("https://op.example", "rp", "s3cret"), AuthlibProvider(client)):
        assert provider.client_secret == "s3cret"
        assert "s3cret" not in repr(provider)


def test_a_name_is_the_endpoint_or_issuer_unless_given() -> None:
    assert StaticProvider(END).name == END
    assert OIDCProvider("https://op.example/", "rp").name == "https://op.example/"


# Authlib


@pytest.fixture
def op(serve: Serve, unused_port: UnusedPort) -> str:
    """The demo's provider, listening."""
    port = unused_port()
    issuer = f"http://127.0.0.1:{port}"
    client = Client("rp", "secret", redirect_uris=["http://127.0.0.1/cb"], post_logout_redirect_uris=[HERE])
    serve(create_provider(issuer, [client], {"alice": "wonderland"}), port=port)
    return issuer


def registered(**options: Any) -> Any:
    oauth = OAuth()
    oauth.register("it", client_id="rp", **({"client_secret": "secret"} | options))
    return oauth.create_client("it")


async def test_an_authlib_client_brings_its_name_client_id_issuer_and_endpoint(op: str) -> None:
    client = registered(server_metadata_url=f"{op}/.well-known/openid-configuration")
    provider = AuthlibProvider(client)
    assert (provider.name, provider.client_id, provider.issuer) == ("it", "rp", None)
    guard = guarded(signs_out(), providers=[provider], login_source=lambda _: LOGIN)
    answer = await log_out(guard)
    assert (answer.header("location") or "").startswith(f"{op}/end_session?id_token_hint=a.b.c&")
    assert parameters(answer) == STANDARD
    assert provider.issuer == op  # known from now on, so that logins can be tied to it
    by_issuer = guarded(signs_out(), providers=[provider, StaticProvider(END)], login_source=lambda _: Login(iss=op))
    assert (((await log_out(by_issuer)).header("location")) or "").startswith(op)


async def test_an_authlib_client_with_metadata_of_its_own_needs_no_fetch() -> None:
    client = registered(end_session_endpoint=END, authorize_url="https://id.example/auth")
    client.server_metadata.update(end_session_endpoint=END)
    assert await sent(AuthlibProvider(client)) == STANDARD


def with_endpoint(**options: Any) -> Any:
    client = registered(authorize_url="https://id.example/auth", **options)
    client.server_metadata.update(end_session_endpoint=END)
    return client


async def test_an_authlib_client_renames_drops_and_adds_parameters() -> None:
    names = {"post_logout_redirect_uri": "returnTo", "id_token_hint": None, "logout_hint": None}
    provider = AuthlibProvider(with_endpoint(), parameters=names, extra={"federated": ""})
    assert await sent(provider) == {"client_id": "rp", "returnTo": HERE, "federated": ""}


@pytest.mark.parametrize("post", [True, False])
async def test_an_authlib_client_posts_what_is_too_long_for_a_url_if_it_may(post: bool) -> None:
    hint = "h" * 600
    options: dict[str, Any] = {"login_source": lambda _: Login("it", hint), "max_url_length": 500}
    answer = await log_out(guarded(signs_out(), providers=[AuthlibProvider(with_endpoint(), post=post)], **options))
    assert (answer.status, hint in answer.body.decode()) == ((200, True) if post else (303, False))


SECRETS: dict[str, tuple[dict[str, Any], str | None]] = {
    "a secret": ({}, "secret"),
    "a secret in the form": ({"token_endpoint_auth_method": "client_secret_post"}, "secret"),
    "a public client": ({"token_endpoint_auth_method": "none"}, None),
    "a private key": ({"token_endpoint_auth_method": "private_key_jwt"}, None),
    "a function of one's own": ({"token_endpoint_auth_method": print}, None),
}


@pytest.mark.parametrize(("client_kwargs", "secret"), SECRETS.values(), ids=SECRETS)
def test_an_authlib_client_brings_its_secret_if_it_is_one(client_kwargs: Any, secret: str | None) -> None:
    """Authlib keeps a private key in the same place, and revocation would send it to the provider."""
    client = registered(client_kwargs=client_kwargs)
    assert AuthlibProvider(client).client_secret == secret
    if secret is None and client_kwargs["token_endpoint_auth_method"] != "none":
        with pytest.raises(ConfigurationError, match=r"token_endpoint_auth_method=.*expected a client that"):
            AuthlibProvider(client, revoke="refresh_token")
    else:
        assert AuthlibProvider(client, revoke="refresh_token").revoke == "refresh_token"


@pytest.mark.parametrize(
    "metadata",
    [{}, {"end_session_endpoint": "http://id.example/end"}, {"end_session_endpoint": "javascript:x"}],
)
async def test_an_authlib_client_without_a_usable_endpoint_leaves_the_logout_here(metadata: Any, log: Log) -> None:
    client = registered(authorize_url="https://id.example/auth")
    client.server_metadata.update(metadata)
    answer = await log_out(guarded(signs_out(), providers=[AuthlibProvider(client)]))
    assert (answer.header("location"), len(log())) == ("/login", 1)


async def test_an_authlib_client_whose_provider_is_down_leaves_the_logout_here(free_port: int, log: Log) -> None:
    client = registered(server_metadata_url=f"http://127.0.0.1:{free_port}/.well-known/openid-configuration")
    answer = await log_out(guarded(signs_out(), providers=[AuthlibProvider(client, name="other")]))
    assert (answer.header("location"), len(log())) == ("/login", 1)


@pytest.mark.parametrize("client", [None, OAuth(), "keycloak", object()])
def test_what_is_no_authlib_client_is_refused(client: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected a client registered with Authlib"):
        AuthlibProvider(client)


async def test_the_http_client_of_the_application_is_used_and_left_open(op: str) -> None:
    async with httpx.AsyncClient(headers={"x-from": "app"}) as client:
        guard = guarded(signs_out(), providers=[OIDCProvider(op, "rp")], http_client=client)
        assert (((await log_out(guard)).header("location")) or "").startswith(f"{op}/end_session?client_id=rp")
        assert not client.is_closed
