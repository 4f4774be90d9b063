"""A double click: a second request that the first one overtakes, and what a thief with its cookies learns."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from asgi_rp_logout import Login, MemoryStore, RPLogoutMiddleware, StaticProvider, presets, remember_login
from tests.asgi import Answer, call, http_scope
from tests.conftest import Log
from tests.places import OUTSIDE, Browser, Site, destination, in_both_places, providers
from tests.virtual_time import in_virtual_time, let_time_pass

SESSION = "a-session-id-of-the-server"
PROVIDER = StaticProvider("https://id.example.com/logout", client_id="dashboard", name="acme")


class Guarded:
    """An application with server-side sessions, whose logout refuses whoever is not signed in."""

    def __init__(self) -> None:
        self.signed_in = True
        self.first_at_work, self.second_came = anyio.Event(), anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope)
        response: Response
        if scope["path"] == "/login":
            remember_login(request, id_token="header.payload.signature", provider="acme")
            response = RedirectResponse("/", 303)
            response.set_cookie("session", SESSION)
        elif self.signed_in:
            self.signed_in = False
            self.first_at_work.set()
            await self.second_came.wait()
            response = RedirectResponse("/bye", 303)
        else:
            self.second_came.set()
            await anyio.sleep(0.05)  # the first one answers before this one does
            response = PlainTextResponse("who are you?", 401)
        await response(scope, receive, send)


async def two_clicks(store: Any, marked_paths: tuple[str, ...] = ("/logout",)) -> tuple[Answer, Answer]:
    guarded = Guarded()
    app = RPLogoutMiddleware(guarded, providers=[PROVIDER], store=store, logout_path=marked_paths)
    host = ("host", "app.example.com")
    login = await call(app, http_scope("/login", headers=[host]))
    cookies = "; ".join(f"{name}={value}" for name, value in login.cookies().items())
    scope: dict[str, Any] = {"path": "/logout", "method": "POST", "headers": [host, ("cookie", cookies)]}
    answers: list[Answer] = []

    async def click() -> None:
        answers.append(await call(app, http_scope(**scope)))

    async with anyio.create_task_group() as clicks:
        clicks.start_soon(click)
        await guarded.first_at_work.wait()
        clicks.start_soon(click)
    return answers[0], answers[1]


@in_virtual_time
@pytest.mark.anyio
async def test_a_second_click_that_the_first_one_overtook_goes_to_the_provider_as_well() -> None:
    """The guard of the application refuses it, and the browser would show that refusal."""
    first, second = await two_clicks(MemoryStore())
    assert first.status == second.status == 303
    assert second.header("location") == first.header("location")
    assert "id_token_hint=header.payload.signature" in str(second.header("location"))


@in_virtual_time
@pytest.mark.anyio
async def test_a_refusal_elsewhere_stays_a_refusal() -> None:
    """The positive control: without a logout path nobody was logged out, and the 401 goes out as it is."""
    first, second = await two_clicks(MemoryStore(), marked_paths=())
    assert (first.status, first.header("location")) == (303, "/bye")
    assert (second.status, second.body) == (401, b"who are you?")


class Down:
    """A provider that has gone down since the first click, and what it was asked."""

    name = "acme"

    def __init__(self) -> None:
        self.asked = 0
        self.up = True

    async def get_end_session_url(self) -> str:
        self.asked += 1
        if not self.up:
            raise OSError
        return "https://id.example.com/logout"


@in_virtual_time
@pytest.mark.anyio
async def test_a_second_click_that_cannot_go_there_warns_once_and_asks_once(log: Log) -> None:
    """The application answers it then, and its answer is a logout of its own."""

    async def signs_out(scope: Any, receive: Any, send: Any) -> None:
        await RedirectResponse("/bye", 303)(scope, receive, send)

    provider = Down()
    app = RPLogoutMiddleware(signs_out, providers=[provider])
    scope: dict[str, Any] = {"path": "/logout", "method": "POST", "headers": {"cookie": f"session={SESSION}"}}
    first = await call(app, http_scope(**scope))
    assert (str(first.header("location")).partition("?")[0], provider.asked) == ("https://id.example.com/logout", 1)
    provider.up = False
    second = await call(app, http_scope(**scope))
    assert (second.status, second.header("location"), provider.asked) == (303, "/bye", 2)
    assert "session" in second.expired()
    assert len(log()) == 1


# What a copy of the cookies learns

HINT = "id_token_hint"


async def click(site: Site, cookies: dict[str, str], method: str = "POST", **headers: str) -> dict[str, str]:
    """Log out with these cookies, and give the query that the provider gets."""
    return destination(await Browser(site.app, cookies).request(method, "/logout", headers))[1]


@in_both_places
@pytest.mark.parametrize(("seconds", "hints"), [(0, True), (9, True), (11, False), (119, False)])
@pytest.mark.parametrize("guard", [True, False])
@in_virtual_time
async def test_the_id_token_goes_out_again_for_ten_seconds(
    place: str, seconds: float, hints: bool, guard: bool
) -> None:
    """A double click is over by then, and a dead copy still ends at the right provider, which asks its own cookie."""
    site = Site(place, guard=guard)
    browser = await site.signed_in(user="bob", provider="b", sid="s2")
    copy = dict(browser.cookies)
    first = await click(site, browser.cookies)
    let_time_pass(seconds)
    second = await click(site, copy)
    assert (HINT in first, HINT in second) == (True, hints)
    assert second["client_id"] == "rp-b"
    assert "bob" not in str(second.values()) or hints


async def test_a_session_cookie_alone_is_worth_no_id_token() -> None:
    """Whoever copied it could not have had one before the logout either."""
    known = Login("acme", id_token="a.b.c", sub="alice", logout_hint="alice@example.com", iss="https://id.example.com")
    asked: list[Any] = []

    def source(connection: Any) -> Login | None:
        return known if connection.cookies.get("session") == SESSION and not asked else None

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await RedirectResponse("/bye", 303)(scope, receive, send)

    store = MemoryStore()
    wrapped = RPLogoutMiddleware(app, providers=[PROVIDER], login_source=source, store=store)
    scope: dict[str, Any] = {"path": "/logout", "method": "POST", "headers": {"cookie": f"session={SESSION}"}}
    first = await call(wrapped, http_scope(**scope))
    asked.append("no more: the application has forgotten the session")
    second = await call(wrapped, http_scope(**scope))
    assert "id_token_hint=a.b.c" in str(first.header("location"))
    assert "logout_hint=alice%40example.com" in str(first.header("location"))
    assert second.header("location") == (
        "https://id.example.com/logout?client_id=dashboard&post_logout_redirect_uri=http%3A%2F%2F127.0.0.1%2Fbye"
    )
    assert "a.b.c" not in str(store.entries)


@pytest.mark.parametrize("guard", [True, False])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_copied_session_cookie_without_its_companion_is_worth_none_either(guard: bool, method: str) -> None:
    site = Site("outside", guard=guard)
    browser = await site.signed_in()
    copy = {"session": browser.cookies["session"]}
    await click(site, browser.cookies)
    answer = await Browser(site.app, copy).request(method, "/logout", {})
    assert answer.status in (303, 401)
    assert HINT not in str(answer.header("location"))


async def test_a_second_click_by_fetch_leaves_no_id_token_waiting_for_a_thief() -> None:
    """The logout of a dead copy is deferred like any other, and finished for whoever made it."""
    site = Site("outside", providers=providers()[:1])
    browser = await site.signed_in()
    copy = {"session": browser.cookies["session"]}
    await click(site, browser.cookies)
    thief = Browser(site.app, copy)
    await thief.post("/logout", sec_fetch_mode="cors", sec_fetch_dest="empty", sec_fetch_site="same-origin")
    answer = await thief.get("/", sec_fetch_mode="navigate", sec_fetch_dest="document", sec_fetch_site="same-origin")
    assert HINT not in destination(answer)[1]


async def test_a_copied_session_cookie_names_no_session_to_the_provider_either() -> None:
    """Auth0 takes the sid in place of an ID Token."""
    auth0 = presets.auth0("a.example", "dashboard", name="a")
    auth0.issuer = "https://a.example"  # that of the site's ID Tokens
    site = Site(OUTSIDE, providers=[auth0], freshness=0)
    browser = await site.signed_in(sid="the-session")
    copied = Browser(site.app, {"session": browser.cookies["session"]})
    host, query = destination(await copied.post("/logout"))
    assert (host, "logout_hint" in query, "id_token_hint" in query) == ("a.example", False, False)
