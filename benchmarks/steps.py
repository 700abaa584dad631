"""A line for each training step: the one record that all systems' runs are measured by.

Processes share the file: a line is written by a single append, and the monotonic clock is
the same for all processes of a machine.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.workload import Workload


class StepLog:
    """Trains (sleeps) and writes down each step."""

    def __init__(self, path: str, seconds: float) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._seconds = seconds

    def step(self, trial: str | int) -> None:
        """Train one step of a trial."""
        begin = time.monotonic()
        if self._seconds:
            time.sleep(self._seconds)
        os.write(self._file, f"{trial} {begin} {time.monotonic()}\n".encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Steps(NamedTuple):
    """What the lines of one run say.

    Attributes:
        trials: how many trials trained.
        reports: how many steps were trained; each reported.
        first: when the first step began.
        share: how much of the workers' time went into steps, from the first step until the last
            trial began.  Until then the search has something for every free worker to do.
    """

    trials: int
    reports: int
    first: float
    share: float

    @classmethod
    def read(cls, path: Path, workload: Workload) -> Steps:
        """Read the lines of a run."""
        steps = []
        for line in path.read_text().splitlines():
            trial, begin, end = line.split()
            steps.append((trial, float(begin), float(end)))
        began: dict[str, float] = {}
        for trial, begin, _ in steps:
            began[trial] = min(begin, began.get(trial, begin))
        first, last = min(began.values()), max(began.values())
        useful = sum(max(0.0, min(end, last) - begin) for _, begin, end in steps)
        share = useful / (workload.workers * (last - first)) if last > first else 0.0
        return cls(len(began), len(steps), first, share)
