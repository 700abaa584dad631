"""Learning curves of trials, and a method to draw them with fewer points."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from itertools import pairwise
from math import isfinite, nan
from operator import le
from typing import Literal, NamedTuple, TypeAlias

from ashwood.experiment.lifecycle import TrialState
from ashwood.views.reports import Reports
from ashwood.views.trials import TrialRow, TrialTable

By: TypeAlias = Literal["metric", "length"]
BY: tuple[By, ...] = ("metric", "length")
Curve: TypeAlias = tuple[Sequence[int], Sequence[float]]
"""Rising lengths and their values; NaN stands for a value that is not finite."""


def curve(reports: Reports, metric: str) -> Curve:
    """Return the reported values of a metric by length; if training was repeated, only its last values.

    A report without the metric makes no gap, because some metrics are measured less often than others.
    """
    values = reports.values.get(metric)
    if values is None:
        return (), ()
    lengths, places = reports.lengths, reports.places(metric)
    if any(map(le, lengths[1:], lengths)):
        having = dict(zip(places, values, strict=True))
        kept = [index for index in _last_time(lengths) if index in having]
        return [lengths[index] for index in kept], [having[index] for index in kept]
    return lengths if len(places) == len(lengths) else [lengths[index] for index in places], values


def _last_time(lengths: Sequence[int]) -> list[int]:
    """Return the indices of reports that are not replaced by a later report at the same or a shorter length."""
    kept: list[int] = []
    for index, length in enumerate(lengths):
        while kept and lengths[kept[-1]] >= length:
            kept.pop()
        kept.append(index)
    return kept


def thin(shown: Curve, most: int) -> Curve:
    """Return a curve with at most ``most`` points, which is at least 2.  NaN replaces values that are not finite."""
    lengths, values = shown
    kept = points_to_show(values, most)
    return [lengths[index] for index in kept], [values[index] if isfinite(values[index]) else nan for index in kept]


def points_to_show(values: Sequence[float], most: int) -> Sequence[int]:
    """Return the indices of the points to draw: the first, the last, and the extremes of each stretch between them.

    All stretches have about the same number of points.  Of a stretch without finite values, the first point is kept, so
    that a gap is shown.
    Source: M4 aggregation, Jugel et al. 2014 ("M4: A Visualization-Oriented Time Series Data Aggregation").
    """
    count = len(values)
    if count <= most:
        return range(count)
    stretches = (most - 2) // 2
    kept = {0, count - 1}
    bounds = [1 + (count - 2) * number // stretches for number in range(stretches + 1)] if stretches else []
    for begin, end in pairwise(bounds):
        stretch = values[begin:end]
        low, high = min(stretch), max(stretch)
        if isfinite(low) and isfinite(high) and not any(map(_is_nan, stretch)):
            kept.add(begin + stretch.index(low))
            kept.add(begin + stretch.index(high))
        else:
            kept |= _extremes(values, begin, end)
    return sorted(kept)


def _is_nan(value: float) -> bool:
    return value != value


def _extremes(values: Sequence[float], begin: int, end: int) -> set[int]:
    finite = [index for index in range(begin, end) if isfinite(values[index])]
    if not finite:
        return {begin} if begin < end else set()
    return {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)}


def smoothed(shown: Curve, weight: float) -> Curve:
    """Return a curve of moving averages with exponential weights, each without a bias towards the first value.

    Args:
        shown: the curve; values that are not finite stay as they are and are not averaged.
        weight: weight of the earlier values, from 0 (no smoothing) to less than 1.
    """
    lengths, values = shown
    mean, total = 0.0, 0.0
    averages = []
    for value in values:
        if isfinite(value):
            mean = weight * mean + (1.0 - weight) * value
            total = weight * total + (1.0 - weight)
            value = mean / total
        averages.append(value)
    return lengths, averages


class Band(NamedTuple):
    """The curves of a group of trials.

    Attributes:
        lengths: rising lengths at which at least one trial has a finite value.
        means: mean of the values at each length.
        lows: value below which about a tenth of the values are.
        highs: value above which about a tenth of the values are.
        counts: number of values at each length.
    """

    lengths: Sequence[int]
    means: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]
    counts: Sequence[int]


def band(curves: Iterable[Curve]) -> Band:
    """Return the mean and the spread of several curves at each length."""
    values: defaultdict[int, list[float]] = defaultdict(list)
    for lengths, metrics in curves:
        for length, metric in zip(lengths, metrics, strict=True):
            if isfinite(metric):
                values[length].append(metric)
    rows = []
    for length in sorted(values):
        there = sorted(values[length])
        cut = len(there) // 10
        # Not fmean: it adds the values first, and their sum can overflow although their mean does not.
        mean = sum(value / len(there) for value in there)
        rows.append((length, mean, there[cut], there[-1 - cut], len(there)))
    return Band(*map(list, zip(*rows, strict=True))) if rows else Band([], [], [], [], [])


def leading(table: TrialTable, top: int, by: By, *, stopped: bool = True) -> list[TrialRow]:
    """Return the ``top`` trials with the best metrics, or with the greatest lengths and then the best metrics.

    Without ``stopped``, trials that the search has stopped are left out.
    """
    if by == "metric":
        if stopped:
            return table.best(top)
        return [row for row in table.best(len(table.rows)) if row.state is not TrialState.STOPPED][:top]
    known = (
        row for row in table.rows.values() if row.seen is not None and (stopped or row.state is not TrialState.STOPPED)
    )
    return nsmallest(top, known, key=lambda row: (-row.length, table.ranking_key(row)))
