"""The layout, read from the source: arrows point down, protocol/ is pure, nothing is unexplained."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import asgi_rp_logout

ROOT = Path(asgi_rp_logout.__path__[0])
ROOT_OF_CHECKOUT = Path(__file__).parent.parent
MODULES = {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path for path in ROOT.rglob("*.py")}
MODULES = {name.removesuffix(".__init__"): path for name, path in MODULES.items()}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
PACKAGES = {name for name, path in MODULES.items() if path.name == "__init__.py"}

LAYERS = {
    "errors": "one tree of errors",
    "log": "the logger, and what it says about a logout",
    "login": "Login and LogoutIntent, the values that all modules pass on",
    "context": "what a handler calls: remember_login, current_login, forget_login",
    "protocol": "what the specifications say: no I/O, clock or randomness",
    "store": "what a store is, and MemoryStore",
    "asgi": "ASGI's types, the request as it came in, the start of a response",
    "providers": "providers, and the only modules that fetch from one or verify a signature",
    "relay": "the token relay: a loopback address that notices the logins of any client library",
    "negotiation": "which kind of request it was, and the answer that each kind understands",
    "option_checks": "what each kind of option looks like",
    "options": "every option, with its type and its check",
    "events": "LogoutEvent and the application's hook",
    "logins": "remembered logins: recognised, kept, ended; knows nothing of logouts",
    "decorators": "rp_logout and local_logout_only",
    "exchange": "one request and its response: data only",
    "logout": "one logout, one file per step",
    "endpoints": "the addresses that the middleware answers itself",
    "responses": "a response that has to be inspected: a logout, or what it does to a login",
    "hot_path": "the path of nearly every request: it waits for nothing",
    "dispatch": "requests that the hot path cannot pass on",
    "middleware": "RPLogoutMiddleware: the constructor and the entry point",
    "testing": "FakeProvider, for the tests of applications",
    "doctor": "what is wrong with a set-up, and why",
    "cli": "the commands for operators",
    "__main__": "python -m asgi_rp_logout",
    "__init__": "the public names",
}
"""Every file and folder at the top of the package, from the ground up: each may import what stands above it here."""

PURE = {
    *("asgi.own_cookies", "asgi.response", "logins.credentials", "logins.local_ends", "logins.status"),
    *("logout.detect", "negotiation.answers", "negotiation.json_body", "negotiation.request_kind"),
}
"""Modules outside of protocol/ that say of themselves that they are pure."""

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
    return list(LAYERS).index(module.partition(".")[0])


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


def test_every_file_and_folder_has_its_layer() -> None:
    assert {module.partition(".")[0] for module in MODULES} == LAYERS.keys()
    files = [path.name for path in ROOT.glob("*.py")]
    assert len(files) <= 16, "a folder at the top is easier to read than a seventeenth file"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_arrows_point_down_only(module: str) -> None:
    for other in imports_of(module):
        assert layer_of(other) <= layer_of(module), f"{module} imports {other}"


def test_the_picture_in_contributing_is_this_list() -> None:
    picture = re.findall(r"^    (\w+) {2,}(\S.*)$", (ROOT_OF_CHECKOUT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert picture == list(reversed(LAYERS.items()))


def test_remembered_logins_know_nothing_of_logouts() -> None:
    for module in (name for name in MODULES if name.startswith("logins")):
        assert not {"logout", "exchange", "endpoints"} & {other.partition(".")[0] for other in imports_of(module)}


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    named = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len([name for name in named if name not in ("self", "cls")])


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"context", "middleware"}))
def test_no_function_takes_more_than_five_parameters(module: str) -> None:
    """But for constructors, presets and what handlers call, whose parameters are options that users give by name."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name != "__init__":
            public = module == "providers.presets" or node.name in ("get_end_session_url", "stream", "end_logins")
            assert public or _parameters(node) <= 5, f"{module}.{node.name} takes {_parameters(node)}"


def test_the_reader_of_imports_reads_them() -> None:
    """The control: relative and absolute, from modules and from packages."""
    assert {"dispatch", "errors", "protocol.cookies"} <= set(imports_of("middleware"))
    assert {"context", "providers"} <= {one.partition(".")[0] for one in imports_of("__init__")}
    assert {"asgi.types", "protocol.logout_token", "endpoints.intake"} <= set(imports_of("endpoints.back_channel"))
    assert "httpx" in {one.partition(".")[0] for one in imports_of("providers.transport", inside=False)}


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"__init__"}))
def test_nothing_inside_imports_the_package_root(module: str) -> None:
    assert "__init__" not in set(imports_of(module))


def test_nothing_imports_the_fake_provider_but_test_suites() -> None:
    assert [module for module in MODULES if "testing" in set(imports_of(module))] == []


def test_there_is_no_cycle() -> None:
    graph = {module: set(imports_of(module)) - {module} for module in MODULES}
    while free := {module for module, others in graph.items() if not others & set(graph)}:
        graph = {module: others for module, others in graph.items() if module not in free}
    assert graph == {}


def test_every_module_that_says_it_is_pure_is_one_of_these() -> None:
    saying = {name for name, tree in TREES.items() if " Pure" in (ast.get_docstring(tree) or "").partition("\n\n")[0]}
    assert {name for name in saying if not name.startswith("protocol")} - {"logins.handle"} == PURE


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("protocol") or name in PURE))
def test_protocol_and_what_says_so_does_no_io_and_asks_no_clock_and_no_dice(module: str) -> None:
    """They are arguments. ``datetime`` may name a type or a constant, and never asks what time it is."""
    for name in imports_of(module, inside=False):
        assert not {name, name.partition(".")[0]} & NO_IO, f"{module} imports {name}"
    calls = {ast.unparse(node.func) for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)}
    assert not {
        call for call in calls if call.rpartition(".")[2] in ("now", "utcnow", "today", "open", "print", "input")
    }
    assert not [node for node in ast.walk(TREES[module]) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]


def test_only_transport_and_relay_connect_only_the_relay_listens_and_only_the_token_verifier_verifies_a_signature() -> (
    None
):
    """And httpx2 is imported nowhere: it need not be installed."""
    for module, tree in TREES.items():
        if module == "testing":
            continue  # the fake provider signs, and serves without a socket
        outside = {name.partition(".")[0] for name in imports_of(module, inside=False)}
        assert "joserfc" not in outside or module == "providers.token_verifier"
        assert "httpx" not in outside or module == "providers.transport"
        assert "httpx2" not in outside
        assert not outside & {"urllib3", "requests", "aiohttp"}, module
        assert not outside & {"ssl"} or module in ("providers.transport", "relay.upstream"), module
        assert "h11" not in outside or module == "relay.upstream"
        assert not outside & {"socket", "uvicorn"} or module == "relay.listener", module
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        fetching = {call for call in calls if call.startswith("httpx.") or call.endswith((".stream", ".request"))}
        fetching -= {"request.stream"}  # the body of a request that has come in
        assert not fetching or module == "providers.transport", (module, fetching)
        connecting = {
            call for call in calls if call.endswith((".open_connection", ".create_connection", ".connect_tcp"))
        }
        assert not connecting or module in ("relay.upstream", "relay.listener"), (module, connecting)


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
    """An assert is gone under python -O."""
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Assert), f"{module}:{node.lineno}"
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) != "print", f"{module}:{node.lineno}"


# The package root


def test_the_root_exports_the_public_names_sorted_and_no_logic() -> None:
    names = [
        *("AuthlibProvider", "ConfigurationError", "Cookie", "Login", "LogoutEvent", "LogoutTokenError", "MemoryStore"),
        *("OIDCProvider", "ProviderError", "RPLogoutError", "RPLogoutMiddleware", "StaticProvider", "StoreError"),
        *(
            "TokenRelay",
            "current_login",
            "end_login",
            "end_logins",
            "forget_login",
            "local_logout_only",
            "presets",
            "remember_login",
            "rp_logout",
        ),
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
