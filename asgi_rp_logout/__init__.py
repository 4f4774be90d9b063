"""Turn any ASGI application's own logout into a logout at the OpenID provider as well."""

from __future__ import annotations

from .context import current_login, forget_login, remember_login
from .decorators import local_logout_only, rp_logout
from .errors import ConfigurationError, LogoutTokenError, ProviderError, RPLogoutError, StoreError
from .events import LogoutEvent
from .login import Login
from .logout.on_demand import end_login, end_logins
from .middleware import RPLogoutMiddleware
from .protocol.cookies import Cookie
from .providers import presets
from .providers.authlib import AuthlibProvider
from .providers.oidc import OIDCProvider
from .providers.standard import StaticProvider
from .relay.token_relay import TokenRelay
from .store import MemoryStore

__version__ = "0.2.0"

__all__ = [
    "AuthlibProvider",
    "ConfigurationError",
    "Cookie",
    "Login",
    "LogoutEvent",
    "LogoutTokenError",
    "MemoryStore",
    "OIDCProvider",
    "ProviderError",
    "RPLogoutError",
    "RPLogoutMiddleware",
    "StaticProvider",
    "StoreError",
    "TokenRelay",
    "current_login",
    "end_login",
    "end_logins",
    "forget_login",
    "local_logout_only",
    "presets",
    "remember_login",
    "rp_logout",
]
