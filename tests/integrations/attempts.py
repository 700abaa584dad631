"""Trains trials in this process with pauses at chosen positions, which is faster than a search in other processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ashwood.trial import Trial
from ashwood.trial import loop as loops
from ashwood.trial.attempt import Outcome
from ashwood.trial.channel import Link, ReportAnswer
from ashwood.trial.job import WorkerJob
from ashwood.trial.run import run


class _Link(Link):
    """A driver that promotes the trial to each target in turn, and suspends it after chosen numbers of batches."""

    def __init__(self, training: Training, pauses: Sequence[int]) -> None:
        self._training = training
        self._pauses = pauses
        self.trial: Trial | None = None

    def reported(self, length: int, metrics: dict[str, float]) -> None:
        self._training.reports.setdefault(length, {}).update(metrics)

    def saved(self, length: int, name: str, metrics: Mapping[str, float], size: int) -> None:
        self._training.checkpoint = (length, name)
        self._training.saved.append(name)

    def warned(self, message: str) -> None:
        self._training.warnings.append(message)

    def suspended(self) -> bool:
        if self.trial is None or not self._pauses:
            return False
        attempt = self.trial._attempt
        position = attempt.loop.position if attempt.loop is not None else attempt.length
        return position >= self._pauses[0]

    def answer(self) -> ReportAnswer | None:
        targets = self._training.targets
        done = targets.pop(0)
        if not targets:
            return ReportAnswer(None, save=True)
        if self._training.pauses_at_targets:
            return ReportAnswer(None, save=True)
        assert targets[0] > done
        return ReportAnswer(targets[0], save=False)


class Training:
    """One trial, trained to the last of its targets.

    Attributes:
        reports: metrics by length.
        saved: names of the checkpoints in their order.
        warnings: warnings of the attempts.
        attempts: number of attempts.
        outcome: outcome of the last attempt.
        checkpoints: directory of the checkpoints.
    """

    def __init__(
        self,
        train: Callable[[Trial], Any],
        checkpoints: Path,
        *,
        targets: Sequence[int],
        pauses: Sequence[int] = (),
        pauses_at_targets: bool = False,
        **fields: Any,
    ) -> None:
        """Train a trial.

        Args:
            train: the training function.
            checkpoints: an empty directory.
            targets: lengths at which the search compares the trial.
            pauses: numbers of batches after which it is paused and resumed; lengths, if the code has its own loop.
            pauses_at_targets: whether it is also paused at targets.
            **fields: fields of `WorkerJob`.
        """
        self.reports: dict[int, dict[str, float]] = {}
        self.saved: list[str] = []
        self.warnings: list[str] = []
        self.checkpoint: tuple[int, str | None] = (0, None)
        self.targets = list(targets)
        self.pauses_at_targets = pauses_at_targets
        self.checkpoints = checkpoints
        self.attempts = 0
        last, left = targets[-1], list(pauses)
        defaults: dict[str, Any] = {"seed": 7, "metric": "validation_loss", "unit": "epochs", "max_length": last}
        while True:
            self.attempts += 1
            length, name = self.checkpoint
            job = WorkerJob(
                trial=0,
                attempt=self.attempts,
                target=self.targets[0],
                checkpoints=str(checkpoints),
                length=length,
                checkpoint=name,
                trial_directory=str(checkpoints / "directory"),
                **(defaults | fields),
            )
            link = _Link(self, left)
            before = len(self.targets)

            def observed(trial: Trial, link: _Link = link) -> Any:
                link.trial = trial
                return train(trial)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(loops, "_MOMENT", 0.0)  # The loop looks for a request to suspend after each batch.
                patch.setenv("ASHWOOD_DETERMINED_SAID", "")  # Otherwise, processes of later tests would inherit it.
                self.outcome: Outcome = run(observed, job, link)
            if type(self.outcome).__name__ != "Ended" or not self.targets:
                return
            if len(self.targets) == before:
                assert left, f"the attempt ended at {self.outcome} without a pause"
            if left and link.trial is not None and link.suspended():
                left.pop(0)
