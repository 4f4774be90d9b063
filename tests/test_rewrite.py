"""The answer that takes a client to the provider: what it keeps of the application's, what it drops and adds."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from asgi_rp_logout import Login, StaticProvider
from tests.apps import (
    COOKIE,
    END,
    FETCH,
    SECRET,
    guarded,
    log_out,
    page,
    parameters,
    saying,
    signs_out,
    went_to_provider,
)

FOREIGN = {"cookie": COOKIE, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image", "sec-fetch-site": "cross-site"}
DROPPED = [
    ("Location", "/login"),
    ("Content-Length", "5"),
    ("content-type", "text/html"),
    ("Content-Encoding", "gzip"),
    ("transfer-encoding", "chunked"),
    ("ETag", '"1"'),
    ("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT"),
    ("cache-control", "public, max-age=60"),
    ("Cache-Control", "immutable"),
    ("X-RP-Logout", "1"),
    ("Refresh", "0;url=/bye"),
    ("HX-Redirect", "/bye"),  # htmx would join two of them, and go to neither
    ("hx-location", "/bye"),
    ("HX-Refresh", "true"),
    ("x-inertia-location", "/bye"),
]
KEPT = [
    ("set-cookie", "a=1"),
    ("x-request-id", "7"),
    ("Set-Cookie", "b=2; Path=/"),
    ("content-security-policy", "default-src 'self'"),
    ("Vary", "Cookie"),
    ("vary", "Accept"),
    ("strict-transport-security", "max-age=1"),
]


async def test_a_redirect_keeps_every_header_but_those_of_the_body_and_target() -> None:
    """The application's own stand first and in their order, each Set-Cookie among them."""
    mixed = [pair for both in zip(DROPPED, KEPT, strict=False) for pair in both] + DROPPED[len(KEPT) :]
    answer = await log_out(guarded(page(302, mixed, b"hello"), session_cookie=()), session={"user": 1})
    kept = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in KEPT]
    assert answer.headers == [
        *kept,
        (b"location", f"{END}?client_id=rp".encode() + b"&post_logout_redirect_uri=http%3A%2F%2F127.0.0.1%2Flogin"),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
        (b"content-length", b"0"),
    ]


async def test_the_start_message_is_amended_and_not_rebuilt() -> None:
    """What else stands in it, today or in a later version of ASGI, stays; only `trailers` goes with the trailers."""
    extension = {"answer": 42}
    start = {"type": "http.response.start", "status": 200, "trailers": True, "headers": [], "some.extension": extension}
    body = {"type": "http.response.body", "body": b"x", "more_body": False}
    answer = await log_out(guarded(saying([start, body])))
    assert set(answer.start) == {"type", "status", "headers", "some.extension"}
    assert answer.start["some.extension"] is extension
    assert start["trailers"] is True  # the application's own message is not touched


async def test_a_start_message_without_headers_becomes_a_redirect() -> None:
    app = saying([{"type": "http.response.start", "status": 204}, {"type": "http.response.body"}])
    assert went_to_provider(await log_out(guarded(app)))


PIECE: Message = {"type": "http.response.body", "body": b"x", "more_body": True}
BODIES: dict[str, list[Message]] = {
    "none": [],
    "one": [{"type": "http.response.body", "body": b"x"}],
    "several": [PIECE] * 3 + [{"type": "http.response.body"}],
    "unfinished": [PIECE],
    "file": [{"type": "http.response.pathsend", "path": "/etc/hostname"}],
    "zero copy": [{"type": "http.response.zerocopysend", "file": 0, "more_body": False}],
    "trailers": [
        {"type": "http.response.body", "body": b"x"},
        {"type": "http.response.trailers", "headers": [(b"x", b"y")], "more_trailers": False},
    ],
}


@pytest.mark.parametrize("messages", BODIES.values(), ids=BODIES)
async def test_exactly_one_body_message_goes_out_whatever_the_app_sends(messages: list[Message]) -> None:
    start: Message = {
        "type": "http.response.start",
        "status": 303,
        "headers": [(b"location", b"/login")],
        "trailers": True,
    }
    answer = await log_out(guarded(saying([start, *messages])))
    assert [message["type"] for message in answer.messages] == ["http.response.start", "http.response.body"]
    assert answer.messages[1] == {"type": "http.response.body", "body": b"", "more_body": False}


@pytest.mark.parametrize("messages", BODIES.values(), ids=BODIES)
async def test_a_logout_that_stays_here_keeps_the_apps_own_body(messages: list[Message]) -> None:
    start: Message = {"type": "http.response.start", "status": 200, "headers": [(b"etag", b"1")], "trailers": True}
    answer = await log_out(guarded(saying([start, *messages])), headers={})
    assert answer.messages[1:] == messages
    assert (answer.status, answer.header("etag"), answer.start["trailers"]) == (200, "1", True)


async def test_what_comes_before_the_start_of_the_response_passes() -> None:
    """Early hints and their like."""
    hint = {"type": "http.response.early_hint", "links": []}
    start = {"type": "http.response.start", "status": 303, "headers": []}
    answer = await log_out(guarded(saying([hint, start, {"type": "http.response.body"}])))
    assert answer.messages[0] == hint


async def test_an_exception_after_the_rewrite_propagates() -> None:
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await signs_out()(scope, receive, send)
        raise ZeroDivisionError

    async def keep(message: Message) -> None:
        sent.append(message)

    from tests.asgi import http_scope

    nothing: Any = None
    with pytest.raises(ZeroDivisionError):
        await guarded(app)(http_scope("/logout", "POST", {"cookie": COOKIE}), nothing, keep)
    assert [message["status"] for message in sent if "status" in message] == [303]
    assert len(sent) == 2


async def test_an_exception_before_the_response_propagates_and_nothing_is_sent() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await log_out(guarded(app))


async def test_background_tasks_still_run() -> None:
    done: list[str] = []

    async def logout(request: Request) -> RedirectResponse:
        return RedirectResponse("/login", 303, background=BackgroundTask(done.append, "audit"))

    app = guarded(Starlette(routes=[Route("/logout", logout, methods=["POST"])]))
    assert went_to_provider(await log_out(app))
    assert done == ["audit"]


# One answer for each client


async def test_htmx_gets_a_header_that_it_obeys() -> None:
    headers = {**FETCH, "hx-request": "true"}
    answer = await log_out(guarded(page(302, DROPPED)), headers=headers)
    assert (answer.status, answer.body, answer.header("location")) == (200, b"", None)
    assert (answer.header("hx-redirect") or "").startswith(END)
    assert (answer.header("cache-control"), answer.header("content-length")) == ("no-store", "0")


@pytest.mark.parametrize("name", ["HX-Redirect", "hx-location"])
async def test_htmx_returns_to_where_the_application_wanted_it(name: str) -> None:
    """It answers with a header of htmx's, since it cannot redirect one either."""
    headers = {**FETCH, "hx-request": "true"}
    answer = await log_out(guarded(page(204, [(name, "/bye")])), headers=headers)
    assert answer.status == 200
    (url,) = answer.all("hx-redirect")
    assert url.startswith(f"{END}?")
    assert url.endswith("post_logout_redirect_uri=http%3A%2F%2F127.0.0.1%2Fbye")
    as_json = await log_out(guarded(page(204, [(name, '{"path":"/bye"}')])), headers=headers)
    assert as_json.all("hx-redirect") == [f"{END}?client_id=rp"]


async def test_an_application_that_sends_htmx_to_the_provider_by_itself_is_left_alone() -> None:
    app = guarded(page(204, [("HX-Redirect", f"{END}?own=1")]))
    answer = await log_out(app, headers={**FETCH, "hx-request": "true"})
    assert (answer.status, answer.all("hx-redirect")) == (204, [f"{END}?own=1"])
    assert "session" in answer.expired()


async def test_inertia_gets_a_conflict_with_the_address() -> None:
    answer = await log_out(guarded(page(302, DROPPED)), headers={**FETCH, "x-inertia": "true"})
    assert (answer.status, answer.body, answer.header("location")) == (409, b"", None)
    assert (answer.header("x-inertia-location") or "").startswith(END)


async def test_a_fetch_gets_the_address_as_json_if_that_was_chosen() -> None:
    answer = await log_out(guarded(page(302, [*DROPPED, *KEPT]), for_fetch="json"), headers=FETCH)
    assert (answer.status, answer.header("content-type")) == (200, "application/json")
    assert json.loads(answer.body)["logout_url"].startswith(END)
    assert int(answer.header("content-length") or 0) == len(answer.body)
    assert answer.header("x-request-id") == "7"


@pytest.mark.parametrize("for_fetch", ["defer", "local"])
async def test_a_fetch_gets_the_apps_own_answer_otherwise(for_fetch: str) -> None:
    """It is never answered with a redirect to another origin: the browser would block it, and lose the logout."""
    answer = await log_out(guarded(signs_out(), for_fetch=for_fetch), headers=FETCH)
    assert (answer.status, answer.header("location")) == (303, "/login")
    assert "session" in answer.expired()
    assert ("rp_later" in answer.cookies()) is (for_fetch == "defer")


@pytest.mark.parametrize("for_fetch", ["defer", "local", "json"])
async def test_a_foreign_subresource_never_reaches_the_provider(for_fetch: str) -> None:
    answer = await log_out(guarded(signs_out(), for_fetch=for_fetch), headers=FOREIGN)
    assert (answer.header("location"), answer.cookies()) == ("/login", {})


async def test_a_prefetch_of_the_logout_link_logs_nobody_out() -> None:
    """It is answered before the application runs."""
    called: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        called.append(scope["path"])
        await signs_out()(scope, receive, send)

    for name, value in (("Sec-Purpose", "prefetch;prerender"), ("Purpose", "prefetch"), ("X-Moz", "prefetch")):
        answer = await log_out(guarded(app), method="GET", headers={"cookie": COOKIE, name: value})
        assert (answer.status, answer.header("cache-control"), answer.all("set-cookie")) == (503, "no-store", [])
    assert called == []
    await log_out(guarded(app), method="POST", headers={"cookie": COOKIE, "Purpose": "prefetch"})
    await log_out(guarded(app), "/other", method="GET", headers={"cookie": COOKIE, "Purpose": "prefetch"})
    assert called == ["/logout", "/other"]


# A URL that is too long

LONG = Login(provider="idp", id_token="h" * 600, logout_hint="alice")


async def test_a_url_that_is_too_long_is_sent_without_the_hint() -> None:
    """Keycloak and the proxies in front of it answer 414 or 431."""
    for limit, has_hint in ((500, False), (5000, True)):
        guard = guarded(signs_out(), login_source=lambda _: LONG, max_url_length=limit)
        answer = await log_out(guard)
        assert ("id_token_hint" in parameters(answer)) is has_hint
        assert parameters(answer)["logout_hint"] == "alice"
        assert parameters(answer)["post_logout_redirect_uri"] == "http://127.0.0.1/login"


async def test_without_a_client_id_a_shortened_request_has_no_return_address() -> None:
    """The provider could not tell whose it is, and would refuse it."""
    options: dict[str, Any] = {"login_source": lambda _: LONG, "max_url_length": 500}
    answer = await log_out(guarded(signs_out(), providers=[StaticProvider(END, name="idp")], **options))
    assert parameters(answer) == {"logout_hint": "alice"}


class Form(HTMLParser):
    """The form of a page, and its scripts' nonces."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self.nonces: list[str | None] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self.action = given["action"] or ""
        elif tag == "input":
            self.fields[given["name"] or ""] = given["value"] or ""
        elif tag == "script":
            self.nonces.append(given.get("nonce"))


async def test_a_provider_that_takes_a_post_gets_the_whole_request_as_a_form() -> None:
    hint = '"><script>alert(1)</script>' + "h" * 600
    provider = StaticProvider(f"{END}?tenant=a%26b", client_id="rp", name="idp", post=True)
    options: dict[str, Any] = {"login_source": lambda _: Login("idp", hint), "max_url_length": 500}
    answer = await log_out(guarded(page(302, [*DROPPED, *KEPT]), providers=[provider], **options))
    form = Form(answer.body.decode())
    assert (answer.status, form.action) == (200, f"{END}?tenant=a%26b")
    back = "http://127.0.0.1/login"
    assert form.fields == {"id_token_hint": hint, "client_id": "rp", "post_logout_redirect_uri": back}
    policy = answer.header("content-security-policy") or ""
    assert f"script-src 'nonce-{form.nonces[0]}'" in policy
    assert "default-src 'none'" in policy
    assert "form-action" not in policy  # Chromium holds it against every redirect that follows
    assert (answer.header("cache-control"), answer.header("referrer-policy")) == ("no-store", "no-referrer")


async def test_a_form_is_only_for_a_document() -> None:
    """Other clients get the shortened URL."""
    provider = StaticProvider(END, client_id="rp", name="idp", post=True)
    for headers in ({**FETCH, "hx-request": "true"}, {**FETCH, "x-inertia": "true"}):
        guard = guarded(signs_out(), providers=[provider], login_source=lambda _: LONG, max_url_length=500)
        answer = await log_out(guard, headers=headers)
        url = answer.header("hx-redirect") or answer.header("x-inertia-location") or ""
        assert url.startswith(END)
        assert len(url) <= 500


# An application that goes to the provider by itself


@pytest.mark.parametrize(
    ("location", "is_own"),
    [
        (f"{END}?id_token_hint=x&custom=1", True),
        (END, True),
        ("https://id.example/other", False),
        ("https://evil.example/end", False),
        ("http://id.example/end", False),
    ],
)
async def test_a_redirect_of_the_apps_own_to_the_provider_is_left_alone(location: str, is_own: bool) -> None:
    answer = await log_out(guarded(signs_out(location)))
    assert (answer.header("location") == location) is is_own
    assert "session" in answer.expired()


NEW = "session=anonymous-with-its-state; Path=/; HttpOnly"


@pytest.mark.parametrize("headers", [{"cookie": COOKIE}, {"cookie": COOKIE, "hx-request": "true", **FETCH}])
async def test_the_fresh_session_of_an_app_that_goes_there_by_itself_is_kept(headers: dict[str, str]) -> None:
    """It holds the state for the way back. The old session is as dead as ever."""
    target = "hx-redirect" if "hx-request" in headers else "location"
    leaves = page(303 if target == "location" else 200, [(target, f"{END}?state=x"), ("set-cookie", NEW)])
    seen: list[bytes | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(dict(scope["headers"]).get(b"cookie"))
        await (leaves if scope["path"] == "/logout" else page())(scope, receive, send)

    guard = guarded(app)
    answer = await log_out(guard, headers=headers)
    assert answer.header(target) == f"{END}?state=x"
    assert answer.cookies() == {"session": "anonymous-with-its-state"}
    for cookie in ("session=anonymous-with-its-state", COOKIE):
        await log_out(guard, "/", "GET", headers={"cookie": cookie})
    assert seen[1:] == [b"session=anonymous-with-its-state", None]


@pytest.mark.parametrize(
    "line", [f"session={SECRET}", f"__Host-session={SECRET}; Path=/; Secure", f'session="{SECRET}"']
)
async def test_the_old_session_is_not_set_again_by_an_app_that_goes_there_by_itself(line: str) -> None:
    answer = await log_out(guarded(signs_out(END, ("set-cookie", line))))
    assert (answer.header("location"), answer.cookies()) == (END, {})
    assert "session" in answer.expired()


async def test_a_session_that_is_set_on_the_way_to_another_place_is_not_kept() -> None:
    """The control: it may be the old one, signed anew."""
    for location in ("/login", "https://id.example/other"):
        assert (await log_out(guarded(signs_out(location, ("set-cookie", NEW))))).cookies() == {}
