"""The addresses that the middleware owns: where providers report that a session is over, and where browsers return."""

from __future__ import annotations
