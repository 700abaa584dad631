"""Convert training lengths between the experiment's unit and a loop's unit, with exact integer arithmetic."""

from __future__ import annotations

from typing import Any

from ashwood.errors import TrainingCodeError, singular
from ashwood.trial.job import WorkerJob

STEPS = "steps"


def format_length(length: int, unit: str) -> str:
    """Return the text of a training length, such as 1 epoch or 4 epochs."""
    return f"{length} {singular(unit) if length == 1 else unit}"


class Scale:
    """Converts between lengths of the experiment and positions of one loop.

    A position is a number of whole units of the loop.  If the experiment counts steps without a unit, a step is a unit
    of the loop.
    """

    def __init__(self, job: WorkerJob, loop: str) -> None:
        """Compute the ratio of the experiment's unit and a loop's unit.

        Raises:
            TrainingCodeError: the units cannot be converted; the message says what to add or which loop to use.
        """
        self._job = job
        self._loop = loop
        self.same = loop == job.unit or job.unit == STEPS
        self._per_length, self._per_position = self._ratio(job.unit, f"trial.{loop}()")

    def position(self, length: int) -> int:
        """Return the first position that reaches a length."""
        # -(-a // b) is a / b rounded up: a loop must never report that it has reached a length too early.
        return -(-length * self._per_length // self._per_position)

    def length(self, position: int) -> int:
        """Return the length that a position has reached, rounded down."""
        return position * self._per_position // self._per_length

    def next_multiple(self, period: tuple[int, str], position: int, setting: str) -> int:
        """Return the first position after ``position`` that reaches a multiple of a period.

        Args:
            period: count and unit of the period.
            position: current position.
            setting: name of the experiment's setting with the period, for messages.

        Raises:
            TrainingCodeError: the period cannot be converted to the loop's unit.
        """
        count, unit = period
        per_unit, per_position = self._ratio(unit, f"trial.{self._loop}() with {setting}")
        size = count * per_unit
        multiple = position * per_position // size + 1
        return -(-multiple * size // per_position)

    def _ratio(self, unit: str, what: str) -> tuple[int, int]:
        """Return the number of positions in one ``unit``, as a numerator and a denominator."""
        if unit == STEPS:
            unit = self._job.unit
        if unit in (self._loop, STEPS):
            return 1, 1
        sizes = {
            "records": 1,
            "batches": _batch_size(self._job),
            "epochs": _count(self._job.records_per_epoch),
        }
        size, loop_size = sizes.get(unit), sizes.get(self._loop)
        if size and loop_size:
            return size, loop_size
        raise TrainingCodeError(f"{what} cannot count {unit}: {self._advice(unit)}")

    def _advice(self, unit: str) -> str:
        loop = f"loop over trial.{unit}()"
        if self._loop == STEPS:
            return loop
        units = {unit, self._loop}
        missing = []
        if "epochs" in units and not _count(self._job.records_per_epoch):
            missing.append("records_per_epoch to the experiment")
        if "batches" in units and not _batch_size(self._job):
            missing.append("an integer global_batch_size to its hyperparameters")
        return f"add {' and '.join(missing)}, or {loop}"


def _batch_size(job: WorkerJob) -> int | None:
    return job.records_per_batch or _count(job.hparams.get("global_batch_size"))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
