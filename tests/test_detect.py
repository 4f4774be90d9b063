"""Which responses are logouts; all others leave as the application sent them, message for message."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette._utils import get_route_path
from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Message

from asgi_rp_logout import MemoryStore, local_logout_only, rp_logout
from asgi_rp_logout.asgi.types import route_path
from asgi_rp_logout.login import LogoutIntent
from asgi_rp_logout.logout.detect import Said, detect, read_marker
from tests.apps import COOKIE, END, guarded, log_out, page, parameters, saying, signs_out, went_to_provider
from tests.conftest import Log
from tests.places import Browser, ForeignStore

REDIRECTS = [301, 302, 303, 307, 308]
CHANGING = ["POST", "PUT", "PATCH", "DELETE"]
MARK = "x-rp-logout"


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("method", ["GET", *CHANGING])
async def test_a_redirect_on_the_logout_path_is_a_logout(method: str, status: int) -> None:
    assert went_to_provider(await log_out(guarded(signs_out(status=status)), method=method))


@pytest.mark.parametrize("status", [200, 201, 202, 204, 205, 226])
@pytest.mark.parametrize("method", CHANGING)
async def test_any_success_of_a_changing_method_on_the_logout_path_is_a_logout(method: str, status: int) -> None:
    assert went_to_provider(await log_out(guarded(page(status)), method=method))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/logout", 200),  # a confirmation page, or the shell of a single-page application
        ("GET", "/logout", 204),
        *[("GET", "/logout", status) for status in (304, 400, 401, 404, 500, 503)],
        *[("POST", "/logout", status) for status in (300, 304, 400, 401, 403, 404, 405, 419, 422, 500, 503)],
        *[(method, "/logout", 303) for method in ("HEAD", "OPTIONS", "TRACE", "CONNECT")],
        *[(method, "/logout", 200) for method in ("HEAD", "OPTIONS", "TRACE", "CONNECT")],
        *[
            ("POST", path, 303)
            for path in ("/", "/logout/", "/logout/now", "/logou", "/Logout", "//logout", "/x/logout")
        ],
    ],
)
async def test_what_is_no_logout_leaves_exactly_as_the_app_sent_it(method: str, path: str, status: int) -> None:
    """The exact list of messages is that of the bare application."""
    start: dict[str, Any] = {"type": "http.response.start", "status": status, "trailers": True}
    headers = [(b"Location", b"/login"), (b"set-cookie", b"session=1"), (b"etag", b'"1"'), (b"X-Odd", b"\xff")]
    messages: list[Message] = [
        start | {"headers": headers},
        {"type": "http.response.body", "body": b"a", "more_body": True},
        {"type": "http.response.body", "body": b"b"},
        {"type": "http.response.trailers", "headers": [(b"x", b"y")]},
    ]
    app = saying(messages)
    guard = guarded(app)
    assert (await log_out(guard, path, method)).messages == (await log_out(app, path, method)).messages
    # The control: the same application, asked so that it is a logout.
    assert (await log_out(guarded(signs_out()), "/logout")).header("location") != "/login"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_start_message_without_headers_passes_as_it_is(method: str) -> None:
    app = saying([{"type": "http.response.start", "status": 200}, {"type": "http.response.body"}])
    assert (await log_out(guarded(app), method=method)).messages == (await log_out(app, method=method)).messages


@pytest.mark.parametrize("path", ["/logout", "/other"])
async def test_headers_may_be_any_iterable(path: str) -> None:
    """ASGI asks for an iterable; servers take one that can be read only once."""
    start = {"type": "http.response.start", "status": 200, "headers": iter([(b"x-one", b"1"), (b"x-two", b"2")])}
    answer = await log_out(guarded(saying([start, {"type": "http.response.body"}])), path, "GET")
    assert answer.headers == [(b"x-one", b"1"), (b"x-two", b"2")]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("status", "location"),
    [
        (307, "/logout/"),  # FastAPI and Starlette, whose route has the slash
        (301, "http://127.0.0.1/logout/"),
        (308, "logout/?x=1"),
        (307, "https://127.0.0.1/logout"),  # Starlette's HTTPSRedirectMiddleware
        (301, "https://127.0.0.1:8443/logout"),
        (307, "//127.0.0.1/logout"),
    ],
)
async def test_a_redirect_that_only_moves_the_request_is_no_logout(method: str, status: int, location: str) -> None:
    """To https, or to the path with or without the last slash: the application has not seen the request yet."""
    app = signs_out(location, status=status)
    assert (await log_out(guarded(app), method=method)).messages == (await log_out(app, method=method)).messages


@pytest.mark.parametrize(
    ("status", "location"),
    [
        (303, "/logout/"),  # "you are signed out", at nearly the same address
        (302, "/logout"),
        (307, "/"),
        (307, "/logout/done"),
        (308, "/x/logout"),
        (307, "https://other.example/logout"),
        (307, "http://[/logout"),
        (307, ""),
    ],
)
async def test_a_redirect_that_leads_on_is_a_logout(status: int, location: str) -> None:
    answer = await log_out(guarded(signs_out(location, status=status)))
    assert went_to_provider(answer) is (location != "")
    assert "session" in answer.expired() or location == ""


@pytest.mark.parametrize(
    ("path", "location", "options"),
    [
        ("/prefix/logout", "/prefix/logout/", {"root_path": "/prefix"}),
        ("/logout", "/prefix/logout/", {"public_url": "https://app.example/prefix"}),
        ("/logout/", "/logout", {"logout_path": "/logout/"}),
        ("/a[b", "/a%5Bb/", {"logout_path": "/a[b"}),
    ],
)
async def test_a_move_is_known_below_a_prefix_too(path: str, location: str, options: dict[str, str]) -> None:
    root_path = options.pop("root_path", "")
    answer = await log_out(guarded(signs_out(location, status=307), **options), path, root_path=root_path)
    assert (answer.status, answer.header("location")) == (307, location)


async def test_a_move_off_the_logout_paths_is_warned_of(log: Log) -> None:
    await log_out(guarded(signs_out("/logout/", status=307)))
    assert log()[0].startswith("a logout path redirects to itself with or without the trailing slash")
    await log_out(guarded(signs_out("/logout/", status=307), logout_path=("/logout", "/logout/")))
    await log_out(guarded(signs_out("https://127.0.0.1/logout", status=307)))
    assert len(log()) == 1


DELETES = ("set-cookie", "session=; Max-Age=0; Path=/")
TWO = ("/logout/", "/{lang}/logout/")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize(
    ("path", "location", "options"),
    [
        ("/logout/", "/en/logout/", {}),
        ("/logout/", "/en/logout/?next=/#top", {}),
        ("/logout/", "http://127.0.0.1/en/logout/", {}),
        ("/en/logout/", "../../de/logout/", {}),
        ("/prefix/logout/", "/prefix/en/logout/", {"root_path": "/prefix"}),
        ("/logout/", "/prefix/en/logout/", {"public_url": "http://127.0.0.1/prefix"}),
        ("/logout/", "/%C3%A9%20n/logout/", {}),
    ],
)
async def test_a_redirect_of_any_status_to_another_logout_path_only_moves(
    method: str, status: int, path: str, location: str, options: dict[str, str]
) -> None:
    """Django's LocaleMiddleware answers so, and the page there may ask first."""
    root_path = options.get("root_path", "")
    more = {name: value for name, value in options.items() if name != "root_path"}
    app = signs_out(location, status=status)
    guard = guarded(app, logout_path=TWO, **more)
    answer = await log_out(guard, path, method, root_path=root_path)
    assert answer.messages == (await log_out(app, path, method, root_path=root_path)).messages
    ended = guarded(signs_out(location, DELETES, status=status), logout_path=TWO, **more)
    # There the session is gone already: that is the logout, wherever it leads.
    assert went_to_provider(await log_out(ended, path, method, root_path=root_path))


async def test_another_logout_path_is_known_by_its_encoded_spelling() -> None:
    answer = await log_out(guarded(signs_out("/a%5Bb", status=302), logout_path=("/logout", "/a[b")))
    assert (answer.status, answer.header("location")) == (302, "/a%5Bb")


@pytest.mark.parametrize("location", ["/en/", "/logout/", "/en/x/logout/", "https://other.example/en/logout/", "/x"])
async def test_a_redirect_to_anything_else_is_a_logout(location: str) -> None:
    assert went_to_provider(await log_out(guarded(signs_out(location, status=302), logout_path=TWO), "/logout/"))


@pytest.mark.parametrize(
    ("path", "is_one"),
    [("/en/logout/", True), ("/logout/", True), ("/en/x/logout/", False), ("/en/logout", False), ("//logout/", False)],
)
async def test_a_logout_path_may_be_a_pattern(path: str, is_one: bool) -> None:
    """In Starlette's own syntax, beside paths that are compared as they are."""
    for store in (MemoryStore(), ForeignStore()):
        guard = guarded(signs_out(), logout_path=TWO, store=store)
        assert went_to_provider(await log_out(guard, path)) is is_one


async def test_a_convertor_of_starlette_narrows_a_pattern() -> None:
    guard = guarded(signs_out(), logout_path="/{tenant:int}/{rest:path}/out")
    for path, is_one in (("/7/a/b/out", True), ("/x/a/b/out", False)):
        assert went_to_provider(await log_out(guard, path)) is is_one


# An answer that deletes the session cookie


@pytest.mark.parametrize("status", [200, 203, 204])
@pytest.mark.parametrize("line", ["session=; Max-Age=0", 'session=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/'])
async def test_a_get_whose_answer_deletes_the_session_cookie_is_a_logout(status: int, line: str) -> None:
    """A page says "you are signed out", as in Django's admin up to 4.2. A page that asks first deletes nothing."""
    assert went_to_provider(await log_out(guarded(page(status, [("set-cookie", line)])), method="GET"))


@pytest.mark.parametrize(
    ("value", "is_one"),
    [('"cookies"', True), ('"*"', True), ('"cache" , "cookies"', True), ('"storage"', False), ("cookies", False)],
)
async def test_a_get_whose_answer_clears_all_cookies_is_a_logout(value: str, is_one: bool) -> None:
    """One that sets the session cookie all the same has its word (Clear Site Data, section 3.1)."""
    header = ("clear-site-data", value)
    assert went_to_provider(await log_out(guarded(page(200, [header])), method="GET")) is is_one
    sets = ("set-cookie", "session=another-session-0123")
    assert not went_to_provider(await log_out(guarded(page(200, [header, sets])), method="GET"))


@pytest.mark.parametrize(
    ("method", "status", "lines", "more"),
    [
        *[(method, 200, ["session=; Max-Age=0"], {}) for method in ("HEAD", "OPTIONS", "TRACE", "CONNECT")],
        *[(method, status, ["session=; Max-Age=0"], {}) for method in ("GET", "POST") for status in (400, 401)],
        ("GET", 200, ["theme=; Max-Age=0"], {}),
        ("GET", 200, ["session=0123456789"], {}),
        ("GET", 200, ["session=; Max-Age=0", "session=0123456789"], {}),
        ("GET", 200, ["session=; Max-Age=0"], {"path": "/other"}),
        ("GET", 200, ["session=; Max-Age=0"], {"marker": "0"}),
    ],
)
async def test_what_deletes_no_session_or_is_no_success_is_no_logout(
    method: str, status: int, lines: list[str], more: dict[str, str]
) -> None:
    marker = [(MARK, more["marker"])] if "marker" in more else []
    guard = guarded(page(status, [*(("set-cookie", line) for line in lines), *marker]))
    answer = await log_out(guard, more.get("path", "/logout"), method)
    assert (answer.status, answer.all("set-cookie")) == (status, lines)


async def test_a_get_that_empties_the_session_around_the_middleware_is_a_logout() -> None:
    async def leave(request: Request) -> Response:
        if "really" in request.query_params:
            request.session.clear()
        return PlainTextResponse("signed out")

    async def enter(request: Request) -> Response:
        request.session["user"] = "alice"
        return PlainTextResponse("signed in")

    inner = Starlette(routes=[Route("/login", enter), Route("/logout", leave)])
    app = SessionMiddleware(guarded(inner), secret_key="secret")
    browser = Browser(app)
    await browser.get("/login")
    assert (await browser.get("/logout")).body == b"signed out"
    assert went_to_provider(await browser.get("/logout?really"))


async def test_inertias_own_redirect_is_one() -> None:
    """Inertia redirects to another site by a 409; after new scripts, the same 409 only loads the page once more."""
    inertia = {"cookie": COOKIE, "x-inertia": "true", "accept": "text/html, application/xhtml+xml"}
    app = guarded(page(409, [("X-Inertia-Location", "http://127.0.0.1/bye")]))
    answer = await log_out(app, headers=inertia)
    assert (answer.status, "session" in answer.expired()) == (409, True)
    assert [value.partition(b"?")[0] for name, value in answer.headers if name == b"x-inertia-location"] == [
        END.encode()
    ]
    assert b"post_logout_redirect_uri=http%3A%2F%2F127.0.0.1%2Fbye" in dict(answer.headers)[b"x-inertia-location"]

    bare = page(409, [("X-Inertia-Location", "http://127.0.0.1/logout")])
    assert (await log_out(guarded(bare), method="GET", headers=inertia)).messages == (
        await log_out(bare, method="GET", headers=inertia)
    ).messages
    for status, method in ((409, "POST"), (200, "GET")):
        other = page(status, [("X-Inertia-Location", "/bye")] if status == 200 else [])
        answer = await log_out(guarded(other), method=method, headers=inertia)
        assert (answer.status, answer.expired()) == (status, set())


async def test_several_logout_paths_and_none() -> None:
    several = guarded(signs_out(), logout_path=["/a", "/b/c"])
    for path, is_one in (("/a", True), ("/b/c", True), ("/logout", False), ("/b", False)):
        assert went_to_provider(await log_out(several, path)) is is_one, path
    assert not went_to_provider(await log_out(guarded(signs_out(), logout_path=()), "/logout"))


# Where the application is mounted


@pytest.mark.parametrize(
    ("root_path", "path", "is_logout"),
    [
        ("/prefix", "/prefix/logout", True),
        ("/prefix", "/logout", True),  # servers that take the prefix off
        ("/", "//logout", True),  # uvicorn --root-path /
        ("/", "/logout", True),
        ("/prefix/", "/prefix//logout", True),
        ("/prefix/", "/prefix/logout", False),  # no Starlette application has a route for that
        ("/prefix", "/prefixlogout", False),
        ("/prefix", "/prefix/x/logout", False),
        ("/logout", "/logout", False),
    ],
)
async def test_the_path_is_the_route_path_below_root_path(root_path: str, path: str, is_logout: bool) -> None:
    answer = await log_out(guarded(signs_out()), path, root_path=root_path)
    assert went_to_provider(answer) is is_logout


@given(root=st.text("/ab"), path=st.text("/ab"))
def test_the_route_path_is_starlettes(root: str, path: str) -> None:
    """What the application does not take for its logout is none here, and the reverse."""
    for scope in ({"path": path, "root_path": root}, {"path": root + path, "root_path": root}, {"path": path}):
        assert route_path(scope) == get_route_path(scope)


def mounted(guard_inside: bool, path: str) -> Starlette:
    inner = Starlette(routes=[Route("/logout", lambda request: RedirectResponse("login", 303), methods=["POST"])])
    inside = guarded(inner, logout_path=path) if guard_inside else inner
    return Starlette(routes=[Mount("/tenant", app=Mount("/app", app=inside))])


async def test_a_middleware_inside_a_mount_sees_the_path_below_it() -> None:
    assert went_to_provider(await log_out(mounted(True, "/logout"), "/tenant/app/logout"))
    assert not went_to_provider(await log_out(mounted(True, "/tenant/app/logout"), "/tenant/app/logout"))


async def test_a_middleware_outside_keeps_the_path_that_mount_changes_in_place() -> None:
    """Mount rewrites path and root_path of the very scope that the middleware was given."""
    answer = await log_out(guarded(mounted(False, ""), logout_path="/tenant/app/logout"), "/tenant/app/logout")
    assert parameters(answer)["post_logout_redirect_uri"] == "http://127.0.0.1/tenant/app/login"


async def test_two_mounts_side_by_side_each_see_their_own_logout() -> None:
    routes = [Mount(f"/{name}", app=guarded(signs_out(), logout_path="/logout")) for name in ("one", "two")]
    for path in ("/one/logout", "/two/logout"):
        assert went_to_provider(await log_out(Starlette(routes=routes), path))


# The marker header


@pytest.mark.parametrize("value", ["", "1", "true", "TRUE", " true "])
@pytest.mark.parametrize("method", ["GET", *CHANGING])
async def test_the_marker_makes_a_logout_of_any_answer(method: str, value: str) -> None:
    assert went_to_provider(await log_out(guarded(page(200, [(MARK, value)])), "/anywhere", method))


@pytest.mark.parametrize(
    ("name", "in_list", "gone"), [("other", True, True), ("idp", True, True), ("nobody", False, False)]
)
async def test_the_marker_can_name_the_provider(name: str, in_list: bool, gone: bool, log: Log) -> None:
    """One that is unknown is said in the log; the logout here stays complete."""
    from asgi_rp_logout import StaticProvider

    providers = [StaticProvider(f"https://{one}.example/end", name=one) for one in ("idp", "other")]
    answer = await log_out(guarded(signs_out("/bye", (MARK, name)), providers=providers), "/anywhere")
    assert (answer.header("location") or "").startswith(f"https://{name}.example/end") is gone
    assert "session" in answer.expired()
    assert len(log()) == (0 if in_list else 1)


@pytest.mark.parametrize("value", ["local", "LOCAL", " local"])
async def test_the_marker_local_logs_out_here_only(value: str, log: Log) -> None:
    answer = await log_out(guarded(signs_out("/bye", (MARK, value))), "/anywhere")
    assert (answer.header("location"), "session" in answer.expired(), log()) == ("/bye", True, [])


async def test_the_marker_local_goes_before_the_path() -> None:
    assert not went_to_provider(await log_out(guarded(signs_out("/bye", (MARK, "local")))))
    assert went_to_provider(await log_out(guarded(signs_out("/bye"))))


@pytest.mark.parametrize("value", ["0", "false", "False"])
@pytest.mark.parametrize("path", ["/logout", "/anywhere"])
async def test_the_marker_can_say_that_this_was_no_logout(value: str, path: str, log: Log) -> None:
    """A form that is shown once more with its errors, say, at the logout path."""
    answer = await log_out(guarded(page(200, [(MARK, value)])), path)
    assert (answer.status, answer.all("set-cookie"), answer.all(MARK), log()) == (200, [], [], [])


@pytest.mark.parametrize(
    ("method", "status"),
    [(method, 200) for method in ("HEAD", "OPTIONS")] + [("POST", status) for status in (400, 401, 404, 500)],
)
async def test_the_marker_on_a_failure_head_or_options_is_no_logout(method: str, status: int) -> None:
    answer = await log_out(guarded(page(status, [(MARK, "1")])), "/anywhere", method)
    assert (answer.status, answer.all("set-cookie")) == (status, [])


@pytest.mark.parametrize("path", ["/logout", "/anywhere"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("status", [200, 204, 303, 304, 400, 404, 500])
@pytest.mark.parametrize("value", ["1", "local", "idp", "nobody", "x" * 50])
async def test_the_marker_is_stripped_from_every_response(path: str, method: str, status: int, value: str) -> None:
    """Whatever the status and however it is spelled."""
    app = page(status, [("X-Rp-Logout", value), (MARK, "1"), ("x-kept", "1")])
    answer = await log_out(guarded(app), path, method)
    assert answer.all(MARK) == []
    assert answer.header("x-kept") == "1"


async def test_the_marker_has_the_name_that_was_configured() -> None:
    guard = guarded(page(200, [("x-bye", "1")]), marker_header="X-Bye")
    assert went_to_provider(await log_out(guard, "/anywhere"))
    other = await log_out(guarded(page(200, [(MARK, "1")]), marker_header="X-Bye"), "/anywhere")
    assert (other.status, other.header(MARK)) == (200, "1")


@pytest.mark.parametrize("path", ["/logout", "/anywhere"])
async def test_without_a_marker_header_none_is_read_or_stripped(path: str) -> None:
    answer = await log_out(guarded(page(400, [(MARK, "1")]), marker_header=None), path)
    assert answer.header(MARK) == "1"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (LogoutIntent("idp"), LogoutIntent("idp")),
        (LogoutIntent(local=True), LogoutIntent(local=True)),
        (read_marker("0"), None),
        (None, LogoutIntent()),
    ],
)
def test_what_is_said_for_one_response_goes_before_the_path(said: Said | None, expected: LogoutIntent | None) -> None:
    assert detect(303, "POST", on_logout_path=True, said=said) == expected


def test_a_page_on_the_logout_path_is_no_logout_unless_it_is_said_to_end_the_session() -> None:
    assert detect(200, "GET", on_logout_path=True, said=None) is None
    assert detect(200, "GET", on_logout_path=True, said=None, ends_session=True) == LogoutIntent()


@pytest.mark.parametrize(("marker", "goes"), [("local", False), ("0", False), ("1", True)])
async def test_the_header_goes_before_the_decorator(marker: str, goes: bool) -> None:
    @rp_logout
    async def endpoint(request: Request) -> Response:
        return RedirectResponse("/login", 303, {MARK: marker})

    @local_logout_only
    async def here_only(request: Request) -> Response:
        return RedirectResponse("/login", 303, {MARK: "1"})

    routes = [Route("/out", endpoint, methods=["POST"]), Route("/here", here_only, methods=["POST"])]
    assert went_to_provider(await log_out(guarded(Starlette(routes=routes)), "/out")) is goes
    assert went_to_provider(await log_out(guarded(Starlette(routes=routes)), "/here"))
