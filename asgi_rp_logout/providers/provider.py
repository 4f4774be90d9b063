"""What a provider is, how the list of providers is read, and how one of them is asked for its end-session URL.

A provider is any object with a method ``get_end_session_url()``, sync or async, with as few keywords as it likes. It
inherits from nothing and imports nothing from here, so a class of the application works as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import anyio

from ..errors import ConfigurationError, ProviderError, RPLogoutError
from ..log import logger
from ..login import Login, unverified_claims
from ..protocol.end_session import STANDARD_PARAMETERS, append_parameters, checked_url
from .calling import call, keywords_of, only_computes, run, takes_all
from .transport import HTTPClient


class Provider(Protocol):
    """Describe what every provider has. ``docs/providers.md`` names what else it may have."""

    @property
    def get_end_session_url(self) -> Callable[..., Any]:
        """Return the URL to send the browser to, or None; sync or async."""
        ...


Providers = Sequence[Provider] | Callable[[], Sequence[Provider] | Awaitable[Sequence[Provider]]]
"""The ``providers`` option: a list, or a function that returns one."""


def name_of(provider: object) -> str | None:
    """Return the name by which a marker, a decorator or a login refers to this provider, or None."""
    name = getattr(provider, "name", None)
    return name if isinstance(name, str) and name else None


def issuer_of(provider: object) -> str | None:
    """Return the provider's issuer identifier, or None if it is not known (yet)."""
    issuer = getattr(provider, "issuer", None)
    return issuer if isinstance(issuer, str) and issuer else None


async def ask(provider: Provider, offered: Mapping[str, Any]) -> str | None:
    """Ask a provider for its end-session URL.

    Takes the keyword arguments to offer: ``login``, ``scope`` and the standard parameters. Returns a checked URL, or
    None if the provider has none. Parameters that the method did not take are appended to the URL, unless they are in
    it already. A method that takes ``post_logout_redirect_uri`` has written the whole URL, and nothing is appended.
    Raises ``ProviderError`` for a URL that no browser may be sent to, and whatever the provider raises.
    """
    method = provider.get_end_session_url
    url = await call(method, offered)
    if url is None or url == "":
        return None
    url = checked_url(url)
    taken = keywords_of(method)
    if takes_all(method) or "post_logout_redirect_uri" in taken:
        return url
    rest = [(name, offered[name]) for name in STANDARD_PARAMETERS if name not in taken and offered.get(name)]
    if not offered.get("post_logout_redirect_uri"):
        rest = [pair for pair in rest if pair[0] != "state"]
    return append_parameters(url, rest)


# Which provider a login belongs to


def provider_of(login: Login, providers: Sequence[Provider]) -> Provider | None:
    """Return the provider of a login: the one with its ``provider`` name, else the one with its ``iss``.

    If the list has one provider only, a login that names no other one belongs to it. Returns None if none fits.
    """
    for provider in providers:
        if login.provider is not None and name_of(provider) == login.provider:
            return provider
    for provider in providers:
        if login.iss is not None and issuer_of(provider) == login.iss:
            return provider
    if len(providers) == 1 and login.provider is None and (login.iss is None or issuer_of(providers[0]) is None):
        return providers[0]
    return None


def is_issuer_of(provider: Provider, login: Login) -> bool:
    """Return whether ``provider`` may receive what is known of ``login``, because it has issued the ID Token.

    If its issuer is known, neither the login nor the token may name another one. If not, either the token names no
    issuer, or the application has named this provider for the login.
    """
    in_token = unverified_claims(login.id_token).get("iss") if login.id_token else login.iss
    issuer = issuer_of(provider)
    if issuer is not None:
        return all(iss in (issuer, None) for iss in (login.iss, in_token))
    return in_token is None or login.provider == name_of(provider)


async def learn_issuers(providers: Sequence[object], iss: str | None, *, level: int = logging.INFO) -> None:
    """Let providers read their issuer from their metadata, unless the one with the issuer ``iss`` is known already.

    ``iss`` is the issuer to look for; None stands for all. A failure leaves the issuer unknown. It is logged at
    ``level``, once for each fetch.
    """
    if iss is not None and any(issuer_of(provider) == iss for provider in providers):
        return
    async with anyio.create_task_group() as group:
        for provider in providers:
            if issuer_of(provider) is None and hasattr(provider, "learn_issuer"):
                group.start_soon(_learn_issuer, provider, level)


async def _learn_issuer(provider: Any, level: int) -> None:
    try:
        await provider.learn_issuer()
    except ProviderError as error:
        if not isinstance(error.__cause__, ProviderError):  # a remembered failure, which was logged when it happened
            logger.log(level, "the issuer of provider %r cannot be read: %s", name_of(provider), error)


# The list of providers


async def list_providers(providers: Providers, http_client: HTTPClient | None) -> tuple[Provider, ...]:
    """Return the providers of this moment, and hand ``http_client`` to those that can use it.

    Raises ``ProviderError`` or ``ConfigurationError`` if ``providers`` is a function that fails.
    """
    listed = await _called(providers) if callable(providers) else tuple(providers)
    for provider in listed:
        _look_up_client(provider)
    if http_client is not None:
        for provider in listed:
            use: Callable[[HTTPClient], None] | None = getattr(provider, "use_http_client", None)
            if use is not None:
                use(http_client)
    return listed


def _look_up_client(provider: Any) -> None:
    look_up: Callable[[], None] | None = getattr(provider, "look_up_client", None)
    if look_up is not None:
        look_up()


async def _called(providers: Callable[[], Any]) -> tuple[Provider, ...]:
    try:
        return usable_list(await run(providers))
    except RPLogoutError:
        raise
    except Exception as error:
        raise ProviderError(f"the function given as providers raised {type(error).__name__}", code="raised") from error


def checked_providers(providers: Any) -> Providers:
    """Return the ``providers`` option if it can work. Raises ``ConfigurationError``."""
    if hasattr(providers, "get_end_session_url"):
        raise ConfigurationError(f"providers={type(providers).__name__}: expected a list, such as [provider]")
    if callable(providers):
        return providers  # type: ignore[no-any-return]
    if isinstance(providers, str | bytes) or not isinstance(providers, Iterable):
        raise ConfigurationError(f"providers={providers!r}: expected a list of providers, or a callable giving one")
    return checked_list(providers)


def checked_list(providers: Iterable[Any]) -> tuple[Provider, ...]:
    """Return a list in which each entry is a provider and no two have one name. Raises ``ConfigurationError``."""
    names: set[str] = set()
    return tuple(_checked_provider(provider, names) for provider in providers)


def usable_list(providers: Iterable[Any]) -> tuple[Provider, ...]:
    """Return what a function has listed. An entry that ``checked_list`` refuses counts as one without an endpoint.

    A registry may also hold providers of another kind, such as one for passwords. They must not stop the others.
    """
    names: set[str] = set()
    usable: list[Provider] = []
    for provider in providers:
        try:
            usable.append(_checked_provider(provider, names))
        except Exception as error:  # an object of the application may raise anything when it is looked at
            why = error if isinstance(error, ConfigurationError) else type(error).__name__
            logger.debug(
                "an entry of the provider list cannot be used, and counts as one without an end-session endpoint: %s",
                why,
            )
            usable.append(WithoutEndpoint(provider, str(why)))
    return tuple(usable)


def _checked_provider(provider: Any, names: set[str]) -> Provider:
    if isinstance(provider, type):
        raise ConfigurationError(f"provider {provider.__name__}: expected an object, not its class")
    if not callable(getattr(provider, "get_end_session_url", None)):
        raise ConfigurationError(f"provider {type(provider).__name__}: expected a method get_end_session_url()")
    _look_up_client(provider)
    name = name_of(provider)
    if name is not None and name.lower() in ("local", "everywhere", "1", "true", "0", "false"):
        raise ConfigurationError(
            f"provider name {name!r}: expected another name, because the marker header uses this word"
        )
    if name in names:
        raise ConfigurationError(f"provider name {name!r} is given twice: expected unique names")
    names |= {name} if name else set()
    return provider  # type: ignore[no-any-return]


class WithoutEndpoint:
    """Stand for an entry of the application's registry that cannot be asked for an end-session URL.

    ``reason`` says why. Its other attributes are those of the entry: its name, its issuer, its check of logout tokens.
    """

    def __init__(self, entry: object, reason: str) -> None:
        self.entry = entry
        self.reason = reason

    @only_computes
    def get_end_session_url(self) -> None:
        """Return None, always."""

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self.entry, name)
        except Exception as error:  # an object of the application may raise anything when it is looked at
            raise AttributeError(name) from error
