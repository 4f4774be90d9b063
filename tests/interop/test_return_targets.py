"""The return targets, judged by a real WHATWG URL parser: Node's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from urllib.parse import unquote

from asgi_rp_logout.protocol.return_target import Origin, local_path

DATA = Path(__file__).parent.parent / "data"
OWN = Origin("https", "app.example.com", 443)
ORIGINS = [str(OWN), "http://localhost:8000", "http://[::1]:8000", "http://127.0.0.1", "https://xn--bcher-kva.example"]
ORIGINS.append("http://[0:0:0:0:0:0:0:1]:8000")
BASE = "https://app.example.com/auth/logout"
# A lone surrogate does not survive a pipe; the parser reads U+FFFD for it, as the Unicode standard has it.
PARSE = """
let text = ""
process.stdin.on("data", (chunk) => (text += chunk)).on("end", () => {
  const read = ([target, base]) => {
    try { const url = new URL(target, base); return [url.origin, url.pathname + url.search] } catch { return null }
  }
  console.log(JSON.stringify(JSON.parse(text).map(read)))
})
"""


def lines(name: str) -> list[list[str]]:
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


def parsed_by_node(pairs: list[tuple[str, str]]) -> list[list[str] | None]:
    """Give origin and path of each (target, base) as a browser reads it, None for what it cannot read."""
    done = subprocess.run(["node", "-e", PARSE], input=json.dumps(pairs), capture_output=True, text=True, check=True)
    answers: list[list[str] | None] = json.loads(done.stdout)
    assert len(answers) == len(pairs)
    return answers


def test_hostile_targets_leave_as_they_come_and_stay_as_they_go() -> None:
    """Hundreds of the corpus really leave in a browser; none of what is made of it does, decoded or not."""
    targets = [target for target, *_ in lines("return_targets.jsonl")]
    read = parsed_by_node([(target, BASE) for target in targets])
    assert sum(answer is not None and answer[0] != str(OWN) for answer in read) > 400

    results = [local_path(target, own={OWN}, current_path=path) for target in targets for path in ("/", "/auth/logout")]
    kept = [result for result in results if result is not None]
    assert len(kept) > 50
    for decoded in (kept, list(map(unquote, kept)), list(map(unquote, map(unquote, kept)))):
        for target, answer in zip(decoded, parsed_by_node([(target, BASE) for target in decoded]), strict=True):
            assert answer, target
            assert answer[0] == str(OWN), target


def test_honest_targets_arrive_where_a_browser_would_have_gone() -> None:
    """The result is the very page that the browser would have opened by the target itself."""
    honest = [
        (target, f"{origin}{current_path}", result)
        for target, current_path, result in lines("honest_targets.jsonl")
        # Latin-1 over UTF-8 is bytes in a header, not text in a script; a decoded path with "?" is no URL.
        if "\xc3\xa9" not in target and "?" not in current_path
        for origin in [next((own for own in ORIGINS if target.lower().startswith(own)), ORIGINS[0])]
    ]
    assert len(honest) > 80
    meant = parsed_by_node([(target, base) for target, base, _ in honest])
    given = parsed_by_node([(result, base) for _, base, result in honest])
    for (target, _, _), page, ours in zip(honest, meant, given, strict=True):
        assert page, target
        assert ours, target
        assert (ours[0], unquote(ours[1])) == (page[0], unquote(page[1])), target
