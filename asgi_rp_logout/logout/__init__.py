"""One logout, one file per step. ``flow`` calls the steps in their order."""

from __future__ import annotations
