"""The job that the driver sends to a worker: one attempt of a trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

SLOTS = "ASHWOOD_SLOTS_PER_TRIAL"
"""Environment variable with the number of slots of a trial, ``resources.slots_per_trial``."""


class WorkerJob(NamedTuple):
    """One attempt of a trial: its training from a checkpoint to a total length of ``target``.

    Attributes:
        trial: number of the trial.
        attempt: number of the attempt, from 1.
        target: total length at which the attempt reports and waits for a command.
        hparams: the hyperparameters.
        seed: the trial's seed.
        checkpoints: the experiment's checkpoint storage, a directory or URL.
        length: total length of the checkpoint, or 0 if there is none.
        checkpoint: name of the checkpoint to start from, see `ashwood.checkpoints.Storage.fetch`, or None to train
            from the start.
        data: the experiment's ``data`` settings.
        metric: name of the metric that the search compares, or None if there is no search.
        unit: unit of lengths: ``epochs``, ``batches``, ``records`` or ``steps``.
        records_per_epoch: number of records in an epoch, or None if it is unknown.
        validation_period: count and unit of the experiment's ``min_validation_period``, or None.
        checkpoint_period: count and unit of the experiment's ``min_checkpoint_period``, or None.
        directory: local directory with the verified checkpoint, or None; the worker sets it.
        rank: rank of this process among those that train the trial together, each on its own machine; 0 leads.
        world_size: number of those processes.
        rendezvous: address ``HOST:PORT`` on the machine of rank 0 at which they can connect, or None for one process.
        experiment: identity of the experiment, or an empty text if there is none.
        halving: whether the search compares trials before their end.
        max_length: greatest total length of a trial in the experiment.  If the search is extended while the attempt
            runs, it grows with the target.
        open_ended: whether the training code decides how long it trains; then ``target`` and ``max_length`` mean
            nothing, no report is answered, and the trial is complete when the training code returns.
        experiment_id: number of the experiment in its home, or 0 if there is no experiment.
        experiment_name: name of the experiment.
        pulse: greatest interval in seconds between two messages that steps were finished.
        trial_directory: the trial's directory on this machine; see `ashwood.checkpoints.directory`.
        save_on: which reports save a checkpoint at once: ``best``, ``all`` or ``none``; see
            `ashwood.experiment.spec.SaveOn`.
        best: lowest loss of the experiment's checkpoints when the job began, or None if there was none.
        smaller_is_better: whether a smaller metric is better; if not, the loss is the negative metric.
        records_per_batch: number of records in a batch, to convert units, or None for the hyperparameter
            ``global_batch_size``.
        config: settings of the experiment file as they are written, for training code that asks for them.
    """

    trial: int
    attempt: int
    target: int
    hparams: Mapping[str, Any]
    seed: int
    checkpoints: str
    length: int = 0
    checkpoint: str | None = None
    data: Mapping[str, Any] = {}
    metric: str | None = None
    unit: str = "steps"
    records_per_epoch: int | None = None
    validation_period: tuple[int, str] | None = None
    checkpoint_period: tuple[int, str] | None = None
    directory: str | None = None
    rank: int = 0
    world_size: int = 1
    rendezvous: str | None = None
    experiment: str = ""
    halving: bool = False
    max_length: int = 0
    experiment_id: int = 0
    experiment_name: str = ""
    pulse: float = 1.0
    trial_directory: str = ""
    save_on: str = "none"
    best: float | None = None
    smaller_is_better: bool = True
    records_per_batch: int | None = None
    config: Mapping[str, Any] = {}
    open_ended: bool = False
