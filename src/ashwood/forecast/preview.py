"""Preview of a search before it runs, for ``ashwood preview``.

The numbers are exact for methods whose numbers are fixed.  ASHA promotes early arrivals while
a rung is small, so its preview has the guaranteed minimum, and the median and the 5-95 % range
of many simulated searches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ashwood.forecast.arrivals import guaranteed_arrivals, is_exact, replicate_length, total_length
from ashwood.forecast.conditions import ANY_CONDITIONS, Conditions, affordable, simulate
from ashwood.forecast.play import Arrivals
from ashwood.forecast.searches import (
    CheckpointCounter,
    Prices,
    SearchForecast,
    StorageForecast,
    forecast_alternatives,
    forecast_search,
    full_trainings,
    simulate_checkpoints,
)
from ashwood.search.plan import SearchPlan, plan_search
from ashwood.search.settings import SearchSettings
from ashwood.views.plain import plain
from ashwood.views.wording import known_length

# A range from 5 to 95 % leaves one in twenty simulations below it, and one in twenty above.
_STEP = 20
_SIMULATED_TRIALS = 20_000
_MOST_TRIALS = 30_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimate of a quantity.

    Attributes:
        least: guaranteed minimum if no trial fails, or None if there is none above 0.
        low: 5 % of the simulated searches were below it.
        middle: median of the simulated searches.
        high: 5 % of the simulated searches were above it.
    """

    least: float | None
    low: float
    middle: float
    high: float

    @property
    def exact(self) -> bool:
        """Whether the quantity can have only one value."""
        return self.least == self.low == self.high


@dataclass(frozen=True, slots=True)
class LengthPreview:
    """A length at which trials of any bracket are compared: one row of the preview table.

    Attributes:
        length: total training length.
        reach: number of trials that train to at least this length.
        end: number of trials that train to this length and no further.
    """

    length: int
    reach: Estimate
    end: Estimate


@dataclass(frozen=True, slots=True)
class BracketPreview:
    """The preview of one bracket.

    Attributes:
        number: its index; the bracket that stops trials earliest has index 0.
        lengths: rising total lengths of its rungs.
        trials: number of trials that it creates.
        share: its share of the trials that train at once, relative to the shares of the other brackets.
        reach: number of trials that reach each rung.
    """

    number: int
    lengths: tuple[int, ...]
    trials: int
    share: int
    reach: tuple[Estimate, ...]


@dataclass(frozen=True, slots=True)
class AuditPreview:
    """The audits of a search: promotions of trials that are drawn at random.

    Attributes:
        promotions: number of audits.
        length: training length of these promotions, from the rung of the trial to the next one.
    """

    promotions: Estimate
    length: Estimate


@dataclass(frozen=True, slots=True)
class Preview:
    """The preview of a search, if no trial fails or has invalid hyperparameters.

    Attributes:
        settings: settings of the search with all defaults.
        exact: whether all numbers are certain; otherwise they are estimates.
        simulations: number of simulated searches, or 0 if all numbers are computed.
        workers: number of workers, or None if the simulations have different numbers of workers.
        max_concurrent_trials: largest number of trials that train at once, at least one for each bracket; 0 for no
            limit.
        dropped: numbers of rungs of brackets that were left out because max_trials is too small for them.
        brackets: previews of the brackets; the one that stops trials earliest comes first.
        lengths: the lengths of all brackets, the shortest first; the last one is max_length.
        total_trials: number of trials that are created.
        replicates: number of replicates, which are trained to max_length after all other trials.
        total_length: training length of all trials and replicates.
        share: total_length divided by the length for training all trials to the end.
        audits: forecast of the audits, or None if the search makes none.
        forecast: forecast of time and cost, or None if the time for one unit of length is unknown.
        beside: forecasts for other searches with as many trials.
        full_trainings: number of trials that could train to the end in the same time if none was stopped early.
        storage: forecast of the checkpoints, or None if neither max_size nor the size of a checkpoint is known.
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
    replicates: Estimate
    total_length: Estimate
    share: Estimate
    audits: AuditPreview | None = None
    forecast: SearchForecast | None = None
    beside: tuple[SearchForecast, ...] = ()
    full_trainings: int | None = None
    storage: StorageForecast | None = None

    @property
    def full_length(self) -> Estimate:
        """The number of trials that reach max_length."""
        return self.lengths[-1].reach

    def to_json(self) -> dict[str, Any]:
        """Return the preview as JSON-able data."""
        data: dict[str, Any] = plain(self)
        data["settings"]["max_length"] = known_length(self.settings.max_length)
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
    """Return the preview of a search, which is always the same for the same arguments.

    If training code decides how long it trains, the preview counts trials: each has the length 1, so a unit of length
    is a whole trial.

    Args:
        settings: settings of the search.
        conditions: known conditions of training; unknown ones make the ranges wider.
        prices: costs of workers and checkpoints for a forecast of time and cost, or None for no forecast.  With prices,
            ``conditions`` must have the number of workers and the time for one unit of length.
        simulations: number of searches to simulate, or None for a number that takes a second or two.
        compare: whether to add forecasts for other searches to the forecast.
    """
    if settings.open_ended:
        counted = preview(
            replace(settings, max_length=1),
            conditions=conditions,
            prices=prices,
            simulations=simulations,
            compare=False,
        )
        return replace(counted, settings=settings)
    plan = plan_search(settings)
    least = guaranteed_arrivals(settings, plan)
    exact = is_exact(settings, plan)
    count = 0 if exact and prices is None else simulations or _count(settings)
    limited = prices if prices is not None and prices.is_limited else None
    courses = [
        simulate(
            settings,
            number=number,
            conditions=conditions,
            witness=None if limited is None else CheckpointCounter(limited),
        )
        for number in range(count)
    ]
    searches = [least] if exact else [course.arrivals for course in courses]
    shown = _summarize(settings, plan, least, searches, exact=exact, workers=conditions.workers)
    if settings.share_audited and not exact:
        promotions, length = ([getattr(c, each) for c in courses] for each in ("audits", "audited_length"))
        shown = replace(shown, audits=AuditPreview(_estimate(None, promotions), _estimate(None, length)))
    if prices is None:
        return shown
    forecast = forecast_search(
        settings, conditions, prices, courses, simulate_checkpoints(settings, conditions, prices.policy)
    )
    return replace(
        shown,
        forecast=forecast,
        beside=tuple(forecast_alternatives(settings, conditions, prices)) if compare else (),
        full_trainings=full_trainings(settings, conditions, forecast.seconds.middle),
    )


def _count(settings: SearchSettings) -> int:
    """Return the number of simulations; it is 1 for a very large search, because its ranges are narrow."""
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
    wanted, longest = settings.replicates, settings.max_length

    def length(arrivals: Arrivals) -> float:
        return total_length(plan, arrivals) + replicate_length(wanted, longest, arrivals)

    def replicates(arrivals: Arrivals) -> int:
        return min(wanted, sum(counts[-1] for counts in arrivals))

    total = _estimate(length(least), [length(search) for search in searches])
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
        replicates=_estimate(replicates(least), [replicates(search) for search in searches]),
        total_length=total,
        share=Estimate(*(value / everything for value in (total.least or 0, total.low, total.middle, total.high))),
    )


def reach(plan: SearchPlan, arrivals: Arrivals, length: int) -> int:
    """Return the number of trials of all brackets that train to at least a length."""
    return sum(
        next(count for rung, count in zip(bracket.lengths, counts, strict=True) if rung >= length)
        for bracket, counts in zip(plan.brackets, arrivals, strict=True)
    )


def end(plan: SearchPlan, arrivals: Arrivals, length: int) -> int:
    """Return the number of trials of all brackets that end at a length."""
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
