"""Clocks for the event log: their time never goes back, even if the machine's clock does."""

from __future__ import annotations

import time
from typing import Protocol


def elapsed() -> float:
    """Return seconds since a fixed moment; they never go back, and on Linux they include the time asleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Clock(Protocol):
    """The time for an engine: that of the machine, or virtual time."""

    def __call__(self) -> float:
        """Return seconds since 1970; they never go back."""

    def elapsed(self) -> float:
        """Return seconds since a fixed moment; they never go back."""


class WallClock:
    """The time of this machine, in seconds since 1970.

    The machine's clock is read only once.  Later times are that time plus the seconds that have elapsed, so a change
    of the machine's clock has no effect.
    """

    def __init__(self, not_before: float = 0.0) -> None:
        """Start at the present time, or at ``not_before`` if the machine's clock is behind that."""
        self._offset = max(time.time(), not_before) - elapsed()

    def __call__(self) -> float:
        """Return the present time in seconds since 1970."""
        return self._offset + elapsed()

    def elapsed(self) -> float:
        """Return seconds since a fixed moment; see the function `elapsed`."""
        return elapsed()
