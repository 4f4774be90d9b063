"""Token revocation after a logout: at a real endpoint (RFC 7009), off by default, and never anybody's trouble."""

from __future__ import annotations

import base64
import itertools
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import anyio
import httpx
import pytest
from authlib.integrations.starlette_client import OAuth
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from asgi_rp_logout import AuthlibProvider, Login, OIDCProvider, RPLogoutMiddleware, presets, remember_login
from tests.conftest import Serve

REFRESH = "the-refresh-token-of-alice"
NOT_REVOKED = "a token was not revoked, and stays valid at the provider until it expires"


class RevocationServer:
    """Discovery and a revocation endpoint; `status` is what it answers, `hang` keeps it from answering."""

    def __init__(self, *, endpoint: bool = True, oauth: dict[str, Any] | None = None) -> None:
        self.endpoint, self.status, self.hang, self.oauth = endpoint, 200, False, oauth
        self.asked: list[tuple[dict[str, str], str | None]] = []
        self.read = 0
        routes = [
            Route("/realm/.well-known/openid-configuration", self.discovery_below_path),
            Route("/.well-known/oauth-authorization-server{path:path}", self.oauth_metadata),
            Route("/.well-known/openid-configuration", self.discovery),
            Route("/revoke", self.revoke, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes)

    async def discovery(self, request: Request) -> Response:
        base = str(request.base_url).rstrip("/")
        document = {"issuer": base, "end_session_endpoint": f"{base}/end", "jwks_uri": f"{base}/jwks"}
        return JSONResponse(document | ({"revocation_endpoint": f"{base}/revoke"} if self.endpoint else {}))

    async def discovery_below_path(self, request: Request) -> Response:
        base = str(request.base_url).rstrip("/")
        return JSONResponse({"issuer": f"{base}/realm", "end_session_endpoint": f"{base}/end"})

    async def oauth_metadata(self, request: Request) -> Response:
        """RFC 8414, section 3.1: the path of the issuer comes after the well-known part."""
        self.read += 1
        if self.oauth is None:
            return PlainTextResponse("not here", 404)
        base = str(request.base_url).rstrip("/")
        issuer = base + request.path_params["path"]
        return JSONResponse({"issuer": issuer, "revocation_endpoint": f"{base}/revoke"} | self.oauth)

    async def revoke(self, request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        self.asked.append(({name: value for name, (value,) in form.items()}, request.headers.get("authorization")))
        if self.hang:
            await anyio.sleep(30)
        return PlainTextResponse(f"echo {form}", self.status)


def make_app(*providers: Any, **options: Any) -> RPLogoutMiddleware:
    async def login(request: Request) -> Response:
        remember_login(request, sub="alice", provider="idp", refresh_token=request.query_params.get("token", REFRESH))
        return PlainTextResponse("welcome")

    async def logout(request: Request) -> Response:
        return RedirectResponse("/bye", 303, headers={"x-rp-logout": request.query_params.get("named", "")})

    routes = [Route("/login", login), Route("/logout", logout, methods=["POST"])]
    return RPLogoutMiddleware(Starlette(routes=routes), providers=list(providers), **options)


async def log_out(app: Any, token: str = REFRESH, **query: str) -> httpx.Response:
    """Sign in and out; what follows the response is done by then, or given up."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.localhost") as client:
        await client.get("/login", params={"token": token})
        return await client.post("/logout", params=query)


@pytest.mark.parametrize(("secret", "sent"), [("s3cret/+", True), (None, False)], ids=["confidential", "public"])
async def test_the_refresh_token_is_revoked_after_the_response(serve: Serve, secret: str | None, sent: bool) -> None:
    server = RevocationServer()
    issuer = serve(server.app)
    answer = await log_out(make_app(OIDCProvider(issuer, "rp", secret, name="idp", revoke="refresh_token")))
    assert answer.headers["location"].startswith(f"{issuer}/end?")
    ((form, authorization),) = server.asked
    assert form["token"] == REFRESH
    assert form["token_type_hint"] == "refresh_token"
    if secret is None:
        assert (form["client_id"], authorization) == ("rp", None)
    else:
        kind, _, credentials = (authorization or "").partition(" ")
        assert kind == "Basic"
        assert base64.b64decode(credentials).startswith(b"rp:s3cret")


def registered(issuer: str, **options: Any) -> Any:
    """A client that an application has registered with Authlib."""
    oauth = OAuth()
    url = f"{issuer}/.well-known/openid-configuration"
    return oauth.register("idp", client_id="rp", server_metadata_url=url, **options)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"client_secret": "s3cret"}, "Basic"),
        ({}, None),
        ({"client_secret": "s3cret", "client_kwargs": {"token_endpoint_auth_method": "none"}}, None),
        ({"client_secret": "s3cret", "client_kwargs": {"token_endpoint_auth_method": "client_secret_post"}}, "form"),
    ],
    ids=["confidential", "public", "public with a secret", "in the form"],
)
async def test_an_authlib_client_revokes_with_the_credentials_of_its_registration(
    serve: Serve, log: Any, options: Any, kind: str | None
) -> None:
    server = RevocationServer()
    provider = AuthlibProvider(registered(serve(server.app), **options), revoke="refresh_token")
    await log_out(make_app(provider))
    ((form, authorization),) = server.asked
    assert (form["token"], form.get("client_id")) == (REFRESH, None if kind == "Basic" else "rp")
    assert form.get("client_secret") == ("s3cret" if kind == "form" else None)
    assert (authorization or "").partition(" ")[0] == ("Basic" if kind == "Basic" else "")
    if authorization is not None:
        assert base64.b64decode(authorization.partition(" ")[2]) == b"rp:s3cret"
    assert log() == []


async def test_an_authlib_client_revokes_nothing_by_default_and_by_an_object_of_ones_own(serve: Serve) -> None:
    seen: list[str] = []
    own = type("Own", (), {"revoke_session": staticmethod(lambda refresh_token: seen.append(refresh_token))})()
    server = RevocationServer()
    issuer = serve(server.app)
    for revoke in (None, own):
        await log_out(make_app(AuthlibProvider(registered(issuer, client_secret="s3cret"), revoke=revoke)))
    assert (server.asked, seen) == ([], [REFRESH])


async def test_it_goes_through_the_http_client_that_was_given() -> None:
    """For proxies and private certificates, as discovery does."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        issuer = "https://op.example"
        document = {
            "issuer": issuer,
            "end_session_endpoint": f"{issuer}/end",
            "revocation_endpoint": f"{issuer}/revoke",
        }
        return httpx.Response(200, json=document)

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    provider = OIDCProvider("https://op.example", "rp", "secret", name="idp", revoke="refresh_token")
    for _ in range(2):  # and leaves it open
        await log_out(make_app(provider, http_client=client))
    assert asked == ["/.well-known/openid-configuration", "/revoke", "/revoke"]
    await client.aclose()


async def test_a_token_follows_no_redirect_whatever_the_client_that_was_given_does(log: Any) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        op = "https://op.example"
        if request.method == "POST":
            return httpx.Response(307, headers={"location": f"{op}/elsewhere"})
        return httpx.Response(200, json={"issuer": op, "revocation_endpoint": f"{op}/revoke"})

    provider = OIDCProvider("https://op.example", "rp", name="idp", revoke="refresh_token")
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), follow_redirects=True) as client:
        await log_out(make_app(provider, http_client=client))
    assert asked[-1] == "/revoke"
    assert log()[-1] == f"{NOT_REVOKED}: https://op.example/revoke answered 307, not 200"


async def test_it_is_off_by_default(serve: Serve) -> None:
    server = RevocationServer()
    await log_out(make_app(OIDCProvider(serve(server.app), "rp", name="idp")))
    assert server.asked == []


async def test_without_a_refresh_token_nobody_is_asked(serve: Serve, log: Any) -> None:
    server = RevocationServer()
    await log_out(make_app(OIDCProvider(serve(server.app), "rp", name="idp", revoke="refresh_token")), token="")
    assert (server.asked, log()) == ([], [])


@pytest.mark.parametrize("path", ["", "/realm"])
async def test_an_endpoint_that_discovery_lacks_is_read_from_the_oauth_metadata(
    serve: Serve, log: Any, path: str
) -> None:
    """OpenID Connect Discovery does not know the member; RFC 8414 does. It is read once."""
    server = RevocationServer(endpoint=False, oauth={})
    app = make_app(OIDCProvider(serve(server.app) + path, "rp", name="idp", revoke="refresh_token"))
    for _ in range(2):
        await log_out(app)
    assert [form["token"] for form, _ in server.asked] == [REFRESH] * 2
    assert (server.read, log()) == (1, [])


async def test_the_oauth_metadata_is_read_anew_after_an_hour(serve: Serve, log: Any) -> None:
    """A provider may move its endpoint, and an application may run for months."""
    server = RevocationServer(endpoint=False, oauth={"revocation_endpoint": "https://moved.example/"})
    provider = OIDCProvider(serve(server.app), "rp", name="idp", revoke="refresh_token")
    assert await provider.revocation_endpoint() == "https://moved.example/"
    server.oauth = {}
    assert await provider.revocation_endpoint() == "https://moved.example/"
    assert provider._oauth_metadata is not None
    provider._oauth_metadata.fetched_at -= 3601
    await log_out(make_app(provider))
    assert ([form["token"] for form, _ in server.asked], server.read, log()) == ([REFRESH], 2, [])


async def test_an_authlib_client_reads_the_oauth_metadata_too(serve: Serve, log: Any) -> None:
    server = RevocationServer(endpoint=False, oauth={})
    await log_out(make_app(AuthlibProvider(registered(serve(server.app)), revoke="refresh_token")))
    assert ([form["token"] for form, _ in server.asked], log()) == ([REFRESH], [])


@pytest.mark.parametrize(
    "oauth",
    [
        {"issuer": "https://other.example.com"},
        {"revocation_endpoint": None},
        {"revocation_endpoint": "http://ten.example"},
    ],
    ids=["another issuer", "none there either", "not https"],
)
async def test_oauth_metadata_that_cannot_be_used_sends_no_token_anywhere(serve: Serve, log: Any, oauth: Any) -> None:
    server = RevocationServer(endpoint=False, oauth=oauth)
    await log_out(make_app(OIDCProvider(serve(server.app), "rp", name="idp", revoke="refresh_token")))
    assert (server.read, server.asked) == (1, [])
    assert log() == [
        f"{NOT_REVOKED}: the metadata of idp names no revocation endpoint; if it has one, give its URL as revoke="
    ]


async def test_the_endpoint_that_is_given_is_used(serve: Serve, log: Any) -> None:
    server = RevocationServer(endpoint=False)
    issuer = serve(server.app)
    await log_out(make_app(OIDCProvider(issuer, "rp", name="idp", revoke=f"{issuer}/revoke")))
    await log_out(make_app(AuthlibProvider(registered(issuer), revoke=f"{issuer}/revoke")))
    assert ([form["token"] for form, _ in server.asked], server.read, log()) == ([REFRESH] * 2, 0, [])


FAILURES: dict[str, tuple[Callable[[RevocationServer], object], str]] = {
    "an error": (lambda server: setattr(server, "status", 400), "answered 400, not 200"),
    "an outage": (lambda server: setattr(server, "status", 503), "answered 503, not 200"),
    "a redirect": (lambda server: setattr(server, "status", 307), "answered 307, not 200"),
    "no endpoint": (
        lambda server: setattr(server, "endpoint", False),
        "the metadata of idp names no revocation endpoint; if it has one, give its URL as revoke=",
    ),
}


@pytest.mark.parametrize(("fail", "sentence"), FAILURES.values(), ids=FAILURES.keys())
async def test_a_failure_is_logged_and_never_shown(serve: Serve, log: Any, fail: Any, sentence: str) -> None:
    server = RevocationServer()
    fail(server)
    answer = await log_out(make_app(OIDCProvider(serve(server.app), "rp", name="idp", revoke="refresh_token")))
    assert (answer.status_code, answer.content) == (303, b"")
    (line,) = log()
    assert line.startswith(f"{NOT_REVOKED}: ")
    assert line.endswith(sentence)
    assert REFRESH not in "".join(log(logging.DEBUG))


async def test_an_endpoint_that_hangs_is_left_after_its_deadline(
    serve: Serve, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_rp_logout.logout.afterwards.AFTER_DEADLINE", 0.3)
    server = RevocationServer()
    server.hang = True
    provider = OIDCProvider(serve(server.app, timeout_graceful_shutdown=0), "rp", name="idp", revoke="refresh_token")
    with anyio.fail_after(20):
        answer = await log_out(make_app(provider))
    assert answer.status_code == 303
    assert log() == ["post-logout tasks (on_logout, revocation) exceeded 0.3 s and were cancelled"]


async def test_a_provider_that_is_down_keeps_nobody_signed_in(unused_port: Any, log: Any) -> None:
    provider = OIDCProvider(f"http://127.0.0.1:{unused_port()}", "rp", name="idp", revoke="refresh_token")
    answer = await log_out(make_app(provider))
    assert answer.headers["location"] == "/bye"
    assert len(log()) == 2
    assert REFRESH not in "".join(log(logging.DEBUG))


async def test_the_response_does_not_wait(serve: Serve) -> None:
    """The whole response has gone out before the endpoint is asked."""
    order: list[str] = []

    class Own:
        async def revoke_session(self) -> None:
            order.append("revoked")

    app = make_app(OIDCProvider(serve(RevocationServer().app), "rp", name="idp", revoke=Own()))

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        async def noted(message: Any) -> None:
            await send(message)
            order.append("more" if message.get("more_body", message["type"].endswith("start")) else "sent")

        await app(scope, receive, noted)

    await log_out(watched)
    assert order == ["more", "sent", "more", "sent", "revoked"]


SIGNATURES: dict[str, Callable[[list[Any]], Callable[..., Any]]] = {
    "sync": lambda seen: lambda refresh_token: seen.append(refresh_token),
    "keyword": lambda seen: lambda *, refresh_token: seen.append(refresh_token),
    "login": lambda seen: lambda login: seen.append(login.refresh_token),
    "everything": lambda seen: lambda **given: seen.append(given["refresh_token"]),
}


@pytest.mark.parametrize("make", SIGNATURES.values(), ids=SIGNATURES.keys())
async def test_an_object_of_ones_own_is_given_what_it_takes(serve: Serve, make: Any) -> None:
    seen: list[Any] = []
    own = type("Own", (), {"revoke_session": staticmethod(make(seen))})()
    await log_out(make_app(OIDCProvider(serve(RevocationServer().app), "rp", name="idp", revoke=own)))
    assert seen == [REFRESH]


async def test_an_object_of_ones_own_that_raises_is_logged_without_its_message(serve: Serve, log: Any) -> None:
    class Own:
        async def revoke_session(self, refresh_token: str) -> None:
            raise RuntimeError(f"cannot revoke {refresh_token}")

    answer = await log_out(make_app(OIDCProvider(serve(RevocationServer().app), "rp", name="idp", revoke=Own())))
    assert answer.status_code == 303
    assert log() == [f"{NOT_REVOKED}: RuntimeError"]


async def test_a_token_goes_to_its_own_provider_only(serve: Serve) -> None:
    """Whatever provider the application named for the logout: a refresh token is a secret of its issuer's."""
    servers = {name: RevocationServer() for name in ("idp", "other")}
    providers = [
        OIDCProvider(serve(server.app), "rp", name=name, revoke="refresh_token") for name, server in servers.items()
    ]
    for order in itertools.permutations(providers):
        answer = await log_out(make_app(*order), named="other")
        assert answer.headers["location"].startswith(f"{providers[1].issuer}/end?")
    assert len(servers["idp"].asked) == 2
    assert servers["other"].asked == []


@pytest.mark.parametrize(("others", "named", "revoked"), [("", "", 1), ("one", "", 0), ("one", "idp", 0)])
async def test_a_token_that_names_no_provider_goes_to_the_only_one_there_is(
    serve: Serve, others: str, named: str, revoked: int
) -> None:
    """Of several, the one that the browser is sent to need not be the one that has issued it."""
    server = RevocationServer()
    idp = OIDCProvider(serve(server.app), "rp", name="idp", revoke="refresh_token")
    listed = [idp, *([presets.local_only("github")] if others else [])]
    app = make_app(*listed, login_source=lambda connection: Login(refresh_token=REFRESH))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.localhost") as client:
        answer = await client.post("/logout", params={"named": named})
    assert answer.headers["location"].startswith(f"{idp.issuer}/end?")
    assert len(server.asked) == revoked
