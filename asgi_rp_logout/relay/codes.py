"""The codes that requests have brought and not redeemed yet: who gets the login when one of them is redeemed.

A code is expected only while a request that carries it is being handled, so a code that was stolen and used is worth
nothing. While two requests carry the same code, neither of them gets its login: one may be a thief's. The event loops
of the application and the thread of the relay share this table.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..context import Phase, RequestContext
from ..login import Login


@dataclass(slots=True)
class Waiting:
    """The request that carries a code, and whether another one carries it too."""

    context: RequestContext
    requests: int = 1
    contested: bool = False

    @property
    def takes(self) -> bool:
        """Return whether the request can still be given a login, and has none."""
        context = self.context
        said = context.remembered is not None or context.forgotten or context.noticed is not None
        return not self.contested and not said and context.phase is Phase.OPEN

    def give(self, login: Login) -> None:
        """Let the request notice a login, unless the application has said something or the response has started."""
        if self.takes:
            self.context.noticed = login
            self.context.called = True


class ExpectedCodes:
    """Note which request carries which code, for as long as it is being handled."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, code: str) -> bool:
        return code in self._waiting

    @contextmanager
    def expected(self, code: str, context: RequestContext, *, alone: bool = True) -> Iterator[Waiting]:
        """Expect a code during this block, for the request with this context.

        A request whose code is not ``alone`` gets no login: which of its codes the application takes is not known.
        """
        with self._lock:
            waiting = self._waiting.get(code)
            outer = waiting.context if waiting is not None and _is_inside(context, waiting.context) else None
            if waiting is None:
                self._waiting[code] = waiting = Waiting(context)
            elif outer is not None:  # the same request: the middleware nearest to the application gets the login
                waiting.context = context
            else:
                waiting.contested = True
                waiting.requests += 1
            waiting.contested |= not alone
        try:
            yield waiting
        finally:
            with self._lock:
                if outer is not None:
                    waiting.context = outer
                else:
                    waiting.requests -= 1
                    if not waiting.requests and self._waiting.get(code) is waiting:
                        del self._waiting[code]

    def give(self, code: str, login: Login) -> bool:
        """Give the login of a code that was redeemed to the request that carries it; return whether there is any."""
        with self._lock:
            waiting = self._waiting.pop(code, None)
            if waiting is not None:
                waiting.give(login)
        return waiting is not None


def _is_inside(context: RequestContext, other: RequestContext) -> bool:
    """Return whether ``context`` is that of a middleware further in, for the same request as ``other``."""
    outer = context.outer
    while outer is not None and outer is not other:
        outer = outer.outer
    return outer is not None
