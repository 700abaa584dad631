"""The state of one trial in its experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from ashwood.experiment.lifecycle import TrialState
from ashwood.search.vocabulary import TrialId


@dataclass(slots=True)
class TrialRecord:
    """The state of a trial after the events so far.

    Attributes:
        id: number of the trial.
        hparams: values of its hyperparameters.
        seed: seed for its training code.
        attempt: number of its current or next attempt, from 1.
        target: total length at which its job ends.
        state: its state.
        length: longest total length of its reports.
        reported: attempt and length of the latest report of the metric.
        loss: loss of that report, or infinity before the first one.
        best_loss: lowest finite loss that it has reported, or infinity if there is none.
        checkpoint: name or directory of the checkpoint from which it resumes, or None if there is none.
        checkpoint_length: total length of that checkpoint, or 0.
        failures: number of failed attempts.
        cause: `AttemptFailed.cause` of the last failed attempt.
        preemptions: number of attempts in a row that lost their worker without any progress.
        trained: seconds of training in all its attempts according to `TrialTrained` events.
        deleted_length: total length of its longest checkpoint that was deleted to keep max_size, or 0.
        finishing: the attempt that finishes a step and saves after its trial was stopped, or 0 if there is none.
    """

    id: TrialId
    hparams: Mapping[str, Any]
    seed: int
    target: int
    checkpoint: str | None = None
    state: TrialState = TrialState.RUNNING
    attempt: int = 1
    length: int = 0
    reported: tuple[int, int] = (0, -1)
    loss: float = inf
    best_loss: float = inf
    checkpoint_length: int = 0
    failures: int = 0
    cause: str = ""
    preemptions: int = 0
    trained: float = 0.0
    finishing: int = 0
    deleted_length: int = 0

    @property
    def ended(self) -> bool:
        """Whether the trial has ended, so that it trains again only if it is reopened on request."""
        return self.state.ended
