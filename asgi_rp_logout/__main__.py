"""The command line: ``python -m asgi_rp_logout``."""

from __future__ import annotations

import sys

from .cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
