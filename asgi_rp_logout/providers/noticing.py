"""Logins that a client of Authlib completes are noticed: the application need not call ``remember_login``.

``authorize_access_token`` of that one client object is wrapped. Authlib returns from it after it has validated the ID
Token, so nothing unverified is noticed, and neither are refreshed tokens or those of other grants.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from ..context import notice_login
from ..log import logger
from ..login import Login
from .calling import is_async

_MARK = "_asgi_rp_logout_notices"


def notice_logins_of(client: Any, provider: str) -> None:
    """Notice the logins that ``client`` completes, under the name of their provider. Doing it twice changes nothing."""
    authorize: Callable[..., Any] | None = getattr(client, "authorize_access_token", None)
    if not callable(authorize):
        return
    authorize = getattr(authorize, _MARK, authorize)

    @functools.wraps(authorize)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        token = await authorize(*args, **kwargs)
        _try_to_notice(token, provider)
        return token

    @functools.wraps(authorize)
    def called(*args: Any, **kwargs: Any) -> Any:
        token = authorize(*args, **kwargs)
        _try_to_notice(token, provider)
        return token

    wrapper = awaited if is_async(authorize) else called
    setattr(wrapper, _MARK, authorize)
    client.authorize_access_token = wrapper


def _try_to_notice(token: object, provider: str) -> None:
    """Notice a token; a login must not fail because of it."""
    try:
        _notice(token, provider)
    except Exception as error:
        logger.warning("a login was not noticed: its token raised %s", type(error).__name__)


def _notice(token: object, provider: str) -> None:
    """Notice a token that belongs to a login: it has an ID Token, and Authlib has put its claims beside it."""
    if not isinstance(token, Mapping):
        return
    id_token, claims, refresh_token = token.get("id_token"), token.get("userinfo"), token.get("refresh_token")
    if isinstance(id_token, str) and id_token and isinstance(claims, Mapping) and claims:
        refresh_token = refresh_token if isinstance(refresh_token, str) else None
        notice_login(Login(provider, id_token, refresh_token=refresh_token, known_by="authlib"))
