"""Step 6, and whatever else can wait until the response has gone: nobody waits for it, and it fails in the log only."""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass
from typing import Any, Literal

import anyio

from .errors import ProviderError
from .log import logger
from .login import Login
from .providers.calling import call, keywords_of, run
from .providers.provider import Provider, issuer_of, list_providers, name_of
from .providers.transport import HTTPClient, revoke_refresh_token
from .resolve import choose
from .settings import Settings

AFTER_DEADLINE = 5.0
"""Seconds for everything that is done after one response."""

How = Literal["logout", "back-channel", "front-channel"]


@dataclass(frozen=True, slots=True)
class LogoutEvent:
    """Describe a logout, for the application's ``on_logout``.

    ``how``: ``"logout"`` (the application's own), ``"back-channel"`` or ``"front-channel"``. ``provider``, ``iss``,
    ``sub`` and ``sid``: whose login ended, as far as it is known. ``ended_until``: the logins that it means and that
    began up to then have ended, in seconds since 1970, by the provider's clock if it sent a logout token. It holds no
    token. ``on_logout`` can run twice for one logout, for the click here and for the provider's logout token.
    """

    how: How
    provider: str | None = None
    iss: str | None = None
    sub: str | None = None
    sid: str | None = None
    ended_until: float | None = None


async def tell(settings: Settings, event: LogoutEvent) -> None:
    """Call the application's hook, async or in a thread; what it raises is logged."""
    if settings.on_logout is None:
        return
    try:
        await run(settings.on_logout, event)
    except Exception as error:
        sentence = "so it may have done only a part of its work; the logout is complete"
        settings.flood.warning("hook", f"on_logout raised {type(error).__name__}, {sentence}")


async def after_logout(settings: Settings, login: Login, asked: Provider | None) -> None:
    """Do what follows a logout whose response has gone: revoke tokens, tell the application, refresh discovery.

    Takes the login that ended (an empty one if nothing is known of it) and the provider that the browser was sent to.
    """
    stale = asked is not None and getattr(asked, "stale", hasattr(asked, "refresh"))
    revokes = settings.may_revoke and (login.id_token or login.refresh_token)
    if settings.on_logout is None and not revokes and not stale:
        return
    with anyio.move_on_after(AFTER_DEADLINE, shield=True) as scope:
        its_own = asked is not None and (login.iss is None or issuer_of(asked) in (login.iss, None))
        name = login.provider or (name_of(asked) if its_own else None)
        await tell(settings, LogoutEvent("logout", name, login.iss, login.sub, login.sid, time.time()))
        if revokes:
            await _revoke(settings, login, asked)
        refresh = getattr(asked, "refresh", None)
        if inspect.iscoroutinefunction(refresh):
            await refresh()
    if scope.cancelled_caught:
        sentence = f"post-logout tasks (on_logout, revocation) exceeded {AFTER_DEADLINE:g} s and were cancelled"
        settings.flood.warning("after", sentence)


async def _revoke(settings: Settings, login: Login, asked: Provider | None) -> None:
    try:
        provider = await _home_of(settings, login, asked)
        how = getattr(provider, "revoke", None)
        if how == "refresh_token" and login.refresh_token:
            await revoke_token(provider, login.refresh_token, settings.http_client)
        elif how is not None and how != "refresh_token":
            offered = {"refresh_token": login.refresh_token, "id_token": login.id_token, "login": login}
            if login.refresh_token or "refresh_token" not in keywords_of(how.revoke_session):
                await call(how.revoke_session, offered)
    except Exception as error:
        reason = str(error) if isinstance(error, ProviderError) else type(error).__name__
        logger.warning("a token was not revoked, and stays valid at the provider until it expires: %s", reason)


async def _home_of(settings: Settings, login: Login, asked: Provider | None) -> Provider | None:
    """Return the login's own provider: most often the one that was asked, so that the list is not made twice."""
    for candidates in ([asked] if asked is not None else [], None):
        try:
            with anyio.fail_after(settings.provider_timeout):
                listing = list_providers(settings.providers if candidates is None else candidates, settings.http_client)
                choices = choose(await listing, None, login)
        except ProviderError:
            continue
        except Exception as error:  # of the list: where it mattered for the browser, the logout itself has warned
            logger.info("the providers could not be listed after a logout: %s", type(error).__name__)
            continue
        if len(choices) == 1 and choices[0].own:
            return choices[0].provider
    return None


async def revoke_token(provider: Any, token: str, client: HTTPClient | None) -> None:
    """Revoke a refresh token at its provider (RFC 7009, section 2.1). Raises ``ProviderError``."""
    endpoint = await provider.revocation_endpoint()
    if endpoint is None:
        raise ProviderError(f"{name_of(provider)} has no revocation endpoint", code="no_revocation")
    await revoke_refresh_token(endpoint, provider.client_id, provider.client_secret, token, client=client)
