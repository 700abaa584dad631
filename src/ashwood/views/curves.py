"""Learning curves: what a trial reported, as one line, and the same with fewer points."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nsmallest
from itertools import pairwise
from math import isfinite, nan
from operator import le
from typing import Literal, TypeAlias

from ashwood.views.reports import Reports
from ashwood.views.trials import TrialRow, TrialTable

By: TypeAlias = Literal["metric", "length"]
BY: tuple[By, ...] = ("metric", "length")
Curve: TypeAlias = tuple[Sequence[int], Sequence[float]]
"""Lengths, rising, and values; NaN where there is no finite one."""


def curve(reports: Reports, metric: str) -> Curve:
    """What was reported of a metric by length; of work that was done again, as it went the last time.

    A report without it is no gap: some metrics are measured less often than others.
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
    kept: list[int] = []
    for index, length in enumerate(lengths):
        while kept and lengths[kept[-1]] >= length:
            kept.pop()
        kept.append(index)
    return kept


def thin(shown: Curve, most: int) -> Curve:
    """The same with no more than so many points, from 2 up; what isn't finite is a gap, NaN."""
    lengths, values = shown
    kept = telling(values, most)
    return [lengths[index] for index in kept], [values[index] if isfinite(values[index]) else nan for index in kept]


def telling(values: Sequence[float], most: int) -> Sequence[int]:
    """Which points to keep, in order: the first, the last, and the extremes of each stretch between.

    Stretches hold equally many points; of a stretch without a finite one its first is kept, as a gap.
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


def leading(table: TrialTable, top: int, by: By) -> list[TrialRow]:
    """The first trials by their best metric, or those that trained furthest; equally far ones by their metric."""
    if by == "metric":
        return table.best(top)
    known = (row for row in table.rows.values() if row.seen is not None)
    return nsmallest(top, known, key=lambda row: (-row.length, table.ranking_key(row)))
