"""Run all benchmarks, or those that are named."""

from __future__ import annotations

import importlib
import logging
import os
import platform
import sys

NAMES = ("hot", "logout", "server", "scale", "tokens", "backchannel", "sockets", "hostile", "stores", "relay")


def main(names: list[str]) -> int:
    """Run the named benchmarks one after the other; give the exit code."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"unknown: {' '.join(unknown)}; there are {' '.join(NAMES)}", file=sys.stderr)
        return 2
    logging.disable(logging.WARNING)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    for name in names or NAMES:
        importlib.import_module(f"benchmarks.{name}").run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
