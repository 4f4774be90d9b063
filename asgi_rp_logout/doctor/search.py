"""Find every RPLogoutMiddleware in an app, and the session middlewares around it and inside of it.

The app is walked by its attributes, from the outside in: wrappers, lists of middlewares that are not built yet, mounts
and routes. Nothing of it is called, so nothing of it changes.
"""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from starlette.routing import Route

from ..asgi.types import Receive, Scope, Send
from ..errors import ConfigurationError
from ..middleware import RPLogoutMiddleware
from ..options import Options

MOST_OBJECTS = 50_000
"""Objects of an app that are looked at."""

_LISTS = ("user_middleware", "middleware", "middleware_stack")
"""The attributes of an app that hold its middlewares, listed or built."""

_ATOMS = (str, bytes, bytearray, int, float, complex, bool, type(None), type, ModuleType)


@dataclass(frozen=True, slots=True)
class SignedSession:
    """Describe Starlette's SessionMiddleware, whose session is its cookie; ``max_age`` in seconds, None for no end."""

    cookie: str
    max_age: float | None
    secure: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Describe where a middleware stands: the sessions around it and inside of it; ``per_route``: around one route."""

    around: tuple[SignedSession, ...] = ()
    inside: tuple[SignedSession, ...] = ()
    per_route: bool = False


class Located(NamedTuple):
    """A middleware of the app: its options, or why it has none, and its place."""

    options: Options | None
    error: str
    place: Place


class _Declared(NamedTuple):
    """A middleware that the app has listed, and not built yet."""

    cls: type
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def middlewares_of(app: object) -> list[Located]:
    """Return the middlewares of an app, from the outside in; those with the same options once."""
    found: list[Located] = []
    known: set[object] = set()
    for part, path in _walk(app):
        built = _options_of(part)
        if built is None:
            continue
        options, error = built
        identity = error if options is None else _identity_of(options)
        if identity not in known:
            known.add(identity)
            inner = _walk(part.app, path) if isinstance(part, RPLogoutMiddleware) else _inside_of(path)
            found.append(Located(options, error, _place(path, [one for one, _ in inner])))
    return found


def _options_of(part: object) -> tuple[Options | None, str] | None:
    if isinstance(part, RPLogoutMiddleware):
        return part._options, ""
    if not isinstance(part, _Declared) or not issubclass(part.cls, RPLogoutMiddleware):
        return None
    try:
        return RPLogoutMiddleware(nothing, *part.args, **part.kwargs)._options, ""
    except (ConfigurationError, TypeError) as error:
        return None, str(error) if isinstance(error, ConfigurationError) else type(error).__name__


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand for the app within a middleware that is made to read its options."""


def _identity_of(options: Options) -> object:
    providers = options.providers
    listed = id(providers) if callable(providers) else tuple(map(id, providers))
    paths = (options.logout_path.exact, options.callback_path, options.backchannel_path, options.frontchannel_path)
    return listed, paths, options.session_cookie.cookies


def _place(path: tuple[object, ...], inner: list[object]) -> Place:
    around = tuple(session for one in path if (session := _signed_session(one)) is not None)
    inside = tuple(dict.fromkeys(session for one in inner if (session := _signed_session(one)) is not None))
    return Place(around, inside, any(isinstance(one, Route) for one in path))


def _signed_session(part: object) -> SignedSession | None:
    sessions = sys.modules.get("starlette.middleware.sessions")
    kind = getattr(sessions, "SessionMiddleware", None)
    if kind is None:
        return None
    if isinstance(part, kind):
        flags = str(getattr(part, "security_flags", "")).lower()
        known: Any = part
        return SignedSession(known.session_cookie, known.max_age, "secure" in flags)
    if isinstance(part, _Declared) and issubclass(part.cls, kind):
        given = part.kwargs
        max_age = given.get("max_age", 14 * 24 * 3600)
        return SignedSession(given.get("session_cookie", "session"), max_age, bool(given.get("https_only")))
    return None


# -- the walk ------------------------------------------------------------------------------------------------------


def _walk(root: object, outer: tuple[object, ...] = ()) -> Iterator[tuple[object, tuple[object, ...]]]:
    """Yield each part of an app, with what it was reached through; the nearest first. ``outer`` is left out.

    Parts refer back to what is around them, such as FastAPI's routes to their app.
    """
    waiting: deque[tuple[object, tuple[object, ...]]] = deque([(root, ())])
    seen = {id(one): one for one in outer}  # keeps what it knows, because an id may be used again
    while waiting and len(seen) < MOST_OBJECTS:
        part, path = waiting.popleft()
        if isinstance(part, _ATOMS) or id(part) in seen:
            continue
        seen[id(part)] = part
        yield part, path
        listed = _declared_by(part)
        for index, declared in enumerate(listed):
            waiting.append((declared, (*path, part, *listed[:index])))
        through = (*path, part, *listed)
        waiting.extend((child, through) for child in _children(part, is_root=not path))


def _inside_of(path: tuple[object, ...]) -> Iterator[tuple[object, tuple[object, ...]]]:
    """Yield what is inside of a middleware that is listed, not built: the rest of the list, and what is behind it."""
    index = len(list(takewhile(lambda one: isinstance(one, _Declared), reversed(path))))
    owner = path[len(path) - index - 1]
    for declared in _declared_by(owner)[index + 1 :]:
        yield declared, ()
    behind = {name: part for name, part in _attributes(owner).items() if name not in _LISTS}
    yield from _walk(behind, path)


def _declared_by(part: object) -> list[_Declared]:
    """Return the middlewares that an app has listed: of Starlette and FastAPI, or of Litestar."""
    attributes = _attributes(part)
    entries = attributes.get("user_middleware") or attributes.get("middleware") or ()
    if not isinstance(entries, list | tuple):
        return []
    return [declared for entry in entries if (declared := _declaration(entry)) is not None]


def _declaration(entry: object) -> _Declared | None:
    attributes = _attributes(entry)
    cls = attributes.get("cls") or attributes.get("middleware")
    if not isinstance(cls, type):
        return None
    return _Declared(cls, tuple(attributes.get("args") or ()), dict(attributes.get("kwargs") or {}))


def _children(part: object, *, is_root: bool) -> Iterator[object]:
    if isinstance(part, Mapping):
        yield from list(part.values())
    elif isinstance(part, list | tuple | set | frozenset | deque):
        yield from list(part)
    elif isinstance(part, functools.partial):
        yield from (part.func, part.args, part.keywords)
    elif isinstance(part, MethodType):
        yield from (part.__self__, part.__func__)
    elif isinstance(part, FunctionType):
        yield from _cells(part)
        if is_root:  # an app that is a function calls another one by its name
            yield from (part.__globals__[name] for name in part.__code__.co_names if name in part.__globals__)
    elif type(part).__module__ != "builtins":
        yield from _attributes(part).values()


def _cells(function: FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue
    yield from vars(function).values()


def _attributes(part: object) -> dict[str, Any]:
    """Return the attributes that an object keeps, without asking any property."""
    kept = getattr(part, "__dict__", None)
    attributes = dict(kept) if isinstance(kept, dict) else {}
    for kind in type(part).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and name not in attributes:
                try:
                    attributes[name] = object.__getattribute__(part, name)
                except AttributeError:
                    continue
    return attributes
