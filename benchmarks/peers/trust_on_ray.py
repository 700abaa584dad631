"""Ray Tune's ASHA on tasks of ARLBench, in virtual time; prints a line of JSON for each search.

It recommends the trial whose last result is the best, as ``ResultGrid.get_best_result`` does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.peers.quality_on_ray import Asha
from benchmarks.quality.workers import Curve, run
from benchmarks.trust.problems import BUDGET, WORKERS, Problem, arlbench, drawn_settings


class _Recorded(Asha):
    """A scheduler that keeps the last result of each trial."""

    def __init__(self, steps: int) -> None:
        super().__init__(steps)
        self.last: dict[int, float] = {}

    def tell(self, trial: int, length: int, metric: float) -> int | None:
        self.last[trial] = -np.inf if np.isnan(metric) else metric
        return super().tell(trial, length, metric)


def search(problem: Problem, seed: int) -> int:
    """Return the setting that a search recommends."""
    scheduler, draws = _Recorded(problem.steps), drawn_settings(problem, seed)
    settings: list[int] = []

    def curve(_trial: int) -> Curve:
        setting, training_seed = next(draws)
        settings.append(setting)
        return Curve(problem.metric[setting, training_seed], np.arange(1.0, problem.steps + 1))

    run(scheduler, curve, WORKERS, BUDGET * problem.steps / WORKERS)
    return settings[max(scheduler.last, key=scheduler.last.__getitem__)]


def main() -> None:
    """Search each task with each seed, as the command line asks."""
    directory, tasks, seeds = json.loads(sys.argv[1])
    for problem in arlbench(Path(directory), tasks):
        for seed in range(seeds):
            print(json.dumps([problem.name, seed, search(problem, seed)]), flush=True)


if __name__ == "__main__":
    main()
