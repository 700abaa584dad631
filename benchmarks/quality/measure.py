"""How good a search was: regret at fractions of the budget, rank among methods, speed-up over random search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.lcbench import STEPS, Problem
from benchmarks.quality.workers import Trace

TRAININGS: Mapping[int, int] = {4: 50, 16: 128, 100: 400}
"""The budget by the number of workers, in trainings to the end of average duration."""

FRACTIONS = (0.10, 0.25, 0.50, 1.00)
"""Where a search is looked at, in fractions of the budget's wall-clock time."""

GRID = 1_000
"""Into how many parts the time is divided to find when a method is as good as another at the end."""

Cell: TypeAlias = tuple[str, int]
"""A task and a seed."""

Traces: TypeAlias = Mapping[Cell, Trace]
"""The searches of one method."""


def wall_clock(problem: Problem, workers: int) -> float:
    """The budget in seconds."""
    return TRAININGS[workers] * problem.full_seconds / workers


def regrets(problem: Problem, trace: Trace, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """The regret at some times: 0: the best metric in the table; 100: the median metric at the end of training."""
    best = np.concatenate([[problem.worst], trace.metrics])
    so_far = best[np.searchsorted(trace.times, times, side="right")]
    return 100 * (problem.best - so_far) / (problem.best - problem.median)


class Score(NamedTuple):
    """How good a method is with a number of workers.

    Attributes:
        regret: the mean regret over tasks and seeds, at `GRID` + 1 times from the start to the end of the budget.
        ranks: the mean rank at each of `FRACTIONS` among the complete methods.
        complete: whether it has searched wherever another has.
        speedup: the budget divided by the time at which it was as good as random search at the end; the
            geometric mean over tasks, where a task on which it never was counts as 1.
        never: on how many tasks it never was.
        tasks: on how many tasks it searched.
        searches: how often in all.
        trials: how many trials started, on average.
        trained: how many trainings to the end the steps would have been, on average.
        first_completed: when the first trial had trained to the end, on average, as a fraction of the budget; where
            none had, the whole.
    """

    regret: NDArray[np.float64]
    ranks: NDArray[np.float64]
    complete: bool
    speedup: float
    never: int
    tasks: int
    searches: int
    trials: float
    trained: float
    first_completed: float

    def at(self, fraction: float) -> float:
        """The mean regret at a fraction of the budget."""
        return float(self.regret[_at(fraction)])


def scores(problems: Sequence[Problem], workers: int, methods: Mapping[str, Traces]) -> dict[str, Score]:
    """Score methods side by side; one of them is ``random``, which has searched wherever another has."""
    by_task = {problem.task: problem for problem in problems}
    regret = {
        name: {cell: _regret(by_task[cell[0]], trace, workers) for cell, trace in traces.items()}
        for name, traces in methods.items()
    }
    cells = sorted({cell for found in regret.values() for cell in found})
    complete = [name for name, found in regret.items() if len(found) == len(cells)]
    answer = {}
    for name, found in regret.items():
        traces = methods[name].values()
        speedups = _speedups(found, regret["random"])
        budgets = [wall_clock(by_task[task], workers) for task, _ in found]
        answer[name] = Score(
            regret=np.mean(list(found.values()), axis=0),
            ranks=np.mean([_ranks(found[cell], [regret[other][cell] for other in complete]) for cell in found], axis=0),
            complete=name in complete,
            speedup=float(np.exp(np.mean(np.log([speedup or 1.0 for speedup in speedups])))),
            never=speedups.count(None),
            tasks=len(speedups),
            searches=len(found),
            trials=float(np.mean([trace.trials for trace in traces])),
            trained=float(np.mean([trace.length for trace in traces])) / STEPS,
            first_completed=float(
                np.mean([(trace.first_completed or end) / end for trace, end in zip(traces, budgets, strict=True)])
            ),
        )
    return answer


def _regret(problem: Problem, trace: Trace, workers: int) -> NDArray[np.float64]:
    return regrets(problem, trace, np.linspace(0, wall_clock(problem, workers), GRID + 1))


def _at(fraction: float) -> int:
    return round(fraction * GRID)


def _ranks(regret: NDArray[np.float64], others: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The rank at each of `FRACTIONS`, from 1 for the least; equals share the mean of their ranks.

    Args:
        regret: of a method, over time.
        others: of all that it is compared with, itself among them or not.
    """
    at = [_at(fraction) for fraction in FRACTIONS]
    compared = np.stack([other for other in others if other is not regret] + [regret])[:, at]
    less, equal = (compared < regret[at]).sum(axis=0), (compared == regret[at]).sum(axis=0)
    ranks: NDArray[np.float64] = less + (equal + 1) / 2
    return ranks


def _speedups(
    found: Mapping[Cell, NDArray[np.float64]], random: Mapping[Cell, NDArray[np.float64]]
) -> list[float | None]:
    """For each task, by the mean over seeds; None: never as good as random search at the end."""
    speedups: list[float | None] = []
    for task in sorted({task for task, _ in found}):
        cells = [cell for cell in found if cell[0] == task]
        mean = np.mean([found[cell] for cell in cells], axis=0)
        goal = np.mean([random[cell][-1] for cell in cells])
        # A mean of equal numbers depends on nothing but rounding.
        reached = np.flatnonzero(mean <= goal + 1e-9)
        speedups.append(GRID / max(1, int(reached[0])) if len(reached) else None)
    return speedups
