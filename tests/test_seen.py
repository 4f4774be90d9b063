"""docs/seen.md shows what is in tests/interop/seen.toml, which test_every_provider compares with real providers."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
INTEROP = ROOT / "tests" / "interop"
SEEN: dict[str, dict[str, str]] = tomllib.loads((INTEROP / "seen.toml").read_text())
STEPS = ["with_hint", "double_click", "fetch", "without_hint", "posted", "unregistered", "back_channel"]


def test_the_table_is_what_was_seen() -> None:
    page = (ROOT / "docs" / "seen.md").read_text()
    rows = [" | ".join(one[key] for key in ["name", "version", *STEPS, "needs"]) for one in SEEN.values()]
    assert re.findall(r"^\| (.+) \|$", page, re.MULTILINE)[1:] == rows


def test_nothing_was_seen_that_the_table_does_not_show() -> None:
    assert {key for one in SEEN.values() for key in one} == {"name", "version", *STEPS, "needs"}


VERSIONS = {
    "node": json.loads((INTEROP / "package.json").read_text())["dependencies"]["oidc-provider"],
    "keycloak": "".join(re.findall(r'^VERSION = "(.+)"$', (INTEROP / "keycloak.py").read_text(), re.MULTILINE)),
    "spring": "".join(
        re.findall(r"<version>(.+)</version>\s*<relativePath/>", (INTEROP / "spring/pom.xml").read_text())
    ),
    "django": "".join(
        re.findall(r"^django-oauth-toolkit==(\S+)", (ROOT / "requirements/test.txt").read_text(), re.MULTILINE)
    ),
}


@pytest.mark.parametrize("provider", [name for name in SEEN if name != "demo"])
def test_the_version_is_the_one_that_is_started(provider: str) -> None:
    assert SEEN[provider]["version"].split(" of ")[-1].removeprefix("Spring Boot ") == VERSIONS[provider]
