"""Time that passes only while everybody waits: deadlines of minutes are seen in no time, on a machine however busy.

For tests that stay in one thread. With real sockets or threads at work, the clock would run ahead of them.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest


class JumpingSelector(selectors.DefaultSelector):
    """Where an event loop would sleep until its next timer, let the time pass at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(timeout and 0)
        if timeout and not found:
            self.now += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while anybody has anything to do."""

    def __init__(self) -> None:
        self.selector = JumpingSelector()
        self.zero = time.time() - self.selector.now
        """What the virtual clock's zero is by the wall clock. A token that is made at the real time is a new one."""
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


def virtual_now() -> float:
    """Give the wall clock of a test in virtual time, in seconds since the epoch."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.zero + loop.time()


def let_time_pass(seconds: float) -> None:
    """Move the clocks on by so many seconds, or back, without letting anybody act in between."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.selector.now += seconds


def in_virtual_time(test: Any) -> Any:
    """Run a test, and the package's clocks, in virtual time: `await anyio.sleep(3600)` is the way to let it pass."""
    on_the_loop = pytest.mark.parametrize(
        "anyio_backend", [("asyncio", {"loop_factory": VirtualLoop})], ids=["virtual time"]
    )
    return pytest.mark.usefixtures("_package_in_virtual_time")(on_the_loop(test))


def hand_in_the_clock(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every module of the package that looks at a clock look at the event loop's."""
    clock = SimpleNamespace(monotonic=loop.time, time=lambda: loop.zero + loop.time())
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "asgi_rp_logout" and getattr(module, "time", None) is time:
            monkeypatch.setattr(module, "time", clock)
