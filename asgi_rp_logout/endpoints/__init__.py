"""The addresses that the middleware answers itself: logout requests of providers, and the return of the browser.

Each channel of logout requests is one file: read, verify, end, answer, notify. A new one also needs a line in
``routes``, an option for its path, and a name in ``events.LogoutChannel``.
"""

from __future__ import annotations
