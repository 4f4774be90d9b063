"""The demo's cast: two providers and three apps, each at an address of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette

from demo.dashboard import create_dashboard, slug
from demo.provider import Client, create_provider
from demo.serving import Listener, listen, port_of

USERS = {"alice": "wonderland", "bob": "builder"}
NOTE = "Accounts of this demo: " + ", ".join(f"{user} / {password}" for user, password in USERS.items())
TRY = "Sign in, log out and sign in again, here and in the tab “{}”: which app asks for your password?"
NOTES = {
    "Acme ID": "All three apps use it. It notifies apps of a logout from server to server (back-channel).",
    "Globex Login": "Only the Dashboard uses it. It notifies apps of a logout through your browser (front-channel).",
}
SECRETS = {"dashboard": "dashboard-secret", "wiki": "wiki-secret", "plain": "plain-secret"}


@dataclass(frozen=True)
class Member:
    """One of the cast: where it listens, its address, and the app."""

    listener: Listener
    url: str
    app: Starlette


@dataclass(frozen=True)
class World:
    acme: Member
    globex: Member
    dashboard: Member
    wiki: Member
    plain: Member

    @property
    def members(self) -> list[Member]:
        return [self.acme, self.globex, self.dashboard, self.wiki, self.plain]


def build(first: int) -> World:
    """Return the cast around port `first`, or at free ports where one is taken; with 0 all ports are free ones.

    The providers live on 127.0.0.1 and the apps on localhost: cookies are kept apart by host, but not by port.
    """
    acme_at, globex_at = (listen("127.0.0.1", first and first + shift) for shift in (1000, 1001))
    dashboard_at, wiki_at, plain_at = (listen("localhost", first and first + shift) for shift in (0, 1, 2))
    acme, globex = (f"http://127.0.0.1:{port_of(listener)}" for listener in (acme_at, globex_at))
    dashboard, wiki, plain = (f"http://localhost:{port_of(listener)}" for listener in (dashboard_at, wiki_at, plain_at))

    acme_clients = [
        _client("dashboard", dashboard, "Acme ID", "back"),
        _client("wiki", wiki, "Acme ID", "back"),
        _client("plain", plain, "Acme ID", None),
    ]
    globex_clients = [_client("dashboard", dashboard, "Globex Login", "front")]
    at_acme = {name: ("Acme ID", acme, name, secret) for name, secret in SECRETS.items()}
    at_globex = ("Globex Login", globex, "dashboard", SECRETS["dashboard"])
    tabs = [("Dashboard", dashboard), ("Wiki", wiki), ("Without middleware", plain)]
    with_middleware: dict[str, Any] = {"tabs": tabs, "intro": TRY.format("Without middleware"), "notes": NOTES}
    plain_app = create_dashboard(
        plain,
        [at_acme["plain"]],
        with_middleware=False,
        name="Plain dashboard",
        accent="slate",
        tabs=tabs,
        intro=TRY.format("Dashboard"),
    )
    return World(
        acme=Member(acme_at, acme, create_provider(acme, acme_clients, USERS, note=NOTE)),
        globex=Member(
            globex_at,
            globex,
            create_provider(globex, globex_clients, USERS, name="Globex Login", accent="violet", note=NOTE),
        ),
        dashboard=Member(
            dashboard_at,
            dashboard,
            create_dashboard(dashboard, [at_acme["dashboard"], at_globex], **with_middleware),
        ),
        wiki=Member(
            wiki_at, wiki, create_dashboard(wiki, [at_acme["wiki"]], name="Wiki", accent="teal", **with_middleware)
        ),
        plain=Member(plain_at, plain, plain_app),
    )


def provider_for(app: str, first: int) -> Member:
    """Return a provider for one app that is not of the cast, at port `first` + 1000 or at a free one.

    It has the client of the README's example: `dashboard`, with the secret `secret` and the addresses there.
    """
    listener = listen("127.0.0.1", first and first + 1000)
    issuer, app = f"http://127.0.0.1:{port_of(listener)}", app.rstrip("/")
    client = Client("dashboard", "secret", [f"{app}/callback"], [f"{app}/"], f"{app}/backchannel-logout")
    return Member(listener, issuer, create_provider(issuer, [client], USERS, note=NOTE))


def _client(client_id: str, url: str, provider: str, channel: str | None) -> Client:
    """Register an app at a provider, with a back-channel or a front-channel URL, or neither."""
    return Client(
        client_id,
        SECRETS[client_id],
        redirect_uris=[f"{url}/callback/{slug(provider)}"],
        post_logout_redirect_uris=[f"{url}/auth/signed-out"],
        backchannel_logout_uri=f"{url}/auth/backchannel" if channel == "back" else None,
        frontchannel_logout_uri=f"{url}/auth/frontchannel" if channel == "front" else None,
    )
