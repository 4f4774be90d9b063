"""The options of the middleware, checked when it is built: a mistake here must not wait for the first logout.

Each option is declared here once, with its name, the type in which it is used, and its check: a function that takes the
value given and the option's name. The signature and the docstring of ``RPLogoutMiddleware`` say what users give, and
``docs/options.md`` explains it. Tests compare them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args, get_type_hints

from . import option_checks as check
from .errors import ConfigurationError
from .log import Notices
from .login import Login
from .option_checks import Paths
from .protocol.cookies import CookieSet
from .protocol.return_target import absolute_url
from .providers.provider import Provider, Providers, checked_providers, name_of
from .providers.transport import HTTPClient
from .relay.token_relay import TokenRelay
from .store import Store

LoginSource = Callable[[Any], Login | Awaitable[Login | None] | None]


def _providers(value: Any, option: str) -> Providers:
    return checked_providers(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Hold the checked options; see ``RPLogoutMiddleware`` for what each one means."""

    providers: Annotated[Providers, _providers]
    logout_path: Annotated[Paths, check.paths]
    marker_header: Annotated[bytes | None, check.header_name]
    session_cookie: Annotated[CookieSet, check.cookies]
    clear_cookies: Annotated[CookieSet, check.cookies]
    post_logout_redirect_uri: Annotated[str | None, check.return_address]
    public_url: Annotated[str | None, check.base_url]
    callback_path: Annotated[str | None, check.path_or_none]
    backchannel_path: Annotated[str | None, check.path_or_none]
    frontchannel_path: Annotated[str | None, check.path_or_none]
    frontchannel_session_required: Annotated[bool, check.flag]
    login_source: Annotated[LoginSource | None, check.function]
    token_relay: Annotated[tuple[TokenRelay, ...], check.token_relays]
    require_login: Annotated[bool | None, check.flag_or_none]
    store: Annotated[Store, check.store_of]
    session_lifetime: Annotated[float, check.seconds(least=1)]
    freshness: Annotated[float, check.seconds(least=0)]
    on_store_error: Annotated[Literal["allow", "deny"], check.choice("allow", "deny")]
    for_fetch: Annotated[Literal["defer", "json", "local"], check.choice("defer", "json", "local")]
    max_url_length: Annotated[int, check.length(least=500)]
    clear_site_data: Annotated[tuple[str, ...], check.directives]
    provider_timeout: Annotated[float, check.seconds(least=0.001)]
    on_logout: Annotated[Callable[..., Any] | None, check.function]
    http_client: Annotated[HTTPClient | None, check.http_client]
    session_declared: bool
    """Whether ``session_cookie`` was given, and not left at its default."""
    notices: Notices = field(default_factory=Notices, init=False)

    @classmethod
    def checked(cls, **given: Any) -> Options:
        """Check every option, by its name. Raises ``ConfigurationError``."""
        hints = get_type_hints(cls, include_extras=True)
        checks = {name: get_args(hint)[1] for name, hint in hints.items() if hasattr(hint, "__metadata__")}
        values = {name: check(given[name], name) for name, check in checks.items()}
        declared = given["session_cookie"] not in ("session", (), [])
        options = cls(**values, session_declared=declared)
        options.check_together()
        scope = _scope_of_cookie_values(given["providers"], given["store"])
        return replace(options, session_cookie=CookieSet(options.session_cookie.cookies, scope))

    @property
    def needs_login(self) -> bool:
        """Whether only a known login is evidence of a session at the provider."""
        return self.login_source is not None if self.require_login is None else self.require_login

    @property
    def denies(self) -> bool:
        """Whether requests that may be signed in are refused while the store is down."""
        return self.on_store_error == "deny"

    @property
    def may_revoke(self) -> bool:
        """Whether any provider may want a token revoked."""
        return callable(self.providers) or any(getattr(one, "revoke", None) is not None for one in self.providers)

    @property
    def may_ask_silently(self) -> bool:
        """Whether any provider may be asked for an ID Token at logout."""
        return callable(self.providers) or any(getattr(one, "silent_hint", False) is True for one in self.providers)

    @property
    def callback_url(self) -> str | None:
        """The address of the callback path, if it is known without a request."""
        known = self.callback_path is not None and self.public_url is not None
        return absolute_url(str(self.callback_path), str(self.public_url)) if known else None

    @property
    def why_not_silent(self) -> str | None:
        """What keeps a provider's ``silent_hint`` from working; None if nothing does."""
        address = self.callback_url or f"<the application's address>{self.callback_path or '/auth/callback'}"
        register = f"register {address} at the provider twice, as a redirect URI and as a post-logout redirect URI"
        if self.callback_path is None:
            return f"expected a callback_path along with it, such as '/auth/callback'; {register}"
        if self.for_fetch == "json":
            return f"expected for_fetch='defer' or 'local', because a page that reads JSON gets no cookie; {register}"
        return None

    def check_together(self) -> None:
        """Check the options that depend on each other. Raises ``ConfigurationError``."""
        endpoints = [self.callback_path, self.backchannel_path, self.frontchannel_path]
        own = [path for path in endpoints if path is not None]
        for path in own:
            if own.count(path) > 1 or path in self.logout_path:
                raise ConfigurationError(f"path {path!r} is given twice: expected a path of its own for each purpose")
        if self.callback_path is not None and not {"cookies", "*"}.isdisjoint(self.clear_site_data):
            raise ConfigurationError(
                f"clear_site_data={self.clear_site_data!r}: expected neither 'cookies' nor '*' beside a callback_path, "
                "because they delete its cookie"
            )
        if self.frontchannel_path is None and not self.frontchannel_session_required:
            raise ConfigurationError("frontchannel_session_required=False: expected a frontchannel_path along with it")
        if not callable(self.providers):
            self._check_with(self.providers)

    def _check_with(self, providers: Sequence[Provider]) -> None:
        for relay in self.token_relay:
            if relay.provider not in providers:
                raise ConfigurationError(
                    f"token_relay: expected its provider, {relay.provider.name!r}, among the providers"
                )
        for one in providers:
            if getattr(one, "silent_hint", False) is True and self.why_not_silent is not None:
                raise ConfigurationError(f"silent_hint=True of provider {name_of(one)!r}: {self.why_not_silent}")
        if self.backchannel_path and not any(hasattr(one, "verify_logout_token") for one in providers):
            raise ConfigurationError(
                f"backchannel_path={self.backchannel_path!r}: expected a provider that can check logout tokens, "
                "such as OIDCProvider"
            )
        if self.frontchannel_path and not any(hasattr(one, "issuer") for one in providers):
            raise ConfigurationError(
                f"frontchannel_path={self.frontchannel_path!r}: expected a provider with an issuer"
            )


_CONFIGURED: list[object] = []


def _scope_of_cookie_values(providers: object, store: object) -> str:
    """Return the scope in which the values of session cookies count.

    Without a store of their own, all middlewares of the process share one. The session cookies of one application must
    not count in another, and the middlewares of one application are made from one list of providers.
    """
    if store is not None:
        return ""
    number = next((number for number, known in enumerate(_CONFIGURED) if known is providers), None)
    if number is None:
        number = len(_CONFIGURED)
        _CONFIGURED.append(providers)
    return f"{number}."
