"""Fixtures on real parts: a server on a free port, a certificate, Redis."""

from __future__ import annotations

import asyncio
import datetime
import inspect
import ipaddress
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck
from starlette.types import ASGIApp

import asgi_rp_logout
from asgi_rp_logout.store import process_store
from demo.serving import ListeningSocket, Server
from tests.virtual_time import VirtualLoop, hand_in_the_clock
from tests.workers import StartWorkers, served_by_two_workers

BY_NAME_ONLY = {Path(__file__).parent / "interop", Path(__file__).parent / "real_apps"}

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis.settings.load_profile("any machine")


def pytest_report_header() -> str:
    return f"asgi_rp_logout: {asgi_rp_logout.__path__[0]}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave tests/interop and tests/real_apps to their scripts: collected only where the command line names them."""
    if collection_path not in BY_NAME_ONLY:
        return None
    return not any(collection_path.name in argument for argument in config.args) or None


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: object) -> None:
    """Run each async test under anyio. Its option for that is younger than the oldest anyio that we support."""
    if inspect.iscoroutinefunction(obj) and collector.istestfunction(obj, name):
        pytest.mark.anyio(obj)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "redis_server" in getattr(item, "fixturenames", ()):
            item.add_marker("redis")


@pytest.fixture(autouse=True)
def own_process_store() -> None:
    """Each test is a process of its own to middlewares that were given no store."""
    process_store.cache_clear()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def _package_in_virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    hand_in_the_clock(loop, monkeypatch)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def free_port() -> int:
    """A loopback port that nobody listened on a moment ago."""
    return _free_port()


@pytest.fixture
def unused_port() -> UnusedPort:
    """As free_port, for tests that need several: a function that gives another one at each call."""
    return _free_port


class Certificate(NamedTuple):
    cert: Path
    key: Path

    def client_context(self) -> ssl.SSLContext:
        """Give the TLS context of a client that trusts this certificate (`httpx.Client(verify=...)`)."""
        return ssl.create_default_context(cafile=self.cert)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A self-signed certificate for localhost and 127.0.0.1."""
    folder = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    pem = serialization.Encoding.PEM
    made.cert.write_bytes(cert.public_bytes(pem))
    made.key.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    return made


@contextmanager
def _served(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    certificate: Certificate | None = None,
    **options: Any,
) -> Iterator[str]:
    tls = {"ssl_certfile": certificate.cert, "ssl_keyfile": certificate.key} if certificate else {}
    server = Server(app, **({"log_config": None, "timeout_graceful_shutdown": 2} | tls | options))
    with ListeningSocket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))  # bound here, so that no other process can take the port in between
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        if not server.started:
            raise RuntimeError("the server did not start")
        try:
            yield f"{'https' if certificate else 'http'}://{host}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=60)
    assert not thread.is_alive(), "the server did not stop"


# What the fixtures of these names give.
Serve = Callable[..., str]
UnusedPort = Callable[[], int]
Log = Callable[..., list[str]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve ASGI apps: `serve(app, host=, port=, certificate=, **uvicorn_options)` gives the base URL.

    Each app runs in a thread of its own with an event loop of its own, on 127.0.0.1 and a free port (or `port`), and is
    stopped at the end of the test. `host` only names it in the URL: "127.0.0.1" or "localhost".
    """
    with ExitStack() as stack:
        yield lambda app, **options: stack.enter_context(_served(app, **options))


@pytest.fixture
def start_workers() -> Iterator[StartWorkers]:
    """Serve an app in two processes: `start_workers("tests.worker_app:app", NAME="value")` gives the base URL."""
    with ExitStack() as stack:
        yield lambda app, **environment: stack.enter_context(served_by_two_workers(app, _free_port(), environment))


class RedisServer:
    """A redis-server of the test's own, without persistence; `kill()` and `start()` give an outage on one port."""

    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(["redis-server", *options], cwd=self._folder, stdout=subprocess.DEVNULL)
        while not self._listening():
            if self._process.poll() is not None:
                raise RuntimeError(f"redis-server ended with {self._process.returncode}")
            time.sleep(0.01)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A running RedisServer: `.url`, `.port`, `.kill()`, `.start()`."""
    if not shutil.which("redis-server"):
        pytest.skip("redis-server is not installed; scripts/interop installs it")
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    """Ask for what the library logged: `log()` gives the messages from WARNING up, `log(logging.DEBUG)` all."""
    caplog.set_level(logging.DEBUG, logger="asgi_rp_logout")

    def messages(level: int = logging.WARNING) -> list[str]:
        ours = [record for record in caplog.records if record.name.split(".")[0] == "asgi_rp_logout"]
        return [record.getMessage() for record in ours if record.levelno >= level]

    return messages
