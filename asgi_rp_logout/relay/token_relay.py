"""``TokenRelay``: its options, and when it starts and stops.

It starts with the first call of the application that it belongs to, which is the lifespan where there is one: never at
import, and never in a process that only forks others. A forked process starts one of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio.to_thread

from ..asgi.types import ASGIApp, Message, Send
from ..errors import ConfigurationError
from ..log import logger
from ..login import Login
from ..providers.oidc import OIDCProvider
from ..providers.transport import HTTPClient, is_http_client
from .codes import ExpectedCodes
from .endpoints import METADATA_PATH, TOKEN_PATH, Endpoints, Prefetch, Upstream
from .watch import HandOver, Watch

if TYPE_CHECKING:
    from .listener import Listener

START_WITHIN = 10.0
"""Seconds that the application's start waits at most until the relay listens, or knows that it cannot."""

_ENDS = frozenset({"lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed"})
"""The messages with which an application says that it does not run, or no more."""

HAND_OVER_WITHIN = 0.5
"""Seconds that a login waits at most until it is in the store, for the worker that expects it."""


class TokenRelay:
    """Notice logins of any client library whose token endpoint or discovery document is a setting.

    Put ``metadata_url`` or ``token_url`` into the settings of the application in place of the provider's, and pass the
    relay to the middleware: ``RPLogoutMiddleware(app, providers=[provider], token_relay=relay)``. It passes token
    requests on to the provider, and remembers the login if the callback's answer begins a session.

    - ``provider``: the ``OIDCProvider`` at which the application signs users in, also one of a preset. Its ``issuer``,
      ``client_id`` and ``algorithm`` say what an ID Token must be.
    - ``port``: the port on 127.0.0.1; each provider needs one of its own.
    - ``form_post_path``: the callback's path, if the provider posts the code to it (``response_mode=form_post``).
    - ``http_client``: an AsyncClient of httpx or httpx2 for requests to the provider, such as through a proxy. It must
      be used for nothing else, because the relay has an event loop of its own.

    Needs uvicorn (``pip install 'asgi-rp-logout[relay]'``). Raises ``ConfigurationError``. RFC 6749, section 4.1.3.
    """

    def __init__(
        self,
        provider: OIDCProvider,
        port: int = 8765,
        *,
        form_post_path: str | None = None,
        http_client: HTTPClient | None = None,
    ) -> None:
        if not isinstance(provider, OIDCProvider):
            raise ConfigurationError(
                f"provider={type(provider).__name__}: expected an OIDCProvider, or a preset that is one; "
                "AuthlibProvider notices logins by itself"
            )
        if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
            raise ConfigurationError(f"port={port!r}: expected the number of a port, such as 8765")
        if not isinstance(form_post_path, str | None) or (form_post_path is not None and form_post_path[:1] != "/"):
            raise ConfigurationError(f"form_post_path={form_post_path!r}: expected a path such as '/callback', or None")
        if http_client is not None and not is_http_client(http_client):
            raise ConfigurationError(
                f"http_client={http_client!r}: expected an AsyncClient of httpx or httpx2, or None"
            )
        try:
            from .listener import Listener  # noqa: F401, PLC0415  # only who has a relay needs uvicorn
        except ImportError as error:
            raise ConfigurationError("TokenRelay needs uvicorn: pip install 'asgi-rp-logout[relay]'") from error
        self.provider = provider
        self.port = port
        self.form_post_path = form_post_path
        self.codes = ExpectedCodes()
        self.hand_over: HandOver | None = None
        self._http_client = http_client
        self._forget()
        _RELAYS.add(self)

    def __repr__(self) -> str:
        return f"TokenRelay({self.provider.name!r}, port={self.port})"

    @property
    def metadata_url(self) -> str:
        """The address of the provider's discovery document, in which the token endpoint is the relay's."""
        return f"{self._address}{METADATA_PATH}"

    @property
    def token_url(self) -> str:
        """The address for token requests."""
        return f"{self._address}{TOKEN_PATH}"

    @property
    def _address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def watching(self, app: ASGIApp, hand_over: HandOver | None) -> ASGIApp:
        """Return ``app`` in a layer that sees which request brings a code.

        ``hand_over`` is how workers hand over logins, None for one process.
        """
        self.hand_over = self.hand_over or hand_over
        return Watch(app, self)

    # -- starting and stopping -----------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._listener: Listener | None = None
        self._lifespans = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self.is_started = False

    def forget_parent(self) -> None:
        """Forget, in a forked process, what runs in its parent only."""
        if self._listener is not None:
            self._listener.forget()
        self.codes = ExpectedCodes()
        self._forget()

    async def start(self) -> None:
        """Start the relay, and wait until it listens or cannot; one that has started goes on."""
        listener = self._launched()
        if not listener.settled.is_set():
            await anyio.to_thread.run_sync(listener.settled.wait, START_WITHIN)
        if not self.is_started and listener.shares_port and self.hand_over is None:
            logger.warning(
                "port %d has the relay of another process too, so logins that it notices are not known here: set "
                "store= to one that all workers share, such as RedisStore",
                self.port,
            )
        self.is_started = True

    def _launched(self) -> Listener:
        from .listener import Listener  # noqa: PLC0415  # see above

        with self._lock:
            if self._listener is None:
                try:
                    self._loop = asyncio.get_running_loop()
                except RuntimeError:  # trio
                    self._loop = None
                self._listener = Listener(self.port, identity_of(self.provider), self._make_app, self._http_client)
                self._listener.start()
            return self._listener

    def stop(self) -> None:
        """Stop the relay, and wait for the answers that are on their way."""
        with self._lock:
            listener, self._listener = self._listener, None
            self.is_started = False
        if listener is not None:
            listener.stop()

    async def serve_lifespan(self, lifespan: Callable[[Send], Awaitable[None]], send: Send) -> None:
        """Run while an application runs, from before its start until after its end.

        Takes a function that runs its lifespan with a ``send``, and the server's ``send``.
        """
        self._lifespans += 1
        await self.start()

        async def stopping(message: Message) -> None:
            if message["type"] in _ENDS:
                self._lifespans -= 1
                if self._lifespans <= 0:
                    await anyio.to_thread.run_sync(self.stop)
            await send(message)

        await lifespan(stopping)

    def _make_app(self, upstream: Upstream) -> tuple[ASGIApp, Prefetch]:
        endpoints = Endpoints(self.provider, self, self._address, upstream)
        return endpoints.app(identity_of(self.provider)), endpoints.prefetch

    # -- logins --------------------------------------------------------------------------------------------------

    def wants(self, code: str) -> bool:
        """Return whether anybody may expect this code: a request here, or one at another worker."""
        return code in self.codes or (self.hand_over is not None and self._loop is not None)

    async def deliver(self, code: str, login: Login) -> None:
        """Give the login of a code to the request that brings it, or put it into the store for another worker's."""
        if self.codes.give(code, login) or self.hand_over is None or self._loop is None:
            return
        # The store belongs to the application's event loop.
        handed_over = asyncio.run_coroutine_threadsafe(self._put(self.hand_over, code, login), self._loop)
        await asyncio.wait_for(asyncio.wrap_future(handed_over), HAND_OVER_WITHIN)

    async def _put(self, hand_over: HandOver, code: str, login: Login) -> None:
        await hand_over.put(code, login)


def identity_of(provider: OIDCProvider) -> str:
    """Return what relays that may share a port have in common: a digest of the issuer and the client."""
    named = f"{provider.issuer}\n{provider.client_id}"
    return hashlib.sha256(named.encode()).hexdigest()[:32]


_RELAYS: weakref.WeakSet[TokenRelay] = weakref.WeakSet()


def _forget_parent() -> None:
    for relay in list(_RELAYS):
        relay.forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
