"""Decorators for endpoints: ``rp_logout`` says "this was a logout", ``local_logout_only`` "of this application only".

They wrap a function and keep its signature, so frameworks that read it (FastAPI, Litestar) still inject what it asks
for. The mark is made when the endpoint has returned: one that raises has logged nobody out.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast, overload

from .context import RequestContext, find_context
from .errors import ConfigurationError, RPLogoutError
from .log import logger
from .login import LogoutIntent

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


@overload
def rp_logout(endpoint: Endpoint, /) -> Endpoint: ...
@overload
def rp_logout(*, provider: str | None = None, everywhere: bool = False) -> Callable[[Endpoint], Endpoint]: ...
def rp_logout(endpoint: Any = None, /, *, provider: str | None = None, everywhere: bool = False) -> Any:
    """Mark an endpoint's answer as a logout, wherever it is routed.

    Takes the endpoint, a function or method, sync or async. ``provider`` is the name of the provider to log out at,
    where it is not the one that signed the user in. ``everywhere`` ends all logins of the user here, on all devices. A
    response with a status of 400 or more is no logout. Raises ``ConfigurationError`` for what cannot be decorated.
    """
    if provider is not None and not (isinstance(provider, str) and provider):
        raise ConfigurationError(f"provider={provider!r}: expected a provider's name")
    if not isinstance(everywhere, bool):
        raise ConfigurationError(f"everywhere={everywhere!r}: expected True or False")
    intent = LogoutIntent(provider, everywhere=everywhere)
    return functools.partial(_marking, intent=intent) if endpoint is None else _marking(endpoint, intent=intent)


def local_logout_only(endpoint: Endpoint, /) -> Endpoint:
    """Mark an endpoint's answer as a logout of this application only: the session at the provider is left alone.

    Takes the endpoint, a function or method, sync or async. Raises ``ConfigurationError`` for what cannot be decorated.
    """
    return _marking(endpoint, intent=LogoutIntent(local=True))


def _marking(endpoint: Endpoint, *, intent: LogoutIntent) -> Endpoint:
    if not callable(endpoint) or inspect.isclass(endpoint):
        raise ConfigurationError(f"{endpoint!r}: expected a function or a method, not a class or its name")

    @functools.wraps(endpoint)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        result = await endpoint(*args, **kwargs)
        _mark(intent, args, kwargs)
        return result

    @functools.wraps(endpoint)
    def called(*args: Any, **kwargs: Any) -> Any:
        result = endpoint(*args, **kwargs)
        _mark(intent, args, kwargs)
        return result

    is_async = inspect.iscoroutinefunction(endpoint) or inspect.iscoroutinefunction(type(endpoint).__call__)
    return cast("Endpoint", awaited if is_async else called)


def _mark(intent: LogoutIntent, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    context = _context_of_call(args, kwargs)
    if context is None:
        logger.warning(
            "a decorated logout was answered outside of RPLogoutMiddleware, so the user stays signed in at the "
            "provider: add the middleware around this application"
        )
    else:
        context.intent, context.called = intent, True


def _context_of_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> RequestContext | None:
    # The request among the arguments comes first: it is right even in a thread that a ContextVar did not reach.
    for argument in (*args, *kwargs.values()):
        if hasattr(argument, "scope"):
            try:
                return find_context(argument)
            except RPLogoutError:
                continue
    return find_context()
