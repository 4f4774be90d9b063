"""Step 4: which provider, and its URL.

The browser is sent to a provider only if its user may be known there. If the login's provider is not in the list, the
logout stays local. Without a login, the provider is certain only if there is a single candidate.

An ID Token holds the user's name and mail address. Like everything else of a login, it goes to one provider only:

- the provider whose issuer is the token's;
- a provider whose issuer is unknown, only if the application has named it for this login;
- if the token names no issuer, the provider that the application has named, or else the only one there is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import anyio

from ..errors import ProviderError, RPLogoutError
from ..login import Login
from ..logins.guarded_store import all_at_once
from ..options import Options
from ..protocol.end_session import FormPost, same_endpoint
from ..providers.provider import (
    Provider,
    ask,
    is_issuer_of,
    issuer_of,
    learn_issuers,
    list_providers,
    name_of,
    provider_of,
)
from ..providers.standard import StandardProvider
from ..providers.token_verifier import is_encrypted
from .return_plan import ReturnPlan


@dataclass(frozen=True, slots=True)
class LogoutRequest:
    """What a provider is asked for.

    ``named``: the provider that the application named, if any. ``login``: the login, if one is known. ``scope``: the
    ASGI scope of the request. ``location``: the application's own redirect target; if it leads to one of several
    candidates, that one is meant. ``room``: the bytes that the response's headers have for the URL, None where it goes
    into the body. ``may_ask_silently``: whether the browser may fetch an ID Token first.
    """

    named: str | None
    login: Login | None
    return_plan: ReturnPlan
    scope: Mapping[str, Any]
    location: str | None = None
    room: int | None = None
    may_ask_silently: bool = False


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the browser goes: by a redirect to ``url``, or by posting ``form`` if the URL is too long.

    ``refused`` says that the provider takes no request without an ID Token, and that it can be asked for one first.
    Then there is no URL yet.
    """

    url: str
    provider: Provider
    form: FormPost | None = None
    refused: ProviderError | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider, and whether it may get what is known of the login."""

    provider: Provider
    is_issuer_of_login: bool


async def resolve(options: Options, wanted: LogoutRequest) -> Destination:
    """Choose the provider and ask it for its URL, within ``provider_timeout``.

    Raises ``ProviderError`` if there is no URL to send the browser to, with a message without secrets.
    """
    login = wanted.login
    try:
        with anyio.move_on_after(options.provider_timeout):
            providers = await list_providers(options.providers, options.http_client)
            if login is not None and login.iss is not None:
                named_by_login = [one for one in providers if login.provider and name_of(one) == login.provider]
                await learn_issuers(named_by_login or providers, login.iss)
            candidates = choose(providers, wanted.named, login)
            if wanted.named is None and login is not None and login.id_token and len(candidates) == 1:
                _warn_if_withheld(options, login, candidates[0])
            return _the_one(await _ask_all(candidates, options, wanted), candidates, options, wanted.location)
        raise ProviderError(f"no answer within {options.provider_timeout:g} s", code="timeout")
    except RPLogoutError:
        raise
    except Exception as error:
        # The message is the provider's own, and may hold whatever it was called with.
        raise ProviderError(f"a provider raised {type(error).__name__}", code="raised") from error


def choose(providers: Sequence[Provider], named: str | None, login: Login | None) -> list[Candidate]:
    """Return the candidates: the one that is meant, or all if nothing says which. Raises ``ProviderError`` for none."""
    home = provider_of(login, providers) if login is not None else None
    own = home is not None and login is not None and is_issuer_of(home, login)
    if named is not None:
        for provider in providers:
            if name_of(provider) == named:
                return [Candidate(provider, own and provider is home)]
        raise ProviderError(f"no provider is called {named[:40]!r}", code="unknown_provider")
    if home is not None:
        return [Candidate(home, own)]
    if login is not None and (login.provider is not None or login.iss is not None):
        known = ", ".join(repr(issuer_of(provider) or name_of(provider)) for provider in providers)
        raise ProviderError(
            f"the login's own provider, {login.iss or login.provider!r}, is not in the list: {known or 'it is empty'}",
            code="unknown_provider",
        )
    if not providers:
        raise ProviderError("there are no providers", code="no_provider")
    return [Candidate(provider, is_issuer_of_login=False) for provider in providers]


async def _ask_all(candidates: Sequence[Candidate], options: Options, wanted: LogoutRequest) -> list[Destination]:
    """Ask every candidate. The first error is raised, because the one that failed may be the one that is meant."""
    found: list[Destination] = []

    async def ask_one(candidate: Candidate) -> None:
        destination = await _ask(candidate, options, wanted)
        if destination is not None:
            found.append(destination)

    if len(candidates) == 1:
        await ask_one(candidates[0])
    else:
        await all_at_once(ask_one, candidates)
    return found


def _the_one(
    found: Sequence[Destination], candidates: Sequence[Candidate], options: Options, location: str | None
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
    if all(getattr(candidate.provider, "local_only", False) for candidate in candidates):
        raise ProviderError("the provider has no logout, as configured", code="local_only")
    names = " or ".join(repr(name_of(candidate.provider)) for candidate in candidates)
    options.notices.once(f"logged out here, but not at the provider: {names} has no end-session endpoint")
    raise ProviderError(f"{names} has no end-session endpoint", code="no_endpoint")


def _warn_if_withheld(options: Options, login: Login, candidate: Candidate) -> None:
    """Warn that a provider gets no ID Token because it is not known to be its issuer."""
    provider = candidate.provider
    if not candidate.is_issuer_of_login:
        options.notices.once(
            f"provider {name_of(provider)!r} gets no ID Token: its issuer is {issuer_of(provider)!r}, and the token's "
            f"is {login.iss!r}. Set the provider's issuer=, or name a provider without one in "
            "remember_login(provider=)"
        )


async def _ask(candidate: Candidate, options: Options, wanted: LogoutRequest) -> Destination | None:
    provider = candidate.provider
    login = wanted.login if candidate.is_issuer_of_login else None
    offered: dict[str, Any] = {
        "id_token_hint": _hint_for(login, provider) if login else None,
        "logout_hint": login.logout_hint if login else None,
        "post_logout_redirect_uri": wanted.return_plan.uri,
        "state": wanted.return_plan.state,
        "client_id": getattr(provider, "client_id", None),
        "login": login,
        "scope": wanted.scope,
    }
    try:
        url = await ask(provider, offered)
    except ProviderError as error:
        if error.code == "missing_parameter" and wanted.may_ask_silently and getattr(provider, "silent", None):
            return Destination("", provider, refused=error)
        raise
    longest = options.max_url_length if wanted.room is None else min(wanted.room, options.max_url_length)
    if url is None or len(url) <= longest:
        return Destination(url, provider) if url is not None else None
    form = provider.form(url) if isinstance(provider, StandardProvider) and provider.post else None
    return Destination(await _shortened(provider, offered, wanted.room), provider, form)


def _hint_for(login: Login, provider: Provider) -> str | None:
    """Return the ID Token as its provider can read it (RP-Initiated Logout 1.0, section 2).

    An encrypted one has to be decrypted first: it is encrypted for this application, and the provider cannot read it.
    """
    token = login.id_token
    if token is None or not is_encrypted(token):
        return token
    decrypted: Callable[[str], str | None] | None = getattr(provider, "decrypted", None)
    token = decrypted(token) if decrypted is not None else None
    return token if token is not None and is_issuer_of(provider, replace(login, id_token=token)) else None


async def _shortened(provider: Provider, offered: Mapping[str, Any], room: int | None) -> str:
    """Ask again without the hint, which makes the URL long, and then for the bare endpoint if it is still too long.

    With a client_id the provider can still check the return address. Without one it would refuse the address, so the
    address is left out too.
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
