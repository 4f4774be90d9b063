"""Every error that this package raises on purpose, in one tree.

    RPLogoutError                   whatever went wrong here; also a call made at the wrong moment
    ├── ConfigurationError          an argument at construction is wrong; also a ValueError
    ├── ProviderError               a provider gave no usable answer
    ├── LogoutTokenError            a logout token or front-channel request is refused
    └── StoreError                  the store failed, or did not answer in time

Each error has a stable ``code``, for tests and dashboards, and a sentence for people. No sentence carries a token, a
cookie value or a state. A URL is shown without its query.
"""

from __future__ import annotations

from urllib.parse import urlsplit


class RPLogoutError(Exception):
    """Report that something went wrong in asgi-rp-logout.

    Takes a sentence without secrets, and a ``code`` that stays the same between releases.
    """

    def __init__(self, message: str, *, code: str = "error") -> None:
        super().__init__(message)
        self.code = code


class ConfigurationError(RPLogoutError, ValueError):
    """Report an argument that cannot work, with its value and the form that is accepted."""

    def __init__(self, message: str, *, code: str = "configuration") -> None:
        super().__init__(message, code=code)


class ProviderError(RPLogoutError):
    """Report a provider that raised, hung, or answered with something unusable."""

    def __init__(self, message: str, *, code: str = "provider") -> None:
        super().__init__(message, code=code)


class LogoutTokenError(RPLogoutError):
    """Report a logout token that is refused (Back-Channel Logout 1.0, section 2.6)."""

    def __init__(self, message: str, *, code: str = "logout_token") -> None:
        super().__init__(message, code=code)


class StoreError(RPLogoutError):
    """Report a store that raised or did not answer within its deadline."""

    def __init__(self, message: str, *, code: str = "store") -> None:
        super().__init__(message, code=code)


def without_query(url: str) -> str:
    """Return ``url`` in a form that is safe to log: without userinfo, query and fragment."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return "<not a URL>"
    return f"{parts.scheme}://{host}{port}{parts.path}"
