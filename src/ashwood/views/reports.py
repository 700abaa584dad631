"""What trials reported, packed: millions of reports fit into memory, and into a file at once."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple, overload


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
        values: its metrics, by name; of reports that lack one there is none.
    """

    __slots__ = ("_places", "at", "attempts", "lengths", "values")

    def __init__(self) -> None:
        self.at = array("d")
        self.attempts = array("q")
        self.lengths = array("q")
        self.values: dict[str, array[float]] = {}
        # Which reports have a metric, where that aren't the first ones.
        self._places: dict[str, array[int]] = {}

    def add(self, at: float, attempt: int, length: int, metrics: Mapping[str, float]) -> None:
        """Take a report."""
        index = len(self.at)
        self.at.append(at)
        self.attempts.append(attempt)
        self.lengths.append(length)
        for name, value in metrics.items():
            column = self.values.get(name)
            if column is None:
                column = self.values[name] = array("d")
            if len(column) != index:
                if name not in self._places:
                    self._places[name] = array("q", range(len(column)))
                self._places[name].append(index)
            column.append(value)

    def places(self, metric: str) -> Sequence[int]:
        """Which reports have a metric, rising: as many as it has values."""
        if (places := self._places.get(metric)) is not None:
            return places
        return range(len(self.values.get(metric, ())))

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
        metrics: dict[str, float] = {}
        for name, column in self.values.items():
            places = self.places(name)
            place = bisect_left(places, index)
            if place < len(places) and places[place] == index:
                metrics[name] = column[place]
        return Report(self.at[index], self.attempts[index], self.lengths[index], metrics)
