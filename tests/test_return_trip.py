"""The way back over the one registered return address: to the page that was wanted, for this browser, once."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

import anyio
import pytest

from asgi_rp_logout import MemoryStore, RPLogoutMiddleware
from tests.asgi import Answer, call, http_scope
from tests.places import Browser, ForeignStore, Site, destination, in_both_places, providers
from tests.virtual_time import in_virtual_time

OPTIONS: dict[str, Any] = {"callback_path": "/back"}


async def trip(site: Site, path: str = "/logout") -> tuple[Browser, str]:
    """Sign in and out; give the browser, on its way at the provider, and the state."""
    browser = await site.signed_in()
    _, query = destination(await browser.post(path))
    assert query["post_logout_redirect_uri"] == "http://127.0.0.1/back"
    assert len(query["state"]) == 43
    return browser, query["state"]


def landing(answer: Answer) -> str | None:
    assert (answer.status, answer.body) == (303, b"")
    assert (answer.header("cache-control"), answer.header("referrer-policy")) == ("no-store", "no-referrer")
    return answer.header("location")


async def test_the_browser_lands_on_the_page_that_the_application_wanted_query_included() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"location", "http://127.0.0.1/goodbye/é?next=/a%20b&x=1#part".encode())]
        await send({"type": "http.response.start", "status": 302, "headers": headers})
        await send({"type": "http.response.body"})

    browser = Browser(RPLogoutMiddleware(app, providers=providers()[:1], **OPTIONS), {"session": "0123456789abcdef"})
    _, query = destination(await browser.post("/logout"))
    answer = await browser.get(f"/back?state={query['state']}")
    assert landing(answer) == "/goodbye/%C3%A9?next=/a%20b&x=1#part"


@in_both_places
async def test_a_state_works_once_and_for_some_seconds_more(place: str) -> None:
    """The browser may have dropped the first answer. It is kept beside the session, which the application clears."""
    store, now = MemoryStore(), [0.0]
    store._clock = lambda: now[0]
    site = Site(place, store=store, **OPTIONS)
    browser, state = await trip(site)
    assert browser.cookies.keys() == {"rp_return"}
    for seconds, page in ((0.0, "/bye"), (9.0, "/bye"), (10.5, "/")):
        now[0] = seconds
        again = browser.copy()
        answer = await again.get(f"/back?state={state}")
        assert landing(answer) == page
        assert [line for line in answer.all("set-cookie") if "Max-Age=10;" not in line] == []
        assert len(answer.all("set-cookie")) == (page == "/bye")


@in_virtual_time
async def test_visits_at_the_same_moment_all_land_on_the_page() -> None:
    store = ForeignStore()
    browser, state = await trip(Site("outside", store=store, **OPTIONS))
    store.delay = 0.02
    pages: list[str | None] = []
    async with anyio.create_task_group() as tasks:
        for _ in range(5):

            @tasks.start_soon
            async def _() -> None:
                pages.append(landing(await browser.copy().get(f"/back?state={state}")))

    assert pages == ["/bye"] * 5


async def test_a_state_works_for_ten_minutes() -> None:
    store, now = MemoryStore(), [0.0]
    store._clock = lambda: now[0]
    site = Site("outside", store=store, **OPTIONS)
    for seconds, page in ((599.0, "/bye"), (601.0, "/")):
        browser, state = await trip(site)
        now[0] += seconds
        assert landing(await browser.get(f"/back?state={state}")) == page


async def test_a_state_works_in_its_own_browser_only_and_survives_a_strangers_visit() -> None:
    site = Site("outside", **OPTIONS)
    browser, state = await trip(site)
    other, _ = await trip(site)
    for stranger in (site.browser(), other, Browser(site.app, {"rp_return": ""})):
        assert landing(await stranger.get(f"/back?state={state}")) == "/"
    assert landing(await browser.get(f"/back?state={state}")) == "/bye"


async def test_neither_a_look_nor_a_wrong_state_uses_the_trip_up() -> None:
    site = Site("outside", **OPTIONS)
    browser, state = await trip(site)
    assert landing(await browser.request("HEAD", f"/back?state={state}", {})) == "/bye"
    assert landing(await browser.get("/back?state=another")) == "/"
    (record,) = site.store.entries["return_trip"].values()
    assert record[1].keys() == {"v", "to", "browser"}
    assert landing(await browser.get(f"/back?state={state}")) == "/bye"


WRONG = {
    "no query": "",
    "an empty state": "?state=",
    "another state": "?state=" + "x" * 43,
    "a state that is cut off": "?state={cut}",
    "a state twice": "?state={state}&state={state}",
    "a state twice, differently": "?state={state}&state=x",
    "an error of the provider": "?error=server_error",
    "a hundred parameters": "?" + "a=b&" * 100 + "state={state}",
    "bytes that are no UTF-8": "?state=%ff%fe",
    "a target": "?state=x&to=//evil.example&next=https://evil.example&post_logout_redirect_uri=https://evil.example",
    "a key of the store": "?state=trip:{state}",
}


@pytest.mark.parametrize("query", WRONG.values(), ids=WRONG.keys())
async def test_without_a_usable_state_the_browser_lands_on_the_default_page(query: str, log: Any) -> None:
    site = Site("outside", **OPTIONS)
    browser, state = await trip(site)
    answer = await browser.copy().get("/back" + query.format(state=state, cut=state[:-1]))
    assert landing(answer) == "/"
    assert log() == []
    assert landing(await browser.get(f"/back?state={state}")) == "/bye"


DEFAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "none": ({}, "", "/"),
    "a path": ({"post_logout_redirect_uri": "/login"}, "", "/login"),
    "a path with a query": ({"post_logout_redirect_uri": "/login?again=1"}, "", "/login?again=1"),
    "an absolute URL": ({"post_logout_redirect_uri": "https://www.example.com/"}, "", "/"),
    "below a root_path": ({}, "/prefix", "/prefix/"),
    "a path below a root_path": ({"post_logout_redirect_uri": "/login"}, "/prefix", "/prefix/login"),
    "a public URL with a prefix": ({"public_url": "https://app.example.com/public"}, "/prefix", "/public/"),
    "a root_path that lies": ({}, "//evil.example", "/"),
}


@pytest.mark.parametrize(("options", "root_path", "page"), DEFAULTS.values(), ids=DEFAULTS.keys())
async def test_the_default_page(options: dict[str, Any], root_path: str, page: str) -> None:
    site = Site("outside", **OPTIONS, **options)
    assert landing(await call(site.app, http_scope(f"{root_path}/back", root_path=root_path))) == page


async def test_the_default_page_is_where_a_browser_lands_that_was_going_elsewhere() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"location", b"https://evil.example/")]
        await send({"type": "http.response.start", "status": 302, "headers": headers})
        await send({"type": "http.response.body"})

    wrapped = RPLogoutMiddleware(app, providers=providers()[:1], post_logout_redirect_uri="/login", **OPTIONS)
    browser = Browser(wrapped, {"session": "0123456789abcdef"})
    _, query = destination(await browser.post("/logout"))
    assert landing(await browser.get(f"/back?state={query['state']}")) == "/login"


async def test_a_store_in_somebody_elses_hands_takes_the_browser_nowhere_else() -> None:
    for to in ("https://evil.example/", "//evil.example", "/\\evil.example", "/%2fevil.example", "\n", "", "//a#b"):
        site = Site("outside", **OPTIONS)
        browser, state = await trip(site)
        (key,) = site.store.entries["return_trip"]
        record = await site.store.get(key)
        await site.store.put(key, {**record, "to": to}, ttl=60)
        answer = await browser.get(f"/back?state={state}")
        assert landing(answer) == "/"


async def test_other_methods_are_refused_and_use_nothing_up() -> None:
    site = Site("outside", **OPTIONS)
    browser, state = await trip(site)
    for method in ("POST", "PUT", "OPTIONS"):
        answer = await browser.request(method, f"/back?state={state}", {})
        assert (answer.status, answer.header("allow")) == (405, "GET, HEAD")
    assert landing(await browser.get(f"/back?state={state}")) == "/bye"


@pytest.mark.parametrize("trouble", ["raise", "hang", "short"])
async def test_a_store_in_trouble_takes_the_browser_to_the_default_page(trouble: Any) -> None:
    store = ForeignStore()
    site = Site("outside", store=store, **OPTIONS)
    browser, state = await trip(site)
    store.trouble = trouble
    assert landing(await browser.get(f"/back?state={state}")) == "/"


async def test_neither_state_nor_binding_is_in_the_store() -> None:
    store = ForeignStore()
    browser, state = await trip(Site("outside", store=store, **OPTIONS))
    (key,) = store.names("return_trip:")
    record = str((key, await store.inner.get(key)))
    assert state not in record
    assert browser.cookies["rp_return"] not in record
    assert hashlib.sha256(state.encode()).hexdigest()[:43] in record


async def test_the_binding_cookie_is_out_of_reach_and_short_lived() -> None:
    site = Site("outside", public_url="https://app.example.com/prefix", **OPTIONS)
    browser = await site.signed_in()
    answer = await browser.post("/logout")
    assert destination(answer)[1]["post_logout_redirect_uri"] == "https://app.example.com/prefix/back"
    (line,) = answer.set_cookies()["__Host-rp_return"]
    assert line.partition("; ")[2] == "Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure"


async def test_the_target_of_the_second_click_is_that_of_the_first() -> None:
    site = Site("outside", guard=True, **OPTIONS)
    browser = await site.signed_in()
    second = browser.copy()
    await browser.post("/logout")
    _, query = destination(await second.post("/logout"))
    assert landing(await second.get(f"/back?state={quote(query['state'])}")) == "/bye"


async def test_a_deferred_logout_comes_back_to_the_page_that_finished_it() -> None:
    site = Site("outside", **OPTIONS)
    browser = await site.signed_in()
    fetch = {"sec_fetch_mode": "cors", "sec_fetch_dest": "empty", "sec_fetch_site": "same-origin"}
    assert (await browser.post("/logout", **fetch)).header("location") == "/bye"
    navigation = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document", "sec_fetch_site": "same-origin"}
    _, query = destination(await browser.get("/?tab=2", **navigation))
    assert landing(await browser.get(f"/back?state={query['state']}")) == "/?tab=2"
    assert (await browser.get("/", **navigation)).status == 200


@pytest.mark.parametrize(
    ("location", "page"),
    [
        ("/#/login", "/#/login"),
        ("http://127.0.0.1/a?b#/c?d=e", "/a?b#/c?d=e"),
        ("#/x y", "/logout#/x%20y"),
        ("/#é<script>", "/#%C3%A9%3Cscript%3E"),
        ("/#a#b", "/#a#b"),
        ("/#" + "é" * 1000, "/"),
        ("/#a\\b", "/"),
        ("//evil.example/#/", "/"),
    ],
)
async def test_a_page_that_routes_by_its_fragment_comes_back_there(location: str, page: str) -> None:
    """Through the callback, a deferred logout and a second click. The provider never sees it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"location", location.encode())] if scope["path"] == "/logout" else []
        await send({"type": "http.response.start", "status": 303 if headers else 200, "headers": headers})
        await send({"type": "http.response.body"})

    wrapped = RPLogoutMiddleware(app, providers=providers()[:1], **OPTIONS)
    browser = Browser(wrapped, {"session": "0123456789abcdef"})
    second = browser.copy()
    for one in (browser, second):
        answer = await one.post("/logout")
        assert "#" not in str(answer.header("location"))
        _, query = destination(answer)
        assert landing(await one.get(f"/back?state={query['state']}")) == page

    fetching = Browser(wrapped, {"session": "another-0123456789abcdef"})
    await fetching.post("/logout", sec_fetch_mode="cors", sec_fetch_dest="empty", sec_fetch_site="same-origin")
    path = page.partition("#")[0]
    answer = await fetching.get(path, sec_fetch_mode="navigate", sec_fetch_dest="document", sec_fetch_site="none")
    _, query = destination(answer)
    assert landing(await fetching.get(f"/back?state={query['state']}")) == page


async def test_without_a_callback_path_the_provider_is_told_no_fragment() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 303, "headers": [(b"location", b"/a?b#/login")]})
        await send({"type": "http.response.body"})

    browser = Browser(RPLogoutMiddleware(app, providers=providers()[:1]), {"session": "0123456789abcdef"})
    _, query = destination(await browser.post("/logout"))
    assert query["post_logout_redirect_uri"] == "http://127.0.0.1/a"
