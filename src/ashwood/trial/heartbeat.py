"""Heartbeats, by which the driver knows that a trial makes progress.

A step of a loop must cost only nanoseconds, so it sends nothing.  Between two chunks of a loop, and at reports, a
message says that steps were finished, at most once per `ashwood.trial.job.WorkerJob.pulse` seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from time import perf_counter

from ashwood.trial.channel import Link, Phase


class Heartbeat:
    """Sends heartbeats to the driver, and measures steps.

    Attributes:
        trained: seconds of all steps that were finished, without saves and waits for the search.
    """

    def __init__(self, link: Link, pulse: float, clock: Callable[[], float] = perf_counter) -> None:
        self._link = link
        self._pulse = pulse
        self._clock = clock
        self._position: object = None
        # Time at which the present step began: after the previous step, or after a save or a wait in between.
        self._since = clock()
        self._told_at = -inf
        self._longest = 0.0
        self.trained = 0.0
        self._has_news = False

    def note(self, position: object) -> None:
        """Record the position of the training; if it has changed, a step was finished."""
        now = self._clock()
        if position != self._position:
            if self._position is not None:
                self._longest = max(self._longest, now - self._since)
                self.trained += now - self._since
                self._has_news = True
            self._position, self._since = position, now
        if self._has_news:
            self._tell(now)

    def wait_over(self) -> None:
        """Restart the measurement of the present step, because a wait or a save has just ended."""
        self._since = self._clock()

    def transferring(self) -> None:
        """Record that a transfer makes progress; it has its own time limits."""
        self._tell(self._clock())

    @contextmanager
    def saving(self, save: Callable[[Path], object]) -> Iterator[Callable[[Path], object]]:
        """Yield a function that calls ``save`` and informs the driver about the phases of the save."""

        def write(directory: Path) -> object:
            self._link.phase(Phase.WRITING, str(directory))
            result = save(directory)
            self._link.phase(Phase.STORING)
            return result

        try:
            yield write
        finally:
            self._link.phase(Phase.TRAINING)
            self.wait_over()

    def _tell(self, now: float) -> None:
        if now - self._told_at >= self._pulse:
            self._told_at = now
            self._has_news = False
            self._link.alive(self._longest)
