"""Numbers of trials that reach each rung of a plan: the guaranteed and the expected ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import sqrt
from statistics import fmean
from typing import TypeAlias

from ashwood.forecast.conditions import simulate
from ashwood.forecast.play import Arrivals
from ashwood.search.plan import BracketPlan, SearchPlan, plan_search
from ashwood.search.settings import Method, SearchSettings
from ashwood.views.progress import Progress

MeanArrivals: TypeAlias = tuple[tuple[float, ...], ...]
"""Mean number of trials that reach each rung, for each bracket."""

# These are enough for a mean: many trials make rounding errors small, and many searches make random errors small.
_SAMPLE_TRIALS = 2_000
_SAMPLE_SEARCHES = 30


def is_exact(settings: SearchSettings, plan: SearchPlan) -> bool:
    """Return whether the plan alone determines how many trials reach each rung, if no trial fails."""
    if settings.method is Method.SYNC_HALVING:
        return True
    return all(len(bracket.lengths) == 1 or bracket.trials == 1 for bracket in plan.brackets)


def guaranteed_arrivals(settings: SearchSettings, plan: SearchPlan) -> Arrivals:
    """Return the least number of trials that reach each rung, for each bracket, if no trial fails.

    When a bracket is done, the best floor(n / divisor) trials of each rung have been promoted,
    and at least one.  With ``stop_once`` a trial is never compared with later ones: if each is
    worse than the one before, only the first one is promoted.
    """
    stopping = settings.stop_once and settings.method is not Method.SYNC_HALVING
    return tuple(_least(bracket, settings, stopping=stopping) for bracket in plan.brackets)


def _least(bracket: BracketPlan, settings: SearchSettings, *, stopping: bool) -> tuple[int, ...]:
    least = [bracket.trials]
    for _ in bracket.lengths[1:]:
        least.append(1 if stopping else max(1, int(least[-1] / settings.divisor)))
    return tuple(least)


def expected_arrivals(settings: SearchSettings) -> MeanArrivals:
    """Return the mean number of trials that reach each rung, for each bracket, from simulated searches."""
    plan = plan_search(settings)
    if is_exact(settings, plan):
        return guaranteed_arrivals(settings, plan)
    sample = _sample(settings, plan)
    searches = min(_SAMPLE_SEARCHES, max(1, 2 * _SAMPLE_TRIALS // sample.max_trials))
    simulated = [simulate(sample, number=number).arrivals for number in range(searches)]
    return tuple(
        _scale([fmean(rung) for rung in zip(*counts, strict=True)], bracket.trials, settings.effective_divisor)
        for bracket, *counts in zip(plan.brackets, *simulated, strict=True)
    )


def expected_arrivals_of(progress: Progress) -> Sequence[Sequence[float]]:
    """Return the `expected_arrivals` of an experiment.  They are stored in its progress, as they take 0.1 s."""
    if progress.expected_arrivals is None:
        progress.expected_arrivals = expected_arrivals(progress.spec.search)
    return progress.expected_arrivals


def _scale(means: Sequence[float], trials: int, divisor: Fraction) -> tuple[float, ...]:
    """Return the mean arrivals of a bracket with another number of trials than the simulated one.

    One of ``divisor`` trials is promoted from each rung, including audits.  In addition, some are promoted early,
    while their rung is small; their number grows with the square root of the number of trials.

    Source: Li et al. 2020 (arXiv:1810.05934), section 3.3 and appendix A.1.
    """
    factor = trials / means[0]
    return tuple(
        trials / float(divisor**rung) + (mean - means[0] / float(divisor**rung)) * sqrt(factor)
        for rung, mean in enumerate(means)
    )


def expected_length(settings: SearchSettings) -> float:
    """Return the expected total length of all trials.  This takes less than a second, unlike a whole preview."""
    arrivals = expected_arrivals(settings)
    replicates = replicate_length(settings.replicates, settings.max_length, arrivals)
    return total_length(plan_search(settings), arrivals) + replicates


def total_length(plan: SearchPlan, arrivals: Sequence[Sequence[float]]) -> float:
    """Return the total length of all trials of a search, given the number of trials that reach each rung."""
    return sum(
        count * (length - below)
        for bracket, counts in zip(plan.brackets, arrivals, strict=True)
        for length, below, count in zip(bracket.lengths, (0, *bracket.lengths), counts, strict=False)
    )


def replicate_length(replicates: int, max_length: int, arrivals: Sequence[Sequence[float]]) -> float:
    """Return the total length of the replicates of a search, of which each finalist has at most one."""
    return min(replicates, sum(counts[-1] for counts in arrivals)) * max_length


def _sample(settings: SearchSettings, plan: SearchPlan) -> SearchSettings:
    """Return a smaller search with the same rungs, or the search itself if there is none."""
    trials = _SAMPLE_TRIALS
    while trials < settings.max_trials:
        share = Fraction(trials, settings.max_trials)
        fewer = tuple(max(1, int(share * each)) for each in settings.bracket_trials)
        smaller = replace(settings, max_trials=trials, bracket_trials=fewer)
        if [b.lengths for b in plan_search(smaller).brackets] == [b.lengths for b in plan.brackets]:
            return smaller
        trials *= 2
    return settings
