"""The whole middleware: what passes through it, where it can stand, and a logout by fetch from beginning to end."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import anyio
import httpx
import pytest
import websockets.sync.client
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from asgi_rp_logout import Login, MemoryStore, RPLogoutMiddleware, StaticProvider
from tests.apps import COOKIE, END, guarded, log_out, page, parameters, signs_out, went_to_provider
from tests.asgi import Answer, call, http_scope
from tests.conftest import Log, Serve
from tests.places import Browser

PROVIDERS = [StaticProvider(END, client_id="rp", name="idp")]

# What passes through


@pytest.mark.parametrize("kind", ["lifespan", "websocket", "webtransport", "telemetry"])
async def test_connections_of_other_types_pass(kind: str) -> None:
    """What the application receives and sends is what it would without us; types of tomorrow included."""
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == kind
        await send({"type": f"{kind}.echo", "message": await receive()})

    async def receive() -> Message:
        return {"type": f"{kind}.first"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = http_scope("/logout") | {"type": kind} if kind == "websocket" else {"type": kind, "asgi": {}}
    await guarded(app)(scope, receive, send)
    assert sent == [{"type": f"{kind}.echo", "message": {"type": f"{kind}.first"}}]


@pytest.mark.parametrize("message", ["lifespan.startup.failed", "lifespan.shutdown.failed"])
async def test_a_failure_of_the_applications_own_lifespan_is_passed_on(message: str) -> None:
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": message, "message": "no database"})
        raise RuntimeError("no database")

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(RuntimeError, match="no database"):
        await guarded(app)({"type": "lifespan"}, None, send)  # type: ignore[arg-type]
    assert sent == [{"type": message, "message": "no database"}]


def test_lifespan_state_and_websockets_of_a_real_application(serve: Serve) -> None:

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        yield {"db": "open"}

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text() + websocket.state.db)
        await websocket.close()

    async def state(request: Request) -> Response:
        return PlainTextResponse(request.state.db)

    app = Starlette(routes=[WebSocketRoute("/ws", echo), Route("/", state)], lifespan=lifespan)
    url = serve(guarded(app))
    assert httpx.get(url).text == "open"
    with websockets.sync.client.connect(url.replace("http", "ws", 1) + "/ws") as websocket:
        websocket.send("still ")
        assert websocket.recv() == "still open"


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PURGE"])
async def test_an_answer_leaves_as_it_is_sent_also_in_pieces(method: str) -> None:
    async def chunks() -> Any:
        for number in range(3):
            yield f"{number}".encode()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await StreamingResponse(chunks(), headers={"set-cookie": "session=1"})(scope, receive, send)

    guard = guarded(app)
    for path in ("/", "/other"):
        assert (await log_out(guard, path, method)).messages == (await log_out(app, path, method)).messages


async def test_each_piece_is_passed_on_when_it_is_sent() -> None:
    sent: list[Message] = []
    seen: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            seen.append(len(sent))

    async def send(message: Message) -> None:
        sent.append(message)

    await guarded(app)(http_scope("/"), None, send)  # type: ignore[arg-type]
    assert seen == [2, 3, 4]


@pytest.mark.parametrize("path", ["/logout", "/other"])
async def test_the_application_reads_the_body_itself(path: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        await RedirectResponse(f"/{body.decode()}", 303)(scope, receive, send)

    answer = await call(guarded(app), http_scope(path, "POST", {"cookie": COOKIE}), b"bye")
    back = parameters(answer).get("post_logout_redirect_uri") if path == "/logout" else answer.header("location")
    assert (back or "").endswith("/bye")


async def test_requests_at_the_same_time_do_not_meet() -> None:
    """Each sees its own answer, its own provider and its own cookies."""
    gate = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        name = scope["path"].strip("/")
        headers = [("x-rp-logout", name)] if name in ("red", "blue") else []
        await page(200, [*headers, ("x-name", name)])(scope, receive, send)

    providers = [StaticProvider(f"https://{name}.example/end", name=name) for name in ("red", "blue")]
    guard = guarded(app, providers=providers)
    answers: dict[str, Answer] = {}

    async def visit(name: str) -> None:
        answers[name] = await log_out(guard, f"/{name}", headers={"cookie": f"session={name}"})

    async with anyio.create_task_group() as group:
        for name in ("red", "blue", "green"):
            group.start_soon(visit, name)
        await anyio.wait_all_tasks_blocked()
        gate.set()
    assert {name: answer.header("x-name") for name, answer in answers.items()} == {n: n for n in answers}
    assert (answers["red"].header("location") or "").startswith("https://red.")
    assert (answers["blue"].header("location") or "").startswith("https://blue.")
    assert (answers["green"].status, answers["green"].all("set-cookie")) == (200, [])


async def test_a_session_that_can_be_read_in_part_only_is_not_readable() -> None:
    class Half(dict[str, Any]):
        def __iter__(self) -> Any:
            raise RuntimeError("not loaded yet")

        keys = items = values = __len__ = __iter__

    for path in ("/logout", "/other"):
        answer = await call(
            guarded(signs_out()), {**http_scope(path, "POST", {"cookie": COOKIE}), "session": Half(a=1)}
        )
        assert went_to_provider(answer) is (path == "/logout")


async def test_a_scope_without_the_keys_that_asgi_leaves_optional_is_served() -> None:
    """raw_path, root_path, query_string, scheme, client and server may be missing."""
    scope = {"type": "http", "method": "POST", "path": "/logout", "headers": [(b"cookie", COOKIE.encode())]}
    answer = await call(guarded(signs_out()), scope)
    assert parameters(answer) == {"client_id": "rp"}


async def test_header_names_in_capitals_are_read_too() -> None:
    """ASGI asks for lower case; not every test client and server obeys."""
    scope = http_scope("/logout", "POST")
    scope["headers"] = [(b"Cookie", COOKIE.encode()), (b"HOST", b"app.example")]
    answer = await call(guarded(signs_out()), scope)
    assert parameters(answer)["post_logout_redirect_uri"] == "http://app.example/login"


# Where it can stand, with Starlette's signed sessions


async def sign_in(request: Request) -> Response:
    request.session["user"] = "alice"
    return PlainTextResponse("hello")


async def sign_out(request: Request) -> Response:
    request.session.clear()
    request.session["flash"] = "signed out"
    return RedirectResponse("/login", 303)


async def sign_out_badly(request: Request) -> Response:
    return RedirectResponse("/login", 303)


async def show(request: Request) -> Response:
    return JSONResponse(request.session)


def dashboard(inside: bool, handler: Any, **options: Any) -> ASGIApp:
    routes = [Route("/in", sign_in), Route("/logout", handler, methods=["POST"]), Route("/", show)]
    sessions = Middleware(SessionMiddleware, secret_key="secret")
    ours = Middleware(RPLogoutMiddleware, providers=PROVIDERS, **options)
    return Starlette(routes=routes, middleware=[sessions, ours] if inside else [ours, sessions])


@pytest.mark.parametrize("handler", [sign_out, sign_out_badly])
async def test_inside_a_session_middleware_what_was_in_the_session_is_gone_and_a_flash_stays(handler: Any) -> None:
    """Also if the handler forgets to empty the session."""
    browser = Browser(dashboard(True, handler))
    await browser.get("/in")
    assert went_to_provider(await browser.post("/logout"))
    assert (await browser.get("/")).body == (b'{"flash":"signed out"}' if handler is sign_out else b"{}")


@pytest.mark.parametrize("handler", [sign_out, sign_out_badly])
async def test_outside_a_session_middleware_its_cookie_is_expired(handler: Any) -> None:
    """A flash in a signed cookie cannot be told from the session, and goes along."""
    browser = Browser(dashboard(False, handler))
    await browser.get("/in")
    assert went_to_provider(await browser.post("/logout"))
    assert browser.cookies == {}
    assert (await browser.get("/")).body == b"{}"


@pytest.mark.parametrize("inside", [True, False])
async def test_nobody_is_sent_to_the_provider_without_a_session(inside: bool) -> None:
    browser = Browser(dashboard(inside, sign_out_badly))
    answer = await browser.post("/logout")
    assert answer.header("location") == "/login"


# A logout by fetch, finished by the next navigation

FETCH = {"sec_fetch_mode": "cors", "sec_fetch_dest": "empty", "sec_fetch_site": "same-origin"}
NAVIGATION = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document", "sec_fetch_site": "same-origin"}


async def any_page(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/logout":
        await signs_out("/login?next=/")(scope, receive, send)
    else:
        await page(200, (), scope["path"].encode())(scope, receive, send)


async def after_fetch(**options: Any) -> Browser:
    """Give a browser whose page has just logged out by fetch."""
    browser = Browser(guarded(any_page, **options), {"session": "0123456789abcdef0123"})
    answer = await browser.post("/logout", **FETCH)
    assert (answer.header("location"), set(browser.cookies)) == ("/login?next=/", {"rp_later"})
    return browser


async def test_the_next_navigation_goes_to_the_provider() -> None:
    browser = await after_fetch()
    answer = await browser.get("/login", **NAVIGATION)
    assert went_to_provider(answer)
    assert parameters(answer) == {"client_id": "rp", "post_logout_redirect_uri": "http://127.0.0.1/login"}
    assert (answer.header("cache-control"), answer.body) == ("no-store", b"")


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", FETCH),
        ("POST", NAVIGATION),
        ("HEAD", NAVIGATION),
        ("GET", NAVIGATION | {"sec_fetch_site": "cross-site"}),
        ("GET", NAVIGATION | {"sec_fetch_dest": "iframe"}),
        ("GET", NAVIGATION | {"sec_purpose": "prefetch"}),
        ("GET", FETCH | {"hx_request": "true"}),
        ("GET", {"sec_fetch_mode": "no-cors", "sec_fetch_dest": "image", "sec_fetch_site": "same-origin"}),
    ],
)
async def test_nothing_but_a_navigation_of_this_site_plays_it(method: str, headers: dict[str, str]) -> None:
    browser = await after_fetch()
    answer = await browser.request(method, "/page", headers)
    assert (answer.status, answer.body, set(browser.cookies)) == (200, b"/page", {"rp_later"})
    assert went_to_provider(await browser.get("/page", **NAVIGATION))


async def test_what_the_login_source_knew_is_sent_as_a_hint_later_and_a_new_login_cancels_it() -> None:
    known: list[Login | None] = [Login("idp", id_token="a.b.c", refresh_token="s3cr3t")]
    store = MemoryStore()
    options: dict[str, Any] = {"login_source": lambda _: known[0], "store": store}
    browser = await after_fetch(**options)
    assert "s3cr3t" not in str(
        store.entries["deferred"]
    )  # nothing that the provider need not hear of waits in the store
    again = await after_fetch(**options)
    known[0] = None
    assert parameters(await browser.get("/", **NAVIGATION))["id_token_hint"] == "a.b.c"
    known[0] = Login("idp", id_token="d.e.f")
    answer = await again.get("/", **NAVIGATION)
    assert (answer.body, again.cookies) == (b"/", {})


async def test_a_failing_provider_leaves_the_navigation_to_the_application(log: Log) -> None:
    browser = await after_fetch(providers=list)
    answer = await browser.get("/page", **NAVIGATION)
    assert (answer.status, answer.body, browser.cookies) == (200, b"/page", {})
    assert len(log()) == 1


@pytest.mark.parametrize("value", ["", "unknown", "x" * 4000, '"', "ä", "a%00b"])
async def test_an_invented_cookie_plays_nothing_and_is_taken_away(value: str) -> None:
    guard = guarded(any_page)
    await Browser(guard, {"session": "1"}).post("/logout")  # so that something is remembered at all
    await after_fetch_in(guard)
    browser = Browser(guard, {"rp_later": value})
    answer = await browser.get("/page", **NAVIGATION)
    assert (answer.body, browser.cookies) == (b"/page", {})


async def after_fetch_in(guard: ASGIApp) -> None:
    await Browser(guard, {"session": "0123456789abcdef0123"}).post("/logout", **FETCH)


async def test_a_marked_answer_to_a_fetch_is_deferred_too() -> None:
    app = signs_out("/x", ("x-rp-logout", "idp"))
    browser = Browser(guarded(app), {"session": "0123456789abcdef0123"})
    assert (await browser.post("/anywhere", **FETCH)).header("location") == "/x"
    assert went_to_provider(await browser.get("/", **NAVIGATION))


async def test_turbo_is_sent_away_by_a_stream_that_it_obeys() -> None:
    headers = FETCH | {"accept": "text/vnd.turbo-stream.html, text/html", "cookie": COOKIE}
    answer = await log_out(guarded(signs_out()), headers={n.replace("_", "-"): v for n, v in headers.items()})
    assert (answer.status, (answer.header("content-type") or "").partition(";")[0]) == (
        200,
        "text/vnd.turbo-stream.html",
    )
    assert f"url={END}?client_id=rp&amp;post_logout" in answer.body.decode()


async def test_a_turbo_visit_loads_the_page_anew_and_that_goes_to_the_provider() -> None:
    browser = Browser(guarded(any_page), {"session": "0123456789abcdef0123"})
    answer = await browser.get("/logout", accept="text/html", x_turbo_request_id="7", **FETCH)
    assert (answer.status, b'"turbo-visit-control" content="reload"' in answer.body) == (200, True)
    assert went_to_provider(await browser.get("/logout", **NAVIGATION))


async def test_add_middleware_and_wrapping_are_the_same() -> None:
    for build in (
        lambda app: app.add_middleware(RPLogoutMiddleware, providers=PROVIDERS) or app,
        functools.partial(RPLogoutMiddleware, providers=PROVIDERS),
    ):
        app = build(Starlette(routes=[Route("/logout", sign_out_badly, methods=["POST"])]))
        assert went_to_provider(await log_out(app))
