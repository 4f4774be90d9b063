"""Found by comparing two versions request by request: sequences in which one of them had a hole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from asgi_rp_logout import Login, LogoutEvent, MemoryStore, RPLogoutMiddleware, current_login, remember_login
from tests.asgi import call, http_scope
from tests.places import INSIDE, OUTSIDE, Browser, ForeignStore, Site, providers
from tests.tokens import id_token
from tests.virtual_time import in_virtual_time, let_time_pass

CLICK = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document", "sec_fetch_site": "same-origin"}


@pytest.mark.parametrize("how", ["logout", "login"])
@pytest.mark.parametrize("store", [MemoryStore, ForeignStore])
async def test_whoever_has_copied_the_companion_of_a_forgotten_login_ends_nothing_with_it(store: Any, how: str) -> None:
    """The application goes on with the same session cookie, for a user who has signed in with a password."""
    site = Site(OUTSIDE, store=store(), freshness=0)
    browser = await site.signed_in()
    thief = Browser(site.app, {"rp_login": browser.cookies["rp_login"]})
    session = browser.cookies["session"]
    site.kept[session]["user"] = "password-user"  # else it would get a new id
    await browser.get("/forget", **CLICK)
    assert browser.cookies["session"] == session
    if how == "logout":
        await thief.post("/logout", **CLICK)
    else:
        await thief.get("/login?user=mallory", **CLICK)
    assert await site.who(browser) == "password-user"


@pytest.mark.parametrize("path", ["/logout", "/local"])
@in_virtual_time
async def test_a_logout_of_somebody_whom_only_the_application_knows_is_told_beside_a_dead_companion(path: str) -> None:
    events: list[LogoutEvent] = []

    async def told(event: LogoutEvent) -> None:
        events.append(event)

    async def source(connection: Any) -> Login | None:
        return Login("a", sub="carol", iss="https://a.example") if connection.cookies.get("who") else None

    site = Site(OUTSIDE, login_source=source, on_logout=told, session_lifetime=3600)
    browser = await site.signed_in()
    dead = browser.cookies["rp_login"]
    await browser.post(path, **CLICK)
    events.clear()
    let_time_pass(1 if path == "/local" else 300)
    answer = await Browser(site.app, {"rp_login": dead, "who": "carol"}).post("/logout", **CLICK)
    assert [event.sub for event in events] == ["carol"]
    assert str(answer.header("location")).startswith("https://a.example/logout")


def rewritten(site: Site, **changes: Any) -> None:
    """Let another release have written the tombstones of session cookies; None takes a part away."""
    for kept in site.store.inner.entries.values():
        for key, (until, record) in list(kept.items()):
            if key.startswith("cookie:") and "by" in record:
                changed = {name: value for name, value in {**record, **changes}.items() if value is not None}
                kept[key] = (until, changed)


@pytest.mark.parametrize("version", [None, 2])
@pytest.mark.parametrize("remembers", [True, False])
async def test_the_tombstone_of_a_session_cookie_holds_whatever_its_version(
    version: int | None, remembers: bool
) -> None:
    site = Site(OUTSIDE, store=ForeignStore(), freshness=0, remembers=remembers)
    browser = await site.signed_in()
    copied = {"session": browser.cookies["session"]}
    await browser.post("/logout", **CLICK)
    rewritten(site, v=version)
    assert await site.who(Browser(site.app, copied)) == "anonymous"
    elsewhere = Site(OUTSIDE, beside=site, freshness=0)
    assert await elsewhere.who(Browser(elsewhere.app, copied)) == "anonymous"


async def test_a_status_that_is_kept_for_an_outage_is_never_taken_for_a_fresh_one() -> None:
    store = ForeignStore()
    site = Site(OUTSIDE, store=store, freshness=0.1)
    browser = await site.signed_in()
    seen: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(bool(current_login(scope)))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    inner = RPLogoutMiddleware(app, providers=providers(), store=store, freshness=0.1)

    async def sessions(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, "session": {"_rp_login": "the handle of another release"}}, receive, send)

    async def sees() -> bool:
        companion = f"rp_login={browser.cookies['rp_login']}"
        await call(sessions, http_scope("/", headers=[("cookie", companion)]))
        return seen[-1]

    assert await sees()
    elsewhere = Site(OUTSIDE, beside=site, freshness=0.1)
    await Browser(elsewhere.app, browser.cookies).post("/logout", **CLICK)
    await anyio.sleep(0.2)
    assert not await sees()


async def test_a_logout_during_an_outage_finds_its_login_though_something_is_hidden() -> None:
    store = ForeignStore()
    site = Site(INSIDE, store=store, freshness=0)
    browser = await site.signed_in()
    await site.who(browser)
    store.trouble = "raise"
    pairs = [(name.replace("_", "-"), value) for name, value in CLICK.items()]
    pairs += [("cookie", f"session={browser.cookies['session']}")]
    pairs += [("authorization", "Bearer " + letter * 30) for letter in "ab"]
    answer = await call(site.app, http_scope("/logout", "POST", pairs))
    assert str(answer.header("location")).startswith("https://a.example/logout")


@in_virtual_time
async def test_a_login_is_written_though_the_question_before_it_took_all_its_time() -> None:
    class Hanging(ForeignStore):
        hangs = False

        async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> Any:
            if self.hangs:
                await anyio.sleep_forever()
            return await super().get_many(keys, collection=collection)

    store = Hanging()
    store.delay = 0.03
    site = Site(INSIDE, store=store, freshness=0)
    browser = await site.signed_in()
    store.hangs = True
    await site.sign_in(browser, user="bob")
    store.hangs = False
    await anyio.sleep(2)
    assert b'"login":["a","bob"' in (await browser.get("/")).body


async def test_a_stream_that_ends_while_its_start_is_on_the_way_starts_first() -> None:
    """Of two nested middlewares the outer one waits for a provider, and the inner one sees the end of the login."""

    class Hanging:
        name, issuer = "a", "https://a.example"

        async def get_end_session_url(self) -> None:
            await anyio.sleep(60)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/login":
            remember_login(scope, {"id_token": id_token()}, provider="a")
            headers = [(b"set-cookie", b"session=" + b"s" * 32 + b"; Path=/")]
        else:
            headers = [(b"x-rp-logout", b"0"), (b"set-cookie", b"session=; Max-Age=0; Path=/")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    options: dict[str, Any] = {"providers": [Hanging()], "store": MemoryStore(), "freshness": 0, "provider_timeout": 1}
    browser = Browser(RPLogoutMiddleware(RPLogoutMiddleware(app, **options), **options))
    await browser.get("/login")
    answer = await browser.post("/logout", **CLICK)
    assert answer.messages[0]["type"] == "http.response.start"
