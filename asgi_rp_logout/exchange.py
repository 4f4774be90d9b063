"""One request that turned out to matter, from the application's response on: the steps in their order."""

from __future__ import annotations

import contextlib
import secrets
import time

import anyio

from . import journal
from .asgi.types import Message, Send
from .client import Client, client_of, comes_from_own_page, is_unasked
from .context import Context, Mark
from .detect import CHANGING, detect
from .errors import ProviderError, RPLogoutError
from .later import REPLAYED_FOR, SHORT, Deferred, cancel, defer, later_key, later_record, play
from .ledger import Deadline, Ledger
from .log import logger
from .login import Login
from .logins import (
    ask_login_source,
    bytes_to_come,
    echo_of,
    empty_session,
    end_login,
    expire_cookies,
    has_evidence,
    judge_again,
)
from .messages import is_too_long, set_cookies_of, status_of, take_header, target_of, with_cookies
from .ordinary import deletes_session, ordinary
from .peek import Peek, is_worth_a_look
from .protocol.cookie_values import Secret
from .protocol.end_session import same_endpoint
from .protocol.return_to import origin_of, without_query
from .providers.provider import Provider
from .request import Request
from .resolve import resolve
from .returns import TRIP_LIFETIME, Return, is_moved, own_target, plan_return, trip_reference
from .revoke import after_logout
from .rewrite import Answer, answer_for, room_for_url, turbo_reload
from .settings import Settings
from .store import UNKNOWN, Record
from .verdict import Verdict

MOST_ENDPOINTS = 5
"""Addresses in a JSON answer that are compared with the provider's."""


class Exchange:
    """Carry one request through the steps. Made when a request is a logout's, or its answer turns out to be one."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        request: Request,
        context: Context,
        send: Send,
        verdict: Verdict | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        context.exchange, context.matters = self, True
        self.settings = settings
        self.ledger = ledger
        self.request = request
        self.context = context
        self.verdict = verdict or Verdict(request.claim(settings.session_cookies))
        self.deadline = deadline or Deadline()
        self.also: list[bytes] = []
        self._send = send
        self._on_logout_path = request.path in settings.logout_paths
        self._source: Login | None = None
        self._source_asked = False
        self._answered = False
        self._ended: Login | None = None
        self._asked: Provider | None = None
        self._sent_to: str | None = None
        self._is_replay = False
        self._click: str | None = None
        self._failed = False
        self._own_start: Message = {}
        self._kept_target = self.verdict.wanted
        self._held: tuple[Peek, Mark, Login | None, str | None] | None = None

    async def recall(self) -> None:
        """Step 0, on a logout path: learn who this is before the application forgets."""
        if not self.verdict.live and self.request.method not in ("HEAD", "OPTIONS", "TRACE", "CONNECT"):
            self._source = await ask_login_source(self.settings, self.request.scope)
            self._source_asked = True

    async def send(self, message: Message) -> None:
        """Take a message of the application, and pass it on, amended, or not at all."""
        if message["type"] == "http.response.start":
            self.context.started = True
            await self._start(message)
        elif self._held is not None:
            if self._held[0].add(message):
                await self._let_go(*self._held)
        elif not self._answered:
            await self._send(message)

    async def fail(self) -> None:
        """Answer for an application that raised: its error page passes the session middleware, and what is dead stays.

        So it would raise again at every request of a browser whose session it finds emptied. And what it has said of a
        logout is not held back any longer.
        """
        if self._held is not None:
            await self._let_go(*self._held)
        if self.context.started or not self.verdict.hides:
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": b"Internal Server Error", "more_body": False})

    async def finish(self) -> None:
        """Step 6, once the response has gone."""
        if self._held is not None:  # the application has left without a body
            await self._let_go(*self._held)
        if self._ended is not None:
            await after_logout(self.settings, self._ended, self._asked)

    async def _start(self, start: Message) -> None:
        marker, start = take_header(start, self.settings.marker)
        start = with_cookies(start, self.also)
        ends_session = self._on_logout_path and deletes_session(self.settings, self.request, start)
        mark = detect(
            status_of(start),
            self.request.method,
            on_logout_path=self._on_logout_path
            and not is_moved(self.settings, self.request, start, ends_session=ends_session),
            marker=marker,
            mark=self.context.mark,
            ends_session=ends_session,
        )
        if mark is not None and not self.context.handled:
            self.context.tell_outer()
            await self.log_out(mark, start)
        elif self._on_logout_path and mark is None and await self._overtaken(int(start["status"])):
            return
        else:
            parts = (self.settings, self.ledger, self.request, self.context, self.verdict)
            await self._send(await ordinary(*parts, start, self.deadline))

    async def _overtaken(self, status: int) -> bool:
        """Answer a second click that came in before the first one had ended the login; return whether it was one."""
        journal.no_logout(self.request, status)
        if self.verdict.ended is None and not self.ledger.idle:
            self.verdict = await judge_again(self.ledger, self.verdict, self.deadline)
            if self.is_second_click() and await self.second_click():
                return True
        return await self.repeat()

    async def log_out(self, mark: Mark, start: Message) -> None:
        """Steps 2 to 5: forget, resolve, build, rewrite. The login is over before anything can fail."""
        login = await self._who()
        client = client_of(self.request.method, self.request.headers, self._origins())
        evidence = has_evidence(self.settings, self.request, self.verdict, login)
        stays = mark.local or client in (Client.FOREIGN, Client.PREFETCH)
        self._ended = login if login is not None else Login() if evidence else None
        location = target_of(start)
        target = own_target(self.settings, self.request, location)
        word: Record = {"local": stays, "provider": mark.provider, "to": target}
        if login is None:  # anybody can send this, and it must stay small
            self._kept_target = target if len(target or "") <= SHORT else None
            via = [self.request.method, self.request.path] if len(self.request.path) <= SHORT else None
            word |= {"to": self._kept_target, "via": via}
        shortly: dict[str, Record] = {}
        if login is not None and self._is_played_at_once(client):  # in the same batch as the end
            self._click = secrets.token_urlsafe(32)
            shortly[later_key(self._click)] = later_record(self.request, mark, login, target, played=True)
        await end_login(self.ledger, self.request, self.verdict, login, word, self.deadline, shortly=shortly)
        empty_session(self.request)
        self._own_start = start
        waits = self.settings.defers(client)
        start = expire_cookies(self.settings, self.request, self.verdict.claim, start, waits=waits)
        answer = None
        if not evidence:
            journal.no_session(self.settings)
        elif stays:
            journal.stays_here(mark)
        elif not self._failed:
            try:
                start, answer = await self._take_to_provider(mark, login, client, start, target, location)
            except RPLogoutError as error:
                self._report(error, login)
            except Exception as error:  # whatever it is, the application's own answer goes out
                self._report(ProviderError(type(error).__name__, code="failed"), login)
        if answer is not None:
            await self.answer(answer)
        elif self._held is None:
            await self._send(start)

    @property
    def brings_session(self) -> bool:
        """Whether the request has a session that may be a living one."""
        return bool(set(self.verdict.claim.cookies) - set(self.verdict.dead) or self.request.session)

    async def repeat(self) -> bool:
        """Answer a second click on a logout whose first answer has taken the session away already.

        Return whether it was one: the same request, from a page of this origin, within seconds.
        """
        waiting = self.verdict.claim.later
        if waiting is None or self.request.method not in CHANGING or not comes_from_own_page(self.request.headers):
            return False
        repeated = await play(self.ledger, waiting, self.deadline, again=True, repeats=self.request)
        return repeated is not None and await self.play(waiting, repeated)

    @property
    def signs_out(self) -> bool:
        """Return whether this answer is itself a logout."""
        return self._ended is not None

    def is_second_click(self) -> bool:
        """Return whether the first click has just ended this login, at its provider as well."""
        verdict, unsafe = self.verdict, self.request.method not in ("GET", "HEAD", "OPTIONS", "TRACE", "CONNECT")
        return unsafe and verdict.just_ended(time.time()) and not verdict.local

    async def second_click(self) -> bool:
        """Take a browser to the provider whose first click has just ended the login; return whether it was answered.

        The application is not asked: a guard of its own would refuse somebody who is no longer signed in, and the
        browser shows the answer to the last click only.
        """
        client = client_of(self.request.method, self.request.headers, self._origins())
        start: Message = {"type": "http.response.start", "status": 303, "headers": []}
        mark = Mark(provider=self.verdict.named)
        waits = client is Client.FETCH and self.settings.for_fetch != "json"
        if waits or client in (Client.FOREIGN, Client.PREFETCH, Client.TURBO_VISIT):
            return False
        start = expire_cookies(self.settings, self.request, self.verdict.claim, start)
        return await self.try_to_go(mark, await self._who(), client, start, self.verdict.wanted)

    async def try_to_go(
        self, mark: Mark, login: Login | None, client: Client, start: Message, target: str | None
    ) -> bool:
        """Answer without the application, by taking the browser to the provider; return whether that could be done."""
        try:
            _, answer = await self.go(mark, login, client, start, target)
        except RPLogoutError as error:
            self._report(error, login)
            self._failed = True  # said once, and not tried again for this request
            return False
        if answer is not None:
            await self.answer(answer)
        return answer is not None

    async def play(self, value: str, deferred: Deferred) -> bool:
        """Finish a deferred logout, known by its cookie's value; return whether this navigation goes to the provider.

        With a callback path the browser comes back to the page that it was on the way to.
        """
        own, target = self.request.own, deferred.target
        line = own.setting(own.later, value, REPLAYED_FOR) if deferred.stays else own.deletion(own.later)
        start: Message = {"type": "http.response.start", "status": 303, "headers": [(b"set-cookie", line)]}
        if self.settings.callback_path is not None and not self._on_logout_path:
            here = own_target(self.settings, self.request, self.request.full_path_and_query)
            if target is None or target.partition("#")[0] != here:  # else the same page, maybe with a fragment
                target = here
        self._is_replay = True
        goes = await self.try_to_go(deferred.mark, deferred.login, Client.NAVIGATION, start, target)
        if goes and self._is_at_ours(self._sent_to):
            await cancel(self.ledger, value, self.deadline)
        return goes

    def _is_at_ours(self, url: str | None) -> bool:
        """Return whether a provider is on this very origin: a browser comes back from it as from a page of ours."""
        origin = origin_of(url) if url else None
        return origin is not None and str(origin).encode("ascii") in self._origins()

    def through(self, send: Send) -> None:
        """Send through ``send`` from now on."""
        self._send = send

    async def answer(self, answer: Answer) -> None:
        """Send an answer of our own; what the application says from now on is swallowed."""
        self.context.started = self._answered = True
        self.context.tell_outer()
        await self._send(answer[0])
        await self._send({"type": "http.response.body", "body": answer[1], "more_body": False})

    async def _take_to_provider(
        self,
        mark: Mark,
        login: Login | None,
        client: Client,
        start: Message,
        target: str | None,
        location: str | None,
    ) -> tuple[Message, Answer | None]:
        if client is Client.FETCH and self.settings.for_fetch == "local":
            journal.stays_here(Mark(local=True))
            return start, None
        if self.settings.defers(client):
            if client is Client.FETCH and is_worth_a_look(start):
                self._held = (Peek(start), mark, login, target)
                return start, None
            start, deferred = await self._defer(start, mark, login, target)
            reload = turbo_reload(start) if deferred and client is Client.TURBO_VISIT else None
            return start, reload if reload is not None and not is_too_long(reload[0], start) else None
        return await self.go(mark, login, client, start, target, location)

    async def _defer(self, start: Message, mark: Mark, login: Login | None, target: str | None) -> tuple[Message, bool]:
        end = self._end_of(login)
        lines = await defer(self.ledger, self.request, mark, login, target, self.deadline, end=end)
        start = with_cookies(start, lines)
        if lines and lines[-1] not in set_cookies_of(start):
            raise _no_room()
        journal.waits(lines)
        return start, bool(lines)

    async def _let_go(self, peek: Peek, mark: Mark, login: Login | None, target: str | None) -> None:
        """Send what was held back; the logout is deferred unless the page goes to the provider by itself."""
        self._held, start = None, peek.start
        if await self._is_given(peek.urls(), mark, login):
            start = self._with_new_session(start)
        else:
            try:
                start, _ = await self._defer(start, mark, login, target)
            except RPLogoutError as error:
                self._report(error, login)
        for message in (start, *peek.messages):
            await self._send(message)

    def _report(self, error: RPLogoutError, login: Login | None) -> None:
        sentence = f"logged out here, but not at the provider: {error}"
        # A provider without an endpoint is logged as a warning once, where that is found out.
        if error.code in ("local_only", "no_endpoint"):
            logger.info("%s", sentence)
        elif login is not None and self.verdict.live:
            logger.warning("%s", sentence)
        else:  # anybody can send such a logout, or the same one again and again
            self.settings.flood.warning(error.code, sentence)

    async def _is_given(self, urls: list[str], mark: Mark, login: Login | None) -> bool:
        """Return whether one of the URLs that the page is given leads to the end-session endpoint."""
        scope, named = self.request.as_it_came(), mark.provider
        with anyio.move_on_after(self.settings.provider_timeout):
            for url in list({without_query(url): url for url in urls}.values())[:MOST_ENDPOINTS]:
                with contextlib.suppress(RPLogoutError):
                    found = await resolve(
                        self.settings, named=named, login=login, way_back=Return(None), scope=scope, location=url
                    )
                    if same_endpoint(url, found.url):
                        self._asked = found.provider
                        return True
        return False

    def _with_new_session(self, start: Message) -> Message:
        """Set the session cookies that the application has set, after our deletions, unless it is the old session.

        An application that goes to the provider by itself keeps its state for the way back in a fresh session.
        """
        cookies, old = self.settings.session_cookies, set(self.verdict.claim.digests)
        old |= {value for cookie in self.verdict.claim.cookies for _, value in cookie.parts}
        lines = [line for line in set_cookies_of(self._own_start) if cookies.sets(line)]
        new = [line for line in lines if old.isdisjoint(_values_of(cookies.issued([line])))]
        return with_cookies(start, new)

    async def go(
        self,
        mark: Mark,
        login: Login | None,
        client: Client,
        start: Message,
        target: str | None,
        location: str | None = None,
    ) -> tuple[Message, Answer | None]:
        """Resolve, build and write the answer that takes this client to the provider. Raises ``ProviderError``."""
        way_back = plan_return(self.settings, self.request, target)
        scope, named = self.request.as_it_came(), mark.provider
        if login is not None and is_unasked(self.request.headers, self._origins()):
            login = Login(login.provider, sub=login.sub, iss=login.iss)  # without a hint a provider asks the user
        room = room_for_url(client, with_cookies(start, self._cookies_to_come(client, way_back)))
        if room is not None:
            room -= bytes_to_come(self.request)
        destination = await resolve(
            self.settings,
            named=named,
            login=login,
            way_back=way_back,
            scope=scope,
            location=location,
            room=room if client is not Client.NAVIGATION else None,
        )
        self._asked, self._sent_to = destination.provider, destination.url
        journal.goes_on(destination.provider, client, login)
        if location is not None and same_endpoint(location, destination.url):
            return self._with_new_session(start), None  # the application goes there by itself
        if way_back.state is not None:
            start = await self._keep_trip(start, way_back, login, target)
        if self._is_played_at_once(client) and not self._is_at_ours(destination.url):
            start = with_cookies(start, await self._cookie_of_click(mark, login, target))
        answer = answer_for(client, start, destination, room, as_json=self.settings.for_fetch == "json")
        if answer is not None and is_too_long(answer[0], start):
            raise _no_room()
        return start, answer

    def _is_played_at_once(self, client: Client) -> bool:
        """Return whether this answer is the redirect that a second click may need once more."""
        return client is Client.NAVIGATION and not self._is_replay and comes_from_own_page(self.request.headers)

    async def _cookie_of_click(self, mark: Mark, login: Login | None, target: str | None) -> list[bytes]:
        if self._click is not None:
            return [self.request.own.setting(self.request.own.later, self._click, REPLAYED_FOR)]
        parts = (self.ledger, self.request, mark, login, target, self.deadline)
        return await defer(*parts, end=self._end_of(login), played=True)

    def _origins(self) -> frozenset[bytes]:
        return self.request.origins(self.settings.public_url)

    def _cookies_to_come(self, client: Client, way_back: Return) -> list[bytes]:
        """Return cookies as long as those that may still be added to this answer."""
        own = self.request.own
        later = [own.setting(own.later, "x" * 43, REPLAYED_FOR)] if self._is_played_at_once(client) else []
        return [*self._trip(way_back), *later]

    def _trip(self, way_back: Return) -> list[bytes]:
        own = self.request.own
        return [own.setting(own.trip, way_back.browser, TRIP_LIFETIME)] if way_back.browser is not None else []

    async def _keep_trip(self, start: Message, way_back: Return, login: Login | None, target: str | None) -> Message:
        """Keep where the browser goes from the callback, for this browser alone."""
        own, end = self.request.own, self._end_of(login)
        if end is not None and target == self._kept_target:  # the tombstone knows where to, and nothing more is written
            reference = trip_reference(end, way_back.state or "")
            return with_cookies(start, [own.setting(own.trip, reference, TRIP_LIFETIME)])
        record: Record = dict(way_back.record)
        if login is None:  # anybody can send this
            if len(record["to"]) > SHORT:
                return start
            record["of"] = UNKNOWN
        if not await self.ledger.put(way_back.trip_key, record, TRIP_LIFETIME, self.deadline):
            return start
        return with_cookies(start, self._trip(way_back))

    def _end_of(self, login: Login | None) -> str | None:
        """Return the digest of the session cookie whose tombstone says all that is known of an anonymous logout."""
        if login is not None or self._ended is None or self.verdict.ended is not None:
            return None
        return next(iter(self.ledger.revocable(self.verdict, UNKNOWN)), None)

    async def _who(self) -> Login | None:
        """Return the login that this logout is about: the remembered one, a second click's, or the application's."""
        if self.verdict.live:
            return self.verdict.login
        echo = await echo_of(self.ledger, self.verdict, self.deadline)
        if echo is None and not self._source_asked:
            self._source = await ask_login_source(self.settings, self.request.as_it_came())
        return echo or self._source


def _no_room() -> ProviderError:
    return ProviderError("the application's own headers leave no room for what takes the user there", code="no_room")


def _values_of(issued: list[Secret]) -> set[str | None]:
    return {known for one in issued for known in (one.digest, *(value for _, value in one.parts))}
