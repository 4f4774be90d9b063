"""The reference pages, compared with the source: every error code, log message and event is there, and nothing else."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

import asgi_rp_logout
from asgi_rp_logout import presets
from asgi_rp_logout.events import LogoutChannel, LogoutEvent, LogoutOutcome


def is_preset(made: object) -> bool:
    return inspect.isfunction(made) and made.__module__ == presets.__name__ and not made.__name__.startswith("_")


PACKAGE = Path(asgi_rp_logout.__path__[0])
DOCS = Path(__file__).parent.parent / "docs"
TREES = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
LOGS = re.compile(r"logger\.(debug|info|warning|error|critical|exception)|.*\.(warn|once|_warn_once)")
LOGS_ITS_SECOND_ARGUMENT = re.compile(r"logger\.log|.*\.limited|.*limiter\.warning")


def written(page: str, heading: str = "") -> list[str]:
    """Return the first cell of each row of the tables on a page, without backticks."""
    text = (DOCS / page).read_text().partition(heading)[2] if heading else (DOCS / page).read_text()
    cells = re.findall(r"^\| (`.+?`) \|", text, re.MULTILINE)
    return [cell.strip("`") for cell in cells]


def codes() -> Iterator[str]:
    """Give every error code: those that are passed as ``code=``, and the defaults of the classes."""
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "code":
                yield from constants(node.value, tree)
    for node in ast.walk(TREES[PACKAGE / "errors.py"]):
        if isinstance(node, ast.arguments):
            yield from (str(one.value) for one in node.kw_defaults if isinstance(one, ast.Constant))


def sentences() -> Iterator[str]:
    """Give every sentence that is logged, with an ellipsis for what is filled in."""
    for tree in TREES.values():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            function = ast.unparse(call.func)
            position = 0 if LOGS.fullmatch(function) else 1 if LOGS_ITS_SECOND_ARGUMENT.fullmatch(function) else None
            if position is not None:
                found = list(constants(call.args[position], tree))
                # "%s" logs a sentence that was put together before.
                yield from constants(call.args[position + 1], tree) if found == ["%s"] else found


def constants(node: ast.expr | None, tree: ast.Module) -> Iterator[str]:
    """Give the texts that an expression can be; names stand for all that the module assigns to them."""
    match node:
        case ast.Constant(value=str(text)):
            yield re.sub(r"%(?:\.\d)?[srdf]", "…", text) if text != "%s" else text
        case ast.JoinedStr():
            parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
            yield "".join(str(part) for part in parts)
        case ast.IfExp():
            yield from constants(node.body, tree)
            yield from constants(node.orelse, tree)
        case ast.Dict():
            for value in node.values:
                yield from constants(value, tree)
        case ast.Call(func=ast.Attribute(value=table, attr="get"), args=[_, default]):
            yield from constants(table, tree)
            yield from constants(default, tree)
        case ast.Name(id=name):
            for assigned in ast.walk(tree):
                if isinstance(assigned, ast.Assign) and any(ast.unparse(one) == name for one in assigned.targets):
                    yield from constants(assigned.value, tree)


def test_every_error_code_is_on_its_page_and_no_other() -> None:
    ours = {code for code in codes() if code != "…"}
    assert len(ours) > 40, "the control"
    assert set(written("reference/errors.md")) == ours


def test_every_log_message_is_on_its_page() -> None:
    rows = written("reference/log.md")
    missing = [one for one in said() if not any(one in row for row in rows)]
    assert missing == [], "add a row to docs/reference/log.md for each"


def test_the_page_of_log_messages_has_none_that_is_gone() -> None:
    assert [row for row in written("reference/log.md") if not any(one in row for one in said())] == []


@cache
def said() -> set[str]:
    """Give the sentences that a reader of the log can search for; a beginning that is filled in does not count."""
    found = {re.sub(r"^…: ", "", one.removesuffix("…")) for one in sentences()}
    return {one for one in found if len(re.findall(r"[a-z_]{2,}", one)) >= 2}


@pytest.mark.parametrize("level", ["WARNING", "INFO", "DEBUG"])
def test_the_reader_of_log_messages_reads_them(level: str) -> None:
    """The control: one of each level, and those that are put together from parts."""
    expected = {
        "WARNING": "a record could not be written",
        "INFO": "the providers could not be listed after a logout: ",
        "DEBUG": "GET … is a prefetch, answered 503, because a hover must log nobody out",
    }
    assert expected[level] in said()
    assert {"login_source raised …, so this logout stays local", "expected a Login or None"} <= said()
    assert "the end of a login could not be written to the store yet, so other workers do not know of it" in said()


def test_every_part_of_an_event_is_described() -> None:
    page = (DOCS / "elsewhere.md").read_text().partition("## on_logout")[2].partition("\n## ")[0]
    for field in dataclasses.fields(LogoutEvent):
        assert f"`{field.name}`" in page, field.name
    for channel in get_args(LogoutChannel):
        assert f'`"{channel}"`' in page, channel
    table = (DOCS / "operations.md").read_text().partition("| `outcome` |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(get_args(LogoutOutcome))


def test_every_public_name_is_in_the_reference() -> None:
    page = (DOCS / "reference" / "api.md").read_text()
    described = set(re.findall(r"^\.\. auto\w+:: asgi_rp_logout\.(\w+)$", page, re.MULTILINE)) | {"presets"}
    assert described == set(asgi_rp_logout.__all__)


@pytest.mark.parametrize("preset", sorted(name for name, made in vars(presets).items() if is_preset(made)))
def test_every_preset_says_where_it_is_known_from_since_when_and_that_it_was_not_tried(preset: str) -> None:
    table = (DOCS / "providers.md").read_text().partition("## Presets")[2].partition("\n## ")[0]
    (row,) = (line for line in table.splitlines() if line.startswith("|") and f"`{preset}`" in line.split("|")[1])
    _, _, provider, source, date, certainty, _ = (cell.strip() for cell in row.split("|"))
    assert provider
    assert re.search(r"source|documentation|third party", source)
    assert re.fullmatch(r"2026-\d\d-\d\d", date)
    assert re.search(r"; not tried|; tried with |nothing to try", certainty)
