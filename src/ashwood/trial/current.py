"""The trial of this process: of the experiment that started the process, or without an experiment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ashwood.checkpoints import is_remote
from ashwood.errors import TrainingCodeError
from ashwood.trial.api import Trial, running
from ashwood.trial.lengths import STEPS
from ashwood.trial.standalone import standalone

_connected: tuple[int, Trial] | None = None
"""The number of the process that connected to its worker, and the trial of its command."""


def get_trial(
    hparams: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    *,
    epochs: int | None = None,
    batches: int | None = None,
    records: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Trial:
    """Return the trial that this process trains.

    In a command that Ashwood runs (``entrypoint: python train.py``), and in every process that the command starts, this
    is the experiment's trial.  Every call returns the same trial, and the arguments are ignored.  If a launcher such as
    ``torchrun`` starts several processes, reports and checkpoints of rank 0 count, and the other ranks follow its loop.

    In any other process, this is a new trial without an experiment.  It trains to the given length, prints each report
    as a line, and saves checkpoints to test that::

        if __name__ == "__main__":
            train(ashwood.get_trial(hparams={"lr": 0.1}, epochs=3))

    With ``checkpoint``, it continues from a checkpoint, to test that the training code can restore it::

        train(ashwood.get_trial(epochs=2, checkpoint_dir="saved"))
        train(ashwood.get_trial(epochs=4, checkpoint="saved/trial-0/length-2-attempt-1"))

    Args:
        hparams: the hyperparameters.
        data: the data settings.
        epochs: total length in epochs; exactly one of the four lengths is required.
        batches: total length in batches.
        records: total length in records.
        steps: total length in steps without a unit.
        seed: the trial's seed.
        checkpoint_dir: directory or URL for checkpoints; by default they are deleted at exit.
        checkpoint: directory of a checkpoint that Ashwood saved, to continue from.  The length includes its length.

    Raises:
        TrainingCodeError: not exactly one length was given, the checkpoint already has that length, or the command that
            started this process has ended.
        CheckpointError: the checkpoint is missing or damaged.
    """
    if path := os.environ.get("ASHWOOD_TRIAL"):
        return _trial_of_command(path)
    lengths = {"epochs": epochs, "batches": batches, "records": records, STEPS: steps}
    given = {unit: length for unit, length in lengths.items() if length is not None}
    if len(given) != 1:
        raise TrainingCodeError(
            f"a trial without an experiment needs exactly one length, such as get_trial(epochs=3), but got "
            f"{given or 'none'}"
        )
    ((unit, length),) = given.items()
    checkpoints = None if checkpoint_dir is None else os.fspath(checkpoint_dir)
    if checkpoints is not None and not is_remote(checkpoints):
        checkpoints = str(Path(checkpoints).absolute())
    start = None if checkpoint is None else Path(checkpoint).absolute()
    return standalone(hparams or {}, data or {}, length, unit, seed, checkpoints, start)


def experiments_trial() -> Trial | None:
    """Return the trial of an experiment that this process trains, or None if it trains none.

    Unlike `get_trial`, this also finds the trial of a training function.
    """
    if path := os.environ.get("ASHWOOD_TRIAL"):
        return _trial_of_command(path)
    return running[-1] if running else None


def _trial_of_command(path: str) -> Trial:
    global _connected
    if _connected is None or _connected[0] != os.getpid():  # A fork may train another rank.
        from ashwood.trial.command import connect  # imported here: other workers do not use it

        _connected = os.getpid(), connect(path)
    return _connected[1]
