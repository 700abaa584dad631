"""Searches of ours on the tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.quality.lcbench import Problem
from benchmarks.quality.measure import TRAININGS, Traces, wall_clock
from benchmarks.quality.workers import Scheduler, rows, run


def search(method: Callable[[int, float], Scheduler], problems: Sequence[Problem], workers: int, seeds: int) -> Traces:
    """Search every task with every seed."""
    return {
        (problem.task, seed): run(
            method(workers, TRAININGS[workers]),
            rows(problem.curves, problem.order(seed)),
            workers,
            wall_clock(problem, workers),
        )
        for problem in problems
        for seed in range(seeds)
    }
