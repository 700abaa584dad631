"""Training lengths in the experiment's unit and in that of a loop, by exact integer arithmetic."""

from __future__ import annotations

from typing import Any

from ashwood.errors import TrainingCodeError
from ashwood.trial.job import Job

STEPS = "steps"


class Scale:
    """Converts between the experiment's lengths and the positions of one loop.

    A position counts whole units of the loop.  An experiment in unitless steps counts
    whatever its loop counts.
    """

    def __init__(self, job: Job, loop: str) -> None:
        """Relate the experiment's unit to that of a loop.

        Raises:
            TrainingCodeError: they can't be converted; the message says what to add or which loop to use.
        """
        self._job = job
        self._loop = loop
        self.same = loop == job.unit or job.unit == STEPS
        self._per_length, self._per_position = self._ratio(job.unit, f"trial.{loop}()")

    def position(self, length: int) -> int:
        """The first position that reaches a length."""
        return -(-length * self._per_length // self._per_position)

    def length(self, position: int) -> int:
        """The length that a position has reached."""
        return position * self._per_position // self._per_length

    def next_multiple(self, period: tuple[int, str], position: int, setting: str) -> int:
        """The first position after ``position`` that reaches a multiple of a period.

        Raises:
            TrainingCodeError: the period can't be converted to the loop's unit.
        """
        count, unit = period
        per_unit, per_position = self._ratio(unit, f"trial.{self._loop}() with {setting}")
        size = count * per_unit
        multiple = position * per_position // size + 1
        return -(-multiple * size // per_position)

    def _ratio(self, unit: str, what: str) -> tuple[int, int]:
        """How many positions one ``unit`` is, as a fraction."""
        if unit == STEPS:
            unit = self._job.unit
        if unit in (self._loop, STEPS):
            return 1, 1
        sizes = {
            "records": 1,
            "batches": _count(self._job.hparams.get("global_batch_size")),
            "epochs": _count(self._job.records_per_epoch),
        }
        size, loop_size = sizes.get(unit), sizes.get(self._loop)
        if size and loop_size:
            return size, loop_size
        raise TrainingCodeError(f"{what} can't count {unit}: {self._advice(unit)}")

    def _advice(self, unit: str) -> str:
        loop = f"loop over trial.{unit}()"
        if self._loop == STEPS:
            return loop
        units = {unit, self._loop}
        missing = []
        if "epochs" in units and not _count(self._job.records_per_epoch):
            missing.append("records_per_epoch to the experiment")
        if "batches" in units and not _count(self._job.hparams.get("global_batch_size")):
            missing.append("an integer global_batch_size to its hyperparameters")
        return f"add {' and '.join(missing)}, or {loop}"


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
