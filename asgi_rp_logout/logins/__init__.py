"""Remembered logins: who a request belongs to, and that an ended login stays ended. Knows nothing of logouts.

``credentials`` reads what a request carries, ``status`` decides what the store's ``records`` say about it, and
``recognise`` does both for each request. ``registry`` looks up, remembers and ends logins, through ``guarded_store``.
``app_session`` reads and writes the application's session, and ``live`` closes connections whose login has ended.
"""

from __future__ import annotations
