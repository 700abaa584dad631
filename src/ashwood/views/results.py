"""Results of trials that can be compared because they trained to the same length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import NamedTuple

from ashwood.experiment.lifecycle import TrialState
from ashwood.search.vocabulary import TrialId
from ashwood.views.ladder import Ladder


class Result(NamedTuple):
    """The finite metric of a trial at a rung of ``length``."""

    trial: TrialId
    length: int
    metric: float


class Comparable(NamedTuple):
    """The results of trials of all brackets at one length."""

    length: int
    results: Sequence[Result]


def last_results(ladder: Ladder) -> list[Result]:
    """Return the result of each trial at the longest rung that it reached, without metrics that are not finite."""
    results = (last_result(ladder, trial) for trial in range(len(ladder.paths)))
    return [result for result in results if result is not None]


def last_result(ladder: Ladder, trial: TrialId) -> Result | None:
    """Return the result of a trial at the longest rung that it reached, or None if it has no finite one."""
    path = ladder.paths[trial]
    if not path.arrivals or path.state is TrialState.INVALID or not isfinite(path.arrivals[-1].metric):
        return None
    last = path.arrivals[-1]
    return Result(trial, ladder.brackets[path.bracket].lengths[last.rung], last.metric)


def comparable(ladder: Ladder, enough: int) -> Comparable | None:
    """Return the results at the longest length with at least ``enough`` results, or None if there are no results.

    If no length has enough results, return those at the length with the most.  The trials at a long length are a
    selection of the better ones, but all of them trained equally long.
    """
    found: dict[int, list[Result]] = {}
    for result in _results(ladder):
        found.setdefault(result.length, []).append(result)
    if not found:
        return None
    length = max((length for length, results in found.items() if len(results) >= enough), default=None)
    if length is None:
        length = max(found, key=lambda each: (len(found[each]), each))
    return Comparable(length, found[length])


def _results(ladder: Ladder) -> Iterator[Result]:
    """Yield the finite results of valid trials at all rungs."""
    for trial, path in enumerate(ladder.paths):
        if path.state is TrialState.INVALID:
            continue
        lengths = ladder.brackets[path.bracket].lengths
        for _, rung, _, metric in path.arrivals[ladder.first_rung(trial) :]:
            if isfinite(metric):
                yield Result(trial, lengths[rung], metric)
