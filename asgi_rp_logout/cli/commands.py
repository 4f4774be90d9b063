"""The arguments of the command line, and its exit status.

0: done, and nothing is worse than a note. 1: the doctor warns. 2: something given is wrong, an argument or a setting.
3: something could not be reached, so nothing need be wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..errors import ConfigurationError, RPLogoutError
from . import doctor, end_logins

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
        return 2 if isinstance(error, ConfigurationError) else 3
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m asgi_rp_logout", description="Commands for those who run an app with RPLogoutMiddleware."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_doctor(commands)
    _add_end_logins(commands)
    return parser


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "doctor",
        help="look at how an app and its providers are set up, and list the addresses to register",
        description="Look at how an app and its providers are set up, and list the addresses to register. It changes "
        "nothing. It asks the providers, without a session, whether they know the client and the return address.",
        epilog="Exit status: 0 nothing worse than a note was found; 1 a warning; 2 an error, or wrong arguments; 3 no "
        "other error than that a provider or the store could not be reached.",
    )
    command.add_argument("app", nargs="?", help="the app as servers take it: module:attribute")
    command.add_argument("--factory", action="store_true", help="call the attribute, which returns the app")
    command.add_argument("--url", help="the address of the app as browsers see it: https://app.example.com")
    command.add_argument("--issuer", help="look at a provider without an app: its issuer")
    command.add_argument("--client-id", help="the id under which the app is registered there")
    command.add_argument("--post-logout-redirect-uri", metavar="URI", help="the address to come back to after a logout")
    command.add_argument("--json", action="store_true", help="write JSON")
    command.set_defaults(run=doctor.run)


def _add_end_logins(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "end-logins",
        help="end all logins of a user, or of one session at the provider",
        description="End all logins of a user, or of one session at the provider, that were made up to now. All "
        "workers that share the store know it within their freshness. The session at the provider goes on.",
        epilog="Exit status: 0 the logins have ended; 2 wrong arguments; 3 the store failed, so they may live on.",
    )
    command.add_argument(
        "--store",
        metavar="URL",
        default=os.environ.get(STORE_VARIABLE),
        help="the store of the middleware: redis://, rediss://, valkey://, postgresql://, mongodb:// or memcached://, "
        "or module:attribute for the store object of the app, or the app itself; default: the environment variable "
        f"{STORE_VARIABLE}",
    )
    command.add_argument("--iss", required=True, help="the issuer, exactly as in its ID Tokens")
    command.add_argument("--sub", help="the user: the subject at that issuer")
    command.add_argument("--sid", help="one session at that issuer")
    command.add_argument(
        "--not-after",
        metavar="TIME",
        help="only logins that began in this second or before it, such as 2026-11-26T13:00:00Z; default: now",
    )
    command.set_defaults(run=end_logins.run)
