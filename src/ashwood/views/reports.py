"""Compact storage of reports, so that millions of them need little memory and are saved fast."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple, overload

from ashwood.search.vocabulary import TrialId
from ashwood.views.numbers import Numbers


class TrialReport(NamedTuple):
    """The metrics that an attempt of a trial reported at a total length; ``at`` is in seconds since 1970."""

    at: float
    attempt: int
    length: int
    metrics: Mapping[str, float]


class Reports(Sequence[TrialReport]):
    """Reports in the order in which they arrived, as columns of times, attempts, lengths and metrics.

    Attributes:
        at: time of each report, in seconds since 1970.
        attempts: attempt of each report.
        lengths: total length of each report.
        values: values of each metric by name; reports without the metric are left out of its column.
    """

    __slots__ = ("_places", "at", "attempts", "lengths", "values")

    def __init__(self) -> None:
        self.at = array("d")
        self.attempts = array("q")
        self.lengths = array("q")
        self.values: dict[str, array[float]] = {}
        # Indices of the reports that have a metric. A metric that the first reports have without a gap has no entry
        # here.
        self._places: dict[str, array[int]] = {}

    def add(self, at: float, attempt: int, length: int, metrics: Mapping[str, float]) -> None:
        """Add a report."""
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

    def pick(self, indices: Sequence[int]) -> Reports:
        """Return the reports at the given indices, which must be rising."""
        picked = Reports()
        for column in ("at", "attempts", "lengths"):
            getattr(picked, column).extend(map(getattr(self, column).__getitem__, indices))
        for name, values in self.values.items():
            places = self.places(name)
            found = [(at, bisect_left(places, index)) for at, index in enumerate(indices)]
            found = [(at, of) for at, of in found if of < len(places) and places[of] == indices[at]]
            if found:
                picked.values[name] = array("d", [values[of] for _, of in found])
                if found[-1][0] >= len(found):
                    picked._places[name] = array("q", [at for at, _ in found])
        return picked

    def places(self, metric: str) -> Sequence[int]:
        """Return the indices of the reports that have a metric, rising; each value of the metric has one."""
        if (places := self._places.get(metric)) is not None:
            return places
        return range(len(self.values.get(metric, ())))

    def __len__(self) -> int:
        return len(self.at)

    @overload
    def __getitem__(self, index: int) -> TrialReport: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TrialReport]: ...
    def __getitem__(self, index: int | slice) -> TrialReport | Sequence[TrialReport]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        metrics: dict[str, float] = {}
        for name, column in self.values.items():
            places = self.places(name)
            place = bisect_left(places, index)
            if place < len(places) and places[place] == index:
                metrics[name] = column[place]
        return TrialReport(self.at[index], self.attempts[index], self.lengths[index], metrics)


class ReportsByTrial:
    """The reports of all trials in shared columns, because many trials have only a few reports."""

    def __init__(self) -> None:
        self._reports = Reports()
        self._indices = Numbers()

    def __contains__(self, trial: TrialId) -> bool:
        """Return whether a trial has reported anything."""
        return trial in self._indices

    def add(self, trial: TrialId, report: TrialReport) -> None:
        """Add a report of a trial."""
        self._indices.add(trial, len(self._reports))
        self._reports.add(*report)

    def of(self, trial: TrialId) -> Reports:
        """Return the reports of a trial, in the order in which they arrived."""
        return self._reports.pick(self._indices.of(trial))
