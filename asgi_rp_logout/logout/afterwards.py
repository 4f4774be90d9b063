"""Step 6: what is done after the response has been sent. Nobody waits for it, and failures are only logged."""

from __future__ import annotations

import inspect
import time

import anyio

from ..errors import ProviderError
from ..events import LogoutEvent, LogoutOutcome, notify
from ..log import logger
from ..login import Login
from ..options import Options
from ..providers.calling import call, keywords_of
from ..providers.provider import Provider, issuer_of, list_providers, name_of
from ..providers.transport import Credentials, revoke_refresh_token
from .choose_provider import choose

AFTER_DEADLINE = 5.0
"""Seconds for everything that is done after one response."""


async def after_logout(options: Options, login: Login, asked: Provider | None, outcome: LogoutOutcome) -> None:
    """Log a logout, call ``on_logout``, revoke tokens and refresh discovery, after the response has been sent.

    Takes the login that ended (an empty one if nothing is known of it), in ``asked`` the provider that the browser was
    sent to, if any, and what became of the logout.
    """
    its_own = asked is not None and (login.iss is None or issuer_of(asked) in (login.iss, None))
    name = login.provider or (name_of(asked) if its_own else None)
    event = LogoutEvent("logout", name, login.iss, login.sub, login.sid, time.time(), outcome)
    stale = asked is not None and getattr(asked, "stale", hasattr(asked, "refresh"))
    revokes = options.may_revoke and (login.id_token or login.refresh_token)
    if options.on_logout is None and not revokes and not stale:
        await notify(options, event)
        return
    with anyio.move_on_after(AFTER_DEADLINE, shield=True) as scope:
        await notify(options, event)
        if revokes:
            await _revoke(options, login, asked)
        refresh = getattr(asked, "refresh", None)
        if inspect.iscoroutinefunction(refresh):
            await refresh()
    if scope.cancelled_caught:
        sentence = f"post-logout tasks (on_logout, revocation) exceeded {AFTER_DEADLINE:g} s and were cancelled"
        options.notices.limited("after", sentence)


async def _revoke(options: Options, login: Login, asked: Provider | None) -> None:
    try:
        provider = await _provider_to_revoke_at(options, login, asked)
        how = getattr(provider, "revoke", None)
        if isinstance(how, str) and login.refresh_token:
            await _revoke_token(options, provider, login.refresh_token)
        elif how is not None and not isinstance(how, str):
            offered = {"refresh_token": login.refresh_token, "id_token": login.id_token, "login": login}
            if login.refresh_token or "refresh_token" not in keywords_of(how.revoke_session):
                await call(how.revoke_session, offered)
    except Exception as error:
        reason = str(error) if isinstance(error, ProviderError) else type(error).__name__
        logger.warning("a token was not revoked, and stays valid at the provider until it expires: %s", reason)


async def _provider_to_revoke_at(options: Options, login: Login, asked: Provider | None) -> Provider | None:
    """Return the login's own provider. Usually it is the one that was asked, and then the list is not read again.

    A login that names neither its provider nor its issuer belongs to the only one in the list, not to the one asked.
    """
    names_one = login.provider is not None or login.iss is not None
    for known in ([asked] if asked is not None and names_one else [], None):
        try:
            with anyio.fail_after(options.provider_timeout):
                listed = await list_providers(options.providers, options.http_client) if known is None else known
                candidates = choose(listed, None, login)
        except ProviderError:
            continue
        except Exception as error:  # raised by the application's list; if the browser needed it, there is a warning
            logger.info("the providers could not be listed after a logout: %s", type(error).__name__)
            continue
        if len(candidates) == 1 and candidates[0].is_issuer_of_login:
            return candidates[0].provider
    return None


async def _revoke_token(options: Options, provider: object, token: str) -> None:
    """Revoke a refresh token at its provider (RFC 7009, section 2.1). Raises ``ProviderError``."""
    find, client_id = getattr(provider, "revocation_endpoint", None), getattr(provider, "client_id", None)
    endpoint = await find() if find is not None else None
    if endpoint is None or not isinstance(client_id, str):
        raise ProviderError(
            f"the metadata of {name_of(provider)} names no revocation endpoint; if it has one, give its URL as revoke=",
            code="no_revocation",
        )
    method = getattr(provider, "token_auth", None)
    credentials = Credentials(client_id, getattr(provider, "client_secret", None), method).accepted_by({})
    await revoke_refresh_token(endpoint, credentials, token, client=options.http_client)
