"""What a request carries that says who it is: the login handle, the session cookies, a bearer token. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from ..asgi.own_cookies import may_hold_one, values_of
from ..asgi.request import Request
from ..asgi.types import header_values
from ..protocol.cookie_values import Secret
from ..protocol.cookies import MOST_SECRETS, CookieSet
from .app_session import handle_in
from .handle import LoginHandle
from .records import cookie_key


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request carries that says who it is.

    ``handle`` is from the session or the companion cookie; ``has_companion`` says that the request has such a cookie.
    ``cookies`` are the session cookies. ``deferred_key`` is the value of the cookie of a deferred logout. ``bearers``
    are the digests under which a bearer token would be known if it were a session cookie's value. ``excess`` says that
    there were too many of either to look up.
    """

    handle: LoginHandle | None = None
    cookies: tuple[Secret, ...] = ()
    deferred_key: str | None = None
    has_companion: bool = False
    bearers: tuple[str, ...] = ()
    excess: bool = False

    @classmethod
    def of(cls, request: Request, session_cookies: CookieSet) -> Credentials:
        """Read the credentials of a request."""
        cookies = session_cookies.secrets(header := request.cookie_header)
        own = header if may_hold_one(header) else ""
        companions = list(islice(values_of(request.own.login, own), MOST_SECRETS))
        in_session = LoginHandle.parse(handle_in(request.session))
        handle = in_session or next((one for value in companions if (one := LoginHandle.parse(value))), None)
        deferred_key = next(values_of(request.own.deferred, own), None)
        has_companion = bool(companions)
        if cookies is None:
            return cls(handle, deferred_key=deferred_key, has_companion=has_companion, excess=True)
        said = [one for one in header_values(request.headers, b"authorization") if one.lstrip()[:6].lower() == "bearer"]
        bearers = session_cookies.bearers(said[0]) if said else ()
        excess = len(said) > 1  # nobody can tell which of them the application reads
        return cls(handle, tuple(cookies), deferred_key, has_companion, tuple(bearers), excess)

    @property
    def digests(self) -> tuple[str, ...]:
        """The digests of all secrets that are long enough to be one browser's own, each once."""
        own = [cookie.digest for cookie in self.cookies if cookie.digest]
        return tuple(dict.fromkeys([*own, *self.bearers]))

    @property
    def record_keys(self) -> tuple[str, ...]:
        """The store's keys to read first."""
        return (*(self.handle.record_keys() if self.handle else ()), *map(cookie_key, self.digests))

    @property
    def recognisable(self) -> bool:
        """Whether a request carries anything that could be a login."""
        return bool(self.handle or self.cookies or self.has_companion or self.bearers)
