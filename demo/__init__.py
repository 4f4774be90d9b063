"""A dashboard, a wiki and two OpenID providers with real sessions, to see a logout work: python -m demo."""

from __future__ import annotations

import warnings

from authlib.deprecate import AuthlibDeprecationWarning

# Authlib announces its move to httpx2 at every start; the demo's terminal is for the address to open.
warnings.simplefilter("ignore", AuthlibDeprecationWarning)
