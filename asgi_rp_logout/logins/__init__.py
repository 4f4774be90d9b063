"""Remembered logins: who a request belongs to, and that an ended login stays ended. Knows nothing of logouts.

A ``handle`` identifies a login. ``credentials`` reads what a request carries, ``status`` decides what the store's
``records`` say about it, and ``recognise`` does both for each request; ``status_cache`` keeps the result for a moment.
``registry`` looks up, remembers and ends logins, through ``guarded_store``, and ``local_ends`` has what this process
has ended. ``app_session`` reads and writes the application's session, and ``live`` closes connections whose login has
ended.
"""

from __future__ import annotations
