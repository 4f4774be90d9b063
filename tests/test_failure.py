"""Whatever a provider does, the logout here is complete, the app answers, and one warning is logged, with no secret."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_rp_logout import AuthlibProvider, Login, OIDCProvider, ProviderError, RPLogoutError, StaticProvider
from tests.apps import END, guarded, log_out, page, signs_out, went_to_provider
from tests.asgi import Answer, call, http_scope
from tests.conftest import Certificate, Log, Serve

TOKEN = "eyJhbGciOiJub25lIn0.c2VjcmV0LXBheWxvYWQ.c2VjcmV0LXNpZ25hdHVyZQ"
VALUE = "s3cr3t-cookie-value-0123456789"
HINT = "s3cr3t-alice@example.org"
REFRESH = "s3cr3t-refresh-token"
SECRETS = [TOKEN, VALUE, HINT, REFRESH, "s3cr3t", "c2VjcmV0"]
LOGIN = Login("idp", id_token=TOKEN, logout_hint=HINT, refresh_token=REFRESH)
SHORT = 0.3
"""Seconds given to what never comes: a slow machine changes nothing about it."""
SIGNED_IN = {"cookie": f"session={VALUE}; session.1={VALUE}"}


@pytest.fixture(autouse=True)
def no_secret_in_any_record(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Grep every record of every logger, tracebacks included, for what was planted."""
    caplog.set_level(logging.DEBUG)
    yield
    formatter = logging.Formatter("%(name)s %(message)s %(args)s")
    records = [record for when in ("setup", "call") for record in caplog.get_records(when)]
    for text in [formatter.format(record) + str(record.__dict__) for record in records]:
        assert not any(secret in text for secret in SECRETS), text


class Bad:
    """A provider that leaks what it was given into everything it does."""

    name = "idp"
    client_id = "rp"

    def __init__(self, **given: Any) -> None:
        self.leak = given

    def get_end_session_url(self, **given: Any) -> Any:
        raise RuntimeError(f"failed: {given}")


def custom(function: Callable[..., Any]) -> Any:
    provider = Bad()
    provider.get_end_session_url = function  # type: ignore[method-assign]
    return provider


async def gives_none_async(id_token_hint: str) -> None:
    return None


async def raises_async(id_token_hint: str, state: str | None) -> str:
    raise ValueError(id_token_hint, state)


async def raises_chained(id_token_hint: str) -> str:
    try:
        raise KeyError(id_token_hint)
    except KeyError as error:
        raise RuntimeError(id_token_hint) from error


async def hangs(id_token_hint: str) -> str:
    await anyio.sleep_forever()
    raise AssertionError


async def is_cancelled_inside(id_token_hint: str) -> str:
    task = asyncio.ensure_future(asyncio.sleep(60))
    task.cancel()
    await task
    raise AssertionError


async def raises_a_group(id_token_hint: str) -> str:
    raise ExceptionGroup(id_token_hint, [ValueError(id_token_hint)])


def raises_stop_iteration(id_token_hint: str) -> str:
    raise StopIteration(id_token_hint)


release = threading.Event()


@pytest.fixture(scope="module", autouse=True)
def _let_hung_threads_go() -> Iterator[None]:
    yield
    release.set()


def hangs_sync(id_token_hint: str) -> str:
    release.wait(30)
    return END


CUSTOM: dict[str, Any] = {
    "gives None": custom(lambda id_token_hint: None),
    "gives None, async": custom(gives_none_async),
    "gives nothing": custom(lambda: ""),
    "raises": Bad(),
    "raises, async": custom(raises_async),
    "raises, chained": custom(raises_chained),
    "raises a group": custom(raises_a_group),
    "raises StopIteration": custom(raises_stop_iteration),
    "raises a timeout": custom(lambda: (_ for _ in ()).throw(TimeoutError("s3cr3t"))),
    "hangs": custom(hangs),
    "is cancelled inside": custom(is_cancelled_inside),
    "hangs, sync": custom(hangs_sync),
    "gives a number": custom(lambda: 7),
    "gives bytes": custom(lambda: END.encode()),
    "gives http": custom(lambda id_token_hint: f"http://id.example/{id_token_hint}"),
    "gives a script": custom(lambda id_token_hint: f"javascript:alert('{id_token_hint}')"),
    "gives a user": custom(lambda id_token_hint: f"https://{id_token_hint}@id.example/"),
    "gives line breaks": custom(lambda id_token_hint: f"https://id.example/\r\nset-cookie: a={id_token_hint}"),
    "gives a path": custom(lambda id_token_hint: f"/end?hint={id_token_hint}"),
    "wants what there is not": custom(lambda id_token_hint, tenant: END),
    "has no signature": custom(type("C", (), {"__call__": lambda self: END, "__signature__": "s3cr3t"})()),
}


async def logged_out_here(guard: ASGIApp, log: Any, **more: Any) -> Answer:
    """Log out; assert that all of it was done here, that it came to an end at all, and that one warning says so."""
    with anyio.fail_after(20):  # less than `provider_timeout` has for what should fail by itself
        answer = await log_out(guard, headers=SIGNED_IN, **more)
    assert (answer.status, answer.header("location"), answer.body) == (302, "/login", b"bye")
    assert answer.header("content-length") == "3"
    assert {"session", "session.1", "csrf"} <= answer.expired()
    assert answer.cookies() == {"theme": "dark"}
    assert answer.header("x-rp-logout") is None
    assert len(log()) == 1, log()
    assert log()[0].startswith("logged out here, but not at the provider: ")
    return answer


APP = page(
    302,
    [("location", "/login"), ("content-length", "3"), ("set-cookie", "theme=dark"), ("set-cookie", "session=again")],
    b"bye",
)


async def who(connection: Any) -> Login:
    return LOGIN  # async: a busy machine may start no thread in time


def failing(providers: Any, **options: Any) -> ASGIApp:
    options = {"provider_timeout": 30, "login_source": who, "clear_cookies": "csrf"} | options
    return guarded(APP, providers=providers, **options)


@pytest.mark.parametrize("callback", [None, "/back"])
@pytest.mark.parametrize("how", CUSTOM)
async def test_a_provider_of_the_applications_own_that_fails(how: str, callback: str | None, log: Log) -> None:
    patience = SHORT if how.startswith("hangs") else 30
    await logged_out_here(failing([CUSTOM[how]], callback_path=callback, provider_timeout=patience), log)


async def test_the_control_a_provider_that_works(log: Log) -> None:
    answer = await log_out(failing([custom(lambda id_token_hint: END)], provider_timeout=10), headers=SIGNED_IN)
    assert (went_to_provider(answer), log()) == (True, [])


@pytest.mark.parametrize(
    "providers",
    [
        [],
        [StaticProvider(END, name="another")],
        list,
        lambda: (_ for _ in ()).throw(RuntimeError(TOKEN)),
        lambda: None,
        lambda: 7,
        lambda: [object()],
        lambda: [object(), StaticProvider(END, name="another")],
    ],
)
async def test_a_list_of_providers_that_fails_or_does_not_have_the_logins_own(providers: Any, log: Log) -> None:
    await logged_out_here(failing(providers), log)


async def test_a_list_of_providers_that_hangs(log: Log) -> None:
    await logged_out_here(failing(lambda: hangs(TOKEN), provider_timeout=SHORT), log)


@pytest.mark.parametrize("providers", [[], [StaticProvider(END, name="a"), StaticProvider(END, name="b")]])
async def test_no_certain_candidate_for_a_session_cookie(providers: Any, log: Log) -> None:
    await logged_out_here(failing(providers, login_source=None), log)


# Providers that are found by discovery, over real connections


def drip(pieces: int) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        for _ in range(pieces):
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
            await asyncio.sleep(0.05)

    return app


def large(count: int) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(count):
            await send({"type": "http.response.body", "body": b" " * 1024 * 1024, "more_body": True})
        await send({"type": "http.response.body", "body": b"{}"})

    return app


async def loops(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"location", scope["path"].encode())]
    await send({"type": "http.response.start", "status": 302, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await receive()  # until the other side hangs up


SERVED: dict[str, ASGIApp] = {
    "down": page(503),
    "not found": page(404),
    "garbage": page(200, [("content-type", "application/json")], b'{"issuer": '),
    "html": page(200, [("content-type", "text/html")], b"<h1>Sign in to the Wi-Fi</h1>"),
    "another issuer": page(
        200, (), b'{"issuer": "https://evil.example", "end_session_endpoint": "https://evil.example/x"}'
    ),
    "10 MB": large(10),
    "redirect loop": loops,
    "slow drip": drip(16),
    "silence": silent,
}


@pytest.mark.parametrize("how", SERVED)
async def test_a_provider_whose_discovery_fails(how: str, serve: Serve, log: Log) -> None:
    issuer = serve(SERVED[how], lifespan="off")
    patience = SHORT if how in ("slow drip", "silence") else 30
    await logged_out_here(failing([OIDCProvider(issuer, "rp", name="idp")], provider_timeout=patience), log)


async def test_an_endpoint_that_no_browser_may_be_sent_to(serve: Serve, log: Log) -> None:
    urls: list[str] = []

    async def document(scope: Scope, receive: Receive, send: Send) -> None:
        body = f'{{"issuer": "{urls[0]}", "end_session_endpoint": "http://id.example/end"}}'
        await page(200, (), body.encode())(scope, receive, send)

    urls.append(serve(document, lifespan="off"))
    await logged_out_here(failing([OIDCProvider(urls[0], "rp", name="idp")]), log)


async def test_a_document_without_an_end_session_endpoint(serve: Serve, log: Log) -> None:
    urls: list[str] = []

    async def document(scope: Scope, receive: Receive, send: Send) -> None:
        await page(200, (), f'{{"issuer": "{urls[0]}"}}'.encode())(scope, receive, send)

    urls.append(serve(document, lifespan="off"))
    await logged_out_here(failing([OIDCProvider(urls[0], "rp", name="idp")]), log)


async def test_a_provider_that_nobody_listens_for(free_port: int, log: Log) -> None:
    await logged_out_here(failing([OIDCProvider(f"http://127.0.0.1:{free_port}", "rp", name="idp")]), log)
    assert "cannot be reached: ConnectError (" in log()[0]


async def test_a_provider_whose_certificate_nobody_vouches_for_is_told_from_one_that_is_not_there(
    serve: Serve, certificate: Certificate, log: Log
) -> None:
    issuer = serve(page(), certificate=certificate, lifespan="off")
    await logged_out_here(failing([OIDCProvider(issuer, "rp", name="idp")]), log)
    assert "CERTIFICATE_VERIFY_FAILED" in log()[0]


async def test_a_provider_whose_port_takes_connections_and_says_nothing(log: Log) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        issuer = f"http://127.0.0.1:{listener.getsockname()[1]}"
        await logged_out_here(failing([OIDCProvider(issuer, "rp", name="idp")], provider_timeout=SHORT), log)


async def test_an_authlib_client_that_hangs(serve: Serve, log: Log) -> None:
    from authlib.integrations.starlette_client import OAuth

    oauth = OAuth()
    url = serve(silent, lifespan="off") + "/.well-known/openid-configuration"
    oauth.register("idp", client_id="rp", server_metadata_url=url)
    await logged_out_here(failing([AuthlibProvider(oauth.create_client("idp"))], provider_timeout=SHORT), log)


async def test_an_http_client_that_was_closed(log: Log) -> None:
    client = httpx.AsyncClient()
    await client.aclose()
    await logged_out_here(failing([OIDCProvider("https://op.example", "rp", name="idp")], http_client=client), log)


async def test_one_deadline_for_the_list_and_all_providers() -> None:
    """A slow list leaves a provider no more time than there was."""
    deadlines: list[float] = []

    async def listed() -> list[Any]:
        deadlines.append(anyio.current_effective_deadline() - anyio.current_time())
        deadlines.append(anyio.current_effective_deadline())
        return [custom(asked)]

    async def asked(id_token_hint: str) -> str:
        deadlines.append(anyio.current_effective_deadline())
        return END

    assert went_to_provider(await log_out(failing(listed, provider_timeout=7.0), headers=SIGNED_IN))
    assert 0 < deadlines[0] <= 7
    assert deadlines[1] == deadlines[2]


# Other clients, other ways


@pytest.mark.parametrize(
    "headers", [{"hx-request": "true"}, {"x-inertia": "true"}, {"sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}]
)
async def test_a_client_of_any_kind_gets_the_apps_own_answer(headers: dict[str, str], log: Log) -> None:
    origin = {"sec-fetch-site": "same-origin"} if "sec-fetch-mode" in headers else {}
    guard = failing([Bad()], for_fetch="json")
    answer = await log_out(guard, headers=SIGNED_IN | headers | origin)
    assert (answer.status, answer.header("location"), answer.body) == (302, "/login", b"bye")
    assert ("session" in answer.expired(), len(log())) == (True, 1)


async def test_a_marked_answer_and_a_decorated_one(log: Log) -> None:
    app = page(302, [("location", "/login"), ("x-rp-logout", "1")], b"bye")
    answer = await call(guarded(app, providers=[Bad()]), http_scope("/anywhere", "POST", SIGNED_IN))
    assert (answer.status, answer.header("location"), answer.header("x-rp-logout")) == (302, "/login", None)
    assert ("session" in answer.expired(), len(log())) == (True, 1)


def raising(event: Any) -> None:
    raise RuntimeError(TOKEN, VALUE, event)


async def raising_async(event: Any) -> None:
    raise RuntimeError(TOKEN, VALUE, event)


@pytest.mark.parametrize("hook", [raising, raising_async])
async def test_a_hook_that_raises_is_logged_after_the_response(hook: Any, log: Log) -> None:
    answer = await log_out(guarded(signs_out(), on_logout=hook), headers=SIGNED_IN)
    assert went_to_provider(answer)
    (line,) = log()
    assert line.startswith("on_logout raised RuntimeError, ")


async def test_the_hook_is_told_who_and_no_token() -> None:
    events: list[Any] = []
    login = Login("idp", id_token=TOKEN, sub="alice", sid="s1", iss="https://id.example", refresh_token=REFRESH)
    for source, headers in ((lambda _: login, SIGNED_IN), (None, SIGNED_IN), (None, {})):
        await log_out(guarded(signs_out(), on_logout=events.append, login_source=source), headers=headers)
    told = [(event.how, event.provider, event.iss, event.sub, event.sid) for event in events]
    assert told == [("logout", "idp", "https://id.example", "alice", "s1"), ("logout", "idp", None, None, None)]
    assert not any(secret in repr(events) for secret in SECRETS)


async def test_a_browser_that_goes_away_does_not_undo_the_logout() -> None:
    """The session is emptied and the cookie revoked before any provider is asked."""
    session = {"user": "alice"}
    guard = failing([custom(hangs)], provider_timeout=30.0)
    task = asyncio.ensure_future(log_out(guard, headers=SIGNED_IN, session=session))
    while session:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# What the errors themselves say


def test_no_login_shows_its_tokens() -> None:
    assert not any(secret in repr(LOGIN) or secret in str(LOGIN) for secret in SECRETS)


def test_errors_are_one_tree_with_a_stable_code() -> None:
    from asgi_rp_logout import ConfigurationError, LogoutTokenError, StoreError

    for kind, code in (
        (ConfigurationError, "configuration"),
        (ProviderError, "provider"),
        (LogoutTokenError, "logout_token"),
        (StoreError, "store"),
    ):
        assert issubclass(kind, RPLogoutError)
        assert kind("a sentence").code == code
    assert issubclass(ConfigurationError, ValueError)


# The start of the application


@pytest.mark.parametrize(
    "provider",
    [
        OIDCProvider("https://op.invalid", "rp"),
        type("P", (), {"name": "p", "get_end_session_url": lambda self: END, "prefetch": lambda self: 1 / 0})(),
        type("P", (), {"name": "p", "get_end_session_url": lambda self: END, "prefetch": 7})(),
        type("P", (), {"name": "p", "get_end_session_url": lambda self: END, "prefetch": lambda self: hangs("")})(),
    ],
)
async def test_a_provider_that_fails_at_the_start_fails_or_holds_nobody_up(
    provider: Any, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    from asgi_rp_logout.providers import prefetch

    monkeypatch.setattr(prefetch, "PREFETCH_FOR", 0.1)
    sent: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})

    messages = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]

    async def receive() -> Any:
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    with anyio.fail_after(30):
        await guarded(app, providers=[provider])({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    assert sent == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]
    assert log() == []


async def test_discovery_is_fetched_at_the_start_so_that_the_first_logout_does_not_wait() -> None:
    asked: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, json={"issuer": "https://op.example", "end_session_endpoint": END})

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.complete"})
        else:
            await signs_out()(scope, receive, send)

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    guard = guarded(app, providers=[OIDCProvider("https://op.example", "rp")], http_client=client)

    async def send(message: Any) -> None:
        asked.append(message["type"])

    await guard({"type": "lifespan"}, None, send)  # type: ignore[arg-type]
    assert asked == ["/.well-known/openid-configuration", "lifespan.startup.complete"]
    assert went_to_provider(await log_out(guard))
    assert len(asked) == 2
