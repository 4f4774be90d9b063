"""The built-in store: bounded by kind, with time limits; and what a store of any make is given to keep."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from asgi_rp_logout import ConfigurationError, MemoryStore, RPLogoutMiddleware
from tests.places import ForeignStore, Site, destination, in_both_places, providers
from tests.tokens import id_token


def make_store(max_logins: int = 3) -> tuple[MemoryStore, Callable[[float], None]]:
    """Give a store, and a function that lets time pass for it."""
    now = 1000.0
    store = MemoryStore(max_logins)

    def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds

    store._clock = lambda: now
    return store, pass_time


async def test_what_was_put_is_there_until_its_time_is_over() -> None:
    store, pass_time = make_store()
    await store.put("login:1", {"a": 1}, ttl=10)
    await store.put("login:2", {"a": 2}, collection="any", ttl=None)
    pass_time(9.9)
    assert await store.get_many(["login:2", "login:1", "login:3"]) == [{"a": 2}, {"a": 1}, None]
    pass_time(0.1)
    assert await store.get("login:1") is None
    assert await store.get("login:2") == {"a": 2}
    assert len(store) == 1


async def test_the_first_of_those_who_delete_a_key_is_told_so() -> None:
    store, pass_time = make_store()
    await store.put("return_trip:1", {}, ttl=10)
    assert [await store.delete("return_trip:1"), await store.delete("return_trip:1")] == [True, False]
    await store.put("return_trip:1", {}, ttl=10)
    pass_time(10)
    assert await store.delete("return_trip:1") is False


async def test_the_login_not_used_for_longest_is_pushed_out() -> None:
    store, _ = make_store()
    for number in range(3):
        await store.put(f"login:{number}", {}, ttl=10)
    await store.get("login:0")
    await store.put("login:3", {}, ttl=10)
    assert [value is not None for value in await store.get_many([f"login:{n}" for n in range(4)])] == [1, 0, 1, 1]


async def test_reading_a_tombstone_does_not_make_it_any_younger() -> None:
    """Else whoever replays one cookie again and again would push out the tombstones of everybody else."""
    store, _ = make_store()
    for number in range(3):
        await store.put(f"ended:{number}", {}, ttl=10)
    await store.get("ended:0")
    await store.put("ended:3", {}, ttl=10)
    assert await store.get("ended:0") is None


async def test_each_kind_of_entry_has_a_quota_of_its_own() -> None:
    store, _ = make_store()
    kinds = (
        "login",
        "ended",
        "cookie",
        "ended_until",
        "known_sid",
        "last_login",
        "last_end",
        "deferred",
        "return_trip",
    )
    for kind in kinds:
        await store.put(f"{kind}:mine", {}, ttl=10)
    for number in range(100):
        await store.put(f"cookie:{number}", {}, ttl=10)
    assert [kind for kind in kinds if await store.get(f"{kind}:mine") is None] == ["cookie"]
    assert len(store) == len(kinds) - 1 + 3


async def test_what_is_over_does_not_pile_up() -> None:
    store, pass_time = make_store(1000)
    for number in range(500):
        await store.put(f"return_trip:{number}", {}, ttl=1)
        pass_time(1)
    assert len(store) <= 2


async def test_a_key_that_is_put_again_counts_once() -> None:
    store, _ = make_store(2)
    for _ in range(5):
        await store.put("ended:1", {}, ttl=10)
    await store.put("ended:2", {}, ttl=10)
    assert len(store) == 2


async def test_a_store_is_empty_again_when_all_is_gone() -> None:
    store, _ = make_store()
    assert store.empty
    await store.put("login:1", {}, ttl=10)
    assert not store.empty
    await store.delete("login:1")
    assert store.empty


async def test_a_value_that_is_changed_by_the_caller_afterwards_is_kept_as_it_was() -> None:
    store, _ = make_store()
    value = {"a": 1}
    await store.put("login:1", value, ttl=10)
    value["a"] = 2
    assert await store.get("login:1") == {"a": 1}


@pytest.mark.parametrize("limit", [0, -1, 1.5, "10", None, True])
def test_a_limit_that_is_no_whole_number_above_zero_is_refused(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_logins"):
        MemoryStore(limit)


def test_a_store_that_lacks_a_method_is_refused() -> None:
    class Half:
        def get(self) -> None: ...

    with pytest.raises(ConfigurationError, match=r"store=Half: expected the method get_many\(\)"):
        RPLogoutMiddleware(lambda: None, providers=[], store=Half())  # type: ignore[arg-type, misc]


# The stores of py-key-value-aio, as they are


def memory_store(request: pytest.FixtureRequest) -> Any:
    from key_value.aio.stores.memory import MemoryStore as TheirMemoryStore

    return TheirMemoryStore()


def disk_store(request: pytest.FixtureRequest) -> Any:
    from key_value.aio.stores.disk import DiskStore

    return DiskStore(directory=request.getfixturevalue("tmp_path") / "store")


def redis_store(request: pytest.FixtureRequest) -> Any:
    from key_value.aio.stores.redis import RedisStore

    return RedisStore(url=request.getfixturevalue("redis_server").url)


def encrypted_store(request: pytest.FixtureRequest) -> Any:
    from cryptography.fernet import Fernet
    from key_value.aio.wrappers.encryption import FernetEncryptionWrapper

    return FernetEncryptionWrapper(key_value=memory_store(request), fernet=Fernet(Fernet.generate_key()))


@in_both_places
@pytest.mark.parametrize(
    "make", [memory_store, disk_store, pytest.param(redis_store, marks=pytest.mark.redis), encrypted_store]
)
async def test_each_store_of_py_key_value_aio_fits_as_it_is(
    place: str, make: Callable[..., Any], request: pytest.FixtureRequest, log: Any
) -> None:
    """A login, a logout by fetch, its redirect, the way back, replays, a second click: all that a store is used for."""
    store = make(request)
    async with contextlib.AsyncExitStack() as stack:
        if hasattr(store, "close"):
            stack.push_async_callback(store.close)
        site = Site(place, store=store, callback_path="/back", freshness=0)
        browser = await site.signed_in(user="bob", provider="b", sid="s2")
        thief = browser.copy()
        assert await site.who(browser) == "bob"
        await browser.get("/touch")
        answer = await browser.post("/logout", accept="*/*", origin="http://127.0.0.1")
        assert answer.header("location") == "/bye"
        assert await site.who(thief.copy()) == "anonymous"
        second = destination(await thief.copy().post("/logout"))
        again = browser.copy()
        host, query = destination(await browser.get("/", accept="text/html"))
        assert (host, query["id_token_hint"]) == (second[0], second[1]["id_token_hint"])
        assert query["id_token_hint"] == id_token("bob", "s2", "https://b.example", pad="")
        assert (await browser.get(f"/back?state={query['state']}")).header("location") == "/"
        assert (await again.get("/", accept="text/html")).status == 200
        await site.sign_in(browser)
        await browser.get("/forget")
        assert await site.who(browser) == "password-user"
    assert log() == []


# What a store is given


@in_both_places
async def test_no_key_shows_a_token_a_subject_or_a_cookie_and_no_log_record_does(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One whole life: login, use, logout by fetch, its redirect, the way back, a replay; then with the store broken."""
    caplog.set_level(logging.DEBUG)
    store, secrets = ForeignStore(), set()
    site = Site(place, store=store, callback_path="/back", providers=providers()[:1], freshness=0)
    browser = await site.signed_in(user="alice-the-subject", sid="the-session-id")
    for trouble in (None, "raise"):
        secrets |= set(browser.cookies.values())
        thief = browser.copy()
        store.trouble = trouble
        await browser.get("/touch")
        secrets |= set(browser.cookies.values())
        await browser.post("/logout", accept="*/*", origin="http://127.0.0.1", referer="http://127.0.0.1/")
        secrets |= set(browser.cookies.values())
        answer = await browser.get("/", accept="text/html")
        if trouble is None:
            assert answer.status == 303
            state = (answer.header("location") or "").rpartition("state=")[2]
            secrets |= {state, *browser.cookies.values()}
            assert (await browser.get(f"/back?state={state}")).header("location") == "/"
        await thief.get("/")
        store.trouble = None
        await site.sign_in(browser, user="alice-the-subject", sid="the-session-id")
    records = [value for kind in store.inner.entries.values() for _, value in kind.values()]
    secrets |= {record["id_token"] for record in records if "id_token" in record}
    secrets |= {"alice-the-subject", "the-session-id", "refresh-alice-the-subject", "hunter2"}
    assert len(secrets) > 8
    logged = " ".join(f"{record.getMessage()} {record.exc_text} {record.exc_info}" for record in caplog.records)
    assert "failed" in logged
    for text in (*store.names(), logged):
        assert [secret for secret in secrets if secret and secret in text] == []
    values = json.dumps(records)
    assert [cookie for cookie in thief.cookies.values() if cookie in values] == []
