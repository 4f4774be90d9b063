"""What kind of request it was, and which answer takes its sender to the provider. A fifth kind is one row in each."""

from __future__ import annotations
