"""Run the demo: python -m demo [--port 8000]."""

from __future__ import annotations

import argparse
import asyncio

from starlette.types import ASGIApp

from demo.dashboard import create_dashboard, slug
from demo.provider import Client, create_provider
from demo.serving import Listener, interrupted, listen, port_of, serving

USERS = {"alice": "wonderland", "bob": "builder"}
NOTE = "Accounts of this demo: " + ", ".join(f"{user} / {password}" for user, password in USERS.items())
SECRETS = {"dashboard": "dashboard-secret", "wiki": "wiki-secret", "plain": "plain-secret"}


def client(client_id: str, url: str, provider: str, channel: str | None) -> Client:
    """Register an app at a provider, with a back-channel or a front-channel URL, or neither."""
    return Client(
        client_id,
        SECRETS[client_id],
        redirect_uris=[f"{url}/callback/{slug(provider)}"],
        post_logout_redirect_uris=[f"{url}/auth/signed-out"],
        backchannel_logout_uri=f"{url}/auth/backchannel" if channel == "back" else None,
        frontchannel_logout_uri=f"{url}/auth/frontchannel" if channel == "front" else None,
    )


def build(first: int) -> tuple[str, list[tuple[ASGIApp, Listener]]]:
    """Make the apps around port `first`, and give the address to open along with them.

    The providers live on 127.0.0.1 and the apps on localhost: cookies do not tell ports apart, but they do hosts.
    """
    at_acme, at_globex = listen("127.0.0.1", first + 1000), listen("127.0.0.1", first + 1001)
    at_dashboard, at_wiki, at_plain = (listen("localhost", first + number) for number in range(3))
    acme, globex = (f"http://127.0.0.1:{port_of(at)}" for at in (at_acme, at_globex))
    dashboard, wiki, plain = (f"http://localhost:{port_of(at)}" for at in (at_dashboard, at_wiki, at_plain))

    acme_clients = [
        client("dashboard", dashboard, "Acme ID", "back"),
        client("wiki", wiki, "Acme ID", "back"),
        client("plain", plain, "Acme ID", None),
    ]
    globex_clients = [client("dashboard", dashboard, "Globex Login", "front")]
    by_acme = {name: ("Acme ID", acme, name, secret) for name, secret in SECRETS.items()}
    by_globex = ("Globex Login", globex, "dashboard", SECRETS["dashboard"])
    tabs = [("Dashboard", dashboard), ("Wiki", wiki), ("Without middleware", plain)]
    return dashboard, [
        (create_provider(acme, acme_clients, USERS, note=NOTE), at_acme),
        (create_provider(globex, globex_clients, USERS, name="Globex Login", accent="violet", note=NOTE), at_globex),
        (create_dashboard(dashboard, [by_acme["dashboard"], by_globex], tabs=tabs), at_dashboard),
        (create_dashboard(wiki, [by_acme["wiki"]], name="Wiki", accent="teal", tabs=tabs), at_wiki),
        (
            create_dashboard(
                plain, [by_acme["plain"]], with_middleware=False, name="Plain dashboard", accent="slate", tabs=tabs
            ),
            at_plain,
        ),
    ]


async def run(first: int) -> None:
    address, apps = build(first)
    async with serving(apps):
        print(f"\n  Open {address}\n")
        print("  Sign in as " + " or ".join(f"{user} (password: {word})" for user, word in USERS.items()))
        print("  Then log out, sign in again, and see whether anybody asks for the password.\n")
        print("  Ctrl-C ends it.", flush=True)
        await interrupted()
    print("\n  Bye.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo", description="See a complete logout next to a common one.")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="first port (default 8000)")
    arguments = parser.parse_args()
    if not 1 <= arguments.port <= 65535 - 1001:
        parser.error("--port must be between 1 and 64534")
    try:
        asyncio.run(run(arguments.port))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
