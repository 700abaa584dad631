"""Results that can be compared with each other: those of trials that trained equally long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import NamedTuple

from ashwood.experiment.lifecycle import TrialState
from ashwood.search.vocabulary import TrialId
from ashwood.views.timeline import Timeline


class Result(NamedTuple):
    """A trial and the metric that it was compared by, at a rung of ``length``; it is finite."""

    trial: TrialId
    length: int
    metric: float


class Comparable(NamedTuple):
    """The results at one length: of trials of any bracket."""

    length: int
    results: Sequence[Result]


def last_results(timeline: Timeline) -> list[Result]:
    """Of each trial the result at the longest rung that it was compared at; what isn't finite is left out."""
    found = []
    for trial, path in timeline.paths.items():
        if path.arrivals and path.state is not TrialState.INVALID:
            last = path.arrivals[-1]
            if isfinite(last.metric):
                found.append(Result(trial, timeline.lengths[path.bracket][last.rung], last.metric))
    return found


def comparable(timeline: Timeline, enough: int) -> Comparable | None:
    """The results at the longest length that has enough of them, otherwise at the one that has most; None: no result.

    Who got that far was chosen by how good it was before; all of them are trained equally long.
    """
    counts: Counter[int] = Counter(result.length for result in _results(timeline))
    if not counts:
        return None
    length = max((length for length, count in counts.items() if count >= enough), default=None)
    if length is None:
        length = max(counts, key=lambda each: (counts[each], each))
    return Comparable(length, [result for result in _results(timeline) if result.length == length])


def _results(timeline: Timeline) -> Iterator[Result]:
    """Every trial at every rung."""
    for trial, path in timeline.paths.items():
        if path.state is TrialState.INVALID:
            continue
        lengths = timeline.lengths[path.bracket]
        for _, rung, _, metric in path.arrivals:
            if isfinite(metric):
                yield Result(trial, lengths[rung], metric)
