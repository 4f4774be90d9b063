"""What a page of docs/apps tells the reader to copy: files, commands, and the addresses to register."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PAGES = HERE.parent.parent / "docs" / "apps"
ISSUER = "https://id.example.com/realms/acme"  # on the pages
APP_PORT, RELAY_PORT = 8000, 8765
CLIENT_ID, CLIENT_SECRET = "dashboard", "secret"


@dataclass(frozen=True)
class Recipe:
    """The files by name, the shell commands that start the app, and the addresses to register at the provider."""

    app: str
    files: Mapping[str, str]
    commands: str
    redirect_uris: Sequence[str]
    post_logout_redirect_uris: Sequence[str]
    backchannel_logout_uri: str | None

    def write_to(self, folder: Path) -> None:
        """Write the files, after those in projects/; a file that is there already gets the page's lines added."""
        own = HERE / "projects" / self.app
        if own.exists():
            shutil.copytree(own, folder, dirs_exist_ok=True)
        for name, lines in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("a") as file:
                file.write(lines)


def read_recipe(app: str, issuer: str, app_port: int, relay_port: int) -> Recipe:
    """Read docs/apps/<app>.md, with the addresses of this machine instead of its examples.

    A block whose first line is a comment with a file's name is that file. Every block of `sh` is run, in their order.
    Raises ValueError if the page names no command or no redirect URI, or has none of the example addresses.
    """
    page = (PAGES / f"{app}.md").read_text()
    if ISSUER not in page or not re.search(rf"//(localhost|127\.0\.0\.2):{APP_PORT}\b", page):
        raise ValueError(f"{app}.md must use {ISSUER} and http://localhost:{APP_PORT}")
    page = page.replace(ISSUER, issuer).replace(_host_and_path(ISSUER), _host_and_path(issuer))
    page = re.sub(rf"\b{APP_PORT}\b", str(app_port), page)
    page = re.sub(rf"\b{RELAY_PORT}\b", str(relay_port), page)
    files, commands = {}, []
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        if language == "sh":
            commands.append(block)
        elif name := re.match(r"# (\S+\.\w+)\n", block):
            files[name[1]] = block
    redirect_uris = _registered(page, "Redirect URI")
    if not commands or not redirect_uris:
        raise ValueError(f"{app}.md must have a block of sh and a line `1. Redirect URI: ...`")
    backchannel = _registered(page, "Back-channel logout URL")
    return Recipe(
        app,
        files,
        "".join(commands),
        redirect_uris,
        _registered(page, "Post-logout redirect URI"),
        backchannel[0] if backchannel else None,
    )


def _host_and_path(url: str) -> str:
    return url.partition("://")[2]


def _registered(page: str, label: str) -> list[str]:
    """Return the addresses of a numbered line such as "1. Redirect URI: `http://localhost:8000/callback`"."""
    lines: list[str] = re.findall(rf"^\d\. {label}s?: (.*)$", page, re.MULTILINE)
    return [uri for line in lines for uri in re.findall(r"`(https?://[^`]+)`", line)]
