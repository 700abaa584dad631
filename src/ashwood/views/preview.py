"""What a search will do, before anything runs: the heart of ``ashwood preview-search``.

Of methods whose numbers are fixed they are exact.  ASHA promotes early arrivals while a
rung is small, so there a preview states the guaranteed minimum, and the middle and the
5-95 % range of many simulated searches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ashwood.search.plan import SearchPlan, plan_search
from ashwood.search.settings import SearchSettings
from ashwood.simulation.play import Arrivals
from ashwood.views.arrivals import guaranteed_arrivals, is_exact, total_length
from ashwood.views.outlook import Outlook, Prices, full_trainings, look_ahead, look_beside, simulate_checkpoints
from ashwood.views.plain import plain
from ashwood.views.simulation import ANY_CONDITIONS, Conditions, affordable, simulate

# For ranges from 5 to 95 %.
_STEP = 20
_SIMULATED_TRIALS = 20_000
_MOST_TRIALS = 30_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a quantity will be.

    Attributes:
        least: guaranteed as long as no trial fails; None: nothing above 0 is.
        low: 5 % of the simulated searches had less.
        middle: the median of the simulated searches.
        high: 5 % of the simulated searches had more.
    """

    least: float | None
    low: float
    middle: float
    high: float

    @property
    def exact(self) -> bool:
        """Whether it can only be this one value."""
        return self.least == self.low == self.high


@dataclass(frozen=True, slots=True)
class LengthPreview:
    """One row of the table: a length at which trials are compared, in any bracket.

    Attributes:
        length: total training length.
        reach: how many trials train to this length or further.
        end: how many trials never train further than this length.
    """

    length: int
    reach: Estimate
    end: Estimate


@dataclass(frozen=True, slots=True)
class BracketPreview:
    """One bracket.

    Attributes:
        number: which one, from 0; the most aggressive first.
        lengths: its rungs' total lengths, rising.
        trials: how many trials it creates.
        share: how many trials at once it is entitled to, relative to the other brackets.
        reach: of each rung, how many trials get there.
    """

    number: int
    lengths: tuple[int, ...]
    trials: int
    share: int
    reach: tuple[Estimate, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a search will do, errors and invalid hyperparameters aside.

    Attributes:
        settings: as they were understood, with all defaults.
        exact: every number is certain; otherwise they are estimates.
        simulations: how many searches were simulated; 0: all numbers are computed.
        workers: how many trials train at once at most; None: simulated with all sorts of numbers.
        max_concurrent_trials: raised to the number of brackets where it was less; 0: no bound.
        dropped: the numbers of rungs of brackets that max_trials is too small for.
        brackets: side by side, the most aggressive first.
        lengths: over all brackets, the shortest length first; the last is max_length.
        total_trials: how many trials are created.
        total_length: training of all trials together.
        share: of the training that all trials to the end would take.
        outlook: what it takes; None: it is unknown what a unit of training takes.
        beside: the same for other searches with as many trials.
        full_trainings: how many trials training all to the end, one after the other, manages in the same time.
    """

    settings: SearchSettings
    exact: bool
    simulations: int
    workers: int | None
    max_concurrent_trials: int
    dropped: tuple[int, ...]
    brackets: tuple[BracketPreview, ...]
    lengths: tuple[LengthPreview, ...]
    total_trials: int
    total_length: Estimate
    share: Estimate
    outlook: Outlook | None = None
    beside: tuple[Outlook, ...] = ()
    full_trainings: int | None = None

    @property
    def full_length(self) -> Estimate:
        """How many trials reach max_length."""
        return self.lengths[-1].reach

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON-able data."""
        data: dict[str, Any] = plain(self)
        data["full_length"] = plain(self.full_length)
        return data


def preview(
    settings: SearchSettings,
    *,
    conditions: Conditions = ANY_CONDITIONS,
    prices: Prices | None = None,
    simulations: int | None = None,
    compare: bool = True,
) -> Preview:
    """What a search will do: the same answer every time.

    Args:
        settings: of the search.
        conditions: how trials will train, as far as is known; ranges allow for what isn't.
        prices: of workers and checkpoints, for an outlook on what it takes; None: none is wanted.  With prices,
            ``conditions`` tells the number of workers and what a unit of training takes.
        simulations: how many searches to simulate; None: as many as a moment allows.
        compare: with an outlook, whether others are to be seen beside it.
    """
    plan = plan_search(settings)
    least = guaranteed_arrivals(settings, plan)
    exact = is_exact(settings, plan)
    count = 0 if exact and prices is None else simulations or _count(settings)
    courses = [simulate(settings, number=number, conditions=conditions) for number in range(count)]
    searches = [least] if exact else [course.arrivals for course in courses]
    shown = _summarize(settings, plan, least, searches, exact=exact, workers=conditions.workers)
    if prices is None:
        return shown
    outlook = look_ahead(
        settings, conditions, prices, courses, simulate_checkpoints(settings, conditions, prices.policy)
    )
    return replace(
        shown,
        outlook=outlook,
        beside=tuple(look_beside(settings, conditions, prices)) if compare else (),
        full_trainings=full_trainings(settings, conditions, outlook.seconds.middle),
    )


def _count(settings: SearchSettings) -> int:
    """Return how many searches to simulate; of a very large search one, because its ranges are narrow."""
    if settings.max_trials > _MOST_TRIALS:
        return 1
    return affordable(settings.max_trials, step=_STEP, budget=_SIMULATED_TRIALS)


def _summarize(
    settings: SearchSettings,
    plan: SearchPlan,
    least: Arrivals,
    searches: Sequence[Arrivals],
    *,
    exact: bool,
    workers: int | None,
) -> Preview:
    trials = sum(bracket.trials for bracket in plan.brackets)
    everything = trials * settings.max_length
    total = _estimate(total_length(plan, least), [total_length(plan, search) for search in searches])
    return Preview(
        settings=settings,
        exact=exact,
        simulations=0 if exact else len(searches),
        workers=workers,
        max_concurrent_trials=plan.max_concurrent_trials,
        dropped=plan.dropped,
        brackets=tuple(
            BracketPreview(
                number,
                bracket.lengths,
                bracket.trials,
                bracket.share,
                tuple(
                    _estimate(least[number][rung], [search[number][rung] for search in searches])
                    for rung in range(len(bracket.lengths))
                ),
            )
            for number, bracket in enumerate(plan.brackets)
        ),
        lengths=tuple(
            LengthPreview(
                length,
                _estimate(reach(plan, least, length), [reach(plan, search, length) for search in searches]),
                _estimate(
                    end(plan, least, length) if exact or length == settings.max_length else None,
                    [end(plan, search, length) for search in searches],
                ),
            )
            for length in sorted({length for bracket in plan.brackets for length in bracket.lengths})
        ),
        total_trials=trials,
        total_length=total,
        share=Estimate(*(value / everything for value in (total.least or 0, total.low, total.middle, total.high))),
    )


def reach(plan: SearchPlan, arrivals: Arrivals, length: int) -> int:
    """How many trials of all brackets trained to a length or further."""
    return sum(
        next(count for rung, count in zip(bracket.lengths, counts, strict=True) if rung >= length)
        for bracket, counts in zip(plan.brackets, arrivals, strict=True)
    )


def end(plan: SearchPlan, arrivals: Arrivals, length: int) -> int:
    """How many trials of all brackets ended at a length."""
    return sum(
        count - further
        for bracket, counts in zip(plan.brackets, arrivals, strict=True)
        for rung, count, further in zip(bracket.lengths, counts, (*counts[1:], 0), strict=True)
        if rung == length
    )


def _estimate(least: float | None, values: Sequence[float]) -> Estimate:
    ranked = sorted(values)
    outside = max(1, (len(ranked) + 1) // _STEP)
    return Estimate(least, ranked[outside - 1], ranked[len(ranked) // 2], ranked[-outside])
