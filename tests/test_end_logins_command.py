"""`python -m asgi_rp_logout end-logins`: in a process of its own, against the store of real workers."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from asgi_rp_logout import MemoryStore
from asgi_rp_logout.cli import stores
from tests.conftest import RedisServer
from tests.places import in_both_places
from tests.test_workers import send
from tests.workers import SOON, connects, wait_until

ROOT = Path(__file__).parent.parent
ISS = "https://a.example"
in_memory = MemoryStore()


def command(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, as an operator does."""
    path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, **environment}
    line = [sys.executable, "-m", "asgi_rp_logout", *arguments]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def worker(redis_server: RedisServer, unused_port: Callable[[], int]) -> Iterator[Callable[[str], str]]:
    """Run one worker, with everything in Redis: `worker(place)` gives its URL."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(place: str) -> str:
        port = unused_port()
        line = [sys.executable, "-m", "uvicorn", "tests.worker_app:app", "--port", str(port), "--log-level", "warning"]
        environment = os.environ | {"REDIS_URL": redis_server.url, "PLACE": place, "FRESHNESS": "0.2"}
        processes.append(subprocess.Popen(line, cwd=ROOT, env=environment))
        wait_until(lambda: connects(port))
        return f"http://127.0.0.1:{port}"

    yield start
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(timeout=SOON)


def sign_in(url: str, user: str, sid: str) -> dict[str, str]:
    return dict(send("GET", f"{url}/login?user={user}&sid={sid}", {}).cookies)


def who(url: str, cookies: dict[str, str]) -> str:
    return str(send("GET", url, cookies).json()["user"])


@pytest.mark.slow
@in_both_places
def test_a_worker_sees_the_logins_of_a_user_dead(
    worker: Callable[[str], str], redis_server: RedisServer, place: str
) -> None:
    """Both of alice's, not bob's; and alice can sign in again."""
    url = worker(place)
    here, there, bob = sign_in(url, "alice", "s1"), sign_in(url, "alice", "s2"), sign_in(url, "bob", "s3")
    assert [who(url, one) for one in (here, there, bob)] == ["alice", "alice", "bob"]
    ended = command("end-logins", "--store", redis_server.url, "--iss", ISS, "--sub", "alice")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("The logins of this user have ended.")
    wait_until(lambda: [who(url, one) for one in (here, there)] == ["anonymous", "anonymous"])
    assert who(url, bob) == "bob"
    assert who(url, sign_in(url, "alice", "s4")) == "alice"


@pytest.mark.slow
def test_one_session_ends_alone_and_the_store_may_come_from_the_environment(
    worker: Callable[[str], str], redis_server: RedisServer
) -> None:
    url = worker("outside")
    here, there = sign_in(url, "alice", "s1"), sign_in(url, "alice", "s2")
    ended = command("end-logins", "--iss", ISS, "--sid", "s1", ASGI_RP_LOGOUT_STORE=redis_server.url)
    assert (ended.returncode, ended.stderr) == (0, "")
    wait_until(lambda: who(url, here) == "anonymous")
    assert who(url, there) == "alice"


@pytest.mark.slow
@in_both_places
def test_with_a_moment_only_logins_end_that_began_by_then(
    worker: Callable[[str], str], redis_server: RedisServer, place: str
) -> None:
    url = worker(place)
    before = sign_in(url, "alice", "s1")
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    wait_until(lambda: datetime.now(UTC).isoformat(timespec="seconds") > moment)
    after = sign_in(url, "alice", "s2")
    arguments = ("--store", redis_server.url, "--iss", ISS, "--sub", "alice", "--not-after", moment)
    for _ in range(2):
        ended = command("end-logins", *arguments)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.startswith(f"The logins of this user up to {moment} have ended.")
        wait_until(lambda: who(url, before) == "anonymous")
        assert who(url, after) == "alice"


@pytest.mark.slow
def test_the_store_may_be_an_object_of_the_application(
    worker: Callable[[str], str], redis_server: RedisServer, tmp_path: Path
) -> None:
    """Which is imported from the current folder, as servers do."""
    source = f"""
        from key_value.aio.stores.redis import RedisStore
        class config:
            store = RedisStore(url="{redis_server.url}")
    """
    (tmp_path / "dashboard.py").write_text(textwrap.dedent(source))
    url = worker("outside")
    here = sign_in(url, "alice", "s1")
    arguments = ("end-logins", "--store", "dashboard:config.store", "--iss", ISS, "--sub", "alice")
    ended = command(*arguments, cwd=tmp_path, PYTHONSAFEPATH="1")
    assert (ended.returncode, ended.stderr) == (0, "")
    wait_until(lambda: who(url, here) == "anonymous")


SECRET = "hunter2"


@pytest.mark.slow
@pytest.mark.parametrize(
    "url",
    [
        "redis://ops:{secret}@127.0.0.1:{port}/0",
        "postgresql://ops:{secret}@127.0.0.1:{port}/app",
        "postgresql://127.0.0.1:{port}/app?user=ops&password={secret}",
        "postgresql://ops:{secret}/!@127.0.0.1:{port}/app",  # a slash that is not encoded: the password is a port
    ],
)
def test_a_store_that_is_down_ends_nothing_and_shows_no_password(url: str, free_port: int) -> None:
    given = url.format(secret=SECRET, port=free_port)
    ended = command("end-logins", "--store", given, "--iss", ISS, "--sub", "alice")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.startswith("python -m asgi_rp_logout end-logins: the store cannot be reached (")
    assert ended.stderr.endswith("so nothing has ended\n")
    assert SECRET not in ended.stderr


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        (f"redis://ops:a/{SECRET}@127.0.0.1:6379/0", "this redis:// URL cannot be used (ValueError)"),
        (f"mysql://ops:{SECRET}@127.0.0.1/0", "mysql:// is no known kind of store: expected redis://, rediss://"),
        ("valkey://127.0.0.1", "valkey:// needs another package: pip install 'py-key-value-aio[valkey]'"),
        ("redis", "expected module:attribute, such as myapp:app"),
        (f":{SECRET}@127.0.0.1:6379", "expected module:attribute, such as myapp:app"),
        (f"redis:{SECRET}@127.0.0.1", "expected module:attribute, such as myapp:app"),
        ("no_such_module:store", "there is no module 'no_such_module'"),
        ("tests.tokens:nothing", "tests.tokens has no attribute 'nothing'"),
        ("tests.tokens:json", "--store=module: expected the method get() of AsyncKeyValue"),
        ("tests.test_end_logins_command:in_memory", "a MemoryStore is known to its own process only"),
        ("", "no store is named: expected --store"),
    ],
)
def test_a_store_that_cannot_be_used_is_refused(store: str, expected: str) -> None:
    ended = command("end-logins", "--store", store, "--iss", ISS, "--sub", "alice")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert expected in ended.stderr
    assert SECRET not in ended.stderr


def test_what_a_url_says_of_a_store_reaches_it() -> None:
    """Those that take no URL, or do not decode its password."""
    redis, valkey, memcached = (stores._KINDS[kind].arguments for kind in ("redis", "valkey", "memcached"))
    given = {"host": "cache", "port": 6380, "db": 2, "username": "ops", "password": "a/b"}
    assert redis("rediss://ops:a%2Fb@cache:6380/2") == given | {"ssl": True}
    assert redis("redis://cache") == {"host": "cache", "db": 0, "ssl": False}
    assert valkey("valkey://ops:a%2Fb@cache:6380/2") == given
    assert valkey("valkey://cache") == {"host": "cache", "db": 0}
    assert memcached("memcached://cache:11212") == {"host": "cache", "port": 11212}
    assert memcached("memcached://cache") == {"host": "cache"}


@pytest.mark.parametrize("whose", [("--iss", ISS), ("--iss", "", "--sub", "alice"), ("--iss", ISS, "--sub", "")])
def test_somebody_must_be_named(whose: tuple[str, ...]) -> None:
    ended = command("end-logins", "--store", "redis://127.0.0.1", *whose)
    assert ended.returncode == 2
    assert "nobody is named: expected --iss with --sub, with --sid, or with both" in ended.stderr


@pytest.mark.parametrize("moment", ["2026-11-26T13:00:00", "2026-11-26", "1764162000", "yesterday", ""])
def test_a_moment_has_a_time_zone(moment: str) -> None:
    ended = command(
        *("end-logins", "--store", "redis://127.0.0.1", "--iss", ISS, "--sub", "alice", "--not-after", moment)
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"--not-after {moment!r}: expected a time with its zone, such as 2026-11-26T13:00:00Z" in ended.stderr


def test_a_setting_that_is_missing_is_found_by_the_line_of_the_application_that_reads_it(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import os\nISSUER = os.environ['NO_SUCH_SETTING']\n")
    ended = command("end-logins", "--store", "broken:store", "--iss", ISS, "--sub", "alice", cwd=tmp_path)
    assert f"broken cannot be imported: KeyError in {tmp_path / 'broken.py'}, line 2" in ended.stderr


def test_an_application_that_fails_to_start_shows_none_of_its_settings(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(f"raise RuntimeError('password={SECRET}')")
    ended = command("end-logins", "--store", "broken:store", "--iss", ISS, "--sub", "alice", cwd=tmp_path)
    assert ended.returncode == 2
    assert f"broken cannot be imported: RuntimeError in {tmp_path / 'broken.py'}, line 1" in ended.stderr
    assert SECRET not in ended.stderr
