"""Run the demo: python -m demo [--port 8000] [--provider-for http://localhost:8000]."""

from __future__ import annotations

import argparse
import asyncio

from demo.serving import interrupted, serving
from demo.world import USERS, Member, build, provider_for

ACCOUNTS = "Sign in as " + " or ".join(f"{user} (password: {word})" for user, word in USERS.items()) + "."


async def run(first: int) -> None:
    """Serve the demo from port `first` on, until Ctrl-C."""
    world = build(first)
    question = "Log out, sign in again, and see whether anybody asks for the password."
    await _serve(world.members, [f"Open {world.dashboard.url}", "", ACCOUNTS, question])


async def run_provider(app: str, first: int) -> None:
    """Serve a provider for an app of one's own, until Ctrl-C."""
    provider = provider_for(app, first)
    line = f'ISSUER, CLIENT, SECRET = "{provider.url}", "dashboard", "secret"'
    export = f"export ISSUER={provider.url} CLIENT_ID=dashboard CLIENT_SECRET=secret"
    await _serve([provider], [line, export, "", ACCOUNTS])


async def _serve(members: list[Member], lines: list[str]) -> None:
    async with serving([(member.app, member.listener) for member in members]):
        print("", *(f"  {line}".rstrip() for line in lines), "", "  Ctrl-C ends it.", sep="\n", flush=True)
        await interrupted()
    print("\n  Bye.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo", description="See a complete logout next to a common one.")
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="first port (default 8000); 0: any free ones"
    )
    parser.add_argument("--provider-for", metavar="URL", help="run a provider only, for your app at this address")
    arguments = parser.parse_args()
    if not 0 <= arguments.port <= 65535 - 1001:
        parser.error("--port must be between 0 and 64534")
    try:
        app = arguments.provider_for
        asyncio.run(run_provider(app, arguments.port) if app else run(arguments.port))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
