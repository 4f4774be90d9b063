"""Run the demo: python -m demo [--port 8000]."""

from __future__ import annotations

import argparse
import asyncio

from demo.serving import interrupted, serving
from demo.world import USERS, build


async def run(first: int) -> None:
    """Serve the demo from port `first` on, until Ctrl-C."""
    world = build(first)
    async with serving([(member.app, member.listener) for member in world.members]):
        print(f"\n  Open {world.dashboard.url}\n")
        print("  Sign in as " + " or ".join(f"{user} (password: {word})" for user, word in USERS.items()) + ".")
        print("  Log out, sign in again, and see whether anybody asks for the password.\n")
        print("  Ctrl-C ends it.", flush=True)
        await interrupted()
    print("\n  Bye.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo", description="See a complete logout next to a common one.")
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="first port (default 8000); 0: any free ones"
    )
    arguments = parser.parse_args()
    if not 0 <= arguments.port <= 65535 - 1001:
        parser.error("--port must be between 0 and 64534")
    try:
        asyncio.run(run(arguments.port))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
