"""The improvements of the best metric: all of them, or those that a small line chart needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ashwood.search.vocabulary import TrialId

POINTS = 60
"""Number of points that a small line chart needs."""


class Improvement(NamedTuple):
    """A new best metric of an experiment.

    Attributes:
        at: time of the improvement, in seconds since 1970.
        trial: the trial that has this metric.
        length: total length at which the trial has this metric.
        metric: the new best metric.
        trained: training length of all trials until then.
        created: number of trials at that time.
        driven: seconds that drivers had run until then.
    """

    at: float
    trial: TrialId
    length: int
    metric: float
    trained: int
    created: int
    driven: float


def thinned(improvements: Sequence[Improvement], most: int) -> list[Improvement]:
    """Return the first improvement and the last one of each of equally long stretches of time, at most ``most``."""
    if len(improvements) <= most:
        return list(improvements)
    first, last = improvements[0], improvements[-1]
    width = (last.driven - first.driven) / (most - 2) or 1.0
    kept = {int((each.driven - first.driven) / width): each for each in improvements[1:]}
    return [first, *kept.values()]
