"""rp_logout and local_logout_only, in each framework as its users write endpoints."""

from __future__ import annotations

import asyncio
import functools
import inspect
import secrets
from collections.abc import Callable
from typing import Annotated, Any, cast

import pytest
from fastapi import APIRouter, Depends, FastAPI, Form
from fastapi import Request as FastAPIRequest
from fastapi import Response as FastAPIResponse
from fastapi.responses import RedirectResponse as FastAPIRedirect
from litestar import Controller, Litestar, post
from litestar import Request as LitestarRequest
from litestar.di import NamedDependency, Provide
from litestar.response import Redirect
from pydantic import BaseModel
from quart import Quart
from quart import redirect as quart_redirect
from quart.views import MethodView
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from asgi_rp_logout import ConfigurationError, StaticProvider, local_logout_only, remember_login, rp_logout
from tests.apps import COOKIE, END, guarded, log_out, went_to_provider
from tests.asgi import Answer, call, http_scope
from tests.conftest import Log
from tests.places import Browser

OTHER = "https://other.example/end"
PROVIDERS = [StaticProvider(END, client_id="rp", name="idp"), StaticProvider(OTHER, name="other")]
KINDS: dict[str, tuple[Callable[..., Any], str]] = {
    "bare": (rp_logout, END),
    "named": (rp_logout(provider="other"), OTHER),
    "local": (local_logout_only, "/bye"),
}
FORM = {"cookie": COOKIE, "content-type": "application/x-www-form-urlencoded"}


async def answer_of(app: ASGIApp, kind: str, path: str = "/sign-out", body: bytes = b"reason=done") -> Answer:
    """Post to an endpoint that is no logout path; only the decorator tells."""
    providers = PROVIDERS if kind == "named" else PROVIDERS[:1]
    return await call(guarded(app, providers=providers), http_scope(path, "POST", FORM), body)


async def expect(app: ASGIApp, kind: str, path: str = "/sign-out") -> None:
    """A logout, and to where the decorator says; another endpoint of the same app is none."""
    answer = await answer_of(app, kind, path)
    assert (answer.header("location") or "").partition("?")[0] == KINDS[kind][1], (answer.status, answer.body)
    assert "session" in answer.expired()


# Starlette


async def sign_out(request: Request) -> Response:
    return RedirectResponse("/bye", 303)


def sign_out_sync(request: Request) -> Response:
    return RedirectResponse("/bye", 303)


async def sign_out_of_tenant(tenant: str, request: Request) -> Response:
    return RedirectResponse("/bye", 303)


class SignOut:
    async def __call__(self, request: Request) -> Response:
        return RedirectResponse("/bye", 303)


async def passed_on(request: Request, call_next: Any) -> Response:
    return cast("Response", await call_next(request))


def starlette_endpoints(mark: Callable[..., Any]) -> dict[str, ASGIApp]:
    class ClassBased(HTTPEndpoint):
        @mark
        async def post(self, request: Request) -> Response:
            return RedirectResponse("/bye", 303)

    class ClassBasedSync(HTTPEndpoint):
        @mark
        def post(self, request: Request) -> Response:
            return RedirectResponse("/bye", 303)

    class Pages:
        @mark
        async def sign_out(self, request: Request) -> Response:
            return RedirectResponse("/bye", 303)

        static = staticmethod(mark(sign_out_sync))

    def app(endpoint: Any, **more: Any) -> Starlette:
        return Starlette(routes=[Route("/sign-out", endpoint, methods=["POST"])], **more)

    base = [Middleware(BaseHTTPMiddleware, dispatch=passed_on)] * 2
    return {
        "async": app(mark(sign_out)),
        "threadpool": app(mark(sign_out_sync)),
        "class": app(ClassBased),
        "class, sync": app(ClassBasedSync),
        "method": app(Pages().sign_out),
        "static": app(Pages.static),
        "partial": app(mark(functools.partial(sign_out_of_tenant, "acme"))),
        "callable object": app(mark(SignOut().__call__)),
        "under BaseHTTPMiddleware": app(mark(sign_out), middleware=base),
        "threadpool under BaseHTTPMiddleware": app(mark(sign_out_sync), middleware=base),
    }


STARLETTE = list(starlette_endpoints(lambda endpoint: endpoint))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("written", STARLETTE)
async def test_starlette(written: str, kind: str) -> None:
    await expect(starlette_endpoints(KINDS[kind][0])[written], kind)


@pytest.mark.parametrize("written", STARLETTE)
async def test_starlette_the_control(written: str) -> None:
    answer = await answer_of(starlette_endpoints(lambda endpoint: endpoint)[written], "bare")
    assert (answer.header("location"), answer.all("set-cookie")) == ("/bye", [])


@pytest.mark.parametrize("kind", KINDS)
async def test_below_a_mount(kind: str) -> None:
    inner = starlette_endpoints(KINDS[kind][0])["threadpool"]
    await expect(Starlette(routes=[Mount("/a", app=Mount("/b", app=inner))]), kind, "/a/b/sign-out")


# FastAPI, whose annotations are strings here


class Reason(BaseModel):
    reason: str


def settings() -> dict[str, str]:
    return {"after": "/bye"}


Settings = Annotated[dict[str, str], Depends(settings)]


def fastapi_endpoints(mark: Callable[..., Any]) -> dict[str, ASGIApp]:
    router = APIRouter()

    @router.post("/async")
    @mark
    async def asynchronous(reason: Annotated[str, Form()], settings: Settings, request: FastAPIRequest) -> Response:
        assert (reason, request.url.path) == ("done", "/async")
        return FastAPIRedirect(settings["after"], 303)

    @router.post("/sync")
    @mark
    def in_the_threadpool(reason: Annotated[str, Form()], settings: Settings) -> Response:
        return FastAPIRedirect(settings["after"], 303)

    @router.post("/model")
    @mark
    def model(form: Annotated[Reason, Form()]) -> Response:
        return FastAPIRedirect("/bye" if form.reason == "done" else "/", 303)

    @router.post("/status", status_code=303)
    @mark
    async def by_response(response: FastAPIRequest, settings: Settings) -> Any:
        return Response(status_code=303, headers={"location": settings["after"]})

    app = FastAPI()
    app.include_router(router)
    return dict.fromkeys(("/async", "/sync", "/model", "/status"), app)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["/async", "/sync", "/model", "/status"])
async def test_fastapi_with_dependency_injection(path: str, kind: str) -> None:
    await expect(fastapi_endpoints(KINDS[kind][0])[path], kind, path)


async def test_fastapi_refuses_a_bad_form_and_nobody_is_logged_out() -> None:
    """The endpoint was never called."""
    answer = await answer_of(fastapi_endpoints(rp_logout)["/sync"], "bare", "/sync", body=b"")
    assert (answer.status, answer.all("set-cookie")) == (422, [])


async def test_fastapi_describes_a_decorated_endpoint_as_it_is() -> None:
    paths = [fastapi_endpoints(mark)["/sync"].openapi()["paths"] for mark in (rp_logout, lambda endpoint: endpoint)]  # type: ignore[attr-defined]
    assert paths[0] == paths[1]


# Litestar


async def after() -> str:
    return "/bye"


def litestar_app(mark: Callable[..., Any]) -> Litestar:
    @post("/async", status_code=303)
    @mark
    async def asynchronous(request: LitestarRequest[Any, Any, Any], target: NamedDependency[str]) -> Redirect:
        return Redirect(target, status_code=303)

    @post("/sync", sync_to_thread=True, status_code=303)
    @mark
    def in_a_thread(target: NamedDependency[str]) -> Redirect:
        return Redirect(target, status_code=303)

    class Pages(Controller):
        path = "/pages"

        @post("/sign-out", status_code=303)
        @mark
        async def sign_out(self, target: NamedDependency[str]) -> Redirect:
            return Redirect(target, status_code=303)

    return Litestar([asynchronous, in_a_thread, Pages], dependencies={"target": Provide(after)}, openapi_config=None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["/async", "/sync", "/pages/sign-out"])
async def test_litestar_with_dependency_injection(path: str, kind: str) -> None:
    await expect(litestar_app(KINDS[kind][0]), kind, path)  # type: ignore[arg-type]


# Quart


def quart_app(mark: Callable[..., Any]) -> Quart:
    app = Quart(__name__)

    @app.post("/async/<tenant>")
    @mark
    async def asynchronous(tenant: str) -> Any:
        return quart_redirect("/bye", 303)

    @app.post("/sync")
    @mark
    def in_a_thread() -> Any:
        return quart_redirect("/bye", 303)

    class Pages(MethodView):
        @mark
        async def post(self) -> Any:
            return quart_redirect("/bye", 303)

    app.add_url_rule("/view", view_func=Pages.as_view("view"))
    return app


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["/async/acme", "/sync", "/view"])
async def test_quart(path: str, kind: str) -> None:
    await expect(quart_app(KINDS[kind][0]), kind, path)  # type: ignore[arg-type]


# Django


@functools.cache
def django_app() -> ASGIApp:
    import django
    from django.conf import settings
    from django.core.handlers.asgi import ASGIHandler

    settings.configure(
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="x",
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    )
    django.setup(set_prefix=False)
    app: ASGIApp = ASGIHandler()
    return app


def django_urls(mark: Callable[..., Any], name: str) -> list[Any]:
    from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
    from django.urls import path
    from django.views import View

    class SeeOther(HttpResponseRedirect):  # type: ignore[misc]
        status_code = 303

    @mark
    async def asynchronous(request: HttpRequest, tenant: str) -> HttpResponse:
        return SeeOther("/bye")

    @mark
    def in_a_thread(request: HttpRequest) -> HttpResponse:
        return SeeOther("/bye")

    class Pages(View):  # type: ignore[misc]
        @mark
        async def post(self, request: HttpRequest) -> HttpResponse:
            return SeeOther("/bye")

    views = [path(f"{name}/async/<tenant>", asynchronous), path(f"{name}/sync", in_a_thread)]
    return [*views, path(f"{name}/view", Pages.as_view())]


def __getattr__(name: str) -> Any:
    # Django reads the URLs of the module that ROOT_URLCONF names; made when it asks, since it must be set up by then.
    if name != "urlpatterns":
        raise AttributeError(name)
    return [url for kind, (mark, _) in KINDS.items() for url in django_urls(mark, kind)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["async/acme", "sync", "view"])
async def test_django(path: str, kind: str) -> None:
    await expect(django_app(), kind, f"/{kind}/{path}")


# What the mark means


@pytest.mark.parametrize("status", [200, 204, 302, 400, 401, 404, 500])
async def test_an_answer_of_400_or_more_is_no_logout(status: int) -> None:
    @rp_logout
    async def endpoint(request: Request) -> Response:
        return Response(status_code=status)

    answer = await answer_of(Starlette(routes=[Route("/sign-out", endpoint, methods=["POST"])]), "bare")
    assert went_to_provider(answer) is (status < 400)
    assert bool(answer.expired()) is (status < 400)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
async def test_head_and_options_of_a_decorated_endpoint_are_no_logout(method: str) -> None:
    @rp_logout
    async def endpoint(request: Request) -> Response:
        return RedirectResponse("/bye", 303)

    app = Starlette(routes=[Route("/sign-out", endpoint, methods=["HEAD", "OPTIONS", "GET"])])
    answer = await log_out(guarded(app), "/sign-out", method)
    assert (answer.header("location"), answer.all("set-cookie")) == ("/bye", [])
    assert went_to_provider(await log_out(guarded(app), "/sign-out", "GET"))


@pytest.mark.parametrize("is_async", [True, False])
async def test_an_endpoint_that_raises_has_logged_nobody_out(is_async: bool) -> None:
    """Its error page may well have a status below 400."""

    def sync_endpoint(request: Request) -> Response:
        raise PermissionError

    async def async_endpoint(request: Request) -> Response:
        raise PermissionError

    async def sorry(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": "not now"})

    endpoint = rp_logout(async_endpoint if is_async else sync_endpoint)
    routes = [Route("/sign-out", endpoint, methods=["POST"])]
    answer = await answer_of(Starlette(routes=routes, exception_handlers={PermissionError: sorry}), "bare")
    assert (answer.status, answer.all("set-cookie")) == (200, [])


async def test_the_opt_out_goes_before_the_logout_path() -> None:
    app = starlette_endpoints(local_logout_only)["async"]
    answer = await call(guarded(app, logout_path="/sign-out"), http_scope("/sign-out", "POST", FORM))
    assert (answer.header("location"), "session" in answer.expired()) == ("/bye", True)


async def test_marks_do_not_leak_from_one_request_into_the_next() -> None:
    async def plain(request: Request) -> Response:
        return RedirectResponse("/bye", 303)

    routes = [Route("/out", rp_logout(plain), methods=["POST"]), Route("/plain", plain, methods=["POST"])]
    guard = guarded(Starlette(routes=routes))
    assert went_to_provider(await log_out(guard, "/out"))
    assert (await log_out(guard, "/plain", headers={"cookie": "session=2"})).header("location") == "/bye"


@pytest.mark.parametrize("given", ["request", "keyword"])
async def test_a_thread_that_no_context_reached_is_marked_through_its_request(given: str) -> None:
    """As with an executor of the application's own."""

    @rp_logout
    def in_a_bare_thread(request: Request) -> Response:
        return RedirectResponse("/bye", 303)

    async def endpoint(request: Request) -> Response:
        args = (request,) if given == "request" else ()
        call = functools.partial(in_a_bare_thread, *args, **({} if args else {"request": request}))
        return await asyncio.get_running_loop().run_in_executor(None, call)

    answer = await answer_of(Starlette(routes=[Route("/sign-out", endpoint, methods=["POST"])]), "bare")
    assert went_to_provider(answer)


async def test_outside_of_the_middleware_a_decorated_endpoint_answers_and_warns(log: Log) -> None:
    answer = await call(starlette_endpoints(rp_logout)["async"], http_scope("/sign-out", "POST", FORM))
    assert answer.header("location") == "/bye"
    (line,) = log()
    assert line.startswith("a decorated logout was answered outside of RPLogoutMiddleware")


async def test_above_the_routes_own_decorator_it_has_no_effect_and_that_is_warned_of_once(log: Log) -> None:
    """The route has got the function as it was: nothing that is wrapped around it later is ever called."""
    app = FastAPI()

    @app.get("/login")
    def log_in(response: FastAPIResponse) -> None:
        remember_login(sub="alice", provider="idp")
        response.set_cookie("session", secrets.token_hex(16))

    def sign_out(response: FastAPIResponse) -> None:
        response.delete_cookie("session")

    app.post("/below")(rp_logout(sign_out))
    rp_logout(app.post("/above")(sign_out))
    guard = guarded(app, providers=PROVIDERS[:1])
    for path, goes in (("/below", True), ("/above", False), ("/above", False)):
        browser = Browser(guard)
        await browser.get("/login")
        assert went_to_provider(await browser.post(path)) is goes
    (warning,) = log()
    assert "put @rp_logout directly above the function, below the route's decorator" in warning


@pytest.mark.parametrize("mark", [rp_logout, rp_logout(provider="x"), local_logout_only])
def test_a_decorated_function_keeps_name_signature_and_kind(mark: Callable[..., Any]) -> None:
    async def asynchronous(a: int, *, b: str = "x") -> None:
        """Say goodbye."""

    def sync(a: int, *, b: str = "x") -> None:
        """Say goodbye."""

    for function in (asynchronous, sync):
        decorated = mark(function)
        assert inspect.signature(decorated) == inspect.signature(function)
        assert inspect.iscoroutinefunction(decorated) is inspect.iscoroutinefunction(function)
        assert (decorated.__name__, decorated.__doc__) == (function.__name__, "Say goodbye.")


@pytest.mark.parametrize("wrong", [HTTPEndpoint, "endpoint", 7, classmethod(print)])
@pytest.mark.parametrize("mark", [rp_logout, rp_logout(provider="x"), local_logout_only])
def test_what_cannot_be_decorated_is_refused(mark: Callable[..., Any], wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected a function or a method") as caught:
        mark(wrong)
    assert repr(wrong) in str(caught.value)


@pytest.mark.parametrize("provider", [7, b"idp", True, ""])
def test_a_provider_that_is_no_name_is_refused(provider: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected a provider's name") as caught:
        rp_logout(provider=provider)
    assert repr(provider) in str(caught.value)
