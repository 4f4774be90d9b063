"""nginx as Debian installs it: it reads the headers of an answer into one page of memory, and answers 502 to more."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from asgi_rp_logout import RPLogoutMiddleware, StaticProvider, remember_login
from tests.apps import END
from tests.test_header_budget import KINDS, NAVIGATION
from tests.tokens import id_token

LENGTHS = range(0, 20_001, 50)


async def login(request: Request) -> Response:
    number = int(request.query_params["length"])
    remember_login(request, id_token=id_token(pad="x" * number))
    response = RedirectResponse("/", 303)
    response.set_cookie("session", f"{number:020}", secure=True, httponly=True)
    return response


async def logout(request: Request) -> Response:
    response = RedirectResponse("/login", 303)
    response.delete_cookie("session")
    return response


async def other(request: Request) -> Response:
    return Response("a page", headers={"x": "x" * int(request.query_params.get("length", 0))})


@pytest.fixture
def front(nginx: Callable[[str], str], serve: Callable[..., str]) -> Callable[..., str]:
    """Serve the application behind nginx; its address before nginx."""

    def start(**options: Any) -> str:
        routes = [Route("/login", login), Route("/logout", logout, methods=["GET", "POST"]), Route("/page", other)]
        application = RPLogoutMiddleware(
            Starlette(routes=routes),
            providers=[StaticProvider(END, client_id="rp", name="idp", issuer="https://a.example")],
            public_url="https://app.example.com",
            callback_path="/back",
            clear_cookies=("csrf", "hint"),
            **options,
        )
        return nginx(serve(application))

    return start


@pytest.mark.parametrize("kind", KINDS)
def test_no_token_makes_an_answer_that_nginx_refuses(kind: str, front: Callable[..., str]) -> None:
    """From nothing to 20 KB in steps of 50 bytes: the answers to the login, to the logout, and to the page after it."""
    method = "GET" if kind == "Turbo visit" else "POST"
    url = front(for_fetch="json" if kind == "JSON" else "defer")
    with httpx.Client(base_url=url) as client:
        for length in LENGTHS:
            answers = [client.get("/login", params={"length": length})]
            cookies = cookies_of(answers[0])
            assert len(cookies) == 2  # the session, and the companion
            headers = {**KINDS[kind], "cookie": "; ".join(cookies)}
            answers.append(client.request(method, "/logout", headers=headers))
            waits = [cookie for cookie in cookies_of(answers[-1]) if "rp_later" in cookie]
            if waits:
                answers.append(client.get("/page", headers={**NAVIGATION, "cookie": "; ".join(waits)}))
            assert [answer.status_code for answer in answers if answer.status_code == 502] == [], length
            assert END in where_to(answers[-1]), length


def test_nginx_refuses_headers_of_more_than_a_page(front: Callable[..., str]) -> None:
    """The control: an answer of the application alone, a little shorter and a little longer."""
    with httpx.Client(base_url=front()) as client:
        assert client.get("/page?length=3800").status_code == 200
        assert client.get("/page?length=4100").status_code == 502


def cookies_of(answer: httpx.Response) -> list[str]:
    """Return the cookies that an answer sets, as they are sent back."""
    pairs = [line.partition(";")[0] for line in answer.headers.get_list("set-cookie")]
    return [pair for pair in pairs if not pair.endswith(("=", '=""'))]


def where_to(answer: httpx.Response) -> str:
    """Return all places that could take the client to the provider."""
    headers = [answer.headers.get(name, "") for name in ("location", "hx-redirect", "x-inertia-location")]
    refresh = re.search(r'content="0;url=([^"]*)"', answer.text)
    return " ".join([*headers, html.unescape(refresh[1]) if refresh else answer.text])
