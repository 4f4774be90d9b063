"""A real app in a process and an environment of its own, a provider for it, and a second app at the same provider."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from starlette.types import ASGIApp

from asgi_rp_logout import OIDCProvider
from demo.provider import Client, Provider, create_provider
from tests.conftest import Certificate, _free_port, _served
from tests.interop.apps import create_app
from tests.interop.conftest import _is_listening, asks_for_password, sign_in
from tests.real_apps.recipe import CLIENT_ID, CLIENT_SECRET, Recipe, read_recipe

ENVIRONMENTS = Path(__file__).parent.parent.parent / "build" / "apps"
PATIENCE = 60.0  # seconds until an app that should answer counts as broken
START = 300.0  # seconds until an app that should start counts as broken: some compile a gigabyte of Python first
WIKI: dict[str, Any] = {"client_id": "wiki", "client_secret": "wiki-secret"}
USER, PASSWORD = "alice", "wonderland"
EMAIL = f"{USER}@example.com"
"""What the provider says about the user."""


class RealApp:
    """An app that runs, and what its tests need: a subclass says how its own pages are used."""

    name = ""
    """Of the page in docs/apps, and of the environment that scripts/apps has made."""
    host = "localhost"
    """Where the page puts it."""
    port: int | None = None
    """Its port, or None for a free one."""
    public_url: str | None = None
    """Its address as browsers see it, if a proxy is in front: registered in place of the page's own."""
    environment: Mapping[str, str] = {}
    """Settings that are no part of the recipe, such as those that keep an app from calling home."""

    claims: Mapping[str, Any] = {}
    """More of what the provider says about the user, for an app that wants it."""

    def __init__(self, url: str, issuer: str, wiki: str, provider: Provider) -> None:
        self.url = url
        self.issuer = issuer
        self.wiki = wiki
        self.provider = provider

    @classmethod
    def amended(cls, recipe: Recipe) -> Recipe:
        """Return the recipe with what a variant of the app needs beyond it."""
        return recipe

    # What each app says of itself

    def start_login(self, page: Page) -> None:
        """Go to the app as an anonymous visitor, and click what leads to the provider."""
        raise NotImplementedError

    def is_signed_in(self, page: Page) -> bool:
        """Open the app, and return whether it shows the user's own page."""
        raise NotImplementedError

    def log_out(self, page: Page) -> None:
        """Use the app's own logout, from its own page."""
        raise NotImplementedError

    # What is the same for all

    def restart(self) -> None:
        """End the app's process, and start it again."""
        raise NotImplementedError

    def log_in(self, page: Page) -> None:
        """Sign the user in, with the password."""
        assert self.next_login_asks(page)
        sign_in(page, USER, PASSWORD)
        page.wait_for_url(f"{self.url}/**")
        assert self.is_signed_in(page)

    def next_login_asks(self, page: Page) -> bool:
        """Start another login, wait for a page of the provider, and return whether it asks for the password."""
        self.start_login(page)
        page.wait_for_url(f"{self.issuer}/authorize**")
        return asks_for_password(page)

    def log_out_and_await_the_provider(self, page: Page) -> None:
        """Log out, and wait until the provider has ended this browser's session without a question."""
        self.log_out(page)
        end = time.monotonic() + PATIENCE
        while self.is_in_at_provider(page):
            assert time.monotonic() < end, f"the provider's session goes on; the browser is at {page.url}"
            page.wait_for_timeout(50)
        page.wait_for_load_state()

    def is_in_at_provider(self, page: Page) -> bool:
        """Return whether this browser has a session at the provider."""
        return any(cookie["value"] in self.provider.sessions for cookie in page.context.cookies(self.issuer))

    def log_in_to_the_wiki(self, page: Page) -> None:
        """Sign in to the second app, which the provider's session does without a password."""
        page.goto(f"{self.wiki}/login")
        expect(page.locator("#user")).to_have_text(USER)

    def log_out_of_the_wiki(self, page: Page) -> None:
        """Log out in the second app, which ends the provider's session; the provider then notifies this app."""
        page.goto(f"{self.wiki}/")
        page.get_by_role("button", name="/logout", exact=True).click()
        page.wait_for_url(f"{self.wiki}/")
        assert not self.is_in_at_provider(page)


App = TypeVar("App", bound=RealApp)


@contextmanager
def running(
    kind: type[App], folder: Path, *, certificate: Certificate | None = None, provider_app: Any = None
) -> Iterator[App]:
    """Run the app as its page says, with the demo's provider on 127.0.0.1, and the apps on localhost.

    `certificate` puts the provider on https. `provider_app` wraps the provider, for an app that wants other paths.
    """
    provider_port, wiki_port, relay_port = (_free_port() for _ in range(3))
    app_port = kind.port or _free_port()
    address, wiki = f"http://{kind.host}:{app_port}", f"http://localhost:{wiki_port}"
    url = kind.public_url or address
    issuer = f"{'https' if certificate else 'http'}://127.0.0.1:{provider_port}"
    recipe = kind.amended(read_recipe(kind.name, issuer, app_port, relay_port))
    clients = [
        Client(
            CLIENT_ID,
            CLIENT_SECRET,
            [uri.replace(address, url) for uri in recipe.redirect_uris],
            [uri.replace(address, url) for uri in recipe.post_logout_redirect_uris],
            recipe.backchannel_logout_uri,
        ),
        Client(**WIKI, redirect_uris=[f"{wiki}/callback"], post_logout_redirect_uris=[f"{wiki}/"]),
    ]
    provider = create_provider(issuer, clients, {USER: PASSWORD}, claims=kind.claims)
    trusting = {"SSL_CERT_FILE": str(certificate.cert)} if certificate else {}
    served = provider_app(provider) if provider_app else provider
    with (
        pytest.MonkeyPatch.context() as patch,
        _served(served, port=provider_port, certificate=certificate),
        _served(_wiki(issuer), host="localhost", port=wiki_port),
        _process(recipe, folder, (kind.host, app_port), {**kind.environment, **trusting}) as restart,
    ):
        for name, value in trusting.items():
            patch.setenv(name, value)  # for the wiki, which is in this process
        app = kind(url, issuer, wiki, provider.state.provider)
        app.restart = restart  # type: ignore[method-assign]
        yield app


def _wiki(issuer: str) -> ASGIApp:
    """Make the second app at the same provider; its cookie has another name, since cookies do not tell ports apart."""
    providers = [OIDCProvider(issuer, WIKI["client_id"], WIKI["client_secret"])]
    rp_logout = {"providers": providers, "provider_timeout": PATIENCE}
    return create_app(issuer, client=WIKI, session_cookie="wiki_session", rp_logout=rp_logout)


@contextmanager
def _process(
    recipe: Recipe, folder: Path, address: tuple[str, int], environment: Mapping[str, str]
) -> Iterator[Callable[[], None]]:
    """Run the commands of the page in `folder`, until the app listens, and end all of them at last.

    Gives a function that ends them and runs them again.
    """
    home = ENVIRONMENTS / recipe.app
    if not (home / "bin").exists():
        raise RuntimeError(f"{home} is not there: run `scripts/apps {recipe.app}`")
    recipe.write_to(folder)
    path = f"{home}/bin:/usr/local/bin:/usr/bin:/bin"
    settings = {"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", **environment}

    with (folder / "output").open("w+") as output:

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                ["/bin/sh", "-e", "-c", recipe.commands],
                cwd=folder,
                env=settings,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

        process = start()

        def restart() -> None:
            nonlocal process
            _end(process)
            while _is_listening(*address):
                time.sleep(0.1)
            process = start()
            _await_listening(process, address, folder / "output")

        try:
            _await_listening(process, address, folder / "output")
            yield restart
        finally:
            _end(process)
            print((folder / "output").read_text())  # pytest shows it if a test failed


def _await_listening(process: subprocess.Popen[bytes], address: tuple[str, int], output: Path) -> None:
    end = time.monotonic() + START
    while process.poll() is None and time.monotonic() < end:
        if _is_listening(*address):
            return
        time.sleep(0.1)
    raise RuntimeError(f"the app does not listen:\n{output.read_text()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and those that it started: they are a process group of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            continue


SOCKETS = """
window.openSockets = 0
window.WebSocket = class extends WebSocket {
    constructor(...given) {
        super(...given)
        this.addEventListener('open', () => { window.openSockets += 1 })
        this.addEventListener('close', event => console.debug('WebSocket closed with', event.code))
    }
}
"""


def copy_of(app: RealApp, profile: BrowserContext, into: BrowserContext, *, companion: bool) -> None:
    """Copy the app's cookies into another profile, with or without the middleware's companion cookie."""
    cookies = [one for one in profile.cookies(app.url) if companion or not re.match(r"(__Host-)?rp_login", one["name"])]
    into.add_cookies(cookies)  # type: ignore[arg-type]
