"""One set-up to look at, and the addresses that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from ..options import Options
from ..protocol.end_session import is_loopback
from ..protocol.return_target import absolute_url
from .search import Place


@dataclass(frozen=True, slots=True)
class Setup:
    """Hold what the checks look at: one middleware's options and place, and the address of its app, if it is known.

    Without a ``place`` only a provider is looked at: there is no app, and what its options would be is not known.
    """

    name: str
    options: Options
    place: Place | None = None
    url: str | None = None

    @property
    def base(self) -> str | None:
        """The address of the app as browsers see it: ``public_url``, or else the one that was given to the doctor."""
        return self.options.public_url or self.url

    @property
    def over_http(self) -> bool:
        """Whether browsers reach the app over http from another machine."""
        parts = urlsplit(self.base or "")
        return parts.scheme == "http" and not is_loopback(parts.hostname or "")

    def address(self, path: str | None) -> str | None:
        """Return the address of one of the middleware's own paths, None for none, or without an address of the app."""
        return None if path is None or self.base is None else absolute_url(path, self.base)

    @property
    def return_address(self) -> str | None:
        """The post-logout redirect URI, or None if it is not known."""
        configured = self.options.post_logout_redirect_uri
        if self.options.callback_path is None and configured is not None and not configured.startswith("/"):
            return configured
        return self.address(self.options.callback_path or configured)

    @property
    def needs_url(self) -> bool:
        """Whether an address to register is incomplete as long as the one of the app is not known."""
        options = self.options
        paths = [options.callback_path, options.backchannel_path, options.frontchannel_path]
        relative = (options.post_logout_redirect_uri or "").startswith("/")
        return self.base is None and (relative or any(path is not None for path in paths))
