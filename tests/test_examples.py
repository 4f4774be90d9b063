"""Every app in examples/ does what its page says: it is run by uvicorn, as a user runs it, at the demo's provider."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

import asgi_rp_logout
from demo.provider import Client, create_provider
from tests.conftest import Serve, UnusedPort
from tests.test_demo import Browser, asks_for_password

EXAMPLES = Path(__file__).parent.parent / "examples"
DOCS = EXAMPLES.parent / "docs"
FRAMEWORKS = sorted(path.parent.name for path in EXAMPLES.glob("*/app.py"))
ANONYMOUS = '<a href="/login">Log in</a>'
PATIENCE = 120.0  # seconds in which an app starts on a busy machine

Start = Callable[[str], tuple[str, str]]


@contextmanager
def running(framework: str, port: int, environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run `uvicorn app:app` in an example's folder, until the end of the block."""
    package = str(Path(asgi_rp_logout.__path__[0]).parent)
    command = [sys.executable, "-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=EXAMPLES / framework,
            env=os.environ | environment | {"PYTHONPATH": package, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the app did not start: {log.read_text()}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def start(serve: Serve, unused_port: UnusedPort, tmp_path: Path) -> Iterator[Start]:
    """Start an example, with a provider that knows its addresses: gives the issuer and the address of the app."""
    with ExitStack() as stack:

        def started(framework: str) -> tuple[str, str]:
            port, app_port = unused_port(), unused_port()
            issuer, app = f"http://127.0.0.1:{port}", f"http://localhost:{app_port}"
            client = Client("dashboard", "secret", [f"{app}/callback"], [f"{app}/"], f"{app}/backchannel-logout")
            serve(create_provider(issuer, [client], {"alice": "wonderland"}), port=port)
            settings = {"ISSUER": issuer, "CLIENT_ID": "dashboard", "CLIENT_SECRET": "secret"}
            stack.enter_context(running(framework, app_port, settings, tmp_path / "log"))
            return issuer, app

        yield started


def test_every_framework_has_an_example() -> None:
    assert FRAMEWORKS == ["django", "fastapi", "flask", "litestar", "quart", "starlette"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_page_of_a_framework_shows_its_example(framework: str) -> None:
    assert shown(f"frameworks/{framework}.md") == (EXAMPLES / framework / "app.py").read_text()


def test_the_quick_start_shows_the_example_of_fastapi() -> None:
    assert shown("quickstart.md") == (EXAMPLES / "fastapi" / "app.py").read_text()


def shown(page: str) -> str:
    (block,) = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    return str(block)


def test_the_quick_start_starts_what_the_realm_has() -> None:
    """Keycloak's realm knows the client, the user and the addresses of the pages; the tests' client is the same."""
    realm = json.loads((EXAMPLES / "keycloak" / "acme-realm.json").read_text())
    (client,), (user,) = realm["clients"], realm["users"]
    page = (DOCS / "quickstart.md").read_text()
    for text in ("realms/" + realm["realm"], f"CLIENT_ID={client['clientId']}", f"CLIENT_SECRET={client['secret']}"):
        assert text in page, text
    assert f"`{user['username']}` with the password `{user['credentials'][0]['value']}`" in page
    assert client["redirectUris"] == ["http://localhost:8000/callback"]
    assert client["attributes"]["post.logout.redirect.uris"] == "http://localhost:8000/"
    assert client["attributes"]["backchannel.logout.url"].endswith(":8000/backchannel-logout")
    assert client["frontchannelLogout"] is False, "else Keycloak sends no logout tokens"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_example_asks_for_what_it_imports(framework: str) -> None:
    lines = (EXAMPLES / framework / "requirements.txt").read_text().splitlines()
    tree = ast.parse((EXAMPLES / framework / "app.py").read_text())
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported = {module.partition(".")[0] for module in modules} - {"asgi_rp_logout", "types"}
    assert imported - {"starlette"} <= set(lines), "FastAPI brings Starlette along"
    assert lines[0].startswith("../..")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_example_ends_both_sessions_wherever_the_logout_starts(framework: str, start: Start) -> None:
    """Login, logout, a login that asks for the password, a copied cookie, and a logout at the provider."""
    issuer, app = start(framework)
    browser, thief = Browser(), Browser()
    assert browser.get(f"{app}/").text == ANONYMOUS
    page = browser.sign_in(browser.get(f"{app}/login"))
    assert page.text.startswith("Hello!")
    thief.http.cookies.update(browser.http.cookies)
    assert thief.get(f"{app}/").text.startswith("Hello!"), "the control"

    page = browser.submit(page)
    assert any(url.startswith(f"{issuer}/end_session?") and "id_token_hint=" in url for url in browser.visited)
    assert (str(page.url), page.text) == (f"{app}/", ANONYMOUS)
    assert thief.get(f"{app}/").text == ANONYMOUS
    asked = browser.get(f"{app}/login")
    assert asks_for_password(asked)

    assert browser.sign_in(asked).text.startswith("Hello!")
    browser.submit(browser.get(f"{issuer}/end_session"), answer="yes")
    assert browser.get(f"{app}/").text == ANONYMOUS
