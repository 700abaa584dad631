"""Lengths and periods of `Trainer.fit`."""

from __future__ import annotations

from collections.abc import Container


class TrainUnit:
    """A length of training or a period, or a container of the lengths at which something happens.

    Args:
        value: number of units; or a container, such as ``Batch([1, 10, 100])`` for validations after these batches.
    """

    def __init__(self, value: int | Container[int]) -> None:
        if isinstance(value, bool) or not isinstance(value, int | Container):
            raise TypeError(f"{type(self).__name__} needs an integer or a container of integers, not {value!r}")
        self.value = value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]

    def should_stop(self, step_num: int) -> bool:
        """Return whether a number of units is a multiple of the period, or in the container."""
        if not isinstance(self.value, int):
            return step_num in self.value
        return self.value < 1 or (step_num > 0 and step_num % self.value == 0)


class Batch(TrainUnit):
    """A number of batches."""


class Record(TrainUnit):
    """A number of records, which are converted to batches with ``global_batch_size``."""


class Epoch(TrainUnit):
    """A number of epochs, which are as long as the data loader."""


UNITS: dict[str, type[TrainUnit]] = {"batches": Batch, "records": Record, "epochs": Epoch, "steps": Batch}
"""Class of each unit of an experiment file."""
