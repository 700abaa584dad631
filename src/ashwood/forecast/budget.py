"""Training and time that each rung of each bracket took, beside the expected training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ashwood.forecast.arrivals import expected_arrivals_of, replicate_length
from ashwood.search.plan import plan_search
from ashwood.search.settings import NO_LENGTH
from ashwood.search.vocabulary import TrialId
from ashwood.views.history import History


@dataclass(slots=True)
class RungSpending:
    """The training towards one rung.

    Attributes:
        bracket: index of the bracket.
        length: total length of the rung.
        expected: expected training length of the whole search towards this rung, without repeated work.
        trained: training length beyond the former maximum of each trial.
        repeated: training length that was repeated because no checkpoint held it.
        seconds: time that processes trained towards this rung, added up.
        is_replicates: whether this is the training of replicates, which are in no rung, instead of that of a rung.
    """

    bracket: int
    length: int
    expected: float
    trained: int = 0
    repeated: int = 0
    seconds: float = 0.0
    is_replicates: bool = False


@dataclass(frozen=True, slots=True)
class Spent:
    """The training and time that an experiment took.

    Attributes:
        shares: the shares of the rungs of each bracket, the shortest rung first.  If there are replicates, their share
            follows as if they were one more bracket.
        busy: seconds in which a slot had a process, added up over slots.
        idle: seconds in which a slot had no process, added up over slots.
    """

    shares: Sequence[Sequence[RungSpending]]
    busy: float
    idle: float

    @property
    def trained(self) -> int:
        """Total training length without repeated training."""
        return sum(share.trained for bracket in self.shares for share in bracket)

    @property
    def repeated(self) -> int:
        """Total training length that was repeated."""
        return sum(share.repeated for bracket in self.shares for share in bracket)

    @property
    def expected(self) -> float:
        """Total expected training length."""
        return sum(share.expected for bracket in self.shares for share in bracket)


def budget(views: History) -> Spent:
    """Return what an experiment took according to reports, in O(n) time for n spans of work."""
    timeline, spending = views.timeline, views.progress.trials.spending
    shares = _expectations(views)
    furthest: defaultdict[TrialId, int] = defaultdict(int)
    ladder = views.progress.ladder
    for span in timeline.spans:
        is_replicate = span.trial in ladder.originals
        share = shares[-1][0] if is_replicate else shares[span.bracket][span.rung]
        known = furthest[span.trial]
        further = max(0, span.length - max(known, span.start))
        share.trained += further
        share.repeated += span.length - span.start - further
        share.seconds += (timeline.until if span.end is None else span.end) - span.begin
        furthest[span.trial] = max(known, span.length)
    return Spent(shares, spending.busy_seconds, max(0.0, spending.slot_seconds - spending.busy_seconds))


def _expectations(views: History) -> list[list[RungSpending]]:
    plan = plan_search(views.spec.search)
    if views.spec.search.open_ended:  # What will be trained is unknown.
        return [[RungSpending(view.number, NO_LENGTH, 0.0)] for view in views.progress.ladder.brackets]
    means = expected_arrivals_of(views.progress)
    shares = [
        [
            # A user may have changed the number of trials since the search was planned.
            RungSpending(view.number, length, mean * view.planned / bracket.trials * (length - below))
            for length, below, mean in zip(bracket.lengths, (0, *bracket.lengths), each, strict=False)
        ]
        for view, bracket, each in zip(views.progress.ladder.brackets, plan.brackets, means, strict=True)
    ]
    ladder = views.progress.ladder
    if ladder.replicates_wanted or ladder.originals:
        longest = views.progress.spec.search.max_length
        expected = replicate_length(ladder.replicates_wanted, longest, means)
        shares.append([RungSpending(len(shares), longest, expected, is_replicates=True)])
    return shares
