"""Logouts that the application asks for: of all logins of a user, or of one login without a logout response."""

from __future__ import annotations

import contextlib
import copy
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_rp_logout import (
    ConfigurationError,
    Login,
    LogoutEvent,
    MemoryStore,
    OIDCProvider,
    RPLogoutError,
    RPLogoutMiddleware,
    StaticProvider,
    StoreError,
    current_login,
    end_login,
    end_logins,
    remember_login,
    rp_logout,
)
from asgi_rp_logout.logins.guarded_store import StoreBudget
from asgi_rp_logout.logins.registry import EndedSessions
from tests.asgi import http_scope
from tests.places import (
    OUTSIDE,
    Browser,
    ForeignStore,
    ServerSideSessions,
    Site,
    destination,
    in_both_places,
    providers,
)
from tests.test_registry import registry_of
from tests.tokens import id_token
from tests.virtual_time import in_virtual_time, virtual_now

ISS = "https://a.example"


class Service(Site):
    """An application with a button for all devices, and a logout without a logout response."""

    def __init__(self, place: str, *, remembers: bool = True, **options: Any) -> None:
        super().__init__(place, remembers=remembers, **options)
        self.urls: list[str | None] = []
        routes = [
            *(Route(f"/{name}", getattr(self, name or "home")) for name in ("", "login", "touch")),
            Route("/logout", self.logout, methods=["POST"]),
            Route("/all", self.all_devices, methods=["POST"]),
            Route("/button", self.button, methods=["POST"]),
            Route("/decorated", self.decorated, methods=["POST"]),
            Route("/marked", self.marked, methods=["POST"]),
            Route("/slow-button", self.slow_button, methods=["POST"]),
            Route("/slow-marked", self.slow_marked, methods=["POST"]),
            Route("/quiet", self.quiet, methods=["POST"]),
            WebSocketRoute("/socket", self.socket),
        ]
        inner = [Middleware(RPLogoutMiddleware, **{"providers": providers(), "store": self.store, **options})]
        sessions: list[Middleware] = [Middleware(SessionMiddleware, secret_key="secret")]
        if place == OUTSIDE:
            served = ServerSideSessions(Starlette(routes=routes), self.kept, "session")
            self.app = RPLogoutMiddleware(served, **{"providers": providers(), "store": self.store, **options})
        else:
            self.app = Starlette(routes=routes, middleware=[*sessions, *inner])

    async def button(self, request: Request) -> Response:
        await end_logins(request)
        return PlainTextResponse("signed out on all devices")

    async def all_devices(self, request: Request) -> Response:
        await end_logins(request, iss=ISS, sub=request.query_params["sub"], sid=request.query_params.get("sid"))
        return PlainTextResponse("ended")

    @rp_logout(everywhere=True)
    async def decorated(self, request: Request) -> Response:
        return RedirectResponse("/bye", 303)

    async def marked(self, request: Request) -> Response:
        return RedirectResponse("/bye", 303, {"x-rp-logout": "everywhere"})

    async def slow_button(self, request: Request) -> Response:
        self.arrived.set()
        await self.go_on.wait()
        return await self.button(request)

    async def slow_marked(self, request: Request) -> Response:
        self.arrived.set()
        await self.go_on.wait()
        return await self.marked(request)

    async def quiet(self, request: Request) -> Response:
        self.urls.append(await end_login(request))
        login = current_login(request)
        return JSONResponse({"ended": login.ended if login is not None else None})

    async def socket(self, socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            if text == "log out":
                await socket.send_text(str(await end_login()))


async def two_devices(site: Site) -> tuple[Browser, Browser, Browser]:
    """Give two browsers of alice and one of bob."""
    return (
        await site.signed_in(sid="s1"),
        await site.signed_in(sid="s2"),
        await site.signed_in(user="bob", sid="s3"),
    )


# All logins of a user


@in_both_places
@pytest.mark.parametrize("path", ["/button", "/all?sub=alice"])
async def test_all_logins_of_a_user_end_and_nobody_elses(place: str, path: str) -> None:
    site = Service(place, freshness=0)
    here, there, bob = await two_devices(site)
    assert (await here.post(path)).status == 200
    assert [await site.who(one) for one in (here, there, bob)] == ["anonymous", "anonymous", "bob"]


@in_both_places
async def test_whoever_signs_in_afterwards_is_signed_in(place: str) -> None:
    site = Service(place, freshness=0)
    here, there, _ = await two_devices(site)
    await here.post("/button")
    await anyio.sleep(0.01)
    await site.sign_in(there)
    assert await site.who(there) == "alice"


@in_both_places
async def test_a_session_of_the_provider_ends_alone(place: str) -> None:
    site = Service(place, freshness=0)
    here, there, bob = await two_devices(site)
    await bob.post("/all?sub=alice&sid=s2")
    assert [await site.who(one) for one in (here, there, bob)] == ["alice", "anonymous", "bob"]


@in_both_places
@pytest.mark.parametrize("path", ["/decorated", "/marked"])
async def test_a_logout_everywhere_ends_all_logins_and_goes_to_the_provider(place: str, path: str) -> None:
    site = Service(place, freshness=0)
    here, there, bob = await two_devices(site)
    host, query = destination(await here.post(path))
    assert (host, "id_token_hint" in query) == ("a.example", True)
    assert [await site.who(one) for one in (there, bob)] == ["anonymous", "bob"]


@in_both_places
async def test_a_form_of_another_site_ends_one_login_at_most(place: str) -> None:
    """It has no say in where the user goes, nor in what happens on other devices."""
    site = Service(place, freshness=0)
    here, there, _ = await two_devices(site)
    forged = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    await here.post("/marked", **forged)
    assert [await site.who(one) for one in (here, there)] == ["anonymous", "alice"]


@in_both_places
@pytest.mark.parametrize("path", ["/button", "/marked", "/decorated"])
async def test_a_copy_of_an_ended_session_ends_no_living_one(place: str, path: str) -> None:
    """Not even within the seconds in which a second click still counts."""
    site = Service(place, freshness=0)
    here, there, _ = await two_devices(site)
    thief = here.copy()
    await here.post("/logout")
    with contextlib.suppress(RPLogoutError):  # "nobody is named": the application has not asked who is signed in
        await thief.post(path)
    assert await site.who(there) == "alice"


async def test_a_logout_everywhere_of_somebody_unknown_says_so(log: Any) -> None:
    site = Service(OUTSIDE, remembers=False, providers=providers()[:1])
    browser = await site.signed_in()
    assert destination(await browser.post("/marked"))[0] == "a.example"
    assert "has ended only one" in log()[-1]


async def test_outside_of_any_request_the_store_says_where() -> None:
    store = ForeignStore()
    site = Service(OUTSIDE, store=store, freshness=0)
    here, there, bob = await two_devices(site)
    await end_logins(iss=ISS, sub="alice", store=store)
    assert [await site.who(one) for one in (here, there, bob)] == ["anonymous", "anonymous", "bob"]


@in_virtual_time
async def test_what_a_job_ends_stays_ended_however_long_sessions_live() -> None:
    """The job does not know `session_lifetime`."""
    store = MemoryStore()
    site = Service(OUTSIDE, store=store, freshness=0, session_lifetime=100 * 24 * 3600)
    here, *_ = await two_devices(site)
    await end_logins(iss=ISS, sub="alice", store=store)
    await anyio.sleep(99 * 24 * 3600)
    assert await site.who(here) == "anonymous"


@pytest.mark.parametrize(
    ("named", "code"),
    [
        ({}, "nobody"),
        ({"iss": ISS}, "nobody"),
        ({"sub": "alice"}, "nobody"),
        ({"iss": "", "sub": "alice"}, "nobody"),
        ({"iss": ISS, "sub": 7}, "token"),
        ({"iss": ISS, "sub": "alice"}, "no_middleware"),
    ],
)
async def test_who_is_meant_and_where_has_to_be_said(named: Any, code: str) -> None:
    with pytest.raises(RPLogoutError) as refused:
        await end_logins(**named)
    assert refused.value.code == code


async def test_something_that_is_no_store_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected the method"):
        await end_logins(iss=ISS, sub="alice", store=object())


async def test_a_store_that_fails_is_reported_and_the_logins_have_local_ends() -> None:
    store = ForeignStore()
    site = Service(OUTSIDE, store=store, freshness=0)
    here, there, _ = await two_devices(site)
    store.trouble = "raise"
    with pytest.raises(StoreError):
        await end_logins(iss=ISS, sub="alice", store=store)
    assert [await site.who(one) for one in (here, there)] == ["anonymous", "anonymous"]


async def test_what_a_store_that_failed_did_not_take_is_known_elsewhere_as_soon_as_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asgi_rp_logout.logins.guarded_store.WRITE_AGAIN", 0.05)
    store = ForeignStore()
    site = Service(OUTSIDE, store=store, freshness=0)
    here, *_ = await two_devices(site)
    elsewhere = Site(OUTSIDE, beside=site, freshness=0)
    at_another_worker = Browser(elsewhere.app, here.cookies)
    store.trouble = "raise"
    with pytest.raises(StoreError):
        await end_logins(iss=ISS, sub="alice", store=store)
    assert await elsewhere.who(at_another_worker.copy()) == "alice"
    store.trouble = None
    with anyio.fail_after(20):
        while await elsewhere.who(at_another_worker.copy()) != "anonymous":
            await anyio.sleep(0.01)


def test_no_provider_may_be_called_everywhere() -> None:
    with pytest.raises(ConfigurationError, match="marker header uses this word"):
        RPLogoutMiddleware(Site(OUTSIDE).app, providers=[StaticProvider("https://x.example/end", name="Everywhere")])
    with pytest.raises(ConfigurationError, match="everywhere='yes': expected True or False"):
        rp_logout(everywhere="yes")  # type: ignore[call-overload]


# Up to a moment


@in_both_places
@pytest.mark.parametrize("make_store", [MemoryStore, ForeignStore])
@pytest.mark.parametrize("named", [{"sub": "alice"}, {"sid": "s1"}, {"sub": "alice", "sid": "s1"}])
@in_virtual_time
async def test_only_logins_end_that_began_by_the_moment_however_often_and_late_it_is_named(
    place: str, make_store: Any, named: dict[str, str]
) -> None:
    """An old event that is sent again ends nothing that began since."""
    site = Service(place, store=make_store(), freshness=0)
    before, bob = await site.signed_in(), await site.signed_in(user="bob", sid="s3")
    await anyio.sleep(10)
    moment = virtual_now()
    await anyio.sleep(10)
    after = await site.signed_in()
    for times in range(3):
        if times:
            await end_logins(iss=ISS, **named, not_after=moment, store=site.store)
        await anyio.sleep(10)
        expected = ["alice" if not times else "anonymous", "alice", "bob"]
        assert [await site.who(one.copy()) for one in (before, after, bob)] == expected


@in_virtual_time
async def test_a_moment_may_be_a_datetime_of_any_zone() -> None:
    site = Service(OUTSIDE, freshness=0)
    before = await site.signed_in()
    await anyio.sleep(10)
    moment = datetime.fromtimestamp(virtual_now(), timezone(timedelta(hours=-7)))
    await anyio.sleep(10)
    after = await site.signed_in()
    await end_logins(iss=ISS, sub="alice", not_after=moment, store=site.store)
    await anyio.sleep(1)
    assert [await site.who(one) for one in (before, after)] == ["anonymous", "alice"]


@pytest.mark.parametrize("moment", [1e13, 10**400, datetime(9999, 12, 31, tzinfo=UTC)])
@in_virtual_time
async def test_a_moment_in_the_future_counts_as_now(moment: Any) -> None:
    """Milliseconds among them, which would end all logins to come."""
    site = Service(OUTSIDE, freshness=0)
    before = await site.signed_in()
    await anyio.sleep(10)
    await end_logins(iss=ISS, sub="alice", not_after=moment, store=site.store)
    await anyio.sleep(10)
    after = await site.signed_in()
    await anyio.sleep(1)
    assert [await site.who(one) for one in (before, after)] == ["anonymous", "alice"]


@pytest.mark.parametrize("moment", [0, -1.5, -(10**400), datetime(1, 1, 1, tzinfo=UTC)])
async def test_a_moment_before_all_logins_ends_none(moment: Any) -> None:
    site = Service(OUTSIDE, freshness=0)
    before = await site.signed_in()
    await end_logins(iss=ISS, sub="alice", not_after=moment, store=site.store)
    assert await site.who(before) == "alice"


@in_both_places
@in_virtual_time
async def test_a_renewal_does_not_change_when_a_login_began(place: str) -> None:
    """Otherwise whoever stole a session could keep it from ending, by refreshing it."""
    site = Service(place, freshness=0)
    renewed = await site.signed_in()
    await anyio.sleep(10)
    moment = virtual_now()
    await anyio.sleep(10)
    handle = site.handle(renewed)
    await site.sign_in(renewed)
    assert site.handle(renewed) == handle
    await end_logins(iss=ISS, sub="alice", not_after=moment, store=site.store)
    await anyio.sleep(1)
    assert await site.who(renewed) == "anonymous"


@pytest.mark.parametrize(
    "moment",
    [True, float("nan"), float("inf"), float("-inf"), "1700000000", b"1", datetime(2026, 11, 26), [1]],  # noqa: DTZ001
    ids=repr,
)
async def test_what_is_no_moment_is_refused_and_ends_nothing(moment: Any) -> None:
    site = Service(OUTSIDE, freshness=0)
    here = await site.signed_in()
    with pytest.raises(RPLogoutError, match="expected a datetime with a time zone, or a finite number") as refused:
        await end_logins(iss=ISS, sub="alice", not_after=moment, store=site.store)
    assert (refused.value.code, await site.who(here)) == ("not_after", "alice")


@pytest.mark.parametrize("ahead", [50, -50])
@pytest.mark.parametrize("first", ["app", "provider", "moment"])
@pytest.mark.parametrize("second", ["app", "provider", "moment"])
@in_virtual_time
async def test_no_end_hides_a_later_one_by_another_clock(ahead: int, first: str, second: str) -> None:
    """The provider's clock may differ by a minute from ours, and so may that of whoever names a moment."""
    site = Service(OUTSIDE, store=ForeignStore(), freshness=0)

    async def end_by(channel: str) -> None:
        theirs = virtual_now() + ahead
        if channel == "provider":
            ended = EndedSessions(ISS, None, "alice", theirs, virtual_now(), "back-channel")
            await registry_of(site).end_sessions(ended, StoreBudget())
        else:
            moment = theirs if channel == "moment" else None
            await end_logins(iss=ISS, sub="alice", not_after=moment, store=site.store)

    await end_by(first)
    await anyio.sleep(10)
    here = await site.signed_in(iat=str(int(virtual_now()) + ahead))
    await anyio.sleep(5)
    assert await site.who(here.copy()) == "alice"
    await end_by(second)
    await anyio.sleep(5)
    assert await site.who(here.copy()) == "anonymous"


# One login, without a logout response


@in_both_places
@pytest.mark.parametrize("freshness", [0, 60])
async def test_a_login_ends_without_a_logout_response(place: str, freshness: float) -> None:
    events: list[LogoutEvent] = []
    site = Service(place, freshness=freshness, on_logout=events.append)
    here, there, _ = await two_devices(site)
    await site.who(here)
    thief = here.copy()
    answer = await here.post("/quiet")
    assert json.loads(answer.body) == {"ended": "logout"}
    assert here.cookies == {}
    (url,) = site.urls
    query = parse_qs(urlsplit(url or "").query)
    assert (urlsplit(url or "").netloc, query["id_token_hint"][0].count(".")) == ("a.example", 2)
    assert [await site.who(one) for one in (here, thief, there)] == ["anonymous", "anonymous", "alice"]
    assert [(event.how, event.provider, event.sub, event.outcome) for event in events] == [
        ("logout", "a", "alice", "provider")
    ]


@in_both_places
async def test_without_a_session_there_is_no_url(place: str) -> None:
    site = Service(place)
    await site.browser().post("/quiet")
    assert site.urls == [None]


async def test_without_an_endpoint_there_is_no_url_and_the_login_has_ended() -> None:
    site = Service(OUTSIDE, providers=[StaticProvider("https://b.example/end", name="b", issuer="https://b.example")])
    browser = await site.signed_in()
    thief = browser.copy()
    await browser.post("/quiet")
    assert site.urls == [None]
    assert await site.who(thief) == "anonymous"


async def test_the_tokens_of_the_login_are_revoked() -> None:
    revoked: list[str] = []
    own = type("Own", (), {"revoke_session": staticmethod(lambda refresh_token: revoked.append(refresh_token))})()
    provider = OIDCProvider(ISS, "rp-a", name="a", revoke=own)
    provider.metadata.document = {"issuer": ISS, "end_session_endpoint": f"{ISS}/logout"}
    site = Service(OUTSIDE, providers=[provider])
    await (await site.signed_in()).post("/quiet")
    assert (revoked, len(site.urls)) == (["refresh-alice"], 1)


async def test_with_a_callback_path_the_browser_comes_back_to_the_default_page() -> None:
    """No cookie binds this logout to the browser, so nothing is kept of where it came from."""
    site = Service(OUTSIDE, callback_path="/back", post_logout_redirect_uri="/bye")
    browser = await site.signed_in()
    await browser.post("/quiet")
    query = parse_qs(urlsplit(site.urls[0] or "").query)
    assert (query["post_logout_redirect_uri"], "state" in query) == (["http://127.0.0.1/back"], False)
    assert (await browser.get("/back")).header("location") == "/bye"


class Socket:
    """One WebSocket, seen from the server."""

    def __init__(self, *texts: str) -> None:
        self.sent: list[Any] = []
        self.incoming: list[Any] = [
            {"type": "websocket.connect"},
            *({"type": "websocket.receive", "text": t} for t in texts),
        ]

    async def receive(self) -> Any:
        if not self.incoming:
            await anyio.sleep_forever()
        return self.incoming.pop(0)

    async def send(self, message: Any) -> None:
        self.sent.append(message)


@in_both_places
@in_virtual_time
async def test_a_websocket_gets_the_url_before_it_is_closed(place: str) -> None:
    site = Service(place, freshness=0)
    here, _, bob = await two_devices(site)
    other = here.copy()
    own, beside = Socket("log out"), Socket()
    cookie = "; ".join(f"{name}={value}" for name, value in here.cookies.items())
    scope = {**http_scope("/socket", headers={"cookie": cookie}), "type": "websocket", "scheme": "ws"}
    async with anyio.create_task_group() as tasks:
        for socket in (beside, own):
            app: Any = site.app
            tasks.start_soon(app, {**scope}, socket.receive, socket.send)
        await anyio.sleep(4.4)
        await bob.post("/logout")  # at such news every connection is looked at
        await anyio.sleep(0.5)
        assert [message["type"] for message in own.sent] == ["websocket.accept", "websocket.send"]
        assert own.sent[1]["text"].startswith("https://a.example/logout?id_token_hint=")
        assert beside.sent[-1]["type"] == "websocket.close"
        assert await site.who(other) == "anonymous"
        await anyio.sleep(15)
        assert own.sent[-1] == {"type": "websocket.close", "code": 4401, "reason": "signed out"}
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(("scheme", "page"), [("ws", "http"), ("wss", "https")])
async def test_the_way_back_from_a_websocket_is_a_page(scheme: str, page: str) -> None:
    """Also for somebody of whom no login is remembered."""
    site = Service(OUTSIDE, remembers=False, providers=providers()[:1], post_logout_redirect_uri="/bye")
    browser = await site.signed_in()
    own, app = Socket("log out"), site.app
    cookie = f"session={browser.cookies['session']}"
    handshake = http_scope("/socket", headers=[("cookie", cookie), ("host", "app.example")])
    scope: Any = {**handshake, "type": "websocket", "scheme": scheme}
    del scope["method"]
    with anyio.move_on_after(1):
        await app(scope, own.receive, own.send)
    query = parse_qs(urlsplit(own.sent[1]["text"]).query)
    assert query["post_logout_redirect_uri"] == [f"{page}://app.example/bye"]
    assert await site.who(browser) == "anonymous"


async def test_a_copied_session_cookie_gets_no_hint_here_either() -> None:
    site = Service(OUTSIDE, freshness=0)
    browser = await site.signed_in()
    await Browser(site.app, {"session": browser.cookies["session"]}).post("/quiet")
    assert "id_token_hint" not in str(site.urls[0])
    assert str(site.urls[0]).startswith("https://a.example/logout")


async def test_outside_of_the_middleware_nothing_can_end() -> None:
    with pytest.raises(RPLogoutError) as refused:
        await end_login()
    assert refused.value.code == "no_middleware"


async def test_in_a_request_that_nobody_names_it_is_asked_for() -> None:
    """The request has the cookies; the context alone does not."""
    codes: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await end_login()
        except RPLogoutError as error:
            codes.append(error.code)
        await PlainTextResponse("")(scope, receive, send)

    await Browser(RPLogoutMiddleware(app, providers=providers())).get("/")
    assert codes == ["not_a_request"]


async def test_a_login_that_only_the_application_knows_ends_with_its_hint() -> None:
    urls: list[str | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/quiet":
            urls.append(await end_login(scope))
        await PlainTextResponse("")(scope, receive, send)

    known = Login("a", id_token=id_token())
    wrapped = RPLogoutMiddleware(app, providers=providers(), login_source=lambda connection: known)
    await Browser(wrapped, {"session": "0123456789abcdef"}).post("/quiet")
    assert "id_token_hint=" in (urls[0] or "")


async def test_remembering_after_it_in_the_same_response_is_a_new_login() -> None:
    """An application may sign somebody else in at once."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        response = PlainTextResponse("")
        if scope["path"] == "/switch":
            await end_login(scope)
            remember_login(scope, id_token=id_token("bob", "s9"), provider="a")
            response.set_cookie("session", "bobs-session-0123456789")
        if scope["path"] == "/login":
            remember_login(scope, id_token=id_token("alice", "s1"), provider="a")
            response.set_cookie("session", "alices-session-0123456789")
        login = current_login(scope)
        response.headers["x-who"] = str(login and login.sub)
        await response(scope, receive, send)

    browser = Browser(RPLogoutMiddleware(app, providers=providers(), freshness=0))
    await browser.get("/login")
    thief = browser.copy()
    await browser.post("/switch")
    assert (await browser.get("/")).header("x-who") == "bob"
    assert (await thief.get("/")).header("x-who") != "alice"


# What a stranger may try


@in_both_places
@pytest.mark.parametrize("path", ["/slow-button", "/slow-marked"])
async def test_a_slow_request_of_a_copy_ends_no_login_that_came_meanwhile(place: str, path: str) -> None:
    """It began while the login lived, and is handled after its end."""
    site = Service(place, freshness=0)
    here, there, _ = await two_devices(site)
    thief = here.copy()
    async with anyio.create_task_group() as tasks:

        @tasks.start_soon
        async def _() -> None:
            with contextlib.suppress(RPLogoutError):
                await thief.post(path)

        await site.arrived.wait()
        await here.post("/logout")
        await anyio.sleep(0.01)
        await site.sign_in(here, sid="s7")
        await anyio.sleep(0.01)
        site.go_on.set()
    assert [await site.who(one) for one in (here, there)] == ["alice", "alice"]


async def test_a_copy_that_another_worker_still_takes_for_living_ends_nothing_there() -> None:
    """A status may be as old as `freshness`; what ends all logins of a user asks the store."""
    store = ForeignStore()
    here, elsewhere = (
        Service(OUTSIDE, store=store, freshness=60),
        Service(OUTSIDE, store=copy.copy(store), freshness=60),
    )
    elsewhere.kept.update(here.kept)
    browser, other, _ = await two_devices(here)
    elsewhere.kept.update(here.kept)
    thief = Browser(elsewhere.app, browser.cookies)
    await elsewhere.who(thief)
    await browser.post("/logout")
    with contextlib.suppress(RPLogoutError):
        await thief.post("/button")
    assert await here.who(other) == "alice"


@in_virtual_time
async def test_a_websocket_is_spared_once() -> None:
    site = Service(OUTSIDE, freshness=0)
    here, *_ = await two_devices(site)

    class Repeating(Socket):
        async def receive(self) -> Any:
            if self.incoming:
                return self.incoming.pop(0)
            await anyio.sleep(4)
            return {"type": "websocket.receive", "text": "log out"}

    socket, app = Repeating(), site.app
    cookie = "; ".join(f"{name}={value}" for name, value in here.cookies.items())
    handshake: Any = {**http_scope("/socket", headers={"cookie": cookie}), "type": "websocket", "scheme": "ws"}
    with anyio.move_on_after(60):
        await app(handshake, socket.receive, socket.send)
    assert {"type": "websocket.close", "code": 4401, "reason": "signed out"} in socket.sent


async def test_a_login_that_was_to_be_remembered_has_ended_before_it_began() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        response = PlainTextResponse("")
        if scope["path"] == "/refuse":
            remember_login(scope, id_token=id_token(), provider="a")
            response.set_cookie("session", "a-new-session-0123456789")
            await end_login(scope)
        response.headers["x-who"] = str(current_login(scope))
        await response(scope, receive, send)

    browser = Browser(RPLogoutMiddleware(app, providers=providers(), freshness=0))
    assert (await browser.get("/refuse")).header("x-who") == "None"
    assert (await browser.get("/")).header("x-who") == "None"


@pytest.mark.parametrize("logout", [False, True])
async def test_one_logout_is_told_once(logout: bool) -> None:
    """`end_login` twice, or `end_login` in the handler of a logout path."""
    events: list[LogoutEvent] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        response = RedirectResponse("/bye", 303)
        if scope["path"] == "/login":
            remember_login(scope, id_token=id_token(), provider="a")
            response.set_cookie("session", "alices-session-0123456789")
        if scope["path"] in ("/logout", "/quiet"):
            for _ in range(2 - logout):
                await end_login(scope)
            response.delete_cookie("session")
        await response(scope, receive, send)

    browser = Browser(RPLogoutMiddleware(app, providers=providers(), on_logout=events.append))
    await browser.get("/login")
    await browser.post("/logout" if logout else "/quiet")
    assert [event.sub for event in events] == ["alice"]


async def test_a_cancelled_call_has_ended_the_login_and_is_told() -> None:
    class Hanging:
        name, issuer = "a", ISS

        async def get_end_session_url(self) -> None:
            await anyio.sleep(30)

    events: list[LogoutEvent] = []
    site = Service(OUTSIDE, providers=[Hanging()], freshness=0, on_logout=events.append)
    browser = await site.signed_in()
    thief = browser.copy()
    with anyio.move_on_after(0.2):
        await browser.post("/quiet")
    assert await site.who(thief) == "anonymous"
    assert [event.sub for event in events] == ["alice"]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("age", [0, 15, 200])
@pytest.mark.parametrize("path", ["/marked", "/decorated", "/quiet"])
@in_virtual_time
async def test_what_the_application_still_knows_of_a_dead_session_speaks_for_nobody(
    whole: bool, age: float, path: str
) -> None:
    """Off the logout path `login_source` is asked late; the application has not destroyed the session."""

    async def source(connection: Any) -> Login | None:
        session = site.kept.get(connection.cookies.get("session", ""))
        return Login("a", id_token=id_token()) if session and session.get("user") else None

    site = Service(OUTSIDE, freshness=0, login_source=source)
    here, there, _ = await two_devices(site)
    thief = here.copy() if whole else Browser(site.app, {"session": here.cookies["session"]})
    await here.post("/logout")
    await anyio.sleep(age)
    answer = await thief.post(path)
    assert await site.who(there) == "alice"
    if not whole or age > 10:  # a click of the same browser, until then
        assert "id_token_hint" not in f"{answer.header('location')} {site.urls}"


@pytest.mark.parametrize("path", ["/button", "/decorated"])
async def test_a_copy_ends_nothing_at_a_worker_whose_store_is_down(path: str) -> None:
    """That worker does not know that the login of the copy has ended."""
    store = ForeignStore()
    theirs = copy.copy(store)
    site, other = Service(OUTSIDE, store=store, freshness=0), Service(OUTSIDE, store=theirs, freshness=0)
    here, there, _ = await two_devices(site)
    other.kept.update(site.kept)
    thief = Browser(other.app, here.cookies)
    assert await other.who(thief.copy()) == "alice"
    await here.post("/logout")
    theirs.trouble = "raise"
    with contextlib.suppress(StoreError):
        await thief.post(path)
    theirs.trouble = None
    other_device = Browser(other.app, there.cookies)
    registry = other.app._dispatcher.services.registry  # type: ignore[attr-defined]
    registry.store.breaker.close()
    assert await other.who(other_device) == "alice"
