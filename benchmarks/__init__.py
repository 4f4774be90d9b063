"""What the middleware costs, measured side by side with what it stands beside: ``python -m benchmarks [name ...]``."""

from __future__ import annotations
