"""Live connections and the back channel under the ASGI servers that there are, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

ROOT = Path(__file__).parent.parent.parent
SOON = 20.0
"""Seconds after which something that has to happen within a quarter of one has not happened."""

COMMANDS = {
    "uvicorn": ["uvicorn", "--port", "{port}"],
    "hypercorn": ["hypercorn", "--bind", "127.0.0.1:{port}"],
    "hypercorn-trio": ["hypercorn", "--worker-class", "trio", "--bind", "127.0.0.1:{port}"],
    "granian": ["granian", "--interface", "asgi", "--port", "{port}"],
    "daphne": ["daphne", "--port", "{port}"],
}
SPEAK_HTTP2 = ["hypercorn", "hypercorn-trio", "granian"]


@dataclass(frozen=True)
class Served:
    """A server that runs, and what it has written."""

    address: str
    log: Path


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Served]]:
    """Start each server once, when it is asked for."""
    running: dict[str, Served] = {}
    with contextlib.ExitStack() as stack:

        def serve(name: str) -> Served:
            if name not in running:
                log = tmp_path_factory.mktemp(name) / "log"
                running[name] = stack.enter_context(_running(COMMANDS[name], log))
            return running[name]

        yield serve


@contextlib.contextmanager
def _running(command: list[str], log: Path) -> Iterator[Served]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    served = Served(f"127.0.0.1:{port}", log)
    command = [sys.executable, "-m", *(part.format(port=port) for part in command), "tests.interop.served_app:app"]
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    with log.open("wb") as written:
        environment = os.environ | {"PYTHONPATH": path}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=written, stderr=subprocess.STDOUT)
    try:
        until(lambda: process.poll() is not None or answers(served))
        assert process.poll() is None, log.read_text()
        yield served
    finally:
        process.terminate()
        process.wait(timeout=SOON)


@pytest.fixture
def server(request: pytest.FixtureRequest, servers: Callable[[str], Served]) -> Iterator[Served]:
    """The server that a test names; what it wrote is shown beside a test that fails."""
    served = servers(request.param)
    yield served
    print(served.log.read_text())


@pytest.fixture
def http(request: pytest.FixtureRequest, server: Served) -> Iterator[httpx.Client]:
    """A browser that speaks the version of HTTP that a test names."""
    versions = {"http1": request.param == 1, "http2": request.param == 2}
    with httpx.Client(base_url=f"http://{server.address}", timeout=SOON, **versions) as client:
        yield client


@pytest.fixture
def sid(http: httpx.Client) -> str:
    """The session of the user who has just signed in."""
    sid = secrets.token_hex(4)
    assert http.get("/login", params={"sid": sid}).text == "welcome"
    assert http.get("/").text == sid
    return sid


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def answers(server: Served) -> bool:
    try:
        return httpx.get(f"http://{server.address}/noted").status_code == 200
    except httpx.TransportError:
        return False


def await_note(server: Served, note: str) -> None:
    """Wait for something to happen in the application."""
    until(lambda: note in httpx.get(f"http://{server.address}/noted", timeout=SOON).json())


def cookie_of(http: httpx.Client) -> dict[str, str]:
    return {"cookie": "; ".join(f"{name}={value}" for name, value in http.cookies.items())}


EVERY_SERVER = [(name, 1) for name in COMMANDS]
IN_EVERY_VERSION = [*EVERY_SERVER, *((name, 2) for name in SPEAK_HTTP2)]


@pytest.mark.parametrize(("server", "http"), EVERY_SERVER, indirect=True)
def test_a_websocket_is_closed_with_4401_while_its_application_waits_for_the_client(
    server: Served, http: httpx.Client, sid: str
) -> None:
    with connect(f"ws://{server.address}/live", additional_headers=cookie_of(http)) as websocket:
        assert websocket.recv(timeout=SOON) == "hello"
        assert http.post("/logout").status_code == 303
        with pytest.raises(ConnectionClosed) as caught:
            websocket.recv(timeout=SOON)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4401
    await_note(server, f"{sid} has left")


@pytest.mark.parametrize(("path", "body"), [("/events/", b"data: 0\n\n"), ("/idle/", b"")])
@pytest.mark.parametrize(("server", "http"), IN_EVERY_VERSION, indirect=True)
def test_a_stream_is_ended_in_good_order_and_its_application_learns_of_it(
    request: pytest.FixtureRequest, server: Served, http: httpx.Client, sid: str, path: str, body: bytes
) -> None:
    """With trailers where the server sends any: it would wait for them for ever."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(http.get, path)
        await_note(server, f"{sid} is here")
        logout = httpx.post(f"http://{server.address}/logout", headers=cookie_of(http), timeout=SOON)
        assert logout.status_code == 303
        response = answer.result()
    assert response.content == body
    parameters = request.node.callspec.params
    sends_trailers = parameters["http"] == 2 and parameters["server"].startswith("hypercorn")
    assert response.headers["x-trailers"] == ("yes" if sends_trailers else "no")
    await_note(server, f"{sid} has left")


@pytest.mark.parametrize(("server", "http"), IN_EVERY_VERSION, indirect=True)
def test_a_logout_token_is_taken_and_ends_its_session_and_no_other(http: httpx.Client, sid: str) -> None:
    for named, left in (("another session", sid), (sid, "nobody")):
        token = http.get("/logout-token", params={"sid": named}).text
        answer = http.post("/backchannel", data={"logout_token": token})
        assert (answer.status_code, answer.content) == (200, b"")
        until(partial(lambda left: http.get("/").text == left, left))
