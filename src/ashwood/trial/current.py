"""The trial of this process: the one that Ashwood started it for, or one of its own."""

from __future__ import annotations

import atexit
import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ashwood.errors import TrainingCodeError
from ashwood.trial.api import Trial
from ashwood.trial.attempt import Again, Outcome
from ashwood.trial.channel import Channel, DriverLink, encode
from ashwood.trial.job import Job
from ashwood.trial.lengths import STEPS
from ashwood.trial.run import message_of, outcome_of, storage_trouble
from ashwood.trial.standalone import standalone
from ashwood.trial.storage import is_remote

VARIABLE = "ASHWOOD_TRIAL"
"""Environment variable of a command that Ashwood runs: the descriptors of socket, job file and outcome file."""

_connected: Trial | None = None


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

    In a command that Ashwood runs (``entrypoint: python train.py``) it is the experiment's, whatever
    the arguments; the same one at every call.  In a process of its own it is a trial that runs
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
        TrainingCodeError: not exactly one length was given, or the checkpoint has that length already.
        CheckpointError: the checkpoint is missing or damaged.
    """
    if VARIABLE in os.environ:
        return _connect(os.environ[VARIABLE])
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


def _connect(descriptors: str) -> Trial:
    global _connected
    if _connected is None:
        wire, job_file, outcome = map(int, descriptors.split(","))
        try:
            fields, unread = json.loads(os.pread(job_file, os.fstat(job_file).st_size, 0))
            channel = Channel(socket.socket(fileno=os.dup(wire)))
            channel.put_back(unread)
        except OSError as error:
            raise TrainingCodeError(
                f"{VARIABLE} is set, but the connection to Ashwood isn't there: call get_trial() in the process that "
                "the command starts, not in one of its children"
            ) from error
        link = DriverLink(channel)
        _connected = Trial(Job(*fields), link)
        # Registered first, so it runs last: what the code itself does at exit still counts.
        atexit.register(_conclude, _connected, link, outcome, os.getpid())
    return _connected


def _conclude(trial: Trial, link: DriverLink, descriptor: int, process: int) -> None:
    """Write how the attempt ended for the worker, which sees only an exit code.

    If the code must be called again, what was read and not used goes along.
    """
    if os.getpid() != process:
        return
    try:
        sys.stdout.flush()
    except OSError:  # a full disk costs output, never a result
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    error = getattr(sys, "last_value", None)  # what Python is dying of
    outcome: Outcome | None = None if error is None else storage_trouble(error)
    if outcome is None:
        outcome = outcome_of(trial)
    message = message_of(outcome)
    if isinstance(outcome, Again):
        message.append(link.unread())
    os.write(descriptor, encode(message).encode())
