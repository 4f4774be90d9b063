"""RPLogoutMiddleware: any application's own logout becomes a logout at the identity provider as well.

Most requests are no logout: ``hot_path`` looks at them. What needs more goes to ``dispatch``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from .asgi.types import ASGIApp, Receive, Scope, Send
from .context import SCOPE_KEY, current
from .dispatch import Dispatcher
from .errors import ConfigurationError
from .exchange import Exchange
from .logins.handed_over import hand_over_for
from .option_checks import refuse_unknown_options
from .options import LoginSource, Options
from .protocol.cookies import Cookie
from .providers.prefetch import prefetched_at_startup
from .providers.provider import Providers
from .providers.transport import HTTPClient
from .relay.token_relay import TokenRelay
from .responses.inspect import fail, finish
from .store import Store


class RPLogoutMiddleware:
    """Complete an application's own logout with a logout at the identity provider that signed the user in.

    Wraps any ASGI application, from outside or through ``add_middleware``. Raises ``ConfigurationError`` for an option
    that cannot work. RP-Initiated Logout 1.0; Back-Channel Logout 1.0 and Front-Channel Logout 1.0 if their paths are
    given.

    - ``providers``: a list, or a function that returns one, called at each logout.
    - ``logout_path``: the path or paths of the application's logout, or patterns in Starlette's syntax; () for none.
    - ``marker_header``: the response header that marks a logout; None for none.
    - ``session_cookie``: the cookie or cookies that are the session, by name or as ``Cookie``.
    - ``clear_cookies``: others to expire with it.
    - ``post_logout_redirect_uri``: where the provider sends the browser: a URL, a path, or None for the application's
      own redirect target.
    - ``public_url``: the application's address as browsers see it, if proxies hide it.
    - ``callback_path``: a return address of the middleware's own, from which the browser goes on to its page.
    - ``backchannel_path``, ``frontchannel_path``: where the provider sends logout tokens, and what it shows in a frame.
    - ``frontchannel_session_required``: False lets a frame that names no session end the login of its browser.
    - ``login_source``: a function that takes the ``HTTPConnection`` and returns a ``Login`` or None.
    - ``token_relay``: a ``TokenRelay``, or several, for applications whose token endpoint is a setting.
    - ``require_login``: go to the provider only with a known login; None: True with a ``login_source``, else False.
    - ``store``: where logins and their ends are kept; None for one ``MemoryStore`` in this process.
    - ``session_lifetime``: seconds that a session of the application lives at most.
    - ``freshness``: seconds within which every worker knows that a login has ended.
    - ``on_store_error``: "allow" goes on, "deny" answers 503 to requests with a session while the store is down.
    - ``for_fetch``: what a logout by script gets: "defer" (the next page goes to the provider), "json" or "local".
    - ``max_url_length``: bytes; a longer URL is sent without its hint.
    - ``clear_site_data``: directives of a Clear-Site-Data header.
    - ``provider_timeout``: seconds for choosing the provider and building the URL.
    - ``on_logout``: a function that is called with a ``LogoutEvent`` after each logout.
    - ``http_client``: an AsyncClient of httpx or httpx2 for requests to providers.
    """

    @refuse_unknown_options
    def __init__(
        self,
        app: ASGIApp,
        *,
        providers: Providers,
        logout_path: str | tuple[str, ...] | list[str] = "/logout",
        marker_header: str | None = "X-RP-Logout",
        session_cookie: str | Cookie | tuple[str | Cookie, ...] | list[str | Cookie] = "session",
        clear_cookies: str | Cookie | tuple[str | Cookie, ...] | list[str | Cookie] = (),
        post_logout_redirect_uri: str | None = None,
        public_url: str | None = None,
        callback_path: str | None = None,
        backchannel_path: str | None = None,
        frontchannel_path: str | None = None,
        frontchannel_session_required: bool = True,
        login_source: LoginSource | None = None,
        token_relay: TokenRelay | tuple[TokenRelay, ...] | list[TokenRelay] | None = None,
        require_login: bool | None = None,
        store: Store | None = None,
        session_lifetime: float = 14 * 24 * 3600,
        freshness: float = 1.0,
        on_store_error: Literal["allow", "deny"] = "allow",
        for_fetch: Literal["defer", "json", "local"] = "defer",
        max_url_length: int = 4000,
        clear_site_data: str | tuple[str, ...] | list[str] = (),
        provider_timeout: float = 3.0,
        on_logout: Callable[..., Any] | None = None,
        http_client: HTTPClient | None = None,
    ) -> None:
        if not callable(app):
            raise ConfigurationError(f"app={app!r}: expected an ASGI application")
        self._options = Options.checked(
            providers=providers,
            logout_path=logout_path,
            marker_header=marker_header,
            session_cookie=session_cookie,
            clear_cookies=clear_cookies,
            post_logout_redirect_uri=post_logout_redirect_uri,
            public_url=public_url,
            callback_path=callback_path,
            backchannel_path=backchannel_path,
            frontchannel_path=frontchannel_path,
            frontchannel_session_required=frontchannel_session_required,
            login_source=login_source,
            token_relay=token_relay,
            require_login=require_login,
            store=store,
            session_lifetime=session_lifetime,
            freshness=freshness,
            on_store_error=on_store_error,
            for_fetch=for_fetch,
            max_url_length=max_url_length,
            clear_site_data=clear_site_data,
            provider_timeout=provider_timeout,
            on_logout=on_logout,
            http_client=http_client,
        )
        for relay in self._options.token_relay:
            app = relay.watching(app, hand_over_for(self._options.store))
        self.app = app
        self._dispatcher = Dispatcher(app, self._options)
        self._services = self._dispatcher.services
        self._hot_path = self._dispatcher.hot_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] != "http":
            await self._not_http(scope, receive, send)
            return
        exchange = Exchange()
        exchange.services = self._services
        outer = scope.get(SCOPE_KEY)
        if outer is not None:
            exchange.outer = outer
        scope[SCOPE_KEY] = exchange
        token = current.set(exchange)
        try:
            answer = self._hot_path.fast_path(exchange, scope, send)
            if answer is not None:
                await self.app(scope, receive, answer)
            else:
                await self._dispatcher.dispatch(exchange, scope, receive, send)
        except Exception:
            if exchange.connection is None or not exchange.connection.ended:
                if exchange.inspected:
                    await fail(exchange)
                raise
        finally:
            current.reset(token)
            if outer is not None:
                scope[SCOPE_KEY] = outer
            if exchange.matters:
                await finish(exchange)

    async def _not_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._dispatcher.handle_websocket(scope, receive, send)
        elif scope["type"] == "lifespan":
            options = self._options
            send = prefetched_at_startup(options.providers, options.http_client, send, options.callback_url)
            await self.app(scope, receive, send)
        else:
            await self.app(scope, receive, send)
