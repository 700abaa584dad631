"""What an experiment knows of a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from ashwood.experiment.lifecycle import TrialState
from ashwood.search.vocabulary import TrialId


@dataclass(slots=True)
class Trial:
    """One trial, as events have left it.

    Attributes:
        attempt: the process that works on it, or is to; counts from 1.
        target: total length that its job ends at.
        length: the longest total length that a report came from.
        reported: attempt and length of the latest report of the metric.
        loss: what it reported there.
        best_loss: lowest finite loss that it has reported; infinite if none.
        checkpoint: name of the checkpoint, or directory, to go on from; None: none yet.
        checkpoint_length: total length of that checkpoint.
        failures: how many attempts failed.
        cause: `AttemptFailed.cause` of the last of them.
        preemptions: how many attempts in a row lost their worker before they got the trial any further.
        trained: for how many seconds it has trained in all its attempts, as far as that was told.
        finishing: the attempt that finishes a step and saves after its trial was stopped; 0: none.
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

    @property
    def ended(self) -> bool:
        """It will never train again."""
        return self.state not in (TrialState.RUNNING, TrialState.PAUSED)
