"""Several processes behind one Redis: a logout at one of them is a logout at all; and an outage of that Redis."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from key_value.aio.stores.redis import RedisStore
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.conftest import RedisServer, Serve
from tests.places import OUTSIDE, Site, in_both_places
from tests.tokens import id_token
from tests.workers import SOON, StartWorkers, wait_until

Run = Callable[[str, str], str]


@pytest.fixture
def run(start_workers: StartWorkers, redis_server: RedisServer) -> Run:
    """Run servers of two workers each: `run(place, freshness)` gives the URL of one more."""
    return lambda place, freshness: start_workers(
        "tests.worker_app:app", REDIS_URL=redis_server.url, PLACE=place, FRESHNESS=freshness
    )


def send(method: str, url: str, cookies: dict[str, str], **headers: str) -> httpx.Response:
    """Send one request over a connection of its own, so that any worker may get it."""
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    return httpx.request(method, url, headers={"cookie": cookie, **headers}, timeout=SOON)


def ask_all(urls: list[str], cookies: dict[str, str], workers: int) -> dict[str, list[str]]:
    """Ask who is signed in until that many workers have answered; give the answers of each, in their order."""
    seen: dict[str, list[str]] = {}

    def ask_once() -> bool:
        with ThreadPoolExecutor(8) as pool:
            for answer in pool.map(lambda url: send("GET", url, cookies), urls * 4):
                seen.setdefault(answer.headers["x-worker"], []).append(answer.json()["user"])
        return len(seen) >= workers

    wait_until(ask_once)
    return seen


@pytest.mark.slow
@in_both_places
def test_a_logout_at_one_worker_is_a_logout_at_all_of_them(run: Run, place: str) -> None:
    """Signed in at A, used everywhere, signed out at B, replayed at C: the hint is sent, the copy is dead."""
    a, b = run(place, "0.3"), run(place, "0.3")
    cookies = dict(send("GET", f"{a}/login?user=alice", {}).cookies)
    before = ask_all([a, b], cookies, workers=4)
    assert {user for users in before.values() for user in users} == {"alice"}

    logout = send("POST", f"{b}/logout", cookies)
    url = urlsplit(logout.headers["location"])
    assert (logout.status_code, url.netloc) == (303, "a.example")
    assert parse_qs(url.query)["id_token_hint"] == [id_token(pad="")]

    wait_until(lambda: {u for users in ask_all([a, b], cookies, workers=4).values() for u in users} == {"anonymous"})
    alone = {name: value for name, value in cookies.items() if name == "session"}
    after = ask_all([a, b], alone, workers=4)
    assert {user for users in after.values() for user in users} == {"anonymous"}


# An outage


class Traffic:
    """Visitors who keep on asking in threads of their own; what they were answered is counted by phase."""

    def __init__(self, url: str, cookies: dict[str, str]) -> None:
        self.url, self.cookies = url, cookies
        self.phase, self.answered = "before", Counter[tuple[str, int]]()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]

    def _ask(self) -> None:
        while not self._stop.is_set():
            phase = self.phase
            status = send("GET", self.url, self.cookies).status_code
            if phase == self.phase:
                self.answered[phase, status] += 1

    def reach(self, phase: str, count: int = 20) -> None:
        """Go on until enough was answered in a new phase."""
        self.phase = phase
        wait_until(lambda: sum(n for (name, _), n in self.answered.items() if name == phase) >= count)

    def statuses(self, phase: str) -> set[int]:
        return {status for name, status in self.answered if name == phase}

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def quick_to_fail(server: RedisServer) -> RedisStore:
    """Make a store that tries a broken connection once more, and at once: by default redis-py waits for seconds."""
    store = RedisStore(url=server.url)
    store._client.set_retry(Retry(NoBackoff(), 1))
    return store


@pytest.mark.slow
@in_both_places
@pytest.mark.parametrize("mode", ["allow", "deny"])
def test_redis_goes_down_and_comes_back_under_traffic(
    serve: Serve, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, place: str, mode: str
) -> None:
    """No visitor gets an error but the 503 that was asked for, and no logout is lost."""
    monkeypatch.setattr("asgi_rp_logout.logins.guarded_store.STORE_DEADLINE", 10.0)  # a busy machine is no outage
    here = Site(place, store=quick_to_fail(redis_server), freshness=0.05, on_store_error=mode)
    there = Site(place, store=quick_to_fail(redis_server), freshness=0.05, beside=here)
    url, elsewhere = serve(here.app), serve(there.app)
    users = (f"user{number}" for number in itertools.count())
    copies: list[dict[str, str]] = []

    def sign_in() -> dict[str, str]:
        return dict(send("GET", f"{url}/login?user={next(users)}", {}).cookies)

    def sign_out(cookies: dict[str, str]) -> None:
        copies.append(cookies)
        answer = send("POST", f"{url}/logout", cookies)
        assert answer.status_code == 303
        assert {line.partition("=")[0] for line in answer.headers.get_list("set-cookie")} >= set(cookies)

    early = [sign_in() for _ in range(6)]
    with Traffic(url, sign_in()) as traffic:
        traffic.reach("up")
        sign_out(early[0])
        traffic.phase = "going down"  # first: a request of "up" that meets the outage would be counted there
        redis_server.kill()
        traffic.reach("down", 30)
        sign_out(early[1])
        traffic.reach("still down", 5)
        sign_out(early[2])
        redis_server.start()
        traffic.reach("coming back", 30)
        wait_until(lambda: {send("GET", url, sign_in()).status_code for _ in range(10)} == {200})
        traffic.reach("back")
        sign_out(early[3])
    assert traffic.statuses("up") == traffic.statuses("back") == {200}
    outage = traffic.statuses("down") | traffic.statuses("still down") | traffic.statuses("coming back")
    assert outage - {200} == (set() if mode == "allow" else {503})
    # What was ended while Redis was away is known to the other process by now; Redis itself forgot what was before.
    for cookies in copies[1:]:
        wait_until(partial(lambda cookies: send("GET", elsewhere, cookies).json()["user"] == "anonymous", cookies))
    assert send("GET", elsewhere, early[5]).json()["user"] == "user5"


def test_a_logout_is_not_known_to_a_process_with_a_store_of_its_own(serve: Serve, redis_server: RedisServer) -> None:
    """The control of the tests above."""
    here, alone = Site(OUTSIDE, store=RedisStore(url=redis_server.url), freshness=0), Site(OUTSIDE, freshness=0)
    url, other = serve(here.app), serve(alone.app)
    cookies = dict(send("GET", f"{url}/login", {}).cookies)
    alone.kept.update(here.kept)
    send("POST", f"{url}/logout", cookies)
    assert send("GET", url, cookies).json()["user"] == "anonymous"
    assert send("GET", other, cookies).json()["user"] == "alice"
