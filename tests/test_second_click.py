"""A double click whose second request comes in before the first one has ended the login."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from asgi_rp_logout import MemoryStore, RPLogoutMiddleware, StaticProvider, remember_login
from tests.asgi import Answer, call, http_scope
from tests.virtual_time import in_virtual_time

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
    scope = {"path": "/logout", "method": "POST", "headers": [host, ("cookie", cookies)]}
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
async def test_a_second_click_that_cannot_go_there_warns_once_and_asks_once(log) -> None:
    """The application answers it then, and its answer is a logout of its own."""

    async def signs_out(scope: Any, receive: Any, send: Any) -> None:
        await RedirectResponse("/bye", 303)(scope, receive, send)

    provider = Down()
    app = RPLogoutMiddleware(signs_out, providers=[provider])
    scope = {"path": "/logout", "method": "POST", "headers": {"cookie": f"session={SESSION}"}}
    first = await call(app, http_scope(**scope))
    assert (str(first.header("location")).partition("?")[0], provider.asked) == ("https://id.example.com/logout", 1)
    provider.up = False
    second = await call(app, http_scope(**scope))
    assert (second.status, second.header("location"), provider.asked) == (303, "/bye", 2)
    assert "session" in second.expired()
    assert len(log()) == 1
