"""What a provider is, and how one is asked.

A provider is any object with ``get_end_session_url()``. Nothing is imported from it and nothing inherited: an
application's own class works as it is, sync or async, with as few keywords as it likes.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import anyio
import anyio.to_thread

from ..errors import ConfigurationError, ProviderError
from ..log import logger
from ..login import Login
from ..protocol.end_session import (
    STANDARD_PARAMETERS,
    FormPost,
    append_parameters,
    as_form,
    checked_url,
    end_session_url,
)

Values = Mapping[str, str | None]
"""The parameters of a logout request, by their standard names."""

_THREADS = 16
"""Worker threads for one sync function; a call that hangs keeps its thread, and those of other functions are free."""

_LOOK_AGAIN = 0.01
"""Seconds after which a call that waits for a thread looks again."""


class Provider(Protocol):
    """Describe what every provider has; see the package's documentation for what else it may have."""

    @property
    def get_end_session_url(self) -> Callable[..., Any]:
        """Return the URL to send the browser to, or None; sync or async."""
        ...


def name_of(provider: object) -> str | None:
    """Return the name by which a marker or a login means this provider."""
    name = getattr(provider, "name", None)
    return name if isinstance(name, str) and name else None


def issuer_of(provider: object) -> str | None:
    """Return the provider's issuer identifier, as far as it is known."""
    issuer = getattr(provider, "issuer", None)
    return issuer if isinstance(issuer, str) and issuer else None


async def learn_issuers(providers: Sequence[object], iss: str | None, *, level: int = logging.INFO) -> None:
    """Let providers that take their issuer from a document read it, unless it is known already whose ``iss`` is.

    ``iss`` is the issuer that is looked for, None for all there are. A failure is logged at ``level``, once for each
    fetch, and leaves the issuer unknown.
    """
    if iss is not None and any(issuer_of(provider) == iss for provider in providers):
        return
    async with anyio.create_task_group() as group:
        for provider in providers:
            if issuer_of(provider) is None and hasattr(provider, "learn_issuer"):
                group.start_soon(_learn_issuer, provider, level)


async def _learn_issuer(provider: Any, level: int) -> None:
    try:
        await provider.learn_issuer()
    except ProviderError as error:
        if not isinstance(error.__cause__, ProviderError):  # else it is remembered, and was logged then
            logger.log(level, "the issuer of provider %r cannot be read: %s", name_of(provider), error)


class WithoutEndpoint:
    """Stand for an entry of the application's registry that cannot be asked for an end-session URL.

    Whatever else the entry has stays as it is: its name, its issuer, its logout tokens.
    """

    def __init__(self, entry: object) -> None:
        self.entry = entry

    def get_end_session_url(self) -> None:
        """Return None, always."""

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self.entry, name)
        except Exception as error:  # of an entry that cannot be looked at
            raise AttributeError(name) from error


class OwnThreads:
    """Run sync callables of the application in threads, never more than ``limit`` at a time; the others wait.

    A cancelled call leaves its thread to itself, so the threads still running are counted here: anyio's limiter would
    take the hung ones for free again, and each logout would add one. The count is one for all event loops of a process,
    which have no lock in common that could be waited for, so a waiting call looks again and again until its deadline.
    """

    def __init__(self, limit: int = _THREADS) -> None:
        self._limit = limit
        self._running = 0
        self._lock = threading.Lock()

    async def run(self, function: Callable[[], Any]) -> Any:
        """Call ``function`` in a thread, as soon as one is free, and give its result."""
        counted = functools.partial(self._counted, function)
        while True:
            if self._running < self._limit:
                limiter = anyio.CapacityLimiter(1)
                began, result = await anyio.to_thread.run_sync(counted, abandon_on_cancel=True, limiter=limiter)
                if began:
                    return result
            await anyio.sleep(_LOOK_AGAIN)

    def _counted(self, function: Callable[[], Any]) -> tuple[bool, Any]:
        # Counted here, in the thread: a call that is cancelled before its thread begins must not count for ever.
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


_WITHOUT_WAITING = frozenset(f"{__package__}.{name}" for name in ("static", "shapes", "base"))
"""Modules whose sync methods only compute, and need no thread; a subclass of somebody else's may do anything."""


async def call(function: Callable[..., Any], offered: Mapping[str, Any]) -> Any:
    """Call a provider's method with the keyword arguments that its signature takes, out of ``offered``."""
    if takes_all(function):
        return await run(function, **offered)
    return await run(function, **{name: offered[name] for name in keywords_of(function) if name in offered})


async def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function of the application: an async one here, a sync one in a thread, where it may wait for anything."""
    try:
        if is_async(function):
            return await function(*args, **kwargs)
        if getattr(function, "__module__", None) in _WITHOUT_WAITING:
            return function(*args, **kwargs)
        threads = _threads_for(_plain(function))
        result = await threads.run(functools.partial(function, *args, **kwargs))
        return await result if inspect.isawaitable(result) else result
    except asyncio.CancelledError as error:
        # A task that the function waits for may be cancelled though nobody has cancelled us: a failure like others.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ProviderError("a task that the application waited for was cancelled", code="raised") from error


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what is one for all calls: the function of a bound method, or of an object that cannot be a key."""
    plain: Callable[..., Any] = getattr(function, "__func__", function)
    return plain if isinstance(plain, Hashable) else type(plain).__call__


def keywords_of(function: Callable[..., Any]) -> frozenset[str]:
    """Return the names that may be given to ``function`` by keyword."""
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
    except ValueError:  # a function written in C may not say what it takes
        parameters = ()
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    any_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return frozenset(named), any_keyword, inspect.iscoroutinefunction(function)


async def ask(provider: Provider, offered: Mapping[str, Any]) -> str | None:
    """Ask a provider for its end-session URL.

    Takes the keyword arguments to offer: ``login``, ``scope`` and the standard parameters. Returns a checked URL, or
    None if the provider has none. What the method did not take is appended to the URL, unless it is there already; one
    that takes ``post_logout_redirect_uri`` has written its URL whole. Raises ``ProviderError`` for a URL no browser may
    be sent to, and whatever the provider raises.
    """
    method = provider.get_end_session_url
    url = await call(method, offered)
    if url is None or url == "":
        return None
    url = checked_url(url)
    taken = keywords_of(method)
    if takes_all(method) or "post_logout_redirect_uri" in taken:
        return url
    rest = [(name, offered[name]) for name in STANDARD_PARAMETERS if name not in taken and offered.get(name)]
    if not offered.get("post_logout_redirect_uri"):
        rest = [pair for pair in rest if pair[0] != "state"]
    return append_parameters(url, rest)


@dataclass(kw_only=True)
class StandardProvider:
    """Write the logout request for an endpoint that is known or can be found: what our own providers share.

    ``rename`` maps a standard parameter to the provider's own name for it, or to None to leave it out; ``extra`` adds
    parameters; ``post`` says that the endpoint takes a POST from another site, for requests too long for a URL.
    """

    name: str
    client_id: str | None = None
    rename: Mapping[str, str | None] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    post: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isprintable() or not self.name.strip():
            raise ConfigurationError(f"name={self.name!r}: expected a printable name")
        if not isinstance(self.client_id, str | None):
            raise ConfigurationError(f"client_id={self.client_id!r}: expected the id under which the app is registered")
        for option, given in (("parameters", self.rename), ("extra", self.extra)):
            if not isinstance(given, Mapping):
                raise ConfigurationError(f"{option}={given!r}: expected a mapping of names to names or values")
        for standard, own in self.rename.items():
            if standard not in STANDARD_PARAMETERS or not (own is None or (isinstance(own, str) and own)):
                accepted = ", ".join(STANDARD_PARAMETERS)
                raise ConfigurationError(
                    f"parameters={{{standard!r}: {own!r}}}: expected a name or None for {accepted}"
                )
        for name, value in self.extra.items():
            if not isinstance(name, str) or not name or not isinstance(value, str):
                raise ConfigurationError(f"extra={{{name!r}: ...}}: expected names and values that are strings")

    def url(self, endpoint: str, values: Values) -> str:
        """Build the URL of a logout request at ``endpoint``."""
        own = {"client_id": self.client_id} if self.client_id else {}
        return end_session_url(endpoint, {**values, **own}, rename=self.rename, extra=self.extra)

    def adapted(self, values: Values, login: Login | None) -> Values:
        """Return the parameters as this vendor wants them; raise ``ProviderError`` for a request it would refuse.

        What follows the specification has nothing to adapt. ``login`` is known only if it is this provider's own.
        """
        return values

    def form(self, url: str) -> FormPost:
        """Turn a URL built here into a form to post."""
        names = {self.rename.get(name, name) for name in STANDARD_PARAMETERS}
        return as_form(url, frozenset(name for name in names if name))


def standard_values(
    id_token_hint: str | None, post_logout_redirect_uri: str | None, state: str | None, logout_hint: str | None
) -> Values:
    """Gather the parameters that a logout hands to a provider under their standard names."""
    return {
        "id_token_hint": id_token_hint,
        "post_logout_redirect_uri": post_logout_redirect_uri,
        "state": state,
        "logout_hint": logout_hint,
    }
