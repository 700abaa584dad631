"""How the best metric became what it is: each improvement, or as many as a small line needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ashwood.search.vocabulary import TrialId

POINTS = 60
"""As many as a small line needs."""


class Improvement(NamedTuple):
    """The best metric so far became better.

    Attributes:
        at: when that was known, in seconds since 1970.
        trial: whose metric it is.
        length: the total length at which the trial reported it.
        metric: the new best.
        trained: training of all trials together until then.
        created: how many trials there were.
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
    """The first, and the last of each stretch of time, of which there are so many that it are at most ``most``."""
    if len(improvements) <= most:
        return list(improvements)
    first, last = improvements[0], improvements[-1]
    width = (last.driven - first.driven) / (most - 2) or 1.0
    kept = {int((each.driven - first.driven) / width): each for each in improvements[1:]}
    return [first, *kept.values()]
