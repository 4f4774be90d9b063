"""One request and its response: what came in, what the handler said, what is known, and how far it is. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .asgi.request import Request
from .asgi.response import ResponseStart
from .asgi.types import Message, Scope, Send
from .context import Phase, RequestContext
from .events import LogoutOutcome
from .login import Login, LogoutIntent
from .logins.credentials import Credentials
from .logins.guarded_store import StoreBudget
from .logins.live import Connection, LiveConnections, is_stream, logins_behind
from .logins.recognise import Recogniser
from .logins.registry import LoginRegistry
from .logins.status import LoginStatus
from .negotiation.answers import ROWS, Answer
from .negotiation.json_body import JSONBody
from .negotiation.request_kind import RequestKind, kind_of
from .options import Options
from .providers.provider import Provider


@dataclass(frozen=True, slots=True)
class Services:
    """What all requests of one middleware share."""

    options: Options
    registry: LoginRegistry
    recogniser: Recogniser
    live: LiveConnections


@dataclass(frozen=True, slots=True)
class HeldBack:
    """The application's response to a logout, held back until its body shows whether the page goes on by itself."""

    body: JSONBody
    intent: LogoutIntent
    login: Login | None


class Exchange(RequestContext):
    """One request and its response, as the steps of a logout hand it on.

    Nearly every request is no logout and needs none of this. So the defaults are on the class, attributes that take
    time are computed when they are first read, and ``begin`` is called only for a request that needs more than the hot
    path.
    """

    path = ""
    """The request's route path as it came in."""
    session: dict[str, Any] | None = None
    """The application's session as it came in."""
    known: LoginStatus | None = None
    """The status of its login, if it has been looked up."""
    matters = False
    """Whether something is left to do when the application is done: see ``responses.inspect.finish``."""
    inspected = False
    """Whether the response goes through ``responses.inspect``."""
    connection: Connection | None = None
    """The streamed response, while its login is watched."""
    extra_cookies: tuple[bytes, ...] = ()
    """Cookies to add to the application's response."""
    held: HeldBack | None = None
    own_start: ResponseStart | None = None
    """The start message with which the application answered a logout, before anything was changed in it."""
    kept_return_to: str | None = None
    """The page to come back to that is stored in the tombstone of this logout."""
    ended_login: Login | None = None
    """The login that this request ended; an empty one if nothing is known of it. None if this is no logout."""
    told = False
    """Whether what follows a logout was done already, by a call of the application or for an earlier request."""
    asked: Provider | None = None
    """The provider that the browser was sent to."""
    sent_to: str | None = None
    """The URL that it was sent to."""
    outcome: LogoutOutcome = "local"
    """What became of its logout."""
    probe_at: str | None = None
    """Our own address at which the provider has to show that it answers: see ``logout.silent_trip``."""
    click: str | None = None
    """The cookie of a second click that was written together with the end."""
    is_repeat = False
    """Whether the answer finishes a logout of an earlier request."""
    failed = False
    """Whether the provider was asked for this request, and gave no URL."""
    source: Login | None = None
    """What ``login_source`` has returned."""
    source_asked = False

    _request: Request | None = None
    _budget: StoreBudget | None = None
    _kind: RequestKind | None = None

    services: Services
    scope: Scope
    send: Send
    """How to send to the client; a streamed response is sent through its connection."""

    def begin(self, scope: Scope, send: Send) -> Exchange:
        """Set what the steps need; return this exchange."""
        self.scope, self.send = scope, send
        return self

    @property
    def options(self) -> Options:
        """The options of the middleware."""
        return self.services.options

    @property
    def registry(self) -> LoginRegistry:
        """The registry of logins."""
        return self.services.registry

    @property
    def request(self) -> Request:
        """The request as it came in."""
        if self._request is None:
            self._request = self.services.recogniser.make_request(self.scope, self.path, "", self.session)
        return self._request

    @property
    def status(self) -> LoginStatus:
        """What is known of the login behind the request."""
        if self.known is None:
            self.known = LoginStatus(Credentials.of(self.request, self.options.session_cookie))
        return self.known

    @property
    def budget(self) -> StoreBudget:
        """The time that the request may still spend on store calls."""
        if self._budget is None:
            self._budget = StoreBudget()
        return self._budget

    @property
    def has_begun(self) -> bool:
        """Whether the request has needed a look so far."""
        return hasattr(self, "scope")

    def renew_budget(self) -> None:
        """Give the request a full store budget again."""
        self._budget = None

    def take_snapshot(self) -> Request:
        """Keep the request as it comes in, before the application changes it."""
        self._request = request = self.services.recogniser.snapshot(self.scope)
        self.path, self.session = request.path, request.session
        return request

    @property
    def on_logout_path(self) -> bool:
        """Whether the request is for one of the logout paths."""
        return self.request.path in self.options.logout_path

    @property
    def origins(self) -> frozenset[bytes]:
        """The application's own origins, as browsers write them."""
        return self.request.origins(self.options.public_url)

    @property
    def kind(self) -> RequestKind:
        """How the request was made."""
        if self._kind is None:
            self._kind = kind_of(self.request.method, self.request.headers, self.origins)
        return self._kind

    @property
    def waits(self) -> bool:
        """Whether a logout by this kind of request is finished by the next page."""
        waits = ROWS[self.kind].waits
        return self.options.for_fetch == "defer" if waits is None else waits

    @property
    def brings_session(self) -> bool:
        """Whether the request has a session that may still be alive."""
        status = self.status
        return bool(set(status.credentials.cookies) - set(status.dead_cookies) or self.request.session)

    def learn(self, status: LoginStatus) -> None:
        """Note what is known of the request's login, and let ``current_login`` return it."""
        self.known, self.current = status, status.login
        if status.login is None and status.ended is not None:
            self.current = Login(ended=status.ended.by)

    async def send_start(self, start: ResponseStart) -> None:
        """Send the start message; a stream is watched from then on, and ends with its login.

        A response with a Content-Length is sent to its end: it would be broken if it were cut short, and it ends by
        itself. So is the response that itself ends or replaces the login.
        """
        message = start.message
        changes_login = self.ended_login is not None or self.remembered is not None or self.noticed is not None
        if self.known is not None and not changes_login and is_stream(self.request.method, message):
            self.watch(self.known)
        await self.send(message)

    def watch(self, status: LoginStatus) -> Send:
        """Watch the response, so that it ends when one of its logins ends; return the ``send`` to use from now on."""
        handles = logins_behind(status)
        if handles:
            self.connection = Connection(handles, self.send, started=self.services.live.add)
            self.send = self.connection.send
            self.matters = True
        return self.send

    async def answer(self, answer: Answer) -> None:
        """Send an answer of our own; what the application sends from now on is dropped."""
        self.phase = Phase.REPLACED
        self.tell_outer()
        await self.send(answer.start.message)
        body: Message = {"type": "http.response.body", "body": answer.body, "more_body": False}
        await self.send(body)
