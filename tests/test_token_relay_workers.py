"""The token relay in two worker processes that share its port, and one Redis."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
import pytest

from tests.conftest import RedisServer, Serve, UnusedPort
from tests.test_token_relay import KNOWN, Upstream, browser_at
from tests.workers import StartWorkers, wait_until


def signs_in(url: str, provider: Upstream, number: int) -> tuple[dict[str, str], bool]:
    """Sign in; return the cookies, and whether the relay of the other process has redeemed the code."""
    with browser_at(url) as browser:
        answer = browser.get("/callback", params={"code": f"code-{number}"})
        return dict(browser.cookies), answer.headers["x-worker"] != provider.seen[-1].headers["x-relay"]


def known_to_both(url: str, cookies: Mapping[str, str]) -> list[object]:
    """Ask who is known until two processes have answered."""
    known: dict[str, object] = {}

    def ask() -> bool:
        answer = httpx.get(url, cookies=dict(cookies), trust_env=False)
        known[answer.headers["x-worker"]] = answer.json()["known"]
        return len(known) == 2

    wait_until(ask)
    return list(known.values())


@pytest.mark.slow
def test_a_code_redeemed_by_the_relay_of_another_process_is_a_login_in_both(
    start_workers: StartWorkers, redis_server: RedisServer, serve: Serve, unused_port: UnusedPort
) -> None:
    provider, relay_port = Upstream(port := unused_port()), unused_port()
    serve(provider.app, port=port)
    url = start_workers(
        "tests.relay_worker_app:app",
        ISSUER=provider.issuer,
        REDIS_URL=redis_server.url,
        RELAY_PORT=str(relay_port),
    )
    redeemed: set[bool] = set()
    for number in range(200):
        cookies, by_the_other = signs_in(url, provider, number)
        if by_the_other not in redeemed:
            redeemed.add(by_the_other)
            assert known_to_both(url, cookies) == [KNOWN] * 2, by_the_other
            with browser_at(url, cookies=cookies) as browser:
                away = browser.post("/logout").headers["location"]
            assert f"id_token_hint={provider.issued['id_token']}" in away
        if len(redeemed) == 2:
            break
    assert redeemed == {True, False}
