"""What a worker is told about a stretch of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Job(NamedTuple):
    """One stretch of training: this trial, from its checkpoint, up to a total length of ``target``.

    Attributes:
        length: total length of the checkpoint; 0 without one.
        checkpoint: name of the checkpoint to start from, see `ashwood.trial.storage.Storage.fetch`; None: from scratch.
        directory: where that checkpoint is on this machine, verified; the worker fills it in.
        metric: name of the metric that the search compares; None: none, no search is there.
        unit: what lengths count: ``epochs``, ``batches``, ``records`` or ``steps``.
        validation_period: (count, unit) of the experiment's min_validation_period.
        checkpoint_period: (count, unit) of the experiment's min_checkpoint_period.
        checkpoints: the experiment's checkpoint storage, a directory or URL.
        save_on: which reports save a checkpoint at once: ``best``, ``all`` or ``none``; see
            `ashwood.experiment.spec.SaveOn`.
        best: lowest loss of the experiment's checkpoints when the job began, or None if there was none.
        smaller_is_better: whether a smaller metric is better; if not, the loss is its negative.
        halving: whether the search compares trials before their end.
        rank: which of the processes that train this trial together, each on a machine of its own; 0 leads.
        world_size: how many those are.
        rendezvous: where they can meet: ``HOST:PORT`` on the machine of rank 0; None: there is one process.
        experiment: identity of the experiment; empty: it has none.
        max_length: total length to which the experiment trains a trial at most.
        experiment_id: number of the experiment in its home; 0: there is no experiment.
        experiment_name: name of the experiment.
        pulse: seconds after which the driver is told again that steps were finished.
        trial_directory: the trial's directory on this machine; see `ashwood.trial.directory`.
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
