"""One logout: the steps in their order.

1. ``detect``: was this response a successful logout? ``responses.inspect`` asks.
2. ``evidence``: whose logout is it, and is there a session to end?
3. ``end``: the login ends, the cookies expire.
4. ``provider``: which provider, and its URL.
5. ``return_plan``: where the browser comes back to. It is planned first, because the URL names it. Or ``deferred``: the
   next page goes to the provider.
6. ``afterwards``: what is done after the response has been sent.

The login ends before anything can fail. So if a provider or the network fails, the local logout is complete.
"""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass, replace

import anyio

from .. import log
from ..asgi.response import ResponseStart
from ..context import Phase
from ..errors import ProviderError, RPLogoutError
from ..exchange import Exchange, HeldBack
from ..log import logger
from ..login import Login, LogoutIntent
from ..logins.app_session import bytes_to_come
from ..logins.records import SHORT, ReturnTripRecord
from ..negotiation.answers import (
    Answer,
    answer_for,
    form_page,
    json_answer,
    link_page,
    redirect_target,
    room_for_url,
    turbo_reload,
)
from ..negotiation.json_body import JSONBody, may_hold_url
from ..negotiation.request_kind import RequestKind, comes_from_own_page, is_without_click
from ..protocol.cookie_values import Secret
from ..protocol.end_session import same_endpoint
from ..protocol.return_target import origin_of, without_query
from ..providers.provider import name_of
from ..store import UNKNOWN, Record
from .choose_provider import Destination, LogoutRequest, resolve
from .deferred import REPLAYED_FOR, Deferred, cancel, deferred_key, record_of, save
from .end_and_expire import end, end_all_logins, expire, stranger_tombstone
from .evidence import has_ended_before, has_evidence, login_to_end
from .return_plan import (
    RETURN_LIFETIME,
    ReturnPlan,
    browser_digest,
    plan_return,
    return_reference,
    return_trip_key,
    same_origin_target,
)
from .silent_trip import TRIP_LIFETIME, plan_trip

MOST_ENDPOINTS = 5
"""URLs in a JSON response that are compared with the provider's."""

LOCAL_KINDS = (RequestKind.CROSS_SITE, RequestKind.PREFETCH)
"""The kinds of request that never take the user to a provider."""


@dataclass(frozen=True, slots=True)
class Logout:
    """One logout in progress: what it is to do, whose login it ended, and the application's own redirect target.

    ``after_trip`` says that the browser has been at the provider for an ID Token already: see ``silent_trip``.
    """

    exchange: Exchange
    intent: LogoutIntent
    login: Login | None
    location: str | None = None
    after_trip: bool = False

    @property
    def kind(self) -> RequestKind:
        """How the request was made."""
        return self.exchange.kind

    @property
    def tombstone(self) -> str | None:
        """The digest of the session cookie whose tombstone holds all that is known of an anonymous logout."""
        return stranger_tombstone(self.exchange, self.login)

    @property
    def may_be_clicked_twice(self) -> bool:
        """Whether a second click may need the redirect of its answer once more."""
        headers = self.exchange.request.headers
        return self.kind is RequestKind.NAVIGATION and not self.exchange.is_repeat and comes_from_own_page(headers)


async def log_out(exchange: Exchange, intent: LogoutIntent, start: ResponseStart) -> None:
    """Take a successful logout of the application through steps 2 to 5, and send its response."""
    login = await login_to_end(exchange)
    location = redirect_target(start)
    intent = replace(intent, return_to=same_origin_target(exchange.options, exchange.request, location))
    logout = Logout(exchange, intent, login, location)
    evidence = has_evidence(exchange, login)
    stays = intent.local or logout.kind in LOCAL_KINDS
    if evidence or (login is not None and login is exchange.source):
        exchange.ended_login = login if login is not None else Login()
        exchange.told = exchange.told or await has_ended_before(exchange, login)
    everywhere = intent.everywhere and logout.kind not in LOCAL_KINDS and await _speaks_for_user(exchange, login)
    await end(exchange, login, replace(intent, local=stays), also=_for_second_click(logout))
    if everywhere:
        await end_all_logins(exchange, login)
    exchange.own_start = start
    start = expire(exchange, start, waits=exchange.waits)
    answer = None
    if not evidence:
        names = [cookie.name for cookie in exchange.options.session_cookie.cookies]
        log.no_evidence(names, require_login=exchange.options.needs_login)
    elif stays:
        log.local_only(by_application=intent.local)
    elif not exchange.failed:
        try:
            start, answer = await _take_to_provider(logout, start)
        except RPLogoutError as error:
            report(exchange, error, login)
        except Exception as error:  # whatever it is, the application's own response goes out
            report(exchange, ProviderError(type(error).__name__, code="failed"), login)
    if answer is not None:
        await exchange.answer(answer)
    elif exchange.held is None:
        await exchange.send_start(start)


async def _speaks_for_user(exchange: Exchange, login: Login | None) -> bool:
    """Return whether a request comes from somebody signed in: a copy of an ended session must end no living one.

    The session may also have ended while the application was at work.
    """
    status = exchange.status
    if not status.known or await exchange.registry.status_at_response(status, exchange.budget) is not status:
        return False
    return status.ended is None or (exchange.source_asked and login is not None and login is exchange.source)


def _for_second_click(logout: Logout) -> dict[str, Record]:
    """Return the record that a second click needs, to be written together with the end."""
    if logout.login is None or not logout.may_be_clicked_twice:
        return {}
    logout.exchange.click = click = secrets.token_urlsafe(32)
    record = record_of(logout.exchange.request, logout.intent, logout.login, finished=True)
    return {deferred_key(click): record.to_json()}


async def _take_to_provider(logout: Logout, start: ResponseStart) -> tuple[ResponseStart, Answer | None]:
    exchange = logout.exchange
    if logout.kind is RequestKind.FETCH and exchange.options.for_fetch == "local":
        log.local_only(by_application=True)
        return start, None
    if not exchange.waits:
        return await send_to_provider(logout, start)
    if logout.kind is RequestKind.FETCH and may_hold_url(start):
        exchange.held, exchange.phase = HeldBack(JSONBody(start), logout.intent, logout.login), Phase.HELD_BACK
        return start, None
    start, deferred = await _defer(logout, start)
    reload = turbo_reload(start) if deferred and logout.kind is RequestKind.TURBO_VISIT else None
    return start, reload if reload is not None and not reload.start.is_too_long_for(start) else None


async def _defer(logout: Logout, start: ResponseStart) -> tuple[ResponseStart, bool]:
    """Keep the logout for the next page; return the response with its cookie, and whether it is kept."""
    exchange = logout.exchange
    lines = await save(exchange, logout.intent, logout.login, logout.tombstone)
    start = start.with_cookies(lines)
    if lines and lines[-1] not in start.set_cookies:
        raise _no_room()
    exchange.outcome = "deferred" if lines else "failed"
    if lines:
        log.deferred()
    return start, bool(lines)


async def let_go(exchange: Exchange) -> None:
    """Send what was held back; the logout is deferred unless the page goes to the provider by itself."""
    held, exchange.held, exchange.phase = exchange.held, None, Phase.STARTED
    if held is None:
        return
    start, logout = held.body.start, Logout(exchange, held.intent, held.login)
    if await _leads_to_provider(logout, held.body.urls()):
        start = _with_new_session(exchange, start)
    else:
        try:
            start, _ = await _defer(logout, start)
        except RPLogoutError as error:
            report(exchange, error, held.login)
    await exchange.send_start(start)
    for message in held.body.messages:
        await exchange.send(message)


async def _leads_to_provider(logout: Logout, urls: list[str]) -> bool:
    """Return whether one of the URLs in the response's JSON leads to the end-session endpoint."""
    exchange, scope = logout.exchange, logout.exchange.request.as_it_came()
    with anyio.move_on_after(exchange.options.provider_timeout):
        for url in list({without_query(url): url for url in urls}.values())[:MOST_ENDPOINTS]:
            wanted = LogoutRequest(logout.intent.provider, logout.login, ReturnPlan(None), scope, location=url)
            with contextlib.suppress(RPLogoutError):
                found = await resolve(exchange.options, wanted)
                if same_endpoint(url, found.url):
                    exchange.asked, exchange.outcome = found.provider, "provider"
                    return True
    return False


# -- to the provider -----------------------------------------------------------------------------------------------


async def send_to_provider(logout: Logout, start: ResponseStart) -> tuple[ResponseStart, Answer | None]:
    """Return the answer that takes the browser to the provider; None if the application's own does so. Steps 4 and 5.

    Returns the application's start message too, with the cookies that go with the answer. Raises ``ProviderError``.
    """
    exchange, kind = logout.exchange, logout.kind
    plan = plan_return(exchange.options, exchange.request, logout.intent.return_to)
    login = logout.login if logout.after_trip else login_for_hint(exchange, logout.login)
    room = room_for_url(kind, start.with_cookies(_cookies_to_come(logout, plan)))
    if room is not None:
        room -= bytes_to_come(exchange.request)
    in_header = room if kind is not RequestKind.NAVIGATION else None
    scope = exchange.request.as_it_came()
    wanted = LogoutRequest(
        logout.intent.provider, login, plan, scope, logout.location, in_header, may_ask_silently=True
    )
    destination = await resolve(exchange.options, wanted)
    exchange.asked, exchange.sent_to, exchange.outcome = destination.provider, destination.url, "provider"
    log.sent_to_provider(name_of(destination.provider), kind.value, hint=bool(login and login.id_token))
    if logout.location is not None and same_endpoint(logout.location, destination.url):
        return _with_new_session(exchange, start), None  # the application goes there by itself
    if (trip := await _begin_trip(logout, login, start, room)) is not None:
        start, destination = trip
    elif destination.refused is not None:
        raise destination.refused
    elif plan.state is not None:
        start = await _keep_return_trip(logout, start, plan)
    if logout.may_be_clicked_twice and not _is_on_our_origin(exchange, destination.url):
        start = start.with_cookies(await _cookie_of_click(logout))
    answer = _answer(logout, start, destination, room)
    if answer is not None and answer.start.is_too_long_for(start):
        raise _no_room()
    return start, answer


async def _begin_trip(
    logout: Logout, login: Login | None, start: ResponseStart, room: int | None
) -> tuple[ResponseStart, Destination] | None:
    """Let the browser fetch an ID Token first; return the response and where it goes, or None for the direct way."""
    exchange, provider = logout.exchange, logout.exchange.asked
    if logout.after_trip or provider is None:
        return None
    try:
        trip = await plan_trip(exchange, logout.intent, login, provider)
    except Exception as error:  # whatever it is, the logout goes the direct way
        logger.info("a logout goes to %r without an ID Token: %s", name_of(provider), type(error).__name__)
        return None
    if trip is None or (room is not None and len(trip.url) > room):
        return None
    bound = start.with_cookies([trip.cookie])
    if trip.cookie not in bound.set_cookies:
        return None
    if not await exchange.registry.store.put(trip.key, trip.record, TRIP_LIFETIME, exchange.budget):
        return None
    log.asks_silently(name_of(provider))
    return bound, Destination(trip.url, provider)


def login_for_hint(exchange: Exchange, login: Login | None) -> Login | None:
    """Return what the provider gets of the login.

    It gets no hint, not even the sid, if the user has not clicked: then it asks the user. Neither does it if only a
    session cookie tells of the login, because that may be a stolen copy.
    """
    if login is None:
        return None
    copied = exchange.status.by_cookie and login.known_by != "login_source"
    if copied or is_without_click(exchange.request.headers, exchange.origins):
        return Login(login.provider, sub=login.sub, iss=login.iss)
    return login


def _answer(logout: Logout, start: ResponseStart, destination: Destination, room: int | None) -> Answer | None:
    kind, url = logout.kind, destination.url
    if kind is RequestKind.NAVIGATION and destination.form is not None:
        return form_page(start, destination.form, secrets.token_urlsafe(16))
    if kind is RequestKind.NAVIGATION and room is not None and len(url) > room:
        return link_page(start, url)
    if kind is RequestKind.FETCH and logout.exchange.options.for_fetch == "json":
        return json_answer(start, url)
    return answer_for(kind, start, url)


async def try_to_send(logout: Logout, start: ResponseStart) -> bool:
    """Answer in the application's place, by sending the browser to the provider; return whether that worked."""
    exchange = logout.exchange
    try:
        _, answer = await send_to_provider(logout, start)
    except RPLogoutError as error:
        report(exchange, error, logout.login)
        exchange.failed = True  # logged once, and not tried again for this request
        return False
    if answer is not None:
        await exchange.answer(answer)
    return answer is not None


def report(exchange: Exchange, error: RPLogoutError, login: Login | None) -> None:
    """Log why a logout stays a local one."""
    sentence = f"logged out here, but not at the provider: {error}"
    # For a provider without an endpoint, ``provider`` has logged one warning already.
    none_there = error.code in ("local_only", "no_endpoint")
    exchange.outcome = "local" if none_there else "failed"
    if none_there:
        logger.info("%s", sentence)
    elif login is not None and exchange.status.live:
        logger.warning("%s", sentence)
    else:  # anybody can send such a logout, or the same one again and again
        exchange.options.notices.limited(error.code, sentence)


def _no_room() -> ProviderError:
    return ProviderError("the application's own headers leave no room for what takes the user there", code="no_room")


def _is_on_our_origin(exchange: Exchange, url: str | None) -> bool:
    """Return whether a provider is on our own origin: a browser comes back from it as from one of our pages."""
    origin = origin_of(url) if url else None
    return origin is not None and str(origin).encode("ascii") in exchange.origins


def _with_new_session(exchange: Exchange, start: ResponseStart) -> ResponseStart:
    """Add the session cookies that the application has set, after our deletions, unless it is the old session.

    An application that goes to the provider by itself keeps its state for the way back in a fresh session.
    """
    cookies, credentials = exchange.options.session_cookie, exchange.status.credentials
    old = {*credentials.digests, *(value for cookie in credentials.cookies for _, value in cookie.parts)}
    own_start = exchange.own_start
    lines = [line for line in own_start.set_cookies if cookies.sets(line)] if own_start is not None else []
    return start.with_cookies([line for line in lines if old.isdisjoint(_values_of(cookies.issued([line])))])


def _values_of(issued: list[Secret]) -> set[str | None]:
    return {known for one in issued for known in (one.digest, *(value for _, value in one.parts))}


# -- the way back --------------------------------------------------------------------------------------------------


def _cookies_to_come(logout: Logout, plan: ReturnPlan) -> list[bytes]:
    """Return cookies as long as those that may still be added to this response."""
    own = logout.exchange.request.own
    click = [own.setting(own.deferred, "x" * 43, REPLAYED_FOR)] if logout.may_be_clicked_twice else []
    return [*_return_cookie(logout, plan), *click]


def _return_cookie(logout: Logout, plan: ReturnPlan) -> list[bytes]:
    own = logout.exchange.request.own
    return [own.setting(own.return_trip, plan.browser, RETURN_LIFETIME)] if plan.browser is not None else []


async def _cookie_of_click(logout: Logout) -> list[bytes]:
    """Return the cookie by which a second click is recognised."""
    exchange, own = logout.exchange, logout.exchange.request.own
    if exchange.click is not None:
        return [own.setting(own.deferred, exchange.click, REPLAYED_FOR)]
    return await save(exchange, logout.intent, logout.login, logout.tombstone, finished=True)


async def _keep_return_trip(logout: Logout, start: ResponseStart, plan: ReturnPlan) -> ResponseStart:
    """Store the page that this browser goes to from the callback, and bind it to this browser."""
    exchange, own, tombstone = logout.exchange, logout.exchange.request.own, logout.tombstone
    state, target = plan.state or "", plan.target or "/"
    if tombstone is not None and logout.intent.return_to == exchange.kept_return_to:
        # The tombstone holds the target already, so nothing more is written.
        return start.with_cookies([own.setting(own.return_trip, return_reference(tombstone, state), RETURN_LIFETIME)])
    if logout.login is None and len(target) > SHORT:  # anybody can send this
        return start
    cause = UNKNOWN if logout.login is None else ""
    record = ReturnTripRecord(target, browser_digest(plan.browser or ""), cause=cause)
    kept = await exchange.registry.store.put(return_trip_key(state), record.to_json(), RETURN_LIFETIME, exchange.budget)
    return start.with_cookies(_return_cookie(logout, plan)) if kept else start


# -- a logout of an earlier request -------------------------------------------------------------------------------


async def finish_deferred(exchange: Exchange, value: str, deferred: Deferred) -> bool:
    """Finish a deferred logout, known by its cookie's ``value``; return whether the browser goes to the provider.

    With a callback path the browser comes back to the page that it was about to open.
    """
    request, options, own = exchange.request, exchange.options, exchange.request.own
    line = own.setting(own.deferred, value, REPLAYED_FOR) if deferred.stays else own.deletion(own.deferred)
    start = ResponseStart.of(303, [(b"set-cookie", line)])
    target = deferred.intent.return_to
    if options.callback_path is not None and not exchange.on_logout_path:
        here = same_origin_target(options, request, request.full_path_and_query)
        if target is None or target.partition("#")[0] != here:  # else the same page, maybe with a fragment
            target = here
    exchange.is_repeat = True
    goes = await try_to_send(Logout(exchange, replace(deferred.intent, return_to=target), deferred.login), start)
    if goes and _is_on_our_origin(exchange, exchange.sent_to):
        await cancel(exchange.registry, value, exchange.budget)
    return goes
