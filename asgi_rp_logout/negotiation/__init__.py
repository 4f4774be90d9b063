"""Which kind of request it was (``request_kind``), and which answer takes its sender to the provider (``answers``).

A new library is a member of ``RequestKind``, the header by which it is recognised, and a row in ``answers.ROWS``.
"""

from __future__ import annotations
