"""The addresses that the middleware answers itself: logout requests of providers, and the return of the browser.

Each channel of logout requests is one file: read, verify, end, answer, notify.
"""

from __future__ import annotations
