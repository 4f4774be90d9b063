"""Every promise of the documentation names the tests that hold it: see promises.toml."""

from __future__ import annotations

import ast
import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
MAP = TESTS / "promises.toml"
STARTS_AN_ITEM = re.compile(r"[-*] |\d+\. |\|")
NAMES_A_TEST = re.compile(r"`(test_\w+::test_\w+)`")


class Document(TypedDict):
    path: str
    each: str
    promises_nothing: list[str]


class Promise(TypedDict):
    promise: str
    where: str
    anchor: str
    tests: list[str]


class Part(NamedTuple):
    """A section, or a paragraph, list item or row of a table in one."""

    section: str
    text: str

    def says(self, anchor: str) -> bool:
        if anchor.startswith("## "):
            return self.section == anchor.removeprefix("## ")
        pieces = [re.escape(plain(piece)) for piece in anchor.split(" ... ")]
        return re.search(".*?".join(pieces), plain(self.text)) is not None

    def __str__(self) -> str:
        text = " ".join(self.text.split())
        return f"{self.section!r}: {text[:100]}{'...' if len(text) > 100 else ''}"


def plain(text: str) -> str:
    return " ".join(re.sub(r"[`*]", "", text).split()).casefold()


def parts(markdown: str, each: str) -> list[Part]:
    """Return what of a document has to be covered, in order; blocks of code are none."""
    markdown = re.sub(r"^```.*?^```$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    markdown = re.sub(r"^\|.*\n\|[-| ]+\|$", "", markdown, flags=re.MULTILINE)  # the head of a table
    markdown = re.sub(r"^    .*$", "", markdown, flags=re.MULTILINE)
    found: list[Part] = []
    for section in re.split(r"^#+ ", markdown, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        if each == "section":
            found += [Part(title, section)] * bool(body.strip())
        else:
            found += [Part(title, text) for text in paragraphs(body)]
    return found


def paragraphs(body: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", body):
        lines: list[str] = []
        for line in block.strip().splitlines():
            if lines and STARTS_AN_ITEM.match(line):
                yield "\n".join(lines)
                lines = []
            lines.append(line)
        if lines:
            yield "\n".join(lines)


def gaps(
    documents: Sequence[Document], promises: Sequence[Promise], texts: Mapping[str, str], tests: Iterable[str]
) -> list[str]:
    """Return what is wrong, each with what to do about it."""
    tests = set(tests)
    found: list[str] = []
    listed = {document["path"]: parts(texts[document["path"]], document["each"]) for document in documents}
    for promise in promises:
        where = f"the promise {promise['promise']!r}"
        if promise["where"] not in listed:
            found.append(f"{where}: list {promise['where']} as a [[document]] first.")
            continue
        if not promise["tests"]:
            found.append(f"{where} names no test: write one, or move its anchor to `promises_nothing`.")
        found += [f"{where}: {problem}" for problem in unknown(promise["tests"], tests)]
    for path, all_parts in listed.items():
        document = next(one for one in documents if one["path"] == path)
        anchors = [promise["anchor"] for promise in promises if promise["where"] == path]
        for anchor in [*anchors, *document["promises_nothing"]]:
            matches = [part for part in all_parts if part.says(anchor)]
            if not matches:
                found.append(
                    f"{path} no longer says {anchor!r}. If the promise was reworded, give promises.toml a new anchor; "
                    f"if it was taken back, remove its entry, and see whether its tests are still wanted."
                )
            elif len(matches) > 1 and not anchor.startswith("## "):
                found.append(f"{path} says {anchor!r} in {len(matches)} places: take an anchor that only one has.")
        for part in all_parts:
            named = NAMES_A_TEST.findall(part.text)
            found += [f"{path}, {part}: {problem}" for problem in unknown(named, tests)]
            if not named and not any(part.says(anchor) for anchor in [*anchors, *document["promises_nothing"]]):
                found.append(
                    f"{path} has a part without an entry in promises.toml. {part}\n"
                    f"    Add a [[promise]] with an anchor in it and its tests, or an anchor to `promises_nothing`."
                )
    return found


def unknown(named: Iterable[str], tests: Iterable[str]) -> Iterator[str]:
    for name in named:
        if name not in tests:
            close = difflib.get_close_matches(name, tests, n=1)
            yield f"there is no test {name}." + (f" Was it renamed to {close[0]}?" if close else "")


def all_tests() -> set[str]:
    """Return every test as "module::name", those of tests/interop included; nothing is imported."""
    return {
        f"{path.stem}::{node.name}"
        for path in TESTS.rglob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_promise_names_tests_that_exist_and_every_part_of_a_document_has_an_entry() -> None:
    written: dict[str, Any] = tomllib.loads(MAP.read_text())
    texts = {document["path"]: (ROOT / document["path"]).read_text() for document in written["document"]}
    found = gaps(written["document"], written["promise"], texts, all_tests())
    assert not found, f"{len(found)} to mend in {MAP.name}:\n" + "\n".join(f"- {one}" for one in found)


# The controls: a small document, whole and broken in each way.

TEXT = """# Bounds

Introduction.

## Limits

| what | bound | tests |
|---|---|---|
| reads | one | `test_a::test_reads` |

1. A `logout`
   is final.
2. Nothing grows.

```sh
make it grow
```

## Thanks

To everybody.
"""
NOTHING = ["Introduction", "## Thanks"]
FINAL: Promise = {
    "promise": "final",
    "where": "a.md",
    "anchor": "A logout is ... final",
    "tests": ["test_a::test_final"],
}
BOUND: Promise = {"promise": "bound", "where": "a.md", "anchor": "nothing grows", "tests": ["test_a::test_bound"]}
KNOWN = ["test_a::test_reads", "test_a::test_final", "test_a::test_bound"]


def small(
    text: str = TEXT,
    promises: Sequence[Promise] = (FINAL, BOUND),
    tests: Iterable[str] = KNOWN,
    nothing: Sequence[str] = NOTHING,
    each: str = "paragraph",
) -> list[str]:
    documents: list[Document] = [{"path": "a.md", "each": each, "promises_nothing": list(nothing)}]
    return gaps(documents, promises, {"a.md": text}, tests)


def test_a_document_is_read_part_by_part() -> None:
    texts = [part.text for part in parts(TEXT, "paragraph")]
    assert texts[0] == "Introduction."
    assert texts[1].startswith("| reads")
    assert texts[2:] == ["1. A `logout`\n   is final.", "2. Nothing grows.", "To everybody."]
    assert [part.section for part in parts(TEXT, "section")] == ["Bounds", "Limits", "Thanks"]
    assert small() == []
    assert small(each="section", promises=[FINAL]) == []


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"tests": KNOWN[1:]}, "there is no test test_a::test_reads"),
        ({"tests": [*KNOWN[:2], "test_a::test_bounds"]}, "Was it renamed to test_a::test_bounds?"),
        ({"promises": [FINAL, {**BOUND, "tests": []}]}, "names no test"),
        ({"promises": [FINAL, BOUND, {**BOUND, "where": "b.md"}]}, "list b.md"),
        ({"text": TEXT.replace("is final", "ends it")}, "no longer says 'A logout is ... final'"),
        ({"nothing": [*NOTHING, "## Gone"]}, "no longer says '## Gone'"),
        ({"text": TEXT + "\nAnd nothing grows.\n"}, "says 'nothing grows' in 2 places"),
        (
            {"text": TEXT.replace("2. Noth", "2. Always on time.\n3. Noth")},
            "without an entry in promises.toml. 'Limits'",
        ),
        ({"nothing": NOTHING[:1]}, "without an entry in promises.toml. 'Thanks': To everybody."),
        ({"each": "section", "nothing": ["## Thanks"]}, "without an entry in promises.toml. 'Bounds'"),
    ],
)
def test_every_gap_is_found(broken: dict[str, Any], message: str) -> None:
    assert message in "\n".join(small(**broken))
