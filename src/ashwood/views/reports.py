"""What trials reported, packed: millions of reports fit into memory, and into a file at once."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence, Set
from math import nan
from typing import NamedTuple, overload

_NONE: Set[int] = frozenset()


class Report(NamedTuple):
    """What a trial reported."""

    at: float
    attempt: int
    length: int
    metrics: Mapping[str, float]


class Reports(Sequence[Report]):
    """The reports of a trial, in the order in which they arrived: a column each for times, lengths and metrics.

    Attributes:
        at: when each arrived, in seconds since 1970.
        attempts: the process that made it.
        lengths: the total length that it was made at.
        values: its metrics, by name; NaN also where a report lacks one.
    """

    __slots__ = ("_lacking", "at", "attempts", "lengths", "values")

    def __init__(self) -> None:
        self.at = array("d")
        self.attempts = array("q")
        self.lengths = array("q")
        self.values: dict[str, array[float]] = {}
        # Which reports lack a metric that others have.
        self._lacking: dict[str, set[int]] = {}

    def add(self, at: float, attempt: int, length: int, metrics: Mapping[str, float]) -> None:
        """Take a report."""
        index = len(self.at)
        self.at.append(at)
        self.attempts.append(attempt)
        self.lengths.append(length)
        for name, value in metrics.items():
            column = self.values.get(name)
            if column is None:
                column = self.values[name] = array("d", [nan]) * index
                if index:
                    self._lacking[name] = set(range(index))
            column.append(value)
        if len(metrics) < len(self.values):
            for name, column in self.values.items():
                if name not in metrics:
                    column.append(nan)
                    self._lacking.setdefault(name, set()).add(index)

    def lacking(self, metric: str) -> Set[int]:
        """Which reports lack a metric that others have, by their places."""
        return self._lacking.get(metric, _NONE)

    def __len__(self) -> int:
        return len(self.at)

    @overload
    def __getitem__(self, index: int) -> Report: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Report]: ...
    def __getitem__(self, index: int | slice) -> Report | Sequence[Report]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        metrics = {name: column[index] for name, column in self.values.items() if index not in self.lacking(name)}
        return Report(self.at[index], self.attempts[index], self.lengths[index], metrics)
