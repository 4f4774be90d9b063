"""The arguments of the command line, and its exit status: 2 for what cannot be done as it was asked."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..errors import RPLogoutError
from . import end_logins

STORE_VARIABLE = "ASGI_RP_LOGOUT_STORE"
"""The environment variable that stands in for ``--store``: a command line is seen by every user of the machine."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. Raises ``SystemExit`` for arguments that cannot be understood."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        status: int = given.run(given)
    except RPLogoutError as error:
        sys.stderr.write(f"{parser.prog} {given.command}: {error}\n")
        return 2 if error.code == "configuration" else 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m asgi_rp_logout", description="Commands for those who run an app with RPLogoutMiddleware."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_end_logins(commands)
    return parser


def _add_end_logins(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "end-logins",
        help="end all logins of a user, or of one session at the provider",
        description="End all logins of a user, or of one session at the provider, that were made up to now. All "
        "workers that share the store know it within their freshness. The session at the provider goes on.",
        epilog="Exit status: 0 the logins have ended; 1 the store failed, so they may live on; 2 wrong arguments.",
    )
    command.add_argument(
        "--store",
        metavar="URL",
        default=os.environ.get(STORE_VARIABLE),
        help="the store of the middleware: redis://, rediss://, valkey://, postgresql://, mongodb:// or memcached://, "
        f"or module:attribute for an object of the app; default: the environment variable {STORE_VARIABLE}",
    )
    command.add_argument("--iss", required=True, help="the issuer, exactly as in its ID Tokens")
    command.add_argument("--sub", help="the user: the subject at that issuer")
    command.add_argument("--sid", help="one session at that issuer")
    command.set_defaults(run=end_logins.run)
