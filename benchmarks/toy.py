"""Training code that costs nothing, or sleeps, so that what is measured is the search around it."""

from __future__ import annotations

import ashwood
from benchmarks.steps import StepLog


def train(trial: ashwood.Trial) -> None:
    """Train step by step; a checkpoint is an empty file."""
    log = StepLog(trial.data.log, trial.data.step_seconds)
    for _ in trial.steps():
        log.step(trial.id)
        trial.report(loss=trial.hparams.x, checkpoint=lambda directory: (directory / "state").touch())
    log.close()
