"""ASGI itself: its types, a request as it came in, the start of a response."""

from __future__ import annotations
