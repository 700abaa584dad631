"""Reports of metrics."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from ashwood.integrations.determined.core._distributed import DistributedContext
from ashwood.integrations.determined.recorder import Recorder

logger = logging.getLogger("determined.core")

_TRAINING, _VALIDATION = "training", "validation"


class EarlyExitReason(enum.Enum):
    """Why a trial ends by itself."""

    INVALID_HP = "EXITED_REASON_INVALID_HP"
    USER_REQUESTED_STOP = "EXITED_REASON_USER_REQUESTED_STOP"


class TrainContext:
    """Reports metrics of the trial.  In a trial with several processes, only rank 0 may report."""

    def __init__(self, recorder: Recorder | None, dist: DistributedContext) -> None:
        self._recorder = recorder
        self._distributed = dist
        self._metadata: dict[str, Any] | None = None
        self._tensorboard_path: Path | None = None

    def set_status(self, status: str) -> None:
        """Write a short text about what the trial does into the log."""
        logger.info(f"status: {status}")

    def report_training_metrics(
        self,
        steps_completed: int,
        metrics: dict[str, Any],
        batch_metrics: list[dict[str, Any]] | None = None,
        epochs: int | None = None,
    ) -> None:
        """Report metrics of the training itself, which the search never compares.

        Args:
            steps_completed: number of batches, or of what the training code counts.
            metrics: metrics by name.  Values that are not numbers are left out.
            batch_metrics: metrics of each batch; they are not recorded.
            epochs: number of epochs; it is not recorded.
        """
        logger.info(f"report_training_metrics(steps_completed={steps_completed}, metrics={metrics})")
        if self._recorder is not None and self._is_chief("report_training_metrics"):
            self._recorder.report_training(int(steps_completed), metrics)

    def report_validation_metrics(self, steps_completed: int, metrics: dict[str, Any]) -> None:
        """Report metrics of a validation.

        Args:
            steps_completed: number of batches, or of what the training code counts.
            metrics: metrics by name.  Values that are not numbers are left out.

        Raises:
            RuntimeError: a metric is None.
        """
        for name, value in metrics.items():
            if value is None:
                raise RuntimeError(f"Validation metric '{name}' returned an invalid scalar value: {value}")
        logger.info(f"report_validation_metrics(steps_completed={steps_completed}, metrics={metrics})")
        if self._recorder is not None and self._is_chief("report_validation_metrics"):
            self._recorder.report_validation(int(steps_completed), metrics)

    def report_metrics(self, group: str, steps_completed: int, metrics: dict[str, Any]) -> None:
        """Report metrics of a group: ``training``, ``validation``, or any other name, which precedes their names."""
        if group == _TRAINING:
            self.report_training_metrics(steps_completed, metrics)
        elif group == _VALIDATION:
            self.report_validation_metrics(steps_completed, metrics)
        else:
            logger.info(f"report_metrics(group={group}, steps_completed={steps_completed}, metrics={metrics})")
            if self._recorder is not None and self._is_chief("report_metrics"):
                self._recorder.report_group(group, int(steps_completed), metrics)

    def _report_trial_metrics(
        self,
        group: str,
        steps_completed: int | None = None,
        metrics: dict[str, Any] | None = None,
        batch_metrics: list[dict[str, Any]] | None = None,
        total_batches: int | None = None,
    ) -> None:
        """Report metrics of a group, for training code from before `report_metrics` was public."""
        steps = steps_completed if steps_completed is not None else total_batches
        self.report_metrics(group, steps or 0, metrics or {})

    def report_progress(self, progress: float) -> None:
        """Do nothing: Ashwood knows the progress from reports."""
        logger.debug(f"report_progress({progress})")

    def report_early_exit(self, reason: EarlyExitReason) -> None:
        """Declare the hyperparameters invalid, or end the trial for good, as soon as the training code ends."""
        logger.info(f"report_early_exit({reason})")
        if self._recorder is not None:
            self._recorder.exit_early(
                invalid=EarlyExitReason(reason) is EarlyExitReason.INVALID_HP,
                why="the training code called report_early_exit(EarlyExitReason.INVALID_HP)",
            )

    def get_experiment_best_validation(self) -> float | None:
        """Return the best metric of the search so far, or None.

        It covers the checkpoints of the whole experiment and the reports of this process.
        """
        return None if self._recorder is None else self._recorder.best_validation()

    def _get_last_validation(self) -> int | None:
        return None

    def set_metadata(self, metadata: dict[str, Any]) -> dict[str, Any] | None:
        """Set metadata of the trial, which this process can read again; they are not recorded."""
        self._metadata = dict(metadata)
        return self._metadata

    def get_metadata(self) -> dict[str, Any] | None:
        """Return the metadata that this process has set, or None."""
        return self._metadata

    def get_tensorboard_path(self) -> Path:
        """Return a directory for TensorBoard files, in the directory of the trial."""
        if self._tensorboard_path is None:
            recorder = self._recorder
            top = Path(mkdtemp(prefix="determined-")) if recorder is None else recorder.trial.directory
            self._tensorboard_path = top / "tensorboard"
            self._tensorboard_path.mkdir(parents=True, exist_ok=True)
        return self._tensorboard_path

    def upload_tensorboard_files(
        self,
        selector: Callable[[Path], bool] = lambda _: True,
        mangler: Callable[[Path, int], Path] = lambda path, _: path,
    ) -> None:
        """Do nothing: the files stay in the directory of the trial."""

    def _is_chief(self, name: str) -> bool:
        if self._distributed.rank:
            logger.warning(f"{name}() of rank {self._distributed.rank} has no effect: only rank 0 reports")
        return self._distributed.rank == 0


class DummyTrainContext(TrainContext):
    """A context outside an experiment, which writes reports to the log."""

    def __init__(self, dist: DistributedContext) -> None:
        super().__init__(None, dist)
