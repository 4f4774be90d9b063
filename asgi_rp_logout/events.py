"""``LogoutEvent``, and the call of the application's ``on_logout`` hook with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from . import log
from .options import Options
from .providers.calling import run

LogoutChannel = Literal["logout", "back-channel", "front-channel"]
LogoutOutcome = Literal["provider", "deferred", "local", "failed", "ended"]


@dataclass(frozen=True, slots=True)
class LogoutEvent:
    """Describe a logout, for the application's ``on_logout``.

    ``how``: ``"logout"`` (the application's own), ``"back-channel"`` or ``"front-channel"``. ``provider``, ``iss``,
    ``sub`` and ``sid``: whose login ended, as far as it is known. ``ended_until``: seconds since 1970, by the
    provider's clock if it sent a logout token; of the logins that the event names, those that began up to this time
    have ended. ``outcome``: ``"provider"`` (the browser was sent to the provider), ``"deferred"`` (its next page goes
    there), ``"local"`` (logged out here only), ``"failed"`` (the same, because the provider's URL could not be had, or
    the store failed) or ``"ended"`` (the provider has ended its own session). The event holds no token. ``on_logout``
    can run twice for one logout, for the click here and for the provider's logout token.
    """

    how: LogoutChannel
    provider: str | None = None
    iss: str | None = None
    sub: str | None = None
    sid: str | None = None
    ended_until: float | None = None
    outcome: LogoutOutcome = "ended"


async def notify(options: Options, event: LogoutEvent) -> None:
    """Log the logout, and call the application's hook, async or in a thread; what it raises is logged."""
    log.logout(event.how, event.outcome, event.provider)
    if options.on_logout is None:
        return
    try:
        await run(options.on_logout, event)
    except Exception as error:
        sentence = "so it may have done only a part of its work; the logout is complete"
        options.notices.limited("hook", f"on_logout raised {type(error).__name__}, {sentence}")
