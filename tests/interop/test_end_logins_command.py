"""`python -m asgi_rp_logout end-logins` with the store of an application in PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from key_value.aio.stores.postgresql import PostgreSQLStore

from tests.conftest import Serve
from tests.interop.conftest import PostgreSQLServer
from tests.places import Site, in_both_places
from tests.test_end_logins_command import ISS, command, sign_in, who
from tests.workers import wait_until


@pytest.mark.filterwarnings("ignore:A configured store is unstable:UserWarning")  # PostgreSQLStore says so of itself
@in_both_places
def test_a_worker_with_its_logins_in_postgresql_sees_them_dead(
    serve: Serve, postgresql_server: PostgreSQLServer, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr("asgi_rp_logout.logins.guarded_store.STORE_DEADLINE", 10.0)  # a busy machine is no outage
    address = f"postgresql://postgres@127.0.0.1:{postgresql_server.port}/postgres?sslmode=disable"
    url = serve(Site(place, store=PostgreSQLStore(url=address), freshness=0).app)
    alice, bob = sign_in(url, f"alice-{place}", "s1"), sign_in(url, f"bob-{place}", "s2")

    def end(user: str, *moment: str) -> None:
        ended = command("end-logins", "--store", address, "--iss", ISS, "--sub", f"{user}-{place}", *moment)
        assert (ended.returncode, ended.stderr) == (0, "")

    end("alice", "--not-after", "2001-01-01T00:00:00Z")
    assert who(url, alice) == f"alice-{place}"
    end("alice")
    wait_until(lambda: who(url, alice) == "anonymous")
    assert who(url, bob) == f"bob-{place}"
    end("bob", "--not-after", datetime.now(UTC).isoformat())
    wait_until(lambda: who(url, bob) == "anonymous")
