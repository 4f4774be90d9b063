"""The logout request by the book, and a provider whose end-session endpoint is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import ConfigurationError, ProviderError
from ..login import Login
from ..protocol.end_session import STANDARD_PARAMETERS, FormPost, as_form, checked_url, end_session_url
from .calling import only_computes

Values = Mapping[str, str | None]
"""The parameters of a logout request, by their standard names."""


@dataclass(kw_only=True)
class StandardProvider:
    """Write the logout request (RP-Initiated Logout 1.0, section 2) for an endpoint that a subclass knows.

    ``rename`` maps a standard parameter to the provider's own name for it, or to None to leave it out. ``extra`` adds
    parameters. ``post`` means that the endpoint takes a POST from another site, for requests too long for a URL.
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

    def values(
        self,
        id_token_hint: str | None,
        post_logout_redirect_uri: str | None,
        state: str | None,
        logout_hint: str | None,
        login: Login | None,
    ) -> Values:
        """Return the parameters of one logout, as this provider wants them.

        ``login`` is known only if it is this provider's own. Raises ``ProviderError`` for a request that the provider
        would refuse.
        """
        standard = {
            "id_token_hint": id_token_hint,
            "logout_hint": logout_hint,
            "client_id": self.client_id,
            "post_logout_redirect_uri": post_logout_redirect_uri,
            "state": state,
        }
        return self.adapted(standard, login)

    def adapted(self, values: Values, login: Login | None) -> Values:
        """Return the standard parameters as this vendor wants them; by the book they stay as they are."""
        return values

    def url(self, endpoint: str, values: Values) -> str:
        """Return the URL of a logout request at ``endpoint``. Raises ``ProviderError``."""
        return end_session_url(endpoint, values, rename=self.rename, extra=self.extra)

    def form(self, url: str) -> FormPost:
        """Turn a URL of this provider into a form to post."""
        names = {self.rename.get(name, name) for name in STANDARD_PARAMETERS}
        return as_form(url, frozenset(name for name in names if name))


class StaticProvider(StandardProvider):
    """Send browsers to an end-session endpoint that you give (RP-Initiated Logout 1.0, section 2.1).

    - ``end_session_endpoint``: an https URL, or http on a loopback host. A query of its own is kept.
    - ``client_id``: the id under which the application is registered.
    - ``name``: what a marker, a decorator or a login calls this provider; the endpoint if not given.
    - ``parameters``: renames or drops standard parameters:
      ``{"post_logout_redirect_uri": "returnTo", "id_token_hint": None}``.
    - ``extra``: adds parameters; ``{"federated": ""}`` adds a bare name.
    - ``issuer``: ties logins to this provider by the ``iss`` of their ID Tokens.
    - ``post``: True if the endpoint takes a POST from another site, for requests too long for a URL.

    Raises ``ConfigurationError``.
    """

    def __init__(
        self,
        end_session_endpoint: str,
        *,
        client_id: str | None = None,
        name: str | None = None,
        parameters: Mapping[str, str | None] | None = None,
        extra: Mapping[str, str] | None = None,
        issuer: str | None = None,
        post: bool = False,
    ) -> None:
        try:
            self.endpoint = checked_url(end_session_endpoint)
        except ProviderError as error:
            raise ConfigurationError(
                f"end_session_endpoint={end_session_endpoint!r}: expected an https URL (http on a loopback host)"
            ) from error
        self.issuer = issuer
        super().__init__(
            name=self.endpoint if name is None else name,
            client_id=client_id,
            rename=parameters or {},
            extra=extra or {},
            post=post,
        )

    @only_computes
    def get_end_session_url(
        self,
        *,
        id_token_hint: str | None = None,
        post_logout_redirect_uri: str | None = None,
        state: str | None = None,
        logout_hint: str | None = None,
        login: Login | None = None,
    ) -> str:
        """Return the URL of this logout. Raises ``ProviderError`` for a request that the provider would refuse."""
        values = self.values(id_token_hint, post_logout_redirect_uri, state, logout_hint, login)
        return self.url(self.endpoint, values)
