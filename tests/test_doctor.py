"""The doctor: a healthy set-up has no finding, and each broken one has exactly its own."""

from __future__ import annotations

import io
import json
import os
import re
import textwrap
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import pytest
from authlib.integrations.starlette_client import OAuth
from fastapi import FastAPI
from key_value.aio.stores.memory import MemoryStore as SharedStore
from key_value.aio.stores.redis import RedisStore
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from asgi_rp_logout import (
    AuthlibProvider,
    Cookie,
    OIDCProvider,
    RPLogoutMiddleware,
    StaticProvider,
    TokenRelay,
    presets,
)
from asgi_rp_logout.doctor import configuration, examine, registration
from asgi_rp_logout.doctor.findings import CATALOGUE, LEVELS, UNREACHABLE, found
from asgi_rp_logout.doctor.report import as_json, write_text
from asgi_rp_logout.doctor.search import middlewares_of
from asgi_rp_logout.doctor.vendors import STANDARD, VENDORS, vendor_of
from demo.provider import Client, create_provider
from tests.conftest import Certificate, Serve, UnusedPort
from tests.places import ServerSideSessions
from tests.stub_provider import StubProvider
from tests.test_docs import blocks
from tests.test_end_logins_command import command

ROOT = Path(__file__).parent.parent
APP = "http://localhost:8000"
SECRET = "hunter2-the-secret"


async def nothing(request: Request) -> Response:
    return PlainTextResponse("nothing")


def options(*providers: Any, **changed: Any) -> dict[str, Any]:
    """Give options with which nothing is wrong."""
    given = {"providers": list(providers), "post_logout_redirect_uri": "/", "backchannel_path": "/backchannel-logout"}
    return {name: value for name, value in (given | {"store": SharedStore()} | changed).items() if value is not ...}


def inside(*providers: Any, session: dict[str, Any] | None = None, **changed: Any) -> ASGIApp:
    """Give an app whose middleware is inside of its session middleware, as in the README."""
    app = FastAPI()
    app.add_middleware(RPLogoutMiddleware, **options(*providers, **changed))
    app.add_middleware(SessionMiddleware, secret_key=SECRET, **(session or {}))
    return app


async def ids(app: object, url: str | None = APP, *, notes: bool = True) -> list[str]:
    """Give the ids of what the doctor finds, the worst first."""
    findings = (await examine.examine_app(app, url)).in_order()
    return [one.id for one in findings if notes or one.level != "note"]


@pytest.fixture
def issuer(serve: Serve, unused_port: UnusedPort) -> str:
    """A provider that knows `dashboard` at APP, and the issuer of it."""
    port = unused_port()
    client = Client("dashboard", SECRET, [f"{APP}/callback"], [f"{APP}/"], f"{APP}/backchannel-logout")
    issuer = f"http://127.0.0.1:{port}"
    serve(create_provider(issuer, [client], {"alice": "wonderland"}), port=port)
    return issuer


def authlib(base: str, **changed: Any) -> AuthlibProvider:
    """Give a provider over a client that is registered with Authlib by the URL of the document."""
    oauth = OAuth()
    given = {"client_id": "dashboard", "client_secret": SECRET, "client_kwargs": {"scope": "openid"}}
    address = f"{base}/.well-known/openid-configuration"
    return AuthlibProvider(oauth.register("keycloak", server_metadata_url=address, **(given | changed)))


class Faulty(StubProvider):
    """A provider with faults: ``document`` changes its metadata, ``answer`` is what its end-session endpoint does."""

    def __init__(self, issuer: str, **document: Any) -> None:
        super().__init__(issuer, client_id="dashboard")
        supported = {"backchannel_logout_supported": True, "backchannel_logout_session_supported": True}
        self.document: dict[str, Any] = supported | document
        self.headers: dict[str, str] = {}
        self.answer: Callable[[Request], Response] = self.comes_back
        self.asked: list[Request] = []
        self.app.router.routes.append(Route("/{path:path}", self.end_session))

    async def _discovery(self, request: Request) -> Response:
        document = json.loads(bytes((await super()._discovery(request)).body)) | self.document
        return JSONResponse({name: value for name, value in document.items() if value is not ...}, headers=self.headers)

    async def end_session(self, request: Request) -> Response:
        self.asked.append(request)
        return self.answer(request)

    @staticmethod
    def comes_back(request: Request) -> Response:
        """Come back to any address on localhost, as if all of them were registered."""
        target = request.query_params.get("post_logout_redirect_uri", "/bye")
        return PlainTextResponse("no", 400) if ".invalid" in target else RedirectResponse(f"{target}?state=x", 303)


@pytest.fixture
def faulty(serve: Serve, unused_port: UnusedPort) -> Faulty:
    return serve_faulty(serve, unused_port)


@pytest.fixture
def another(serve: Serve, unused_port: UnusedPort) -> Faulty:
    """A second provider beside `faulty`."""
    return serve_faulty(serve, unused_port)


def serve_faulty(serve: Serve, unused_port: UnusedPort) -> Faulty:
    port = unused_port()
    provider = Faulty(f"http://127.0.0.1:{port}/")
    serve(provider.app, port=port, date_header=False)
    return provider


def at(faulty: Faulty, **changed: Any) -> OIDCProvider:
    return OIDCProvider(faulty.issuer, "dashboard", SECRET, **changed)


# A healthy set-up


async def test_a_healthy_set_up_has_no_finding(issuer: str) -> None:
    report = await examine.examine_app(inside(authlib(issuer)), APP)
    assert report.findings == []
    assert report.status == 0
    assert report.examined == ["RPLogoutMiddleware, provider keycloak"]
    assert report.confirmed == [f"Provider keycloak knows the client, and comes back to {APP}/"]
    ((subject, addresses),) = report.addresses
    assert subject == "provider keycloak"
    assert {one.kind: one.url for one in addresses} == {
        "redirect": None,
        "post_logout": f"{APP}/",
        "back_channel": f"{APP}/backchannel-logout",
    }


async def test_so_has_a_faulty_provider_without_a_fault(faulty: Faulty) -> None:
    """The control of those below."""
    assert await ids(inside(at(faulty))) == []


# Six broken ones, each with exactly its findings

BROKEN: dict[str, tuple[Callable[[str], ASGIApp], str, list[str]]] = {
    "a mistyped realm": (lambda issuer: inside(authlib(f"{issuer}/realms/acme")), APP, ["discovery.not_found"]),
    "the address of another environment": (
        lambda issuer: inside(authlib(issuer)),
        "http://localhost:9000",
        ["registration.post_logout_uri"],
    ),
    "another client": (lambda issuer: inside(authlib(issuer, client_id="dashbord")), APP, ["registration.client"]),
    "a signed session inside, under another name": (
        lambda issuer: RPLogoutMiddleware(
            SessionMiddleware(Starlette(), SECRET, session_cookie="sid"), **options(authlib(issuer))
        ),
        APP,
        ["session.other_cookie", "placement.outside"],
    ),
    "the wrong algorithm": (
        lambda issuer: inside(OIDCProvider(issuer, "dashboard", algorithm="ES256")),
        APP,
        ["keys.algorithm"],
    ),
    "no openid in the scope": (
        lambda issuer: inside(authlib(issuer, client_kwargs={"scope": "profile"})),
        APP,
        ["client.no_openid"],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_set_up_has_exactly_its_findings(issuer: str, name: str) -> None:
    make, url, expected = BROKEN[name]
    assert await ids(make(issuer), url) == expected


# The app, and its middleware


@pytest.mark.parametrize("app", [Starlette(), FastAPI(), nothing, lambda scope: nothing], ids=str)
async def test_an_app_without_the_middleware(app: object) -> None:
    assert await ids(app) == ["app.no_middleware"]


async def test_options_that_are_refused() -> None:
    app = FastAPI()
    app.add_middleware(RPLogoutMiddleware, providers=[StaticProvider("https://id.example.com/bye")], logout_path="bye")
    (finding,) = (await examine.examine_app(app, APP)).findings
    assert finding.id == "app.configuration"
    assert "logout_path='bye': expected a path such as '/logout'" in finding.sentence


def wrapped_everywhere() -> dict[str, Callable[[dict[str, Any]], object]]:
    def in_a_closure(given: dict[str, Any]) -> object:
        inner = RPLogoutMiddleware(Starlette(), **given)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await inner(scope, receive, send)

        return app

    def in_quart(given: dict[str, Any]) -> object:
        from quart import Quart

        app = Quart("app")
        quart: Any = app
        quart.asgi_app = RPLogoutMiddleware(quart.asgi_app, **given)
        return app

    def in_litestar(given: dict[str, Any]) -> object:
        from litestar import Litestar
        from litestar.middleware import DefineMiddleware

        middleware: Any = RPLogoutMiddleware
        return Litestar([], middleware=[DefineMiddleware(middleware, **given)], openapi_config=None)

    def built(given: dict[str, Any]) -> object:
        app = Starlette(middleware=[Middleware(RPLogoutMiddleware, **given)])
        app.middleware_stack = app.build_middleware_stack()
        return app

    return {
        "the app itself": lambda given: RPLogoutMiddleware(Starlette(), **given),
        "wrapped": lambda given: ServerSideSessions(RPLogoutMiddleware(Starlette(), **given), {}, "session"),
        "listed": lambda given: Starlette(middleware=[Middleware(RPLogoutMiddleware, **given)]),
        "built": built,
        "mounted": lambda given: Starlette(routes=[Mount("/app", RPLogoutMiddleware(Starlette(), **given))]),
        "a bound method": lambda given: RPLogoutMiddleware(Starlette(), **given).__call__,
        "in a closure": in_a_closure,
        "in Quart": in_quart,
        "in Litestar": in_litestar,
    }


@pytest.mark.parametrize("how", wrapped_everywhere())
async def test_the_middleware_is_found(how: str) -> None:
    """And found once, with the options that it has."""
    given = options(StaticProvider("https://id.example.com/bye", client_id="dashboard"), backchannel_path=...)
    (located,) = middlewares_of(wrapped_everywhere()[how](given))
    assert located.options is not None
    assert (located.options.store, located.place.per_route) == (given["store"], False)


async def test_two_apps_under_one_are_both_looked_at(issuer: str) -> None:
    app = Starlette(routes=[Mount("/a", inside(authlib(issuer))), Mount("/b", inside(authlib(f"{issuer}/realms/b")))])
    report = await examine.examine_app(app, APP)
    assert report.examined == [f"RPLogoutMiddleware {number}, provider keycloak" for number in (1, 2)]
    assert [one.id for one in report.findings] == ["discovery.not_found"]


async def test_nothing_of_the_app_is_called() -> None:
    """No property, no method, no constructor of its middlewares, but the one of our own."""

    class Touchy:
        def __init__(self, app: object) -> None:
            raise AssertionError("constructed")

        @property
        def secret(self) -> str:
            raise AssertionError("asked")

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared")

        __hash__ = None  # type: ignore[assignment]

        async def __call__(self, *args: Any) -> None:
            raise AssertionError("called")

    app = Starlette(routes=[Mount("/x", object.__new__(Touchy))], middleware=[Middleware(Touchy)])
    app.state.touchy = object.__new__(Touchy)
    assert middlewares_of(app) == []


async def test_a_middleware_around_one_route(faulty: Faulty) -> None:
    middleware = [Middleware(RPLogoutMiddleware, **options(at(faulty)))]
    app = Starlette(routes=[Route("/logout", nothing, methods=["POST"], middleware=middleware)])
    assert await ids(app) == ["placement.per_route"]


@pytest.mark.parametrize("order", ["inside", "outside"])
async def test_the_place_of_a_listed_middleware(faulty: Faulty, order: str) -> None:
    ours, sessions = Middleware(RPLogoutMiddleware, **options(at(faulty))), Middleware(SessionMiddleware, SECRET)
    app = Starlette(middleware=[sessions, ours] if order == "inside" else [ours, sessions])
    expected = [] if order == "inside" else ["placement.outside"]
    assert await ids(app) == expected
    app.middleware_stack = app.build_middleware_stack()
    assert await ids(app) == expected


async def test_a_session_around_may_have_any_name(faulty: Faulty) -> None:
    """It is not taken for one inside, although FastAPI's routes refer back to their app."""
    app = FastAPI()
    app.add_api_route("/", nothing)
    app.add_middleware(RPLogoutMiddleware, **options(at(faulty)))
    app.add_middleware(SessionMiddleware, secret_key=SECRET, session_cookie="sid")
    assert await ids(app) == []
    app.middleware_stack = app.build_middleware_stack()
    assert await ids(app) == []
    assert await ids(SessionMiddleware(RPLogoutMiddleware(FastAPI(), **options(at(faulty))), SECRET, "sid")) == []


# Cookies and sessions


async def test_a_second_session_is_only_a_note(faulty: Faulty) -> None:
    """Such as the one in which Authlib keeps the state of a login, or that of an admin page with its own users."""
    states = SessionMiddleware(Starlette(), SECRET, session_cookie="state")
    declared = RPLogoutMiddleware(states, **options(at(faulty), session_cookie="token"))
    assert await ids(declared, "https://app.example.com") == ["session.second_cookie"]
    app = FastAPI()
    app.mount("/admin", SessionMiddleware(Starlette(), SECRET, session_cookie="admin"))
    app.add_middleware(RPLogoutMiddleware, **options(at(faulty)))
    app.add_middleware(SessionMiddleware, secret_key=SECRET)
    assert await ids(app) == ["session.second_cookie"]
    states.app = SessionMiddleware(Starlette(), SECRET, session_cookie="token", https_only=True)
    assert await ids(declared, "https://app.example.com") == ["placement.outside", "session.second_cookie"]


@pytest.mark.parametrize(
    ("session", "changed", "expected"),
    [
        ({}, {}, ["session.not_secure"]),
        ({"https_only": True}, {}, []),
        ({"https_only": True, "max_age": 15 * 24 * 3600}, {}, ["session.outlives"]),
        ({"https_only": True, "max_age": 15 * 24 * 3600}, {"session_lifetime": 15 * 24 * 3600}, []),
        ({"https_only": True, "max_age": None}, {}, ["session.outlives"]),
    ],
)
async def test_the_session_cookie(
    faulty: Faulty, session: dict[str, Any], changed: dict[str, Any], expected: list[str]
) -> None:
    url = "https://app.example.com"
    assert await ids(inside(at(faulty), session=session, **changed), url) == expected
    built = SessionMiddleware(RPLogoutMiddleware(Starlette(), **options(at(faulty), **changed)), SECRET, **session)
    assert await ids(built, url) == expected


@pytest.mark.parametrize(
    "cookie",
    ["__Host-session", "__Secure-session", Cookie("s", partitioned=True), Cookie("s", samesite="none")],
    ids=str,
)
async def test_a_cookie_that_needs_https(faulty: Faulty, cookie: Any) -> None:
    app = RPLogoutMiddleware(Starlette(), **options(at(faulty), session_cookie=cookie))
    assert await ids(app, "http://app.example.com") == ["cookies.need_https", "url.not_https"]
    assert await ids(app, "https://app.example.com") == await ids(app, APP) == []


async def test_a_plain_cookie_over_http(faulty: Faulty) -> None:
    assert await ids(inside(at(faulty)), "http://app.example.com") == ["url.not_https"]


# Addresses


async def test_without_an_address_the_provider_is_not_asked(faulty: Faulty) -> None:
    assert await ids(inside(at(faulty)), None) == ["url.unknown"]
    assert faulty.asked == []


async def test_public_url_takes_precedence(faulty: Faulty) -> None:
    assert await ids(inside(at(faulty), public_url=APP), None) == []
    assert await ids(inside(at(faulty), public_url=APP), "http://localhost:9000") == ["url.differs"]
    asked = {one.query_params["post_logout_redirect_uri"] for one in faulty.asked}
    assert asked == {f"{APP}/", registration.INVENTED}


async def test_a_callback_path_is_the_address_to_return_to(faulty: Faulty) -> None:
    app = inside(at(faulty), callback_path="/signed-out", post_logout_redirect_uri=None)
    assert await ids(app, f"{APP}/prefix") == []
    assert faulty.asked[0].query_params["post_logout_redirect_uri"] == f"{APP}/prefix/signed-out"


async def test_the_apps_own_target_is_not_known(faulty: Faulty) -> None:
    assert await ids(inside(at(faulty), post_logout_redirect_uri=None)) == ["return.unknown"]


# The store


async def test_a_memory_store_is_for_one_worker(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    app = inside(at(faulty), store=...)
    assert await ids(app) == ["store.memory"]
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    assert await ids(app) == ["store.not_shared"]
    assert await ids(inside(at(faulty))) == []


@pytest.mark.parametrize(
    ("environment", "workers"),
    [
        ({}, 1),
        ({"WEB_CONCURRENCY": "3"}, 3),
        ({"UVICORN_WORKERS": "2"}, 2),
        ({"GRANIAN_WORKERS": "2"}, 2),
        ({"GUNICORN_CMD_ARGS": "--bind=:80 --workers=5"}, 5),
        ({"GUNICORN_CMD_ARGS": "-w 6"}, 6),
        ({"WEB_CONCURRENCY": "many"}, 1),
    ],
)
def test_the_environment_tells_how_many_workers(environment: dict[str, str], workers: int) -> None:
    assert configuration.workers_of(environment) == workers


class TalkativeStore(SharedStore):
    """A store whose errors say too much."""

    async def get(self, *args: Any, **options: Any) -> Any:
        raise RuntimeError(f"cannot connect to ops:{SECRET}@127.0.0.1")


@pytest.mark.slow
async def test_a_store_that_is_down_shows_no_password(faulty: Faulty, free_port: int) -> None:
    for store in (RedisStore(url=f"redis://ops:{SECRET}@127.0.0.1:{free_port}/0"), TalkativeStore()):
        (finding,) = (await examine.examine_app(inside(at(faulty), store=store), APP)).findings
        assert finding.id == "store.unreachable"
        assert SECRET not in str(finding)


# The providers


@pytest.mark.parametrize("listed", [list, lambda: 1 / 0])
async def test_a_function_that_lists_no_provider(listed: Callable[[], Any]) -> None:
    assert await ids(inside(providers=listed)) == ["providers.none"]


async def test_a_provider_of_the_apps_own(faulty: Faulty) -> None:
    class Own:
        name, client_id = "own", "dashboard"

        def get_end_session_url(self) -> str:
            return f"{faulty.issuer}end_session"

    assert await ids(inside(Own(), backchannel_path=...)) == ["provider.opaque"]
    assert [dict(one.query_params) for one in faulty.asked] == [
        {"client_id": "dashboard", "post_logout_redirect_uri": uri} for uri in (f"{APP}/", registration.INVENTED)
    ]


async def test_a_client_that_is_registered_later() -> None:
    class Proxy:
        """As werkzeug's LocalProxy, outside of an application context."""

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("Working outside of application context.")

    assert await ids(inside(AuthlibProvider(Proxy()))) == ["provider.late"]


async def test_a_provider_that_raises() -> None:
    class Raises:
        def get_end_session_url(self) -> str:
            raise RuntimeError(SECRET)

    report = await examine.examine_app(inside(Raises(), backchannel_path=...), APP)
    assert [one.id for one in report.in_order()] == ["metadata.endpoint", "provider.opaque"]
    assert SECRET not in as_json(report)


async def test_a_provider_that_raises_when_it_is_asked_again(faulty: Faulty) -> None:
    """About an address that is not registered, or for the list of providers."""

    class Raises:
        name, client_id = "own", "dashboard"

        def get_end_session_url(self, post_logout_redirect_uri: str) -> str:
            if post_logout_redirect_uri != f"{APP}/":
                raise ValueError(SECRET)
            return f"{faulty.issuer}end_session?post_logout_redirect_uri={APP}/"

    report = await examine.examine_app(inside(Raises(), backchannel_path=...), APP)
    assert [one.id for one in report.findings] == ["provider.opaque", "registration.unknown"]
    assert SECRET not in as_json(report)
    asked_silently(faulty, login_required)
    lists = iter([[at(faulty, silent_hint=True)]])
    assert await ids(inside(**{"providers": lambda: next(lists), **SILENT})) == ["providers.none"]


async def test_a_provider_without_a_client_id(faulty: Faulty) -> None:
    provider = StaticProvider(f"{faulty.issuer}end_session")
    assert await ids(inside(provider, backchannel_path=...), notes=False) == ["client.no_id"]


async def test_a_provider_whose_parameters_drop_the_client_id(faulty: Faulty) -> None:
    """To set one would change nothing."""
    provider = StaticProvider(f"{faulty.issuer}end_session", parameters={"client_id": None})
    assert await ids(inside(provider, backchannel_path=...), notes=False) == []


async def test_a_provider_that_has_no_logout_and_is_known_for_it() -> None:
    report = await examine.examine_app(inside(presets.local_only("github"), backchannel_path=...), APP)
    assert report.findings == []
    assert report.confirmed == ["Provider github has no logout, as is declared (local_only): its logins end here only"]
    ((_, addresses),) = report.addresses
    assert [one.kind for one in addresses] == ["redirect"]


async def test_the_report_says_where_an_end_session_endpoint_is_missing(faulty: Faulty) -> None:
    faulty.document["end_session_endpoint"] = ...
    oauth = OAuth()
    given = {"authorize_url": f"{faulty.issuer}authorize", "client_kwargs": {"scope": "openid"}}
    registered = AuthlibProvider(oauth.register("registered", client_id="dashboard", **given))
    report = await examine.examine_app(inside(at(faulty), registered), APP)
    why = {one.subject: one.sentence for one in report.findings if one.id == "metadata.no_end_session"}
    assert why[f"provider {faulty.issuer}"].startswith(f"{faulty.issuer}.well-known/openid-configuration names no end")
    assert why["provider registered"].startswith("Its registration with Authlib names no end_session_endpoint")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (presets.hydra, "a logout ends the session here and not there"),
        (lambda issuer, client: presets.oracle(issuer, client, tenant=issuer), "its logout tokens are refused"),
    ],
)
async def test_the_report_says_what_follows_from_a_document_that_cannot_be_read(
    faulty: Faulty, make: Callable[..., Any], expected: str
) -> None:
    """Some presets know the end-session endpoint without it."""
    faulty.issuer_in_document = "https://other.example.com"
    (finding,) = (await examine.examine_app(inside(make(faulty.issuer, "dashboard")), APP)).findings
    assert (finding.id, f", so {expected}." in finding.sentence) == ("discovery.issuer", True)
    missing = make(f"{faulty.issuer}other", "dashboard")
    faulty.answer = page(404)
    (finding,) = (await examine.examine_app(inside(missing), APP)).findings
    assert (finding.id, f", so {expected}: " in finding.sentence) == ("discovery.not_found", True)


async def test_an_object_of_the_app_may_have_no_url() -> None:
    class Own:
        name = "own"

        def get_end_session_url(self) -> None:
            return None

    assert await ids(inside(Own(), backchannel_path=...)) == ["provider.opaque", "provider.no_url"]


async def test_an_entry_that_is_no_provider_is_reported_with_its_reason(faulty: Faulty) -> None:
    """Another kind of sign-in is none of our business, and a name given twice is a mistake."""

    class Password:
        name = "password"

    listed: dict[str, Any] = {"providers": lambda: [at(faulty), Password(), at(faulty)]}
    report = await examine.examine_app(inside(**listed), APP)
    why = {one.id: one for one in report.findings}
    assert list(why) == ["provider.other_kind", "provider.unusable"]
    assert why["provider.other_kind"].subject == "provider password"
    assert f"name {faulty.issuer!r} is given twice: expected unique names" in why["provider.unusable"].sentence
    assert len(report.addresses) == 1


async def test_a_vendor_that_needs_its_preset() -> None:
    """Its own document advertises an endpoint that refuses the standard parameters."""
    stub = Faulty("https://cognito-idp.eu-west-1.amazonaws.com/")
    app = inside(at(stub), http_client=stub.client())
    assert await ids(app) == ["provider.deviates"]
    assert stub.asked == []
    renamed = at(stub, parameters={"post_logout_redirect_uri": "logout_uri", "id_token_hint": None})
    assert await ids(inside(renamed, http_client=stub.client())) == ["registration.unknown"]


# Discovery, metadata, clock, keys


async def test_a_provider_that_is_not_there(free_port: int) -> None:
    assert await ids(inside(OIDCProvider(f"http://127.0.0.1:{free_port}", "dashboard"))) == ["discovery.unreachable"]


async def test_a_certificate_that_is_not_trusted(
    serve: Serve, unused_port: UnusedPort, certificate: Certificate
) -> None:
    port = unused_port()
    stub = Faulty(f"https://127.0.0.1:{port}/")
    serve(stub.app, port=port, certificate=certificate)
    assert await ids(inside(at(stub))) == ["discovery.tls"]


@pytest.mark.parametrize("status", [404, 503])
async def test_a_provider_that_is_down_is_not_a_mistyped_issuer(faulty: Faulty, status: int) -> None:
    faulty.answer = page(status)
    report = await examine.examine_app(inside(OIDCProvider(f"{faulty.issuer}realms/acme", "dashboard")), APP)
    expected = {404: (["discovery.not_found"], 2), 503: (["discovery.unreachable"], 3)}
    assert ([one.id for one in report.findings], report.status) == expected[status]


async def test_the_exit_status_tells_what_is_wrong_from_what_was_not_reached(faulty: Faulty, free_port: int) -> None:
    down = OIDCProvider(f"http://127.0.0.1:{free_port}", "dashboard")

    async def status(*providers: Any, url: str = APP, **changed: Any) -> int:
        return (await examine.examine_app(inside(*providers, **changed), url)).status

    assert await status(at(faulty)) == 0
    assert await status(at(faulty), url="http://app.example.com") == 1
    assert await status(down, url="http://app.example.com") == 3
    assert await status(down, store=TalkativeStore()) == 3
    assert await status(down, at(faulty, algorithm="ES384")) == 2


async def test_a_page_that_is_no_document(faulty: Faulty) -> None:
    provider = OIDCProvider(faulty.issuer + "other", "dashboard")
    faulty.answer = lambda request: HTMLResponse("<h1>Welcome</h1>")
    assert await ids(inside(provider)) == ["discovery.not_found"]


@pytest.mark.parametrize("how", ["oidc", "authlib"])
async def test_a_document_of_another_issuer(faulty: Faulty, how: str) -> None:
    faulty.issuer_in_document = faulty.issuer.rstrip("/")
    registered = authlib(faulty.issuer.rstrip("/"), issuer=faulty.issuer)
    assert await ids(inside(at(faulty) if how == "oidc" else registered)) == ["discovery.issuer"]


@pytest.mark.parametrize(
    ("seconds", "age", "expected"),
    [(120, None, ["clock.skew"]), (-120, None, ["clock.skew"]), (20, None, []), (-120, "120", [])],
)
async def test_clocks_that_are_apart(faulty: Faulty, seconds: int, age: str | None, expected: list[str]) -> None:
    faulty.headers = {"date": formatdate(time.time() + seconds, usegmt=True)} | ({"age": age} if age else {})
    assert await ids(inside(at(faulty))) == expected


@pytest.mark.parametrize("date", ["yesterday", "Thu, 99 Nov 2026 09:33:41 GMT"])
async def test_a_date_that_is_none_tells_nothing(faulty: Faulty, date: str) -> None:
    faulty.headers = {"date": date}
    assert await ids(inside(at(faulty))) == []


FRONT: dict[str, Any] = {"frontchannel_path": "/frontchannel-logout"}


@pytest.mark.parametrize(
    ("document", "changed", "expected"),
    [
        ({"end_session_endpoint": ...}, {}, ["metadata.no_end_session"]),
        ({"end_session_endpoint": "http://keycloak:8080/bye"}, {}, ["metadata.endpoint"]),
        ({"backchannel_logout_supported": ...}, {}, ["backchannel.no_caller", "metadata.no_back_channel"]),
        ({"backchannel_logout_supported": ...}, {"backchannel_path": None}, []),
        ({}, {"backchannel_path": None}, ["metadata.back_channel_unused"]),
        ({}, FRONT, ["frontchannel.no_caller", "metadata.no_front_channel"]),
        (
            {"frontchannel_logout_supported": True},
            FRONT,
            ["frontchannel.no_caller", "metadata.front_channel_without_session"],
        ),
        ({"frontchannel_logout_supported": True}, FRONT | {"frontchannel_session_required": False}, []),
        ({"frontchannel_logout_supported": True, "frontchannel_logout_session_supported": True}, FRONT, []),
    ],
)
async def test_what_the_metadata_offers(
    faulty: Faulty, document: dict[str, Any], changed: dict[str, Any], expected: list[str]
) -> None:
    faulty.document |= document
    assert await ids(inside(at(faulty), **changed)) == expected


async def test_what_one_of_several_providers_lacks_is_a_note(faulty: Faulty, another: Faulty) -> None:
    """Nothing can be done about it: the others call the endpoint."""
    app = inside(at(faulty), at(another), **FRONT)
    lacks = {"backchannel_logout_supported": ...}
    shows = {"frontchannel_logout_supported": True, "frontchannel_logout_session_supported": True}
    faulty.document |= shows
    another.document |= lacks
    report = await examine.examine_app(app, APP)
    assert [(one.id, one.subject) for one in report.in_order()] == [
        ("metadata.no_back_channel", f"provider {another.issuer}"),
        ("metadata.no_front_channel", f"provider {another.issuer}"),
    ]
    assert report.status == 0
    faulty.document |= lacks
    assert await ids(app, notes=False) == ["backchannel.no_caller"]
    another.document |= {"frontchannel_logout_supported": True}
    faulty.document["frontchannel_logout_session_supported"] = ...
    assert await ids(app, notes=False) == ["backchannel.no_caller", "frontchannel.no_caller"]


async def test_a_provider_of_which_little_is_known_may_call(faulty: Faulty, free_port: int) -> None:
    """Its metadata cannot be read, or it has none."""

    class Own:
        name, client_id, issuer = "own", "dashboard", "https://own.example.com"

        def get_end_session_url(self) -> str:
            return f"{faulty.issuer}end_session"

        async def verify_logout_token(self, token: str, now: float) -> object:
            raise NotImplementedError

    faulty.document["backchannel_logout_supported"] = ...
    silent, down = at(faulty), OIDCProvider(f"http://127.0.0.1:{free_port}", "dashboard")
    assert await ids(inside(silent, Own(), **FRONT), notes=False) == []
    reserved = Own()
    reserved.name = "local"
    listed: dict[str, Any] = {"providers": lambda: [silent, reserved]}
    assert await ids(inside(**listed), notes=False) == ["provider.unusable"]
    assert await ids(inside(silent, down, **FRONT), notes=False) == ["discovery.unreachable"]
    local = presets.local_only("github", issuer="https://github.com")
    assert await ids(inside(silent, local, **FRONT), notes=False) == ["backchannel.no_caller", "frontchannel.no_caller"]


async def test_revocation_without_an_endpoint(faulty: Faulty) -> None:
    app = inside(at(faulty, revoke="refresh_token"))
    assert await ids(app) == ["metadata.no_revocation"]
    faulty.document["revocation_endpoint"] = "http://keycloak:8080/revoke"
    assert await ids(inside(at(faulty, revoke="refresh_token"))) == ["metadata.no_revocation"]
    faulty.document["revocation_endpoint"] = faulty.issuer + "revoke"
    assert await ids(inside(at(faulty, revoke="refresh_token"))) == []


async def test_a_revocation_endpoint_may_be_in_the_oauth_metadata(faulty: Faulty) -> None:
    """A logout looks there too (RFC 8414)."""
    named = {"issuer": faulty.issuer, "revocation_endpoint": f"{faulty.issuer}revoke"}
    oauth = "/.well-known/oauth-authorization-server"
    faulty.answer = lambda one: JSONResponse(named) if one.url.path == oauth else Faulty.comes_back(one)
    assert await ids(inside(at(faulty, revoke="refresh_token"))) == []


async def test_keys(faulty: Faulty, free_port: int) -> None:
    assert await ids(inside(at(faulty, algorithm="HS256"))) == []
    faulty.document["id_token_signing_alg_values_supported"] = ["ES256"]
    assert await ids(inside(at(faulty))) == ["keys.algorithm"]
    faulty.document["id_token_signing_alg_values_supported"] = ["RS256"]
    faulty.keys = []
    assert await ids(inside(at(faulty))) == ["keys.none"]
    faulty.status = 503
    assert await ids(inside(at(faulty))) == ["keys.unreadable"]
    faulty.document["jwks_uri"] = f"http://127.0.0.1:{free_port}/jwks"
    assert await ids(inside(at(faulty))) == ["keys.unreachable"]
    assert await ids(inside(at(faulty), backchannel_path=None)) == ["metadata.back_channel_unused"]


async def test_an_id_token_that_makes_the_url_too_long(faulty: Faulty) -> None:
    long = {"extra": {"theme": "x" * 2500}}
    assert await ids(inside(at(faulty, **long))) == ["hint.too_long"]
    assert await ids(inside(at(faulty, post=True, **long))) == []


# What the provider answers to a logout of nobody


def page(status: int = 200, text: str = "<h1>A page</h1>") -> Callable[[Request], Response]:
    return lambda request: HTMLResponse(text, status)


def refuses(what: str) -> Callable[[Request], Response]:
    return lambda request: HTMLResponse("Invalid", 400) if what in request.query_params else HTMLResponse("Bye")


def hops(request: Request) -> Response:
    """Redirect within the provider first, as some do to set a cookie."""
    if request.url.path == "/end_session":
        return RedirectResponse(f"/confirm?{request.url.query}")
    return Faulty.comes_back(request)


def anywhere(request: Request) -> Response:
    return RedirectResponse(request.query_params["post_logout_redirect_uri"] + "?state=x")


def asks(request: Request) -> Response:
    """Ask whoever is there, if the address is registered; as node-oidc-provider does."""
    return page(200 if request.query_params["post_logout_redirect_uri"] == f"{APP}/" else 400)(request)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (hops, []),
        (asks, []),
        (anywhere, ["registration.anywhere"]),
        (page(400), ["registration.client"]),
        (refuses("post_logout_redirect_uri"), ["registration.post_logout_uri"]),
        (page(), ["registration.unknown"]),
        (page(503), ["registration.unknown"]),
        (lambda request: page(400 if ".invalid" in str(request.url) else 503)(request), ["registration.unknown"]),
        (page(400, "missing id_token_hint"), ["registration.unknown"]),
        (lambda request: RedirectResponse("https://evil.example/"), ["registration.unknown"]),
        (lambda request: RedirectResponse("/round"), ["registration.unknown"]),
        (lambda request: RedirectResponse(f"{APP}/other"), ["registration.unknown"]),
    ],
    ids=[
        "hops",
        "asks",
        "anywhere",
        "client",
        "uri",
        "page",
        "down",
        "down if registered",
        "hint",
        "elsewhere",
        "loop",
        "another page",
    ],
)
async def test_what_the_provider_answers(
    faulty: Faulty, answer: Callable[[Request], Response], expected: list[str]
) -> None:
    faulty.answer = answer
    assert await ids(inside(at(faulty))) == expected
    assert len(faulty.asked) <= 2 * registration.MOST_REDIRECTS
    assert all("cookie" not in one.headers for one in faulty.asked)


async def test_an_end_session_endpoint_that_is_down(faulty: Faulty, free_port: int) -> None:
    faulty.document["end_session_endpoint"] = f"http://127.0.0.1:{free_port}/bye"
    assert await ids(inside(at(faulty))) == ["endpoint.unreachable"]


@pytest.mark.parametrize(
    "make", [presets.hydra, presets.franceconnect], ids=["nothing is sent without a token", "nothing at all"]
)
async def test_a_provider_that_takes_no_logout_without_an_id_token(faulty: Faulty, make: Callable[..., Any]) -> None:
    assert await ids(inside(make(faulty.issuer, "dashboard"))) == ["registration.unknown"]
    assert faulty.asked == []


# An ID Token fetched at logout

SILENT: dict[str, Any] = {"callback_path": "/auth/signed-out", "post_logout_redirect_uri": None}


def asked_silently(faulty: Faulty, answer: Callable[[Request], Response]) -> None:
    """Let the provider answer so at its authorization endpoint, and come back at its end-session endpoint."""
    faulty.document["authorization_endpoint"] = f"{faulty.issuer}authorize"
    faulty.answer = lambda one: (answer if one.url.path == "/authorize" else Faulty.comes_back)(one)


def login_required(request: Request) -> Response:
    query = request.query_params
    return RedirectResponse(f"{query['redirect_uri']}?error=login_required&state={query['state']}", 303)


async def test_a_silent_hint_that_works(faulty: Faulty) -> None:
    """Its address is asked about with prompt=none and listed as a redirect URI as well, beside that of the login."""
    asked_silently(faulty, login_required)
    report = await examine.examine_app(inside(at(faulty, silent_hint=True), **SILENT), APP)
    assert report.findings == []
    assert report.confirmed[1:] == [f"Provider {faulty.issuer} answers prompt=none at {APP}/auth/signed-out"]
    (query,) = (one.query_params for one in faulty.asked if one.url.path == "/authorize")
    assert (query["prompt"], query["redirect_uri"]) == ("none", f"{APP}/auth/signed-out")
    ((_, addresses),) = report.addresses
    assert [one.url for one in addresses if one.kind == "redirect"] == [None, f"{APP}/auth/signed-out"]
    assert [one.kind for one in addresses] == ["redirect", "redirect", "post_logout", "back_channel"]


@pytest.mark.parametrize("answer", [page(400, "redirect_uri"), page(), lambda request: RedirectResponse("/login")])
async def test_a_silent_hint_that_is_refused(faulty: Faulty, answer: Callable[[Request], Response]) -> None:
    asked_silently(faulty, answer)
    report = await examine.examine_app(inside(at(faulty, silent_hint=True), **SILENT), APP)
    (finding,) = report.findings
    assert finding.id == "silent.refused"
    assert f"at {APP}/auth/signed-out" in finding.sentence
    assert await ids(inside(at(faulty), **SILENT)) == []  # without the option it is not asked


async def test_a_silent_hint_whose_provider_cannot_be_asked(faulty: Faulty, free_port: int) -> None:
    faulty.document["authorization_endpoint"] = f"http://127.0.0.1:{free_port}/authorize"
    assert await ids(inside(at(faulty, silent_hint=True), **SILENT)) == ["silent.unreachable"]
    asked_silently(faulty, page(503))
    assert await ids(inside(at(faulty, silent_hint=True), **SILENT)) == ["silent.unreachable"]
    faulty.document["authorization_endpoint"] = ...
    assert await ids(inside(at(faulty, silent_hint=True), **SILENT)) == ["silent.no_endpoint"]


async def test_a_silent_hint_of_a_function(faulty: Faulty) -> None:
    """The middleware cannot refuse its options, because it does not know the providers before a logout."""
    asked_silently(faulty, login_required)
    provider = at(faulty, silent_hint=True)
    kept: dict[str, Any] = {"providers": lambda: [provider]}
    made: dict[str, Any] = {"providers": lambda: [at(faulty, silent_hint=True)]}
    assert await ids(inside(**kept, **SILENT)) == []
    assert await ids(inside(**made, **SILENT)) == ["silent.forgotten"]
    assert await ids(inside(**kept)) == ["silent.ignored"]


# The token relay


async def test_a_relay_whose_port_is_free_or_its_own(faulty: Faulty, free_port: int, serve: Serve) -> None:
    provider = at(faulty)
    app = inside(provider, token_relay=TokenRelay(provider, port=free_port))
    report = await examine.examine_app(app, APP)
    assert report.findings == []
    urls = [f"http://127.0.0.1:{free_port}{path}" for path in ("/token", "/.well-known/openid-configuration")]
    assert f"The token relay of provider {faulty.issuer} has its port: {' and '.join(urls)}" in report.confirmed
    serve(app)
    assert (await examine.examine_app(app, APP)).confirmed == report.confirmed


async def test_a_relay_whose_port_is_taken(faulty: Faulty, free_port: int, serve: Serve) -> None:
    provider = at(faulty)
    serve(Starlette(), port=free_port)
    report = await examine.examine_app(inside(provider, token_relay=TokenRelay(provider, port=free_port)), APP)
    (finding,) = report.findings
    assert (finding.id, "belongs to another program" in finding.sentence) == ("relay.port_taken", True)
    assert not any("relay" in one for one in report.confirmed)


async def test_a_relay_of_another_client_has_the_port(faulty: Faulty, free_port: int, serve: Serve) -> None:
    other, provider = OIDCProvider(faulty.issuer, "wiki"), at(faulty)
    serve(RPLogoutMiddleware(Starlette(), providers=[other], token_relay=TokenRelay(other, port=free_port)))
    app = inside(provider, token_relay=TokenRelay(provider, port=free_port))
    (finding,) = (await examine.examine_app(app, APP)).findings
    assert (finding.id, "the relay of another provider or client" in finding.sentence) == ("relay.port_taken", True)


async def test_a_relay_for_a_provider_that_the_function_does_not_list(faulty: Faulty, free_port: int) -> None:
    relay = TokenRelay(at(faulty, name="acme"), port=free_port)
    other: list[Any] = [StaticProvider("https://id.example.com/bye", client_id="dashboard")]
    listed: dict[str, Any] = {"providers": lambda: [at(faulty)], "token_relay": relay}
    assert await ids(inside(**listed)) == []
    changed: dict[str, Any] = {"providers": lambda: other, "backchannel_path": ..., "post_logout_redirect_uri": None}
    assert await ids(inside(**(listed | changed)), notes=False) == ["relay.unlisted"]


# Vendors, and the addresses to register


@pytest.mark.parametrize(
    ("issuer", "endpoint", "name"),
    [
        ("https://id.example.com/realms/acme", None, "Keycloak"),
        ("https://id.example.com/application/o/dashboard/", None, "authentik"),
        ("https://acme.eu.auth0.com/", None, "Auth0"),
        ("https://login.example.com/", "https://login.example.com/oidc/logout", "Auth0"),
        ("https://login.microsoftonline.com/acme/v2.0", None, "Microsoft Entra ID"),
        ("https://acme.okta.com", None, "Okta"),
        ("https://acme.okta.com/oauth2/default", None, "Okta"),
        ("https://acme.zitadel.cloud", "https://acme.zitadel.cloud/oidc/v1/end_session", "Zitadel"),
        ("https://cognito-idp.eu-west-1.amazonaws.com/pool", None, "Amazon Cognito"),
        (None, "https://acme.auth.eu-west-1.amazoncognito.com/logout", "Amazon Cognito"),
        (None, "https://acme.my.salesforce.com/services/auth/idp/oidc/logout", "Salesforce"),
        ("https://api.asgardeo.io/t/acme/oauth2/token", "https://api.asgardeo.io/t/acme/oidc/logout", STANDARD.name),
        ("https://secure.login.gov/", None, "Login.gov"),
        ("https://acme.okta.com.evil.example", None, STANDARD.name),
        (None, None, STANDARD.name),
    ],
)
def test_a_vendor_is_known_by_its_addresses(issuer: str | None, endpoint: str | None, name: str) -> None:
    assert vendor_of(issuer, endpoint).name == name


async def test_a_vendor_is_known_although_its_document_is_not_found(issuer: str) -> None:
    report = await examine.examine_app(inside(authlib(f"{issuer}/realms/acme")), APP)
    assert [one["vendor"] for one in json.loads(as_json(report))["addresses"]] == ["Keycloak"] * 3


async def test_the_addresses_have_the_names_of_the_vendors_console(serve: Serve, unused_port: UnusedPort) -> None:
    port = unused_port()
    issuer = f"http://127.0.0.1:{port}/realms/acme"
    serve(create_provider(issuer, [Client("dashboard", None, [], [f"{APP}/"])], {}), port=port)
    report = await examine.examine_app(inside(OIDCProvider(issuer, "dashboard"), **FRONT), APP)
    listed = json.loads(as_json(report))["addresses"]
    assert {(one["vendor"], one["field"], one["url"]) for one in listed} == {
        ("Keycloak", "Valid redirect URIs", None),
        ("Keycloak", "Valid post logout redirect URIs", f"{APP}/"),
        ("Keycloak", "Backchannel logout URL", f"{APP}/backchannel-logout"),
        ("Keycloak", "Front-channel logout URL", f"{APP}/frontchannel-logout"),
    }


PRESETS: dict[str, tuple[Any, str, list[str]]] = {
    "auth0": (presets.auth0("acme.auth0.com", "rp"), "Auth0", ["discovery.unreachable"]),
    "auth0_legacy": (presets.auth0_legacy("login.example.com", "rp"), "Auth0", ["endpoint.unreachable"]),
    "authelia": (presets.authelia("https://auth.example.com"), "Authelia", ["registration.unknown"]),
    "authentik": (presets.authentik("https://id.example.com", "rp", "rp"), "authentik", ["discovery.unreachable"]),
    "azure_b2c": (presets.azure_b2c("acme", "signin", "rp"), "Azure AD B2C", ["endpoint.unreachable"]),
    "cognito": (presets.cognito("login.example.com", "rp"), "Amazon Cognito", ["endpoint.unreachable"]),
    "dex": (presets.dex("https://dex.example.com/dex", "rp"), STANDARD.name, ["discovery.unreachable"]),
    "duende": (presets.duende("https://id.example.com", "rp"), "Duende IdentityServer", ["discovery.unreachable"]),
    "entra": (presets.entra("acme", "rp"), "Microsoft Entra ID", ["endpoint.unreachable"]),
    "franceconnect": (presets.franceconnect("https://fc.example.com", "rp"), STANDARD.name, ["discovery.unreachable"]),
    "fusionauth": (presets.fusionauth("https://id.example.com", "rp"), "FusionAuth", ["discovery.unreachable"]),
    "hydra": (presets.hydra("https://hydra.example.com/", "rp"), STANDARD.name, ["discovery.unreachable"]),
    "keycloak_legacy": (
        presets.keycloak_legacy("https://id.example.com/auth", "acme", "rp"),
        "Keycloak before 18",
        ["discovery.unreachable"],
    ),
    "local_only": (presets.local_only("github"), STANDARD.name, []),
    "login_gov": (presets.login_gov("rp"), "Login.gov", ["endpoint.unreachable"]),
    "okta": (presets.okta("acme.okta.com", "rp"), "Okta", ["discovery.unreachable"]),
    "onelogin": (presets.onelogin("acme", "rp"), "OneLogin", ["discovery.unreachable"]),
    "oracle": (
        presets.oracle("https://identity.oraclecloud.com/", "rp", tenant="https://idcs.example.com"),
        "Oracle Identity Cloud",
        ["discovery.unreachable"],
    ),
    "pingfederate_slo": (presets.pingfederate_slo("https://id.example.com"), "PingFederate", ["registration.unknown"]),
    "salesforce": (presets.salesforce("acme.my.salesforce.com"), "Salesforce", ["registration.unknown"]),
    "workos": (presets.workos(), "WorkOS AuthKit", ["registration.unknown"]),
}


@pytest.mark.parametrize("name", PRESETS)
async def test_a_preset_whose_provider_cannot_be_reached(name: str, free_port: int) -> None:
    """Nothing but that is found, whatever its domain, and the addresses have the names of its own vendor."""
    provider, vendor, expected = PRESETS[name]
    async with httpx.AsyncClient(proxy=f"http://127.0.0.1:{free_port}") as nowhere:
        report = await examine.examine_app(inside(provider, http_client=nowhere, backchannel_path=...), APP)
    assert [one.id for one in report.findings] == expected
    assert {one.vendor.name for _, addresses in report.addresses for one in addresses} == {vendor}
    assert report.status == (3 if expected and expected[0].endswith(UNREACHABLE) else 0)


def test_every_preset_is_among_them() -> None:
    functions = {one.__name__ for one in vars(presets).values() if getattr(one, "__module__", "") == presets.__name__}
    assert {name for name in functions if not name.startswith("_")} == set(PRESETS)


# The command


@pytest.fixture
def project(tmp_path: Path, issuer: str) -> Path:
    """A folder with an app in it, as the README has it."""
    source = f"""
        import sys
        print("the app says hello")
        from fastapi import FastAPI
        from key_value.aio.stores.memory import MemoryStore
        from starlette.middleware.sessions import SessionMiddleware
        from asgi_rp_logout import OIDCProvider, RPLogoutMiddleware
        def make(issuer={issuer!r}):
            app = FastAPI()
            provider = OIDCProvider(issuer, "dashboard", {SECRET!r})
            app.add_middleware(RPLogoutMiddleware, providers=[provider], post_logout_redirect_uri="/",
                               backchannel_path="/backchannel-logout", store=MemoryStore())
            app.add_middleware(SessionMiddleware, secret_key={SECRET!r})
            return app
        app = make()
        mistyped = make({issuer!r} + "/realms/acme")
        number = 7
        def refused():
            return RPLogoutMiddleware(app, providers=[], logout_path="bye")
        def leaves():
            sys.exit(0)
    """
    (tmp_path / "dashboard.py").write_text(textwrap.dedent(source))
    return tmp_path


@pytest.mark.slow
def test_the_table_of_a_healthy_app(project: Path, issuer: str) -> None:
    told = command("doctor", "dashboard:app", "--url", APP, cwd=project)
    assert (told.returncode, told.stderr) == (0, "the app says hello\n")
    lines = told.stdout.splitlines()
    assert lines[0] == f"Looked at RPLogoutMiddleware, provider {issuer}."
    assert lines[1].startswith(f"Provider {issuer} knows the client, and comes back to")
    assert f"    {APP}/backchannel-logout" in lines
    assert lines[-1] == "Found nothing wrong."


@pytest.mark.slow
def test_the_table_of_a_mistyped_issuer(project: Path) -> None:
    told = command("doctor", "dashboard:mistyped", "--url", APP, cwd=project)
    assert told.returncode == 2
    assert re.search(r"error +discovery\.not_found +provider http", told.stdout)
    assert "answered 404, not 200" in " ".join(told.stdout.split())
    assert "Found: 1 error." in told.stdout
    assert SECRET not in told.stdout + told.stderr


@pytest.mark.slow
def test_a_factory_and_json(project: Path) -> None:
    told = command("doctor", "dashboard:make", "--factory", "--url", APP, "--json", cwd=project)
    assert told.returncode == 0
    report = json.loads(told.stdout)
    assert (report["status"], report["findings"]) == (0, [])
    assert SECRET not in told.stdout + told.stderr


@pytest.mark.slow
def test_json_of_a_mistyped_issuer(project: Path) -> None:
    told = command("doctor", "dashboard:mistyped", "--url", APP, "--json", cwd=project)
    report = json.loads(told.stdout)
    assert (told.returncode, report["status"]) == (2, 2)
    (finding,) = report["findings"]
    assert set(finding) == {"id", "level", "subject", "sentence", "remedy"}
    assert (finding["id"], finding["level"]) == ("discovery.not_found", "error")


@pytest.mark.slow
def test_a_provider_that_was_not_reached_has_a_status_of_its_own(free_port: int) -> None:
    down = ("doctor", "--issuer", f"http://127.0.0.1:{free_port}", "--client-id", "dashboard")
    told = command(*down, "--json")
    assert (told.returncode, json.loads(told.stdout)["status"], told.stderr) == (3, 3, "")
    assert command(*down).returncode == 3


@pytest.mark.slow
def test_a_provider_without_an_app(issuer: str) -> None:
    known = ("doctor", "--issuer", issuer, "--client-id", "dashboard", "--post-logout-redirect-uri")
    assert command(*known, f"{APP}/").returncode == 0
    refused = command(*known, f"{APP}/other", "--json")
    assert [one["id"] for one in json.loads(refused.stdout)["findings"]] == ["registration.post_logout_uri"]
    by_path = command(*known, "/", "--url", APP)
    assert (by_path.returncode, by_path.stdout.splitlines()[0]) == (0, f"Looked at provider {issuer}.")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "expected an app, such as myapp:app, or --issuer with --client-id"),
        (("dashboard:app", "--issuer", "https://id.example.com"), "expected an app, such as myapp:app, or --issuer"),
        (("--issuer", "https://id.example.com"), "expected --client-id along with --issuer"),
        (("--issuer", "id.example.com", "--client-id", "x"), "issuer='id.example.com': expected an https URL"),
        (("dashboard:app", "--url", "app.example.com"), "--url='app.example.com': expected a URL such as"),
        (("dashboard",), "expected module:attribute, such as myapp:app"),
        (("dashboard.app",), "expected module:attribute, such as myapp:app"),
        (("dashbord:app",), "dashbord cannot be imported: there is no module 'dashbord'"),
        (("dashboard:nothing",), "dashboard has no attribute 'nothing'"),
        (("dashboard:app", "--factory"), "dashboard:app cannot be called: TypeError"),
        (("dashboard:number", "--factory"), "dashboard:number cannot be called: expected a function that returns"),
        (("dashboard:refused", "--factory"), "dashboard:refused cannot be called: logout_path='bye': expected a path"),
        (("dashboard:leaves", "--factory"), "dashboard:leaves cannot be called: SystemExit in"),
    ],
)
def test_arguments_that_cannot_be_understood(project: Path, arguments: tuple[str, ...], expected: str) -> None:
    told = command("doctor", *arguments, cwd=project)
    assert (told.returncode, told.stdout) == (2, "")
    assert expected in told.stderr


@pytest.mark.slow
def test_without_rich_the_message_names_the_extra_and_json_works(project: Path) -> None:
    (project / "rich.py").write_text("raise ImportError('no rich here')")
    arguments = ("doctor", "dashboard:app", "--url", APP)
    first = {"PYTHONPATH": os.pathsep.join([str(project), os.environ.get("PYTHONPATH", ""), str(ROOT)])}
    told = command(*arguments, cwd=project, **first)
    assert told.returncode == 2
    assert "the table needs rich: pip install 'asgi-rp-logout[cli]'; --json works without it" in told.stderr
    assert command(*arguments, "--json", cwd=project, **first).returncode == 0


@pytest.mark.slow
def test_end_logins_finds_the_store_of_an_app(project: Path, free_port: int) -> None:
    """Here one that is down, which is how the test sees that it is this one."""
    source = (project / "dashboard.py").read_text()
    source = source.replace("aio.stores.memory import MemoryStore", "aio.stores.redis import RedisStore")
    (project / "dashboard.py").write_text(
        source.replace("store=MemoryStore()", f"store=RedisStore(url='redis://127.0.0.1:{free_port}')")
    )
    arguments = ("end-logins", "--iss", "https://id.example.com", "--sub", "alice", "--store")
    told = command(*arguments, "dashboard:app", cwd=project)
    assert (told.returncode, "the store cannot be reached (ConnectionError)" in told.stderr) == (3, True)


async def test_the_page_shows_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the options of the README's app, with a mistyped realm."""
    monkeypatch.setenv("COLUMNS", "80")
    stub = Faulty("https://id.example.com/")
    stub.answer = page(404)
    app = inside(authlib("https://id.example.com/realms/amce"), store=..., http_client=stub.client())
    printed = io.StringIO()
    write_text(await examine.examine_app(app, APP), printed)
    lines = [line.rstrip() for line in printed.getvalue().splitlines()]
    assert lines == blocks(ROOT / "docs" / "doctor.md", "text")[0].splitlines()


# The catalogue


def produced() -> set[str]:
    """Every id that a test of this file expects."""
    return set(re.findall(r'"([a-z]+\.[a-z_]+)"', Path(__file__).read_text())) & set(CATALOGUE)


def test_every_id_is_produced_by_a_test() -> None:
    assert produced() == set(CATALOGUE)


def test_every_id_is_documented_with_its_level() -> None:
    table = (ROOT / "docs" / "doctor.md").read_text()
    written = re.findall(r"^\| `([a-z]+\.[a-z_]+)` \| (\w+) \|", table, re.MULTILINE)
    assert written == [(name, rule.level) for name, rule in CATALOGUE.items()]


def test_the_table_of_vendors_is_the_codes() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text()
    for vendor in VENDORS:
        cells = [vendor.name, vendor.redirect, vendor.post_logout, vendor.back_channel, vendor.front_channel]
        assert f"| {' | '.join(cells)} |" in page, vendor.name
        assert vendor.advice == "" or f"\n- {vendor.name}: " in page


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_entry_is_a_sentence_and_a_remedy(name: str) -> None:
    rule = CATALOGUE[name]
    assert rule.level in LEVELS
    assert rule.sentence.endswith(".")
    assert rule.remedy.endswith(".")
    assert rule.level == "error" or not name.endswith(UNREACHABLE)


@pytest.mark.slow
def test_nothing_printed_sends_the_reader_to_a_file_that_a_wheel_does_not_have() -> None:
    printed = [command("doctor", "--help").stdout, *(one.advice for one in VENDORS)]
    printed += [text for rule in CATALOGUE.values() for text in (rule.sentence, rule.remedy)]
    shown = io.StringIO()
    write_text(examine.Report(findings=[found("url.unknown", "RPLogoutMiddleware")]), shown)
    assert "note" in shown.getvalue()
    assert not [text for text in [*printed, shown.getvalue()] if "docs/" in text or ".md" in text]
