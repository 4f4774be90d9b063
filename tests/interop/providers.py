"""The providers of test_every_provider: each starts with a few registered clients, and otherwise with its defaults.

A client is written in the words of OpenID Connect Registration 1.0. The user is alice, the password `wonderland`.
What was seen at each provider is in seen.toml, beside this file.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx

from demo.provider import Client, create_provider
from tests.conftest import _free_port, _served
from tests.interop.conftest import PATIENCE, NodeProvider
from tests.interop.keycloak import CACHE, Keycloak

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
Clients = Sequence[Mapping[str, Any]]
Start = Callable[[Clients], AbstractContextManager[str]]
"""Start a provider with these clients, and give its issuer."""


@contextmanager
def demo(clients: Clients) -> Iterator[str]:
    issuer = f"http://127.0.0.1:{(port := _free_port())}"
    provider = create_provider(issuer, [Client(**client) for client in clients], {"alice": "wonderland"})
    with _served(provider, port=port):
        yield issuer


@contextmanager
def node(clients: Clients) -> Iterator[str]:
    provider = NodeProvider(
        _free_port(), [{**client, "backchannel_logout_session_required": True} for client in clients]
    )
    try:
        assert provider.next_event()["event"] == "ready"
        yield provider.issuer
    finally:
        provider.stop()


def keycloak(server: Keycloak) -> Start:
    """Start a realm in a Keycloak that runs already."""

    @contextmanager
    def realm(clients: Clients) -> Iterator[str]:
        made = server.realm()
        for client in clients:
            made.register(client)
        yield made.issuer

    return realm


@contextmanager
def spring(clients: Clients) -> Iterator[str]:
    """Spring Authorization Server knows its clients by properties, and needs `mvn` and `javac` on the path."""
    issuer = f"http://127.0.0.1:{(port := _free_port())}"
    prefix = "spring.security.oauth2.authorizationserver"
    options = {
        "server.address": "127.0.0.1",
        "server.port": port,
        "spring.security.user.name": "alice",
        "spring.security.user.password": "wonderland",
        f"{prefix}.issuer": issuer,
    }
    for client in clients:
        registration = {
            "client-id": client["client_id"],
            "client-secret": "{noop}" + client["client_secret"],
            "client-authentication-methods": "client_secret_basic",
            "authorization-grant-types": "authorization_code,refresh_token",
            "redirect-uris": ",".join(client["redirect_uris"]),
            "post-logout-redirect-uris": ",".join(client["post_logout_redirect_uris"]),
            "scopes": "openid,email",
        }
        options |= {f"{prefix}.client.{client['client_id']}.registration.{n}": v for n, v in registration.items()}
    java = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-jar", str(_spring_jar())]
    with _running([*java, *(f"--{name}={value}" for name, value in options.items())], issuer):
        yield issuer


@contextmanager
def django(clients: Clients) -> Iterator[str]:
    configuration = json.dumps({"port": (port := _free_port()), "clients": clients})
    issuer = f"http://127.0.0.1:{port}/o"
    with _running([sys.executable, "-m", "tests.interop.django_provider", configuration], issuer):
        yield issuer


def _spring_jar() -> Path:
    """Return the program of spring/, which the first call builds."""
    sources = [HERE / "spring" / "pom.xml", *sorted((HERE / "spring").rglob("*.java"))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    jar = CACHE / f"spring-{digest[:16]}.jar"
    if not jar.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            maven = ["mvn", "--batch-mode", "--quiet", "--file", str(sources[0])]
            subprocess.run([*maven, f"-Doutput.folder={folder}", "package"], check=True)
            (Path(folder) / "provider-1.jar").rename(jar)
    return jar


@contextmanager
def _running(command: Sequence[str], issuer: str) -> Iterator[None]:
    """Run a server until the block ends; the block begins when its metadata can be read."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            end = time.monotonic() + 2 * PATIENCE
            while not _answers(f"{issuer}/.well-known/openid-configuration"):
                if process.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    raise RuntimeError(f"{command[0]} did not start:\n{log.read().decode()[-4000:]}")
                time.sleep(0.1)
            yield
        finally:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=10, trust_env=False).is_success
    except httpx.TransportError:
        return False
