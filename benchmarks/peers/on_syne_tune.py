"""Syne Tune: its promotion ASHA alone, and searches with its local backend."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.peers import syne_tune_training
from benchmarks.peers.script import LENGTHS, main
from benchmarks.workload import DIVISOR, MAX_LENGTH, MIN_LENGTH, Workload

with contextlib.redirect_stdout(sys.stderr):  # it speaks about the extras that aren't installed
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.backend import LocalBackend
    from syne_tune.backend.trial_status import Trial
    from syne_tune.config_space import uniform
    from syne_tune.optimizer.schedulers import HyperbandScheduler


def schedule(_variant: str, trials: int, losses: Iterator[float]) -> int:
    """A suggestion and a report, in turn, until all trials were created."""
    scheduler = _scheduler({"x": uniform(0.0, 1.0), "max_length": LENGTHS[-1]}, LENGTHS[0])
    made: list[Trial] = []
    length: dict[int, int] = {}
    reports = 0
    while len(made) < trials:
        suggestion = scheduler.suggest(len(made))
        if suggestion.spawn_new_trial_id:
            trial = Trial(len(made), suggestion.config, datetime.now())
            made.append(trial)
            scheduler.on_trial_add(trial)
            length[trial.trial_id] = LENGTHS[0]
        else:
            trial = made[int(suggestion.checkpoint_trial_id)]
            length[trial.trial_id] *= DIVISOR
        scheduler.on_trial_result(trial, {"length": length[trial.trial_id], "loss": next(losses)})
        reports += 1
    return reports


def search(_variant: str, workload: Workload, log: str) -> None:
    """A process for each stretch of training, as its local backend has it."""
    with tempfile.TemporaryDirectory() as directory:
        os.environ["SYNETUNE_FOLDER"] = directory
        space = {"x": uniform(0.0, 1.0), "max_length": MAX_LENGTH, "log": log, "seconds": workload.step_seconds}
        tuner = Tuner(
            trial_backend=LocalBackend(str(Path(syne_tune_training.__file__))),
            scheduler=_scheduler(space, MIN_LENGTH),
            stop_criterion=StoppingCriterion(max_num_trials_started=workload.trials),
            n_workers=workload.workers,
            sleep_time=0.01,
            print_update_interval=3600,
            save_tuner=False,
        )
        with contextlib.redirect_stdout(sys.stderr):
            tuner.run()


def _scheduler(space: dict[str, Any], shortest: int) -> HyperbandScheduler:
    return HyperbandScheduler(
        space,
        searcher="random",
        search_options={"debug_log": False},
        type="promotion",
        metric="loss",
        mode="min",
        resource_attr="length",
        # So that a process ends by itself where the search wants it to.
        max_resource_attr="max_length",
        grace_period=shortest,
        reduction_factor=DIVISOR,
    )


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(schedule, search)
