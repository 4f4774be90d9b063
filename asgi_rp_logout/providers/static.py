"""A provider whose end-session endpoint is given."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import ConfigurationError, ProviderError
from ..login import Login
from ..protocol.end_session import checked_url
from .base import StandardProvider, standard_values


class StaticProvider(StandardProvider):
    """Send browsers to an end-session endpoint that is known beforehand (RP-Initiated Logout 1.0, section 2.1).

    Takes the endpoint (https, or http on a loopback host; a query of its own is kept), ``client_id``, ``name`` (the
    endpoint, if not given), ``parameters`` to rename or drop (``{"post_logout_redirect_uri": "returnTo",
    "id_token_hint": None}``), ``extra`` ones to add (``{"federated": ""}`` adds a bare name), and ``post``, whether the
    endpoint takes a POST when the URL is too long. ``issuer`` ties logins to it by their ``iss``.
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

    def get_end_session_url(
        self,
        *,
        id_token_hint: str | None = None,
        post_logout_redirect_uri: str | None = None,
        state: str | None = None,
        logout_hint: str | None = None,
        login: Login | None = None,
    ) -> str:
        """Return the URL of this logout."""
        values = standard_values(id_token_hint, post_logout_redirect_uri, state, logout_hint)
        return self.url(self.endpoint, self.adapted(values, login))
