"""The time of day as the record tells it: it never goes back, whatever happens to the machine's clock."""

from __future__ import annotations

import time
from typing import Protocol


def elapsed() -> float:
    """Seconds since some moment, rising steadily, also while the machine sleeps (where the system can tell)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Clock(Protocol):
    """What time it is, for an engine: the machine's, or virtual time."""

    def __call__(self) -> float:
        """Seconds since 1970, never going back."""
        ...

    def elapsed(self) -> float:
        """Seconds since some moment, rising steadily."""
        ...


class WallClock:
    """Seconds since 1970: the machine's clock is read once, from then on time elapses."""

    def __init__(self, not_before: float = 0.0) -> None:
        """Start at the present time, or at ``not_before`` where the machine's clock is behind what was recorded."""
        self._offset = max(time.time(), not_before) - elapsed()

    def __call__(self) -> float:
        """The present time."""
        return self._offset + elapsed()

    def elapsed(self) -> float:
        """See `elapsed`."""
        return elapsed()
