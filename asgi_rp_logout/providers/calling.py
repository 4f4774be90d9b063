"""Call a function of the application, async or sync, with the keyword arguments that it takes.

A sync function may wait for anything: a database, another server. It runs in a thread, so that the event loop goes on.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from ..errors import ProviderError

F = TypeVar("F", bound=Callable[..., Any])

_THREADS = 16
"""Worker threads for one sync function. A call that hangs keeps its thread, and takes none from other functions."""

_LOOK_AGAIN = 0.01
"""Seconds between two looks of a call that waits for a free thread."""

_COMPUTING: set[Callable[..., Any]] = set()
"""Our own sync methods that only compute, and therefore run without a thread."""


def only_computes(method: F) -> F:
    """Mark a sync method of this package as one that waits for nothing, so that it runs without a thread.

    The mark belongs to this one function. An override in a subclass does not have it, and neither does a wrapper.
    """
    _COMPUTING.add(method)
    return method


async def call(function: Callable[..., Any], offered: Mapping[str, Any]) -> Any:
    """Call ``function`` with the ``offered`` keyword arguments that its signature takes, and return its result."""
    if takes_all(function):
        return await run(function, **offered)
    return await run(function, **{name: offered[name] for name in keywords_of(function) if name in offered})


async def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call ``function`` and return its result: an async one in the event loop, a sync one in a thread.

    Raises what the function raises, and ``ProviderError`` if a task that it waits for was cancelled.
    """
    try:
        if is_async(function):
            return await function(*args, **kwargs)
        plain = _plain(function)
        if plain in _COMPUTING:
            return function(*args, **kwargs)
        result = await _threads_for(plain).run(functools.partial(function, *args, **kwargs))
        return await result if inspect.isawaitable(result) else result
    except asyncio.CancelledError as error:
        # If nobody has cancelled the current task, it was another task that the function waited for: a failure.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ProviderError("a task that the application waited for was cancelled", code="raised") from error


class OwnThreads:
    """Run sync functions of the application in threads, at most ``limit`` at a time. Further calls wait.

    A cancelled call leaves its thread running. anyio's limiter counts such a thread as free, so each logout could add a
    hung thread. This class counts the threads that still run. The count is one for all event loops of the process. They
    share no lock that could be awaited, so a waiting call looks again and again until its deadline.
    """

    def __init__(self, limit: int = _THREADS) -> None:
        self._limit = limit
        self._running = 0
        self._lock = threading.Lock()

    async def run(self, function: Callable[[], Any]) -> Any:
        """Call ``function`` in a thread as soon as one is free, and return its result."""
        counted = functools.partial(self._counted, function)
        while True:
            if self._running < self._limit:
                limiter = anyio.CapacityLimiter(1)
                began, result = await anyio.to_thread.run_sync(counted, abandon_on_cancel=True, limiter=limiter)
                if began:
                    return result
            await anyio.sleep(_LOOK_AGAIN)

    def _counted(self, function: Callable[[], Any]) -> tuple[bool, Any]:
        # This runs in the thread, so a call that is cancelled before its thread begins is never counted.
        with self._lock:
            if self._running >= self._limit:
                return False, None
            self._running += 1
        try:
            return True, function()
        finally:
            with self._lock:
                self._running -= 1


@functools.lru_cache(maxsize=256)
def _threads_for(function: Callable[..., Any]) -> OwnThreads:
    return OwnThreads()


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what all calls have in common: the function of a bound method, or of an object that cannot be hashed."""
    plain: Callable[..., Any] = getattr(function, "__func__", function)
    return plain if isinstance(plain, Hashable) else type(plain).__call__


def keywords_of(function: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the arguments that ``function`` takes by keyword."""
    return _signature(_plain(function))[0]


def takes_all(function: Callable[..., Any]) -> bool:
    """Return whether ``function`` takes any keyword."""
    return _signature(_plain(function))[1]


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether ``function`` is a coroutine function."""
    return _signature(_plain(function))[2]


@functools.lru_cache(maxsize=256)
def _signature(function: Callable[..., Any]) -> tuple[frozenset[str], bool, bool]:
    try:
        parameters: Iterable[inspect.Parameter] = inspect.signature(function).parameters.values()
    except ValueError:  # a function written in C need not have a signature
        parameters = ()
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    any_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return frozenset(named), any_keyword, inspect.iscoroutinefunction(function)
