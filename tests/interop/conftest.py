"""Fixtures of the interop tests: node-oidc-provider, Keycloak, nginx, PostgreSQL, Chromium and Firefox.

Cookies do not tell ports apart, so providers live on 127.0.0.1 and applications on localhost. These tests are plain
functions: Playwright's sync API holds the event loop of the main thread.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route, sync_playwright

from tests.conftest import UnusedPort, _free_port
from tests.interop.keycloak import Keycloak, Realm

HERE = Path(__file__).parent
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CONFIRM = "button[name=logout], #kc-logout, button[name=answer][value=yes], input[name=allow][type=submit]"
"""The button that says yes to a provider's question whether to log out."""
LOCAL = {"localhost", "127.0.0.1"}
PATIENCE = 60.0  # seconds until a part that should answer counts as broken


class NodeProvider:
    """node-oidc-provider in a process of its own: `.issuer`, and `.next_event()` for what it reports."""

    def __init__(self, port: int, clients: Sequence[Mapping[str, Any]], **options: Any) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        configuration = json.dumps({"port": port, "clients": list(clients), **options})
        self._process = subprocess.Popen(
            ["node", "provider.mjs", configuration], cwd=HERE, stdout=subprocess.PIPE, text=True
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                if line.startswith("{"):  # the rest are the library's notices about its development defaults
                    self._lines.put(line)
        self._lines.put(None)

    def next_event(self) -> dict[str, Any]:
        line = self._lines.get(timeout=PATIENCE)
        if line is None:
            raise RuntimeError(f"node ended with {self._process.wait()}; was `npm ci` run in tests/interop?")
        event: dict[str, Any] = json.loads(line)
        return event

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()


StartNode = Callable[..., NodeProvider]


@pytest.fixture
def oidc_provider(unused_port: UnusedPort) -> Iterator[StartNode]:
    """Start node-oidc-provider: `oidc_provider(clients, features=, post=, ...)` with its own configuration names."""
    with ExitStack() as stack:

        def start(clients: Sequence[Mapping[str, Any]], **options: Any) -> NodeProvider:
            provider = NodeProvider(options.pop("port", None) or unused_port(), clients, **options)
            stack.callback(provider.stop)
            assert provider.next_event() == {"event": "ready", "issuer": provider.issuer}
            return provider

        yield start


@pytest.fixture(scope="session")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keycloak]:
    """A Keycloak for all tests; each module takes a realm of its own: `keycloak.realm()`."""
    server = Keycloak(_free_port(), tmp_path_factory.mktemp("keycloak") / "log")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def realm(keycloak: Keycloak) -> Realm:
    """A realm of Keycloak for the module: `.issuer`, `.register(metadata)`, and the administrator's powers."""
    return keycloak.realm()


class PostgreSQLServer:
    """A PostgreSQL of the tests' own on `.port`: the superuser is `postgres`, and nobody is asked for a password."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        # PostgreSQL does not run as root.
        self._as: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL}
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
            self._as |= {"user": "postgres", "group": "postgres", "extra_groups": []}
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not programs:
            raise RuntimeError("PostgreSQL is not installed; scripts/interop installs it")
        data = ["-D", str(folder / "data")]
        initdb: list[Path | str] = [programs[-1] / "initdb", *data]
        initdb += ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, check=True, **self._as)
        options = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "log_min_messages=fatal"]
        settings = [word for option in options for word in ("-c", option)]
        command: list[Path | str] = [programs[-1] / "postgres", *data, "-p", str(port), *settings]
        self._process = subprocess.Popen(command, **self._as, stderr=subprocess.DEVNULL)
        is_ready: list[Path | str] = [programs[-1] / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        while subprocess.run(is_ready, check=False).returncode:
            if self._process.poll() is not None:
                raise RuntimeError(f"postgres ended with {self._process.returncode}")
            time.sleep(0.05)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGQUIT)  # at once, its children too
        self._process.wait()


@pytest.fixture(scope="module")
def postgresql_server() -> Iterator[PostgreSQLServer]:
    """A running PostgreSQL, with what earlier tests of the module left in it."""
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, which only root may enter
        server = PostgreSQLServer(Path(folder), _free_port())
        yield server
        server.stop()


@pytest.fixture
def nginx(tmp_path: Path, unused_port: UnusedPort) -> Iterator[Callable[[str], str]]:
    """Start nginx with its own defaults in front of a server: `nginx(url)` gives the address before it."""
    with ExitStack() as stack:

        def start(behind: str) -> str:
            port = unused_port()
            folder = tmp_path / str(port)
            folder.mkdir()
            server = f"listen 127.0.0.1:{port}; location / {{ proxy_pass {behind}; }}"
            stack.enter_context(run_nginx(folder, port, server))
            return f"http://127.0.0.1:{port}"

        yield start


@contextmanager
def run_nginx(folder: Path, port: int, server: str, host: str = "127.0.0.1") -> Iterator[None]:
    """Run nginx with its own defaults and one server, which listens on `host` at `port`."""
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    configuration = (
        f"pid {folder}/pid; daemon off; events {{}} http {{ access_log off; {paths} server {{ {server} }} }}"
    )
    (folder / "nginx.conf").write_text(configuration)
    files: list[Path | str] = ["-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]
    process = subprocess.Popen([binary, *files])
    try:
        end = time.monotonic() + PATIENCE
        while not _is_listening(host, port):
            assert process.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < end, "nginx does not listen"
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _is_listening(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for the session."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def console_errors() -> list[str]:
    """What pages complained about: what is left in it fails the test, so a test takes out what it expects."""
    return []


NewPage = Callable[..., Page]


@pytest.fixture
def new_page(browser: Browser, console_errors: list[str]) -> Iterator[NewPage]:
    """Open a tab in a fresh profile of its own, which trusts any certificate and never leaves this machine.

    Takes Playwright's options of a profile, such as `java_script_enabled=False`.
    """

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.location["url"].endswith("/favicon.ico"):
            console_errors.append(f"{message.location['url']}: {message.text}")

    with ExitStack() as stack:

        def make(**options: Any) -> Page:
            context = stack.enter_context(browser.new_context(ignore_https_errors=True, **options))
            context.set_default_timeout(PATIENCE * 1000)
            context.route(lambda url: urlsplit(url).hostname not in LOCAL, _answer_with_nothing)
            page = context.new_page()
            page.on("console", note)
            page.on("pageerror", lambda error: console_errors.append(str(error)))
            return page

        yield make
    assert console_errors == []


@pytest.fixture(scope="module")
def lenient_profile(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """A profile on disk in which third-party cookies are allowed; in a fresh one of today's Chromium they are not."""
    folder = tmp_path_factory.mktemp("profile")
    (folder / "Default").mkdir()
    preferences = {"profile": {"cookie_controls_mode": 0, "block_third_party_cookies": False}}
    (folder / "Default" / "Preferences").write_text(json.dumps(preferences))
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with browser.browser_type.launch_persistent_context(
        folder, executable_path=chromium, args=FLAGS, ignore_https_errors=True
    ) as context:
        context.set_default_timeout(PATIENCE * 1000)
        yield context


@pytest.fixture
def lenient_page(lenient_profile: BrowserContext) -> Iterator[Page]:
    """A tab without cookies, where third-party cookies are allowed."""
    lenient_profile.clear_cookies()
    page = lenient_profile.new_page()
    yield page
    page.close()


def _answer_with_nothing(route: Route) -> None:
    route.fulfill(status=200, content_type="text/css", body="")


@pytest.fixture
def page(new_page: NewPage) -> Page:
    """One tab; `page.context` is its profile, cookies included."""
    return new_page()


def asks_for_password(page: Page) -> bool:
    """Tell whether a provider's sign-in form is on the page."""
    return page.locator("input[type=password]").count() > 0


def sign_in(page: Page, user: str = "alice", password: str = "wonderland") -> None:
    """Fill in the provider's sign-in form, and confirm what it asks after that."""
    page.locator("input[name=login], input[name=username]").fill(user)
    page.locator("input[type=password]").fill(password)
    page.locator("button[type=submit]").click()
    give_consent(page)


def give_consent(page: Page) -> None:
    """Say yes where the provider asks whether the application may know the user (node-oidc-provider)."""
    consent = page.locator("form:has(input[name=prompt][value=consent]) button[type=submit]")
    if consent.count():
        consent.click()


def confirm_logout(page: Page) -> None:
    """Say yes where the provider asks whether to sign out."""
    page.locator(CONFIRM).click()
