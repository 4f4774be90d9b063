"""Applications whose session cookie has the same value at every login of a user: nobody is locked out by a logout."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from asgi_rp_logout import MemoryStore, RPLogoutMiddleware, StaticProvider, remember_login
from tests.asgi import Answer, call, http_scope

HOST = ("host", "app.example.com")
DERIVED = "the-hmac-of-the-user-name"


def application(*, remembers: bool, store: MemoryStore | None = None) -> RPLogoutMiddleware:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope)
        response: Response = JSONResponse({"session": request.cookies.get("session")})
        if scope["path"] == "/login":
            response = RedirectResponse("/", 303)
            response.set_cookie("session", DERIVED)
            if remembers:
                remember_login(request, sub="alice", provider="acme")
        elif scope["path"] == "/logout":
            response = RedirectResponse("/bye", 303)
        await response(scope, receive, send)

    provider = StaticProvider("https://id.example.com/logout", name="acme")
    return RPLogoutMiddleware(app, providers=[provider], store=store)


def with_cookies(answer: Answer) -> tuple[str, str]:
    return "cookie", "; ".join(f"{name}={value}" for name, value in answer.cookies().items())


@pytest.mark.parametrize("remembers", [True, False])
async def test_a_value_that_is_issued_anew_lives_again(remembers: bool) -> None:
    app = application(remembers=remembers)
    cookies = with_cookies(await call(app, http_scope("/login", headers=[HOST])))
    await call(app, http_scope("/logout", "POST", [HOST, cookies]))
    replayed = await call(app, http_scope("/", headers=[HOST, cookies]))
    assert replayed.body == b'{"session":null}'
    again = with_cookies(await call(app, http_scope("/login", headers=[HOST])))
    answer = await call(app, http_scope("/", headers=[HOST, again]))
    assert answer.body == b'{"session":"%s"}' % DERIVED.encode()


async def test_a_value_that_is_only_sent_back_to_a_dead_request_stays_revoked() -> None:
    """The control: who replays the dead cookie and gets it set again by a request of his has won nothing."""
    app = application(remembers=False)
    cookies = with_cookies(await call(app, http_scope("/login", headers=[HOST])))
    await call(app, http_scope("/logout", "POST", [HOST, cookies]))
    await call(app, http_scope("/login", headers=[HOST, cookies]))
    answer = await call(app, http_scope("/", headers=[HOST, cookies]))
    assert answer.body == b'{"session":null}'


async def test_a_malformed_record_breaks_no_request(log: Any) -> None:
    """Whatever stands in the store, the application answers; the log says what is wrong."""
    store = MemoryStore()
    app = application(remembers=True, store=store)
    cookies = with_cookies(await call(app, http_scope("/login", headers=[HOST])))
    for key in store.entries["login"]:
        await store.put(key.replace("login:", "ended:"), {"v": 1, "by": "logout", "at": "yesterday"})
    answer = await call(app, http_scope("/", headers=[HOST, cookies]))
    assert (answer.status, answer.body) == (200, b'{"session":"%s"}' % DERIVED.encode())
    assert [line for line in log() if "malformed" in line]
