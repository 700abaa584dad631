"""Searches of ours on the tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.quality.lcbench import Problem, Surrogate, settings_at
from benchmarks.quality.measure import TRAININGS, Trace, Traces, wall_clock
from benchmarks.quality.ours import FEWER_SEEDS, Learning, Searcher
from benchmarks.quality.workers import Curve, rows, run


def search(
    method: Searcher, problems: Sequence[Problem], workers: int, seeds: int, surrogate: Callable[[], Surrogate]
) -> Traces:
    """Search every task with every seed; ``surrogate`` is asked for where settings aren't from the table."""
    if isinstance(method(workers, TRAININGS[workers], 0), Learning):
        seeds = min(seeds, FEWER_SEEDS.get(workers, seeds))
    return {
        (problem.task, seed): _search(method, problem, workers, seed, surrogate)
        for problem in problems
        for seed in range(seeds)
    }


def _search(method: Searcher, problem: Problem, workers: int, seed: int, surrogate: Callable[[], Surrogate]) -> Trace:
    scheduler = method(workers, TRAININGS[workers], seed)
    curve = rows(problem.curves, problem.order(seed))
    if isinstance(scheduler, Learning):
        network, places = surrogate(), scheduler.places

        def curve(trial: int) -> Curve:
            found = network.curves(problem.task, settings_at(np.asarray([places[trial]])))
            return Curve(found.metric[0], found.seconds[0])

    return run(scheduler, curve, workers, wall_clock(problem, workers))
