"""One logout, a file a step, in the order in which it happens; ``flow`` reads as the list of steps."""

from __future__ import annotations
