"""The logger of this package, and a limit for warnings that anybody can cause."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

logger = logging.getLogger("asgi_rp_logout")


class WarningLimiter:
    """Log what anybody can cause: at most one line a second for each kind, with the number of those left out."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or (lambda: time.monotonic())  # noqa: PLW0108  # the clock of now, not of the import
        self._logged: dict[str, tuple[float, int]] = {}

    def warning(self, kind: str, sentence: str) -> None:
        """Log a sentence without secrets, unless one of its kind was logged within the last second."""
        now = self._clock()
        last, left_out = self._logged.get(kind, (now - 1, 0))
        if now - last < 1:
            self._logged[kind] = (last, left_out + 1)
            return
        self._logged[kind] = (now, 0)
        more = f"; {left_out} more like it since the last line" if left_out else ""
        logger.warning("%s%s", sentence, more)
