"""Workers in virtual time: a heap of when each is done, and the clock jumps to the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.lcbench import Curves


class Job(NamedTuple):
    """Train a trial, from where it is, up to a total length."""

    trial: int
    length: int


class Scheduler(Protocol):
    """A search method as the workers see it.  Trials are numbered 0, 1, 2, … as they are created."""

    def ask(self) -> Job | None:
        """A worker is free: what should it do?  None: nothing now."""
        ...

    def tell(self, trial: int, length: int, metric: float, /) -> int | None:
        """A trial validated at the length that was asked for; a higher metric is better.

        Returns up to which length the same worker trains the trial on at once, or None: it is free,
        and whether the trial waits or has ended is the method's business.  A method that judges
        after every step asks for one step at a time.
        """
        ...


class Trace(NamedTuple):
    """What came of a search.

    Attributes:
        times: when a validation was better than all before it, in seconds.
        metrics: how good it was.
        trials: how many trials started.
        length: how many steps were trained.
        completed: how many trials trained to the end.
        first_completed: when the first of them had; None: none did.
    """

    times: Sequence[float]
    metrics: Sequence[float]
    trials: int
    length: int
    completed: int
    first_completed: float | None


class Curve(NamedTuple):
    """The learning curve of one trial.

    Attributes:
        metric: after each step.
        seconds: since the trial started, after each step.
    """

    metric: NDArray[np.floating]
    seconds: NDArray[np.floating]


def run(scheduler: Scheduler, curve: Callable[[int], Curve], workers: int, budget: float) -> Trace:
    """Let a method search until the time is up or it has nothing left to do.

    Every step is validated and counts from the moment it ends, whether the method is told or not.

    Args:
        scheduler: the method.
        curve: what happens if a trial is trained; asked once for each, when it starts.
        workers: how many trials train at once.
        budget: how many seconds they have.
    """
    curves: list[Curve] = []
    lengths: list[int] = []  # how far each trial is, or is about to be
    stretches: list[tuple[float, int, int, int]] = []
    running: list[tuple[float, int, int, int]] = []
    free = workers

    def start(now: float, trial: int, length: int) -> None:
        begun = lengths[trial]
        seconds = curves[trial].seconds
        took = seconds.item(length - 1) - (seconds.item(begun - 1) if begun else 0.0)
        # Stretches are numbered: of two that end together, the one that began first is told first.
        heappush(running, (now + took, len(stretches), trial, length))
        stretches.append((now, trial, begun, length))
        lengths[trial] = length

    now = 0.0
    while True:
        while free and (job := scheduler.ask()) is not None:
            if job.trial == len(lengths):
                curves.append(curve(job.trial))
                lengths.append(0)
            start(now, *job)
            free -= 1
        if not running:
            break
        now, _, trial, length = heappop(running)
        if now > budget:
            break
        further = scheduler.tell(trial, length, curves[trial].metric.item(length - 1))
        if further is None:
            free += 1
        else:
            start(now, trial, further)
    return _trace(curves, np.asarray(stretches), budget)


def rows(curves: Curves, order: NDArray[np.int64]) -> Callable[[int], Curve]:
    """The curves of a table for `run`: trial n has the row ``order[n]``."""

    def curve(trial: int) -> Curve:
        if trial >= len(order):
            raise IndexError(f"the table has {len(order):,} settings; the search started a trial more")
        return Curve(curves.metric[order[trial]], curves.seconds[order[trial]])

    return curve


def _trace(curves: Sequence[Curve], stretches: NDArray[np.float64], budget: float) -> Trace:
    """The steps of all stretches (start, trial, length before, length after), in the order in which they ended."""
    metric = np.stack([curve.metric for curve in curves])
    seconds = np.stack([curve.seconds for curve in curves]).astype(np.float64)
    elapsed = np.column_stack([np.zeros(len(curves)), seconds])
    starts, (trials, before, after) = stretches[:, 0], stretches[:, 1:].T.astype(int)
    counts = after - before
    nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    trial, length = np.repeat(trials, counts), np.repeat(before, counts) + nth + 1
    times = np.repeat(starts - elapsed[trials, before], counts) + elapsed[trial, length]
    within = np.flatnonzero(times <= budget)
    within = within[np.argsort(times[within], kind="stable")]
    times, trial, length = times[within], trial[within], length[within]
    best = np.maximum.accumulate(metric[trial, length - 1])
    better = np.flatnonzero(np.diff(best, prepend=-np.inf) > 0)
    ends = times[length == metric.shape[1]]
    return Trace(
        times=times[better].tolist(),
        metrics=best[better].tolist(),
        trials=len(curves),
        length=len(within),
        completed=len(ends),
        first_completed=float(ends[0]) if len(ends) else None,
    )
