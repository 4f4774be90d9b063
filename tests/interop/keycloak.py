"""Keycloak on this machine: fetched once, started once for all tests, with a realm for each module that asks for one.

`java` and `mvn` must be on the path; scripts/interop installs them.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from authlib.integrations.httpx_client import OAuth2Client

VERSION = "26.7.3"
SHA256 = "27a6535553c3cdcd083872ba40629efafb3475e3b758e0c6f691395561dd0f1f"
CACHE = Path(__file__).parent / ".cache"
START = 300.0  # seconds; the first start of an installation also builds it
USER = {"enabled": True, "emailVerified": True, "firstName": "A", "lastName": "User"}  # else it asks for them


def installed() -> Path:
    """Return Keycloak's folder. The first call fetches the distribution from Maven's repository and unpacks it."""
    folder = CACHE / f"keycloak-{VERSION}"
    if folder.is_dir():
        return folder
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
        plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
        artifact = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"
        options = [f"-Dartifact={artifact}", f"-DoutputDirectory={temporary}"]
        subprocess.run(["mvn", "--batch-mode", "--quiet", f"{plugin}:copy", *options], check=True)
        (archive,) = Path(temporary).glob("*.zip")
        with archive.open("rb") as content:
            if (found := hashlib.file_digest(content, "sha256").hexdigest()) != SHA256:
                raise RuntimeError(f"{archive.name} has the SHA-256 {found}, not {SHA256}")
        shutil.unpack_archive(archive, temporary)
        (Path(temporary) / folder.name).rename(folder)
    return folder


class Keycloak:
    """A Keycloak in development mode, in memory, on `.url`; `.admin` is an HTTP client for its admin API.

    Its issuers carry the host and port by which it is called.
    """

    def __init__(self, port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        secret = secrets.token_urlsafe()
        environment = {
            **os.environ,
            "JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx512m",
            "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1",  # starts in half the time
            "KC_BOOTSTRAP_ADMIN_CLIENT_ID": "tests",
            "KC_BOOTSTRAP_ADMIN_CLIENT_SECRET": secret,
        }
        options = ["--db=dev-mem", "--http-host=127.0.0.1", f"--http-port={port}"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["sh", installed() / "bin" / "kc.sh", "start-dev", *options],
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,  # the script's java is stopped along with it
            )
        self.admin = OAuth2Client(
            "tests",
            secret,
            token_endpoint=f"{self.url}/realms/master/protocol/openid-connect/token",
            grant_type="client_credentials",
            base_url=f"{self.url}/admin/realms",
            timeout=60,
            trust_env=False,
        )
        try:
            self._await_start()
            self.admin.fetch_token()
        except BaseException:
            self.stop()
            raise

    def _await_start(self) -> None:
        end = time.monotonic() + START
        while True:
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"Keycloak did not start:\n{self._log.read_text()[-4000:]}")
            try:
                if httpx.get(f"{self.url}/realms/master", timeout=10, trust_env=False).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)

    def realm(self, **representation: Any) -> Realm:
        """Create a realm with the users alice and bob, whose password is `wonderland`, and what else is given."""
        name = f"r{secrets.token_hex(4)}"
        users = [user("alice"), user("bob"), *representation.pop("users", [])]
        content = {"realm": name, "enabled": True, "eventsEnabled": True, "users": users, **representation}
        self.admin.post("", json=content).raise_for_status()
        return Realm(self, name)

    def pause(self) -> None:
        """Let connections wait for an answer until `resume`."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        self.admin.close()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def user(name: str, password: str = "wonderland", groups: Sequence[str] = ()) -> dict[str, Any]:
    """Give a user in Keycloak's words; `groups` are paths, such as `/staff`."""
    credentials = [{"type": "password", "value": password, "temporary": False}]
    return {**USER, "username": name, "email": f"{name}@example.com", "credentials": credentials, "groups": [*groups]}


class Realm:
    """A realm: `.issuer`, and what an administrator does there."""

    def __init__(self, keycloak: Keycloak, name: str) -> None:
        self.keycloak = keycloak
        self.name = name
        self.issuer = f"{keycloak.url}/realms/{name}"

    def get(self, path: str, **params: Any) -> Any:
        answer = self.keycloak.admin.get(f"/{self.name}{path}", params=params)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, content: Mapping[str, Any] | None = None) -> str:
        """Post to the admin API, and return the id of what was created there."""
        answer = self.keycloak.admin.post(f"/{self.name}{path}", json=content)
        answer.raise_for_status()
        return str(answer.headers.get("location", "")).rpartition("/")[2]

    def register(self, metadata: Mapping[str, Any], **more: Any) -> None:
        """Create a client from its registration, in the words of OpenID Connect Registration 1.0.

        `more` are fields of Keycloak's own, such as `protocolMappers`.
        """
        attributes = {
            "post.logout.redirect.uris": "##".join(metadata.get("post_logout_redirect_uris", ())),
            "backchannel.logout.url": metadata.get("backchannel_logout_uri"),
            "backchannel.logout.session.required": metadata.get("backchannel_logout_session_required", True),
            "frontchannel.logout.url": metadata.get("frontchannel_logout_uri"),
            "frontchannel.logout.session.required": metadata.get("frontchannel_logout_session_required", True),
            **more.pop("attributes", {}),
        }
        client = {
            "clientId": metadata["client_id"],
            "secret": metadata["client_secret"],
            "redirectUris": metadata["redirect_uris"],
            "frontchannelLogout": "frontchannel_logout_uri" in metadata,
            "attributes": {name: value for name, value in attributes.items() if value is not None},
            **more,
        }
        self.post("/clients", client)

    def unregister(self, client_id: str) -> None:
        """Delete a client, if there is one of this name."""
        for client in self.get("/clients", clientId=client_id):
            self.keycloak.admin.delete(f"/{self.name}/clients/{client['id']}").raise_for_status()

    def user_id(self, name: str) -> str:
        (found,) = self.get("/users", username=name, exact=True)
        return str(found["id"])

    def sessions(self, name: str) -> list[str]:
        """Return the sids of a user's sessions."""
        return [session["id"] for session in self.get(f"/users/{self.user_id(name)}/sessions")]

    def end_session(self, sid: str) -> None:
        """End one session, as the console's "Sign out" does."""
        self.keycloak.admin.delete(f"/{self.name}/sessions/{sid}").raise_for_status()

    def end_sessions_of(self, name: str) -> None:
        """End all sessions of a user, as the console's "Logout all sessions" does."""
        self.post(f"/users/{self.user_id(name)}/logout")

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a kind, such as LOGOUT or REVOKE_GRANT, the newest first."""
        events: list[dict[str, Any]] = self.get("/events", type=kind)
        return events

    def signing_kid(self) -> str:
        return str(self.get("/keys")["active"]["RS256"])

    def rotate_keys(self) -> str:
        """Make a new active key for RS256, and return its kid; the old one stays valid."""
        priority = max(key.get("providerPriority", 0) for key in self.get("/keys")["keys"]) + 1
        config = {"priority": [str(priority)], "algorithm": ["RS256"]}
        component = {"name": f"rsa-{priority}", "providerId": "rsa-generated", "config": config}
        self.post("/components", {**component, "providerType": "org.keycloak.keys.KeyProvider"})
        return self.signing_kid()
