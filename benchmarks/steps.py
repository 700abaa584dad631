"""A line for each training step: the one record that all systems' runs are measured by.

It says which trial, from when to when, and in which process.  Processes share the file: a line
is written by a single append, and the monotonic clock is the same for all processes of a machine.
"""

from __future__ import annotations

import os
import time
from math import inf
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
        os.write(self._file, f"{trial} {begin} {time.monotonic()} {os.getpid()}\n".encode())

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
        full: when as many processes had trained as there were to be workers; infinite: never.
        full_share: the same as ``share``, from then on.
        last: when the last step ended.
    """

    trials: int
    reports: int
    first: float
    share: float
    full: float
    full_share: float
    last: float

    @classmethod
    def read(cls, path: Path, workload: Workload) -> Steps:
        """Read the lines of a run."""
        steps = []
        for line in path.read_text().splitlines():
            trial, begin, end, process = line.split()
            steps.append((trial, float(begin), float(end), process))
        began: dict[str, float] = {}
        came: dict[str, float] = {}
        for trial, begin, _, process in steps:
            began[trial] = min(begin, began.get(trial, begin))
            came[process] = min(begin, came.get(process, begin))
        first, last = min(began.values()), max(began.values())
        full = sorted(came.values())[workload.workers - 1] if len(came) >= workload.workers else inf

        def share(since: float) -> float:
            useful = sum(max(0.0, min(end, last) - max(begin, since)) for _, begin, end, _ in steps)
            return useful / (workload.workers * (last - since)) if last > since else 0.0

        return cls(
            trials=len(began),
            reports=len(steps),
            first=first,
            share=share(first),
            full=full,
            full_share=share(full),
            last=max(end for _, _, end, _ in steps),
        )
