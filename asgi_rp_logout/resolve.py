"""Steps 3 and 4: which provider, and what URL.

Whoever is not known to be a provider's user is not sent there: a login of a provider that is not in the list goes
nowhere, and without a login only a single candidate is certain enough.

An ID Token is somebody's name and mail address. It goes, like everything else of a login, to one provider only:
the one whose issuer is the token's; one whose issuer is unknown only if the application has named it for this login;
and a token that names no issuer to the only provider there is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import anyio

from .errors import ProviderError, RPLogoutError
from .log import logger
from .login import Login
from .protocol.end_session import FormPost, same_endpoint
from .providers.provider import (
    Provider,
    ask,
    is_issuer_of,
    issuer_of,
    learn_issuers,
    list_providers,
    name_of,
    provider_of,
)
from .providers.standard import StandardProvider
from .providers.token_verifier import is_encrypted
from .returns import Return
from .settings import Settings


@dataclass(frozen=True, slots=True)
class Destination:
    """Hold where the browser goes: by a redirect to ``url``, or by posting ``form`` where the URL is too long."""

    url: str
    provider: Provider
    form: FormPost | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Name a provider, and whether the login is its own."""

    provider: Provider
    own: bool


async def resolve(
    settings: Settings,
    *,
    named: str | None,
    login: Login | None,
    way_back: Return,
    scope: Mapping[str, Any],
    location: str | None = None,
    room: int | None = None,
) -> Destination:
    """Find the provider and the URL, within ``provider_timeout``.

    Takes the name that the application gave, if any; the login, if one is known; the way back; the request's scope;
    the application's own redirect target, which settles which one is meant if it leads to a candidate already; and the
    room that the answer's headers have for the URL, None where it goes into the body. Raises ``ProviderError`` if there
    is no URL to send the browser to, with a message without secrets.
    """
    try:
        with anyio.move_on_after(settings.provider_timeout):
            providers = await list_providers(settings.providers, settings.http_client)
            if login is not None and login.iss is not None:
                named_by_login = [one for one in providers if login.provider and name_of(one) == login.provider]
                await learn_issuers(named_by_login or providers, login.iss)
            choices = choose(providers, named, login)
            if named is None and login is not None and login.id_token and len(choices) == 1 and not choices[0].own:
                _withheld(settings, login, choices[0].provider)
            found = await _ask_choices(choices, settings, login, way_back, scope, room)
            return _the_one(found, choices, location, settings)
        raise ProviderError(f"no answer within {settings.provider_timeout:g} s", code="timeout")
    except RPLogoutError:
        raise
    except Exception as error:
        # The message is the provider's own, and may hold whatever it was called with.
        raise ProviderError(f"a provider raised {type(error).__name__}", code="raised") from error


def choose(providers: Sequence[Provider], named: str | None, login: Login | None) -> list[Choice]:
    """Return the candidates: one that is certain, or all if nothing tells. Raises ``ProviderError`` for none."""
    home = provider_of(login, providers) if login is not None else None
    own = home is not None and login is not None and is_issuer_of(home, login)
    if named is not None:
        for provider in providers:
            if name_of(provider) == named:
                return [Choice(provider, own=own and provider is home)]
        raise ProviderError(f"no provider is called {named[:40]!r}", code="unknown_provider")
    if home is not None:
        return [Choice(home, own=own)]
    if login is not None and (login.provider is not None or login.iss is not None):
        known = ", ".join(repr(issuer_of(provider) or name_of(provider)) for provider in providers)
        wanted = login.iss or login.provider
        raise ProviderError(
            f"the login's own provider, {wanted!r}, is not in the list: {known or 'it is empty'}",
            code="unknown_provider",
        )
    if not providers:
        raise ProviderError("there are no providers", code="no_provider")
    return [Choice(provider, own=False) for provider in providers]


def _hint_for(login: Login, provider: Provider) -> str | None:
    """Return the ID Token as its provider can read it (RP-Initiated Logout 1.0, section 2).

    An encrypted one has to be decrypted first: it is encrypted for this application, and an error for the provider.
    """
    token = login.id_token
    if token is None or not is_encrypted(token):
        return token
    decrypted: Callable[[str], str | None] | None = getattr(provider, "decrypted", None)
    token = decrypted(token) if decrypted is not None else None
    return token if token is not None and is_issuer_of(provider, replace(login, id_token=token)) else None


async def _ask_choices(
    choices: Sequence[Choice],
    settings: Settings,
    login: Login | None,
    way_back: Return,
    scope: Mapping[str, Any],
    room: int | None,
) -> list[Destination]:
    found: list[Destination] = []

    async def ask_one(choice: Choice) -> None:
        destination = await _ask(choice, settings, login if choice.own else None, way_back, scope, room)
        if destination is not None:
            found.append(destination)

    if len(choices) == 1:
        await ask_one(choices[0])
    else:
        # One that fails leaves open whether it would have been a candidate, so nothing is certain any more.
        try:
            async with anyio.create_task_group() as group:
                for choice in choices:
                    group.start_soon(ask_one, choice)
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
    return found


def _the_one(
    found: Sequence[Destination], choices: Sequence[Choice], location: str | None, settings: Settings
) -> Destination:
    meant = found
    if len(found) > 1 and location is not None:
        meant = [one for one in found if same_endpoint(location, one.url)]
    if len(meant) == 1:
        return meant[0]
    if found:
        raise ProviderError(
            "there are several providers, and nothing tells which one signed the user in: call remember_login()",
            code="ambiguous",
        )
    if all(getattr(choice.provider, "local_only", False) for choice in choices):
        raise ProviderError("the provider has no logout, as configured", code="local_only")
    names = " or ".join(repr(name_of(choice.provider)) for choice in choices)
    _once(settings, f"logged out here, but not at the provider: {names} has no end-session endpoint")
    raise ProviderError(f"{names} has no end-session endpoint", code="no_endpoint")


def _withheld(settings: Settings, login: Login, provider: Provider) -> None:
    """Log that a provider gets no ID Token, because it is not known to be its issuer."""
    _once(
        settings,
        f"provider {name_of(provider)!r} gets no ID Token: its issuer is {issuer_of(provider)!r}, and the token's is "
        f"{login.iss!r}. Set the provider's issuer=, or name a provider without one in remember_login(provider=)",
    )


def _once(settings: Settings, sentence: str) -> None:
    """Log what stays true until the configuration changes once, and not at every logout."""
    if sentence not in settings.said and len(settings.said) < 100:
        settings.said.add(sentence)
        logger.warning("%s", sentence)


async def _ask(
    choice: Choice,
    settings: Settings,
    login: Login | None,
    way_back: Return,
    scope: Mapping[str, Any],
    room: int | None,
) -> Destination | None:
    provider = choice.provider
    offered: dict[str, Any] = {
        "id_token_hint": _hint_for(login, provider) if login else None,
        "logout_hint": login.logout_hint if login else None,
        "post_logout_redirect_uri": way_back.uri,
        "state": way_back.state,
        "client_id": getattr(provider, "client_id", None),
        "login": login,
        "scope": scope,
    }
    url = await ask(provider, offered)
    longest = settings.max_url_length if room is None else min(room, settings.max_url_length)
    if url is None or len(url) <= longest:
        return Destination(url, provider) if url is not None else None
    form = provider.form(url) if isinstance(provider, StandardProvider) and provider.post else None
    return Destination(await _shortened(provider, offered, room), provider, form)


async def _shortened(provider: Provider, offered: Mapping[str, Any], room: int | None) -> str:
    """Ask again without the hint, which is what makes a URL long; then for the bare endpoint, if it has to be.

    With a client_id the provider still knows whom to ask about the return address; without one it would refuse it, so
    that the bare endpoint is better.
    """
    without: dict[str, Any] = {**offered, "id_token_hint": None, "login": None}
    bare = {**without, "logout_hint": None, "post_logout_redirect_uri": None, "state": None}
    if not offered["client_id"]:
        without |= {"post_logout_redirect_uri": None, "state": None}
    for fewer in (without, bare):
        url = await ask(provider, fewer)
        if url is None:
            raise ProviderError("the provider has no URL without a hint", code="no_url")
        if room is None or len(url) <= room:
            return url
    raise ProviderError("the application's own headers leave no room for the provider's URL", code="no_room")
