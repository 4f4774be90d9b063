"""The options of the middleware, checked when it is built: a mistake here must not wait for the first logout."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from .checks import (
    Paths,
    checked_callable,
    checked_choice,
    checked_cookies,
    checked_directives,
    checked_http_client,
    checked_length,
    checked_marker,
    checked_path,
    checked_paths,
    checked_public_url,
    checked_return,
    checked_seconds,
    checked_store,
)
from .client import Client
from .errors import ConfigurationError
from .log import WarningLimiter
from .login import Login
from .protocol.cookies import CookieSet
from .providers.provider import Providers, checked_providers
from .providers.transport import HTTPClient
from .store import Store

LoginSource = Callable[[Any], Login | Awaitable[Login | None] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Hold the checked options; see ``RPLogoutMiddleware`` for what each one means."""

    providers: Providers
    logout_paths: Paths
    marker: bytes | None
    session_cookies: CookieSet
    session_declared: bool
    clear_cookies: CookieSet
    post_logout_redirect_uri: str | None
    public_url: str | None
    callback_path: str | None
    backchannel_path: str | None
    frontchannel_path: str | None
    frontchannel_session_required: bool
    login_source: LoginSource | None
    require_login: bool
    store: Store
    session_lifetime: float
    freshness: float
    deny: bool
    for_fetch: Literal["defer", "json", "local"]
    max_url_length: int
    clear_site_data: tuple[str, ...]
    provider_timeout: float
    on_logout: Callable[..., Any] | None
    http_client: HTTPClient | None
    said: set[str] = field(default_factory=set, init=False)
    flood: WarningLimiter = field(default_factory=WarningLimiter, init=False)
    """Warnings that were logged, and are not to be logged again."""

    @property
    def may_revoke(self) -> bool:
        """Return whether any provider may want a token revoked."""
        return callable(self.providers) or any(getattr(one, "revoke", None) is not None for one in self.providers)

    def defers(self, client: Client) -> bool:
        """Return whether a logout by this kind of client waits for the next page."""
        return client is Client.TURBO_VISIT or (client is Client.FETCH and self.for_fetch == "defer")

    def __post_init__(self) -> None:
        endpoints = [self.callback_path, self.backchannel_path, self.frontchannel_path]
        owned = [path for path in endpoints if path is not None]
        for path in owned:
            if owned.count(path) > 1 or path in self.logout_paths:
                raise ConfigurationError(f"path {path!r} is given twice: expected a path of its own for each purpose")
        if self.callback_path is not None and not {"cookies", "*"}.isdisjoint(self.clear_site_data):
            raise ConfigurationError(
                f"clear_site_data={self.clear_site_data!r}: expected neither 'cookies' nor '*' beside a callback_path, "
                "because they delete its cookie"
            )
        if self.frontchannel_path is None and not self.frontchannel_session_required:
            raise ConfigurationError("frontchannel_session_required=False: expected a frontchannel_path along with it")
        if callable(self.providers):
            return
        if self.backchannel_path and not any(hasattr(one, "verify_logout_token") for one in self.providers):
            raise ConfigurationError(
                f"backchannel_path={self.backchannel_path!r}: expected a provider that can check logout tokens, "
                "such as OIDCProvider"
            )
        if self.frontchannel_path and not any(hasattr(one, "issuer") for one in self.providers):
            raise ConfigurationError(
                f"frontchannel_path={self.frontchannel_path!r}: expected a provider with an issuer"
            )


_CONFIGURED: list[object] = []


def scope_of(providers: object, store: object) -> str:
    """Return the scope in which the values of session cookies count.

    Where no store is given, all middlewares of the process have one. What one application's session cookies are worth
    is none of another's affair, and the middlewares of one application are made from one list of providers.
    """
    if store is not None:
        return ""
    number = next((number for number, known in enumerate(_CONFIGURED) if known is providers), None)
    if number is None:
        number = len(_CONFIGURED)
        _CONFIGURED.append(providers)
    return f"{number}."


def checked_settings(options: dict[str, Any]) -> Settings:
    """Check every option of the middleware, by its name there. Raises ``ConfigurationError``."""
    get = options.__getitem__
    owned = {
        name: None if get(name) is None else checked_path(get(name), name)
        for name in ("callback_path", "backchannel_path", "frontchannel_path")
    }
    require_login, session_required = get("require_login"), get("frontchannel_session_required")
    if not isinstance(require_login, bool | None):
        raise ConfigurationError(f"require_login={require_login!r}: expected True, False or None")
    if not isinstance(session_required, bool):
        raise ConfigurationError(f"frontchannel_session_required={session_required!r}: expected True or False")
    return Settings(
        providers=checked_providers(get("providers")),
        logout_paths=checked_paths(get("logout_path"), "logout_path"),
        marker=checked_marker(get("marker_header")),
        session_cookies=checked_cookies(
            get("session_cookie"), "session_cookie", scope_of(get("providers"), get("store"))
        ),
        session_declared=get("session_cookie") not in ("session", (), []),
        clear_cookies=checked_cookies(get("clear_cookies"), "clear_cookies"),
        post_logout_redirect_uri=checked_return(get("post_logout_redirect_uri")),
        public_url=checked_public_url(get("public_url")),
        frontchannel_session_required=session_required,
        login_source=checked_callable(get("login_source"), "login_source"),
        require_login=get("login_source") is not None if require_login is None else require_login,
        store=checked_store(get("store")),
        session_lifetime=checked_seconds(get("session_lifetime"), "session_lifetime", least=1),
        freshness=checked_seconds(get("freshness"), "freshness", least=0),
        deny=checked_choice(get("on_store_error"), "on_store_error", ("allow", "deny")) == "deny",
        for_fetch=checked_choice(get("for_fetch"), "for_fetch", ("defer", "json", "local")),
        max_url_length=checked_length(get("max_url_length"), "max_url_length", least=500),
        clear_site_data=checked_directives(get("clear_site_data")),
        provider_timeout=checked_seconds(get("provider_timeout"), "provider_timeout", least=0.001),
        on_logout=checked_callable(get("on_logout"), "on_logout"),
        http_client=checked_http_client(get("http_client")),
        **owned,
    )
