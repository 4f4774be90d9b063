"""Change the pure modules in small ways, one at a time, and count the changes that a test notices: see scripts/mutants.

A module is tried with the test files that import it, in a copy of the checkout. What survives is either a gap in these
tests, or a change that makes no difference.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

PURE = [
    "asgi_rp_logout/protocol",
    "asgi_rp_logout/logout/detect.py",
    "asgi_rp_logout/negotiation/request_kind.py",
    "asgi_rp_logout/logins/status.py",
    "asgi_rp_logout/logins/local_ends.py",
]
"""The modules that are tried by default, or their folders: without I/O, so that their tests are quick."""

ALSO = {
    "asgi_rp_logout/protocol/form.py": ["tests/test_front_channel.py", "tests/test_logout_token.py"],
}
"""Tests of a module that reach it by another one."""

COPIED = ["asgi_rp_logout", "tests", "demo", "pyproject.toml", "SECURITY.md"]
WORK = Path("build/mutants")
NOTICED = {"killed", "timeout", "segfault", "caught by type check"}
LEFT_OUT = {"skipped"}


def modules(paths: list[str]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise SystemExit(f"there is no {path}")
        found += sorted(path.glob("*.py")) if path.is_dir() else [path]
    return [path for path in found if path.name != "__init__.py"]


def importers(module: Path) -> list[str]:
    """Return the test files that import a module, and those that ALSO names."""
    dotted = ".".join(module.with_suffix("").parts)
    parent, _, name = dotted.rpartition(".")
    found = []
    for test in sorted(Path("tests").glob("test_*.py")):
        imports = [node for node in ast.walk(ast.parse(test.read_text())) if isinstance(node, ast.ImportFrom)]
        if any(
            node.module == dotted or (node.module == parent and any(one.name == name for one in node.names))
            for node in imports
        ):
            found.append(str(test))
    return sorted({*found, *ALSO.get(str(module), [])})


def try_out(module: Path, tests: list[str]) -> Counter[str]:
    """Run mutmut on one module, and return how many of its mutants met which end."""
    folder = WORK / ".".join(module.with_suffix("").parts)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in COPIED:
        if Path(name).is_dir():
            shutil.copytree(
                name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules", "interop")
            )
        else:
            shutil.copy(name, folder / name)
    lists = {
        "source_paths": ["asgi_rp_logout"],
        "only_mutate": [str(module)],
        "also_copy": [name for name in COPIED if name not in ("asgi_rp_logout", "tests")],
        "pytest_add_cli_args": ["-p", "no:cacheprovider"],
        "pytest_add_cli_args_test_selection": tests,
    }
    settings = [f"{name} =\n    " + "\n    ".join(values) for name, values in lists.items()]
    (folder / "setup.cfg").write_text("\n".join(["[mutmut]", *settings, ""]))
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run(["mutmut", "run"], cwd=folder, stdout=log, stderr=log, check=False)
    if done.returncode:
        raise SystemExit(f"mutmut failed; {folder / 'log.txt'} says why")
    show = ["mutmut", "results", "--all", "true"]
    shown = subprocess.run(show, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout
    ends = [line.rpartition(": ")[2].strip() for line in shown.splitlines() if "__mutmut_" in line]
    return Counter(end for end in ends if end not in LEFT_OUT)


def main() -> None:
    chosen = modules(sys.argv[1:] or PURE)
    print(f"{'module':45} {'mutants':>7} {'noticed':>7} {'score':>6}", flush=True)
    for module in chosen:
        tests = importers(module)
        if not tests:
            print(f"{module!s:45} no test imports it: add some to ALSO in tests/mutants.py")
            continue
        ends = try_out(module, tests)
        noticed, of = sum(number for end, number in ends.items() if end in NOTICED), ends.total()
        score = f"{noticed / of:6.0%}" if of else "     -"
        print(f"{module!s:45} {of:7} {noticed:7} {score}", flush=True)
    print(f"What survived, by module: (cd {WORK}/MODULE && mutmut results), and `mutmut show NAME` for a change.")


if __name__ == "__main__":
    main()
