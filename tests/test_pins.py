"""What the scripts install: requirements/*.txt, which scripts/pins writes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FILES = {path.stem: path.read_text() for path in sorted((ROOT / "requirements").glob("*.txt"))}
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", FILES[name], re.MULTILINE))


def named(requirements: list[str]) -> set[str]:
    names = {re.split(r"[^\w.-]", one)[0].lower().replace("_", "-") for one in requirements}
    return names - {PROJECT["project"]["name"]}


@pytest.mark.parametrize("name", FILES)
def test_every_pin_has_hashes_and_no_file_says_where_packages_come_from(name: str) -> None:
    for entry in re.split(r"\n(?=\S)", FILES[name].strip()):
        assert re.match(r"[a-z0-9-]+==\S+ (; [^\n]+ )?\\\n    --hash=sha256:", entry), entry
    assert "://" not in FILES[name]
    assert "--index" not in FILES[name]
    assert "--find-links" not in FILES[name]


def test_what_pyproject_asks_for_is_pinned() -> None:
    """Else scripts/pins has not run after a change."""
    project, extras, groups = (
        PROJECT["project"],
        PROJECT["project"]["optional-dependencies"],
        PROJECT["dependency-groups"],
    )
    assert set(FILES) == {"test", "demo", "lowest", *groups}
    of_users = named([*project["dependencies"], *extras["demo"]])
    assert named([*project["dependencies"], *(one for extra in extras.values() for one in extra)]) <= set(pins("test"))
    assert set(pins("test")) == set(pins("lowest"))
    assert of_users <= set(pins("demo"))
    for group, requirements in groups.items():
        assert named(requirements) <= set(pins(group))


def test_a_package_has_one_version_in_all_files_but_the_lowest() -> None:
    versions: dict[str, set[str]] = {}
    for name in set(FILES) - {"lowest"}:
        for package, version in pins(name).items():
            versions.setdefault(package, set()).add(version)
    assert {package: found for package, found in versions.items() if len(found) > 1} == {}


def test_the_lowest_versions_are_those_that_pyproject_admits() -> None:
    project = PROJECT["project"]
    users = [*project["dependencies"], *project["optional-dependencies"]["demo"]]
    for package, least in re.findall(r"([a-z0-9-]+)>=([\d.]+)", " ".join(users)):
        pinned = pins("lowest")[package]
        assert re.sub(r"(\.0)+$", "", pinned) == re.sub(r"(\.0)+$", "", least), package
