"""The documentation: its Python runs, its table of options is right, its links lead somewhere."""

from __future__ import annotations

import inspect
import logging
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from authlib.deprecate import AuthlibDeprecationWarning
from prometheus_client import REGISTRY, Counter

from asgi_rp_logout import AuthlibProvider, MemoryStore, OIDCProvider, RPLogoutMiddleware, StaticProvider
from asgi_rp_logout.logins import guarded_store, handed_over, live, status
from asgi_rp_logout.logout import afterwards, deferred, evidence, return_plan, silent_trip
from asgi_rp_logout.negotiation import json_body
from asgi_rp_logout.option_checks import store_of
from asgi_rp_logout.protocol import cookie_values, cookies, discovery, logout_token
from asgi_rp_logout.providers import calling, silent_hint, token_verifier, transport
from asgi_rp_logout.relay import endpoints, listener
from demo.provider import Client, create_provider
from demo.world import provider_for
from tests.asgi import call, http_scope
from tests.places import OUTSIDE, ForeignStore, Site
from tests.test_demo import Browser, asks_for_password

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "examples/README.md")),
]
ISSUER = "https://id.example.com/realms/acme"
EXAMPLES = {path.read_text() for path in (ROOT / "examples").glob("*/app.py")}


def blocks(page: Path, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def run(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "example"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AuthlibDeprecationWarning)
        exec(compile(source, "example", "exec"), names)
    logging.getLogger("asgi_rp_logout").setLevel(logging.NOTSET)  # which docs/failures.md shows how to change
    return names


def block_of(page: str, containing: str) -> str:
    (block,) = (block for block in blocks(ROOT / page) if containing in block)
    return block


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(block, id=f"{page.stem}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks(page))
        # tests/test_testing.py runs tests with their application, tests/test_examples.py the examples, and
        # tests/real_apps the lines for apps of others.
        if not block.startswith("# test_") and block not in EXAMPLES and page.parent.name != "apps"
    ],
)
def test_every_block_of_python_runs(source: str) -> None:
    names = run(source)
    assert names
    for collector in (value for value in names.values() if isinstance(value, Counter)):
        REGISTRY.unregister(collector)


def registered_addresses() -> list[str]:
    """The README's numbered addresses: to return to after a login and after a logout, and for logout tokens."""
    return re.findall(r"^\d\. [^`]+: `(http://localhost:8000/[^`]*)`", (ROOT / "README.md").read_text(), re.MULTILINE)


@pytest.fixture
def acme(serve: Callable[..., str], unused_port: Callable[[], int]) -> tuple[str, str]:
    """An OpenID provider, and the address of the application that it knows, with the addresses in the README."""
    port, app = unused_port(), f"http://localhost:{unused_port()}"
    issuer = f"http://127.0.0.1:{port}"
    back, bye, backchannel = (url.replace("http://localhost:8000", app) for url in registered_addresses())
    client = Client("dashboard", "secret", [back], [bye], backchannel)
    serve(create_provider(issuer, [client], {"alice": "wonderland"}), port=port)
    return issuer, app


@pytest.fixture(params=["README.md", "docs/frameworks.md"])
def example(request: pytest.FixtureRequest, serve: Callable[..., str], acme: tuple[str, str]) -> tuple[str, str]:
    """The issuer, and the address of a page's own application: FastAPI in the README, Starlette in the other."""
    issuer, address = acme
    app = run(block_of(request.param, "authorize_redirect").replace(ISSUER, issuer))["app"]
    serve(app, host="localhost", port=int(address.rpartition(":")[2]))
    return issuer, address


def test_a_complete_example_logs_out_at_the_provider(example: tuple[str, str]) -> None:
    """Logged in, out, and in again: a password is asked for again."""
    issuer, address = example
    browser = Browser()
    page = browser.sign_in(browser.get(f"{address}/login"))
    assert page.text.startswith("Hello!")
    page = browser.post(f"{address}/logout", {})
    assert any(url.startswith(f"{issuer}/end_session") for url in browser.visited)
    assert page.text == '<a href="/login">Log in</a>'
    assert asks_for_password(browser.get(f"{address}/login"))


def test_a_sign_out_at_the_provider_ends_the_session_of_a_complete_example(example: tuple[str, str]) -> None:
    """By a logout token, which comes to the address that the README tells to register."""
    issuer, address = example
    browser = Browser()
    browser.sign_in(browser.get(f"{address}/login"))
    assert browser.get(f"{address}/").text.startswith("Hello!")
    browser.submit(browser.get(f"{issuer}/end_session"), answer="yes")
    assert browser.get(f"{address}/").text == '<a href="/login">Log in</a>'


def test_the_demos_provider_knows_the_addresses_in_the_readme() -> None:
    """So that the README's example works with `scripts/demo --provider-for http://localhost:8000`."""
    member = provider_for("http://localhost:8000", 0)
    for listening in member.listener:
        listening.close()
    (client,) = member.app.state.provider.clients.values()
    back, bye, backchannel = registered_addresses()
    assert (client.client_id, client.client_secret) == ("dashboard", "secret")
    assert (client.redirect_uris, client.post_logout_redirect_uris) == ([back], [bye])
    assert client.backchannel_logout_uri == backchannel


def test_the_readme_shows_every_line_that_its_example_has_for_the_middleware() -> None:
    """Nothing of the example is the middleware's but the lines that are added in the diff, and the import."""
    (diff,) = blocks(ROOT / "README.md", "diff")
    example = block_of("README.md", "authorize_redirect").splitlines()
    assert {line[1:] for line in diff.splitlines()} <= set(example)
    added = [line[1:] for line in diff.splitlines() if line.startswith("+")]
    (imported,) = (line for line in example if line.startswith("from asgi_rp_logout import "))
    names = imported.partition("import ")[2].split(", ")
    code = [line for line in example if not line.startswith("#") and line not in (imported, *added)]
    assert [line for line in code if any(name in line for name in names)] == []


@pytest.mark.anyio
async def test_the_fastapi_example_marks_its_endpoints() -> None:
    """The decorated route goes to the provider, the opted-out one stays here."""
    app = run(block_of("docs/frameworks.md", "from fastapi import"))["app"]
    headers = [("host", "app.example.com"), ("cookie", "session=x")]
    everywhere = await call(app, http_scope("/account/sign-out", "POST", headers))
    assert (everywhere.status, str(everywhere.header("location"))[:29]) == (303, "https://id.example.com/logout")
    here = await call(app, http_scope("/account/sign-out-here", "POST", headers))
    assert (here.status, here.body) == (200, b'{"signed_out":true}')


@pytest.mark.anyio
async def test_the_wrapped_example_survives_a_provider_that_is_not_there(log: Callable[..., list[str]]) -> None:
    """Nobody answers at the example's issuer: the application's own redirect goes out, with one warning."""
    app = run(block_of("docs/frameworks.md", "someone_elses_app"))["app"]
    answer = await call(app, http_scope("/auth/logout", "POST", [("host", "app.example.com"), ("cookie", "sid=x")]))
    assert (answer.status, answer.header("location")) == (302, "/login")
    assert "sid" in answer.expired()
    assert len(log()) == 1


def test_every_option_is_in_the_table_with_its_default() -> None:
    table = (ROOT / "docs" / "options.md").read_text().partition("## What counts as a logout")[0]
    written = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", table, re.MULTILINE))
    parameters = inspect.signature(RPLogoutMiddleware).parameters.values()
    actual = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert list(written) == list(actual)
    special = {"providers": "required", "store": "`MemoryStore()`", "session_lifetime": "14 days"}
    assert isinstance(store_of(actual["store"]), MemoryStore)
    assert actual["session_lifetime"] == 14 * 24 * 3600
    for name, default in actual.items():
        shown = f"`{default!r}`".replace("'", '"')
        assert written[name] == special.get(name, shown), name


HOUR, MINUTE, KB = 3600, 60, 1024
FIGURES = [
    ("docs/providers.md", "discovery document, cached for an hour", discovery.FRESH_FOR, HOUR),
    ("docs/failures.md", "asked again after 30 seconds", discovery.FAILURE_REMEMBERED_FOR, 30),
    ("docs/providers.md", "Tries are 30 seconds apart", discovery.FAILURE_REMEMBERED_FOR, 30),
    ("docs/providers.md", "Each has up to sixteen threads of its own", calling._THREADS, 16),
    ("docs/providers.md", "(on_logout after 5 s)", afterwards.AFTER_DEADLINE, 5),
    ("docs/elsewhere.md", "The function has 5 seconds", afterwards.AFTER_DEADLINE, 5),
    ("docs/elsewhere.md", "for an unknown kid, at most once in 30 seconds", token_verifier.REFETCH_AFTER, 30),
    ("docs/elsewhere.md", "may be five minutes old at most", logout_token.MAX_AGE, 5 * MINUTE),
    ("docs/everywhere.md", "The WebSocket stays open for at least 5 seconds", live.SPARED, 5),
    ("docs/remembering.md", "All store calls of a request share half a second", guarded_store.STORE_DEADLINE, 0.5),
    ("docs/remembering.md", "the store is not asked for a second at a time", guarded_store.BREAKER_OPEN, 1),
    ("docs/remembering.md", "still goes to the provider for two minutes", status.SECOND_CLICK, 2 * MINUTE),
    ("docs/remembering.md", "For the first ten seconds it carries the ID Token", evidence.HINT_FOR, 10),
    ("docs/remembering.md", "for ten minutes. It is bound to this browser", return_plan.RETURN_LIFETIME, 10 * MINUTE),
    ("docs/remembering.md", "Values under 16 characters are never blocked", cookie_values.SHORTEST_SECRET, 16),
    ("docs/remembering.md", "more than 16 session cookies", cookies.MOST_SECRETS, 16),
    ("docs/remembering.md", "All deletions of an answer take at most 2,048 bytes", cookies.ROOM, 2048),
    ("docs/relay.md", "Bodies are limited to 64 KB", endpoints.MAX_BODY, 64 * KB),
    ("docs/relay.md", "answers to 512 KB", transport.MAX_DOCUMENT, 512 * KB),
    ("docs/relay.md", "connections to 128 at a time", listener.CONNECTIONS, 128),
    ("docs/relay.md", "and 60 seconds each", listener.CONNECTION_AT_MOST, MINUTE),
    ("docs/relay.md", "in the store for one minute at most", handed_over.KEPT_FOR, MINUTE),
    ("docs/clients.md", "waits for up to ten minutes", deferred.LATER_LIFETIME, 10 * MINUTE),
    ("docs/clients.md", "for ten seconds after the first answer", deferred.REPLAYED_FOR, 10),
    ("docs/clients.md", "up to five times in all", deferred.MOST_PLAYS, 5),
    ("docs/clients.md", "plain JSON of up to 16 KB", json_body.MOST, 16 * KB),
    ("docs/silent-hint.md", "eight invented addresses tried in half a minute", silent_hint.MOST_ADDRESSES, 8),
    ("docs/silent-hint.md", "After three failures of one kind in a row", silent_hint.MOST_FAILURES, 3),
    ("docs/silent-hint.md", "or somebody with an account there | an hour", silent_hint.OFF_FOR, HOUR),
    ("docs/silent-hint.md", "in a row switch the option off for half a minute", discovery.FAILURE_REMEMBERED_FOR, 30),
    ("docs/silent-hint.md", "and any provider every hour, after a logout", silent_hint.PROBED_FOR, HOUR),
    ("docs/silent-hint.md", "one minute; after its use, ten seconds", silent_trip.TRIP_LIFETIME, MINUTE),
    ("docs/silent-hint.md", "is down is tried again after 30 seconds", discovery.FAILURE_REMEMBERED_FOR, 30),
]


@pytest.mark.parametrize(("page", "sentence", "actual", "written"), FIGURES, ids=[one[1] for one in FIGURES])
def test_a_figure_on_a_page_is_the_codes(page: str, sentence: str, actual: float, written: float) -> None:
    """Tests of what happens then take the figure from the code."""
    assert sentence in re.sub(r"[`*]", "", " ".join((ROOT / page).read_text().split()))
    assert actual == written


class Batches(ForeignStore):
    """A store that takes several records in one call."""

    async def put_many(self, keys: Sequence[str], values: Sequence[Any], **options: Any) -> None:
        self.calls["put_many"] += 1
        for key, value in zip(keys, values, strict=True):
            await self.inner.put(key, value, **options)


@pytest.mark.anyio
async def test_the_table_of_store_calls_is_right() -> None:
    page = (ROOT / "docs" / "remembering.md").read_text().partition("**What it costs.**")[2]
    written = [
        (int(reads), int(writes)) for reads, writes in re.findall(r"^\|[^|]+\| (\d) \| (\d) \|$", page, re.MULTILINE)
    ]
    store = Batches()
    site = Site(OUTSIDE, store=store, freshness=0)
    browser, measured = site.browser(), []

    async def call_of(path: str, method: str = "GET") -> None:
        before = store.reads, store.calls.total()
        await browser.request(method, path, {})
        reads = store.reads - before[0]
        measured.append((reads, store.calls.total() - before[1] - reads))

    await call_of("/")
    await call_of("/login")
    login = measured.pop()
    await call_of("/")
    await call_of("/touch")
    browser.cookies["session"] = "an older copy of the session, of the same login"
    await call_of("/touch")
    measured.append(login)
    await call_of("/login?user=bob")
    await call_of("/logout", "POST")
    assert measured == written


def test_an_editor_shows_every_option() -> None:
    parameters = inspect.signature(RPLogoutMiddleware).parameters.values()
    shown = inspect.getdoc(RPLogoutMiddleware) or ""
    assert [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and f"``{p.name}``" not in shown] == []


@pytest.mark.parametrize("provider", [StaticProvider, OIDCProvider, AuthlibProvider])
def test_every_option_of_a_provider_is_in_its_docstring_and_on_the_page(provider: type) -> None:
    page, shown = (ROOT / "docs" / "providers.md").read_text(), inspect.getdoc(provider) or ""
    for option in list(inspect.signature(provider).parameters.values())[1:]:
        assert f"``{option.name}``" in shown, option.name
        assert f"`{option.name}" in page or option.name in ("client_id", "client_secret", "issuer"), option.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_heading_finds_it(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
        text = (page.parent / target if target else page).read_text()
        assert anchor in {anchor_of(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}, anchor


def anchor_of(heading: str) -> str:
    """As the usual renderers make it: in lower case, blanks as dashes, other punctuation left out."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_every_page_is_in_the_navigation_and_linked_from_the_first_page_or_the_readme() -> None:
    """scripts/docs fails too for a page that is in no list, but not every test run builds the site."""
    docs = ROOT / "docs"
    first, readme = (docs / "index.md").read_text(), (ROOT / "README.md").read_text()
    lists = " ".join(re.findall(r"^```{toctree}\n(.*?)^```$", first, re.DOTALL | re.MULTILINE))
    names = re.findall(r"^(?:.*<)?([\w./*-]+)>?$", lists, re.MULTILINE)
    listed = {page.resolve() for name in names for page in docs.glob(f"{name}.md")}
    pages = {page.resolve() for page in PAGES} - {ROOT / "README.md", docs / "index.md"}
    assert {str(page) for page in pages - listed} == set()
    links = r"\]\(([^)#]+)"
    linked = {(ROOT / target).resolve() for target in re.findall(links, readme)}
    linked |= {(docs / target).resolve() for target in re.findall(links, first)}
    assert {str(page) for page in pages - linked if page.parent.name != "apps"} == set()


def test_every_public_name_is_mentioned() -> None:
    import asgi_rp_logout

    text = "".join(page.read_text() for page in PAGES)
    missing = [name for name in asgi_rp_logout.__all__ if name not in text]
    assert missing == []
