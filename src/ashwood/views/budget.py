"""Where the budget went: training and time, per bracket and rung, and what was to be expected of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ashwood.search.plan import plan_search
from ashwood.search.settings import SearchSettings
from ashwood.search.vocabulary import TrialId
from ashwood.views.arrivals import MeanArrivals, expected_arrivals
from ashwood.views.chronicle import Chronicle


@dataclass(slots=True)
class Share:
    """What training towards one rung took.

    Attributes:
        bracket: which bracket.
        length: of the rung, a total.
        expected: training to be expected of a whole search, repeated work left out.
        trained: training that took trials further than they had ever been.
        repeated: training that was done again.
        seconds: how long processes worked on it.
    """

    bracket: int
    length: int
    expected: float
    trained: int = 0
    repeated: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Budget:
    """Where it all went.

    Attributes:
        shares: of each bracket, the shortest rung first.
        busy: seconds of all slots together in which a process worked.
        idle: seconds in which none did.
    """

    shares: Sequence[Sequence[Share]]
    busy: float
    idle: float

    @property
    def trained(self) -> int:
        """All training that took a trial further."""
        return sum(share.trained for bracket in self.shares for share in bracket)

    @property
    def repeated(self) -> int:
        """All training that was done again."""
        return sum(share.repeated for bracket in self.shares for share in bracket)

    @property
    def expected(self) -> float:
        """All training to be expected."""
        return sum(share.expected for bracket in self.shares for share in bracket)


def budget(told: Chronicle) -> Budget:
    """What was spent, as far as trials reported it; O(stretches of work)."""
    timeline, spending = told.timeline, told.progress.trials.spending
    shares = _expectations(told)
    furthest: defaultdict[TrialId, int] = defaultdict(int)
    for span in timeline.spans:
        share = shares[span.bracket][span.rung]
        known = furthest[span.trial]
        further = max(0, span.length - max(known, span.start))
        share.trained += further
        share.repeated += span.length - span.start - further
        share.seconds += (timeline.until if span.end is None else span.end) - span.begin
        furthest[span.trial] = max(known, span.length)
    return Budget(shares, spending.busy_seconds, max(0.0, spending.slot_seconds - spending.busy_seconds))


def _expectations(told: Chronicle) -> list[list[Share]]:
    plan = plan_search(told.spec.search)
    return [
        [
            # Somebody may have changed the number of trials since the search was planned.
            Share(view.number, length, mean * view.planned / bracket.trials * (length - below))
            for length, below, mean in zip(bracket.lengths, (0, *bracket.lengths), means, strict=False)
        ]
        for view, bracket, means in zip(
            told.progress.ladder.brackets, plan.brackets, _means(told.spec.search), strict=True
        )
    ]


@lru_cache(maxsize=64)
def _means(settings: SearchSettings) -> MeanArrivals:
    return expected_arrivals(settings)
