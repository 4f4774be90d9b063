"""The pages of docs/apps: each has its tests and its pins, names the version that was tried, and is a recipe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.real_apps.recipe import CLIENT_ID, PAGES, read_recipe
from tests.test_docs import anchor_of

REAL_APPS = Path(__file__).parent / "real_apps"
INDEX = PAGES / "README.md"
APPS = sorted(page.stem for page in PAGES.glob("*.md") if page != INDEX)


def version_of(app: str) -> str:
    """Return the version of the app that its environment has, which stands first there."""
    asked = (REAL_APPS / "requirements" / f"{app}.in").read_text()
    (version,) = re.findall(r"\A[^\n=]+==(\S+)", asked)
    return str(version)


def test_every_page_has_its_tests_and_its_pins_and_no_other_has() -> None:
    assert sorted(test.stem.removeprefix("test_") for test in REAL_APPS.glob("test_*.py")) == APPS
    assert sorted(pins.stem for pins in (REAL_APPS / "requirements").glob("*.txt")) == APPS


@pytest.mark.parametrize("app", APPS)
def test_a_page_names_the_version_that_was_tried(app: str) -> None:
    assert version_of(app) in (PAGES / f"{app}.md").read_text().partition("## ")[0]
    (row,) = re.findall(rf"^\|.*\]\({app}\.md\).*$", INDEX.read_text(), re.MULTILINE)
    assert f"| {version_of(app)} |" in row


@pytest.mark.parametrize("app", APPS)
def test_a_page_is_a_recipe_for_another_machine_too(app: str) -> None:
    """With this machine's addresses in all places."""
    recipe = read_recipe(app, "http://127.0.0.1:9999", 9998, 9997)
    text = "".join(recipe.files.values()) + recipe.commands
    assert CLIENT_ID in text
    assert not re.search(r"id\.example\.com|\b8000\b|\b8765\b", text)
    assert ":9998/" in recipe.redirect_uris[0]


@pytest.mark.parametrize("page", [INDEX, *(PAGES / f"{app}.md" for app in APPS)], ids=lambda page: page.stem)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)]*)\)", re.sub(r"\s+", " ", page.read_text())):
        if "://" not in target:
            other = page.parent / target if target else page
            assert other.exists(), target
            headings = {anchor_of(heading) for heading in re.findall(r"^#+ (.+)$", other.read_text(), re.MULTILINE)}
            assert not anchor or anchor in headings, f"{target}#{anchor}"
