"""The layout, read from the source: arrows point down, protocol/ is pure, nothing is unexplained."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import asgi_rp_logout

ROOT = Path(asgi_rp_logout.__path__[0])
MODULES = {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path for path in ROOT.rglob("*.py")}
MODULES = {name.removesuffix(".__init__"): path for name, path in MODULES.items()}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
PACKAGES = {name for name, path in MODULES.items() if path.name == "__init__.py"}

LAYERS = [
    {"errors", "asgi", "log"},
    {"protocol"},
    {"transport", "jose", "login"},
    {"providers"},
    {"store"},
    {"steps", "endpoints"},
    {"middleware"},
    {"doctor", "__main__"},
    {"__init__"},
]
"""From the ground up. Whatever is not named is a step."""

NO_IO = {
    *("anyio", "asyncio", "authlib", "httpx", "io", "joserfc", "logging", "os", "pathlib", "random"),
    *(
        "secrets",
        "socket",
        "starlette",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "urllib.request",
        "uuid",
        "ssl",
    ),
}


def layer_of(module: str) -> int:
    head = module.partition(".")[0]
    if head in ("asgi", "providers", "protocol", "endpoints"):
        name = head
    else:
        name = head if any(head in layer for layer in LAYERS) else "steps"
    return next(number for number, layer in enumerate(LAYERS) if name in layer)


def imports_of(module: str, *, inside: bool = True) -> Iterator[str]:
    """Give what a module imports, at run time or for types: modules of the package, or those outside of it."""
    package = module if module in PACKAGES else module.rpartition(".")[0]
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [f"{_absolute(node, package)}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in found:
            if (name.partition(".")[0] == "asgi_rp_logout") is inside:
                yield _module_of(name.partition(".")[2]) if inside else name


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = ["asgi_rp_logout", *([] if package in ("", "__init__") else package.split("."))]
    return ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])


def _module_of(name: str) -> str:
    """Give the longest module that begins a dotted name; the root is ``__init__``."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or "__init__"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_arrows_point_down_only(module: str) -> None:
    for other in imports_of(module):
        assert layer_of(other) <= layer_of(module), f"{module} imports {other}"


def test_the_reader_of_imports_reads_them() -> None:
    """The control: relative and absolute, from modules and from packages."""
    assert {"attend", "errors", "protocol.cookies"} <= set(imports_of("middleware"))
    assert {"context", "providers"} <= {one.partition(".")[0] for one in imports_of("__init__")}
    assert {"asgi.types", "protocol.logout_token", "endpoints._common"} <= set(imports_of("endpoints.back_channel"))
    assert "httpx" in {one.partition(".")[0] for one in imports_of("transport", inside=False)}


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"__init__", "__main__"}))
def test_nothing_inside_imports_the_package_root(module: str) -> None:
    assert "__init__" not in set(imports_of(module))


def test_there_is_no_cycle() -> None:
    graph = {module: set(imports_of(module)) - {module} for module in MODULES}
    while free := {module for module, others in graph.items() if not others & set(graph)}:
        graph = {module: others for module, others in graph.items() if module not in free}
    assert graph == {}


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("protocol")))
def test_protocol_does_no_io_and_asks_no_clock_and_no_dice(module: str) -> None:
    """They are arguments. ``datetime`` may name a type or a constant, and never asks what time it is."""
    for name in imports_of(module, inside=False):
        assert not {name, name.partition(".")[0]} & NO_IO, f"{module} imports {name}"
    calls = {ast.unparse(node.func) for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)}
    assert not {
        call for call in calls if call.rpartition(".")[2] in ("now", "utcnow", "today", "open", "print", "input")
    }
    assert not [node for node in ast.walk(TREES[module]) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]


def test_only_transport_opens_a_socket_and_only_jose_verifies_a_signature() -> None:
    """And httpx2 is imported nowhere: it need not be installed."""
    for module, tree in TREES.items():
        outside = {name.partition(".")[0] for name in imports_of(module, inside=False)}
        assert "joserfc" not in outside or module == "jose"
        assert "httpx" not in outside or module == "transport"
        assert "httpx2" not in outside
        assert not outside & {"socket", "urllib3", "requests", "aiohttp", "ssl"}, module
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        fetching = {call for call in calls if call.startswith("httpx.") or call.endswith((".stream", ".request"))}
        assert not fetching or module in ("transport", "doctor"), (module, fetching)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_module_and_public_name_is_documented_in_one_line_first(module: str) -> None:
    tree = TREES[module]
    assert (ast.get_docstring(tree) or "").strip(), f"{module} has no docstring"
    scopes: list[ast.Module | ast.ClassDef] = [
        tree,
        *[node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")],
    ]
    for scope in scopes:
        for node in scope.body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
                continue
            if any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list):
                continue
            first = (ast.get_docstring(node) or "").partition("\n")[0]
            assert first.endswith((".", ":", ";")) or first.count(" ") > 8, f"{module}.{node.name}: {first!r}"


def test_no_module_asserts_or_prints() -> None:
    """An assert is gone under python -O; printing is the doctor's."""
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Assert), f"{module}:{node.lineno}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
                assert module in ("doctor", "__main__"), f"{module}:{node.lineno}"


# The package root


def test_the_root_exports_the_public_names_sorted_and_no_logic() -> None:
    names = [
        *("AuthlibProvider", "ConfigurationError", "Cookie", "Login", "LogoutEvent", "LogoutTokenError", "MemoryStore"),
        *("OIDCProvider", "ProviderError", "RPLogoutError", "RPLogoutMiddleware", "StaticProvider", "StoreError"),
        *("current_login", "forget_login", "local_logout_only", "presets", "remember_login", "rp_logout"),
    ]
    assert asgi_rp_logout.__all__ == sorted(asgi_rp_logout.__all__) == names
    for node in TREES["__init__"].body:
        assert isinstance(node, ast.ImportFrom | ast.Assign | ast.Expr), ast.unparse(node)


@pytest.mark.parametrize("name", asgi_rp_logout.__all__)
def test_every_exported_name_says_what_it_does(name: str) -> None:
    exported = getattr(asgi_rp_logout, name)
    assert isinstance(exported, ModuleType | type) or inspect.isfunction(exported)
    first = (inspect.getdoc(exported) or "").partition("\n")[0]
    assert len(first) > 20, name
    assert first[0].isupper(), first


def test_every_option_of_the_middleware_has_a_type() -> None:
    assert (ROOT / "py.typed").exists()
    for parameter in inspect.signature(asgi_rp_logout.RPLogoutMiddleware.__init__).parameters.values():
        assert parameter.annotation is not parameter.empty or parameter.name == "self", parameter.name
