"""Syne Tune's ASHA, in virtual time."""

from __future__ import annotations

import contextlib
import logging
import sys
from datetime import datetime

from benchmarks.peers.quality import Search, Started, main
from benchmarks.quality.lcbench import STEPS
from benchmarks.quality.workers import Job

with contextlib.redirect_stdout(sys.stderr):  # it speaks about the extras that aren't installed
    from syne_tune.backend.trial_status import Trial
    from syne_tune.config_space import uniform
    from syne_tune.optimizer.scheduler import SchedulerDecision
    from syne_tune.optimizer.schedulers import HyperbandScheduler


class Asha:
    """ASHA with rungs at 1, 4 and 16.

    Args:
        variant: ``promotion`` or ``stopping``, as Syne Tune calls them.
        seed: of its own draws, which settings don't depend on here.
    """

    def __init__(self, variant: str, seed: int) -> None:
        self._scheduler = HyperbandScheduler(
            {"x": uniform(0.0, 1.0), "max_length": STEPS},
            searcher="random",
            search_options={"debug_log": False},
            type=variant,
            metric="accuracy",
            mode="max",
            resource_attr="length",
            max_resource_attr="max_length",
            grace_period=1,
            reduction_factor=4,
            random_seed=seed,
        )
        self._trials: list[Trial] = []
        self._lengths: list[int] = []

    def ask(self) -> Job:
        """A new trial, or one that waits."""
        suggestion = self._scheduler.suggest(len(self._trials))
        if not suggestion.spawn_new_trial_id:
            number = int(suggestion.checkpoint_trial_id)
            return Job(number, self._lengths[number] + 1)
        trial = Trial(len(self._trials), suggestion.config, datetime.now())
        self._trials.append(trial)
        self._lengths.append(0)
        self._scheduler.on_trial_add(trial)
        return Job(trial.trial_id, 1)

    def tell(self, trial: int, length: int, metric: float) -> int | None:
        """Judged after every step."""
        self._lengths[trial] = length
        result = {"length": length, "accuracy": metric}
        if self._scheduler.on_trial_result(self._trials[trial], result) != SchedulerDecision.CONTINUE:
            self._scheduler.on_trial_remove(self._trials[trial])
            return None
        if length == STEPS:
            self._scheduler.on_trial_complete(self._trials[trial], result)
            return None
        return length + 1


def start(search: Search) -> Started:
    """The variant is the type of the scheduler."""
    return search.paired(Asha(search.variant, search.seed))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(start)
