"""The trial of this process: the one that Ashwood started it for, or one of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ashwood.errors import TrainingCodeError
from ashwood.trial.api import Trial
from ashwood.trial.lengths import STEPS
from ashwood.trial.standalone import standalone
from ashwood.trial.storage import is_remote

_connected: tuple[int, Trial] | None = None
"""The trial of the command that this process belongs to, and the process that connected."""


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
    """The trial that this process works on.

    In a command that Ashwood runs (``entrypoint: python train.py``), and in every process that the command
    starts, it is the experiment's, whatever the arguments; the same one at every call.  If a launcher such as
    ``torchrun`` starts several processes, what rank 0 reports and saves counts, and the others follow its loop.
    In a process of its own it is a trial that runs
    without an experiment: it trains to the given length, prints each report as a line, and tries
    the checkpoint out::

        if __name__ == "__main__":
            train(ashwood.get_trial(hparams={"lr": 0.1}, epochs=3))

    With ``checkpoint`` it continues from a checkpoint, so that restoring can be tested::

        train(ashwood.get_trial(epochs=2, checkpoint_dir="saved"))
        train(ashwood.get_trial(epochs=4, checkpoint="saved/trial-0/length-2-attempt-1"))

    Args:
        hparams: its hyperparameters.
        data: its data settings.
        epochs: train so many epochs; exactly one of the four lengths is needed.
        batches: train so many batches.
        records: train so many records.
        steps: train so many unitless steps.
        seed: its seed.
        checkpoint_dir: directory or URL to leave the checkpoint in; None: it is thrown away at exit.
        checkpoint: directory of a checkpoint that Ashwood saved, to continue from; the length is still the total.

    Raises:
        TrainingCodeError: not exactly one length was given, the checkpoint has that length already, or the command that
            started this process has ended.
        CheckpointError: the checkpoint is missing or damaged.
    """
    if path := os.environ.get("ASHWOOD_TRIAL"):
        global _connected
        if _connected is None or _connected[0] != os.getpid():  # a fork may train another rank than its parent
            from ashwood.trial.command import connect  # a worker that calls a function has no use for it

            _connected = os.getpid(), connect(path)
        return _connected[1]
    lengths = {"epochs": epochs, "batches": batches, "records": records, STEPS: steps}
    given = {unit: length for unit, length in lengths.items() if length is not None}
    if len(given) != 1:
        raise TrainingCodeError(
            f"a trial without an experiment needs one length, such as get_trial(epochs=3), but has {given or 'none'}"
        )
    ((unit, length),) = given.items()
    checkpoints = None if checkpoint_dir is None else os.fspath(checkpoint_dir)
    if checkpoints is not None and not is_remote(checkpoints):
        checkpoints = str(Path(checkpoints).absolute())
    start = None if checkpoint is None else Path(checkpoint).absolute()
    return standalone(hparams or {}, data or {}, length, unit, seed, checkpoints, start)
