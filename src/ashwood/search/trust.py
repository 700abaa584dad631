"""Statistics that say whether early stopping can be believed: does the ranking at a short length predict a longer one?

Only promoted trials have a result at the next rung, and they were promoted because their result at the lower rung was
good.  A correlation among them is therefore too low (restriction of range).  Two estimates correct for that:

- `weighted_tau` is Kendall's tau-b with a weight for each trial: the inverse of the probability with which a trial of
  this result is promoted at some time (Horvitz and Thompson 1952).  `inclusion_probabilities` computes it from the
  order in which results arrived: a poor trial is promoted only if it arrives while the rung is small, or by an audit.
- `restored_covariances` corrects the correlation of normal scores for the selection (Pearson 1903; Lawley 1943; with
  two rungs it is case 2 of Thorndike 1949).  Selection by the results at lower rungs does not change the regression
  of a result on them, so the correlation among all trials follows from the regression among the promoted ones.
  It assumes a Gaussian copula, and needs fewer trials than the first estimate.

Both are invariant under monotone transformations of the losses.  Their intervals are percentiles of a bootstrap over
trials.  Its draws have fixed addresses, and at most `MOST_TRIALS` trials are resampled `RESAMPLES` times, so equal
results give equal numbers and the cost is bounded.

This module knows nothing about experiments.  `ashwood.views.trust` folds its input from a log.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from functools import cached_property, lru_cache
from heapq import heappop, heappush, heappushpop
from itertools import groupby
from math import asin, erfc, fsum, inf, isfinite, isnan, pi, prod, sqrt
from operator import itemgetter, mul
from typing import NamedTuple, TypeAlias

from ashwood.search.draw import bits, unit_draws
from ashwood.search.vocabulary import TrialId

ENOUGH = 12
"""Number of trials with results at two rungs from which on their agreement is judged."""

MOST_TRIALS = 128
"""Number of trials of which agreement is estimated at most.  Of more trials, a fixed random sample is used."""

RESAMPLES = 100
"""Number of resamples of the bootstrap."""

COVERAGE = 0.9
"""Probability with which an interval should contain the true value."""

LARGEST_WEIGHT = 8.0
"""Largest weight of a trial in `weighted_tau`.  A few trials with large weights would make it very uncertain."""

_FEWEST = 4
"""Number of trials with results at two rungs from which on their agreement is estimated."""

_WEIGHT_UNIT = 8
"""Weights are multiples of 1 / 8, so that sums are exact and equal on all machines."""

_EXACT_QUANTILES = 256
"""Of more results, normal scores are computed for this many groups of equal size."""

_RIDGE = 0.02
"""Added to the variances of a regression on several rungs, whose results are correlated."""

_DIGITS = 9
"""Results are rounded, because C libraries differ in the last bits."""

Order: TypeAlias = tuple[int, float]
"""Sort key of a loss: (is NaN, loss).  Both infinities are equal, and rank behind all numbers."""


@dataclass(frozen=True)
class RungResults:
    """The results of a bracket at one length.

    Attributes:
        length: total training length.
        losses: loss of each trial, in the order in which the results arrived.  The loss of a trial that failed on its
            way to this rung is NaN.
        failed: trials without a result, because they failed.  They count in the rung but not in agreement.
        audited: trials that were promoted from this rung as audits, whatever their rank.
        promoted: number of trials that were promoted from this rung.
        direct: loss of each trial at this length that is first compared at a higher rung.  Such trials are no
            selection, so they count fully in agreement.
    """

    length: int
    losses: Mapping[TrialId, float]
    failed: Collection[TrialId] = ()
    audited: Collection[TrialId] = ()
    promoted: int = 0
    direct: Mapping[TrialId, float] = field(default_factory=dict)

    @property
    def known(self) -> Mapping[TrialId, float]:
        """All losses at this length."""
        return {**self.losses, **self.direct} if self.direct else self.losses

    @cached_property
    def orders(self) -> Mapping[TrialId, Order]:
        """Sort keys of ``losses``, the best first."""
        return _ranked(self.losses)

    @cached_property
    def scores(self) -> Mapping[TrialId, float]:
        """Normal scores of ``losses``."""
        return normal_scores(self.orders)

    @cached_property
    def known_orders(self) -> Mapping[TrialId, Order]:
        """Sort keys of `known` losses, the best first."""
        return _ranked(self.known) if self.direct else self.orders

    @cached_property
    def known_scores(self) -> Mapping[TrialId, float]:
        """Normal scores of `known` losses."""
        return normal_scores(self.known_orders) if self.direct else self.scores


class Selection(StrEnum):
    """How trials are selected for the next rung."""

    PROMOTION = "promotion"
    """A trial is promoted as soon as it is among the best floor(n / divisor) of the n results so far."""
    ON_ARRIVAL = "on_arrival"
    """A trial continues if it is among the best max(1, floor(n / divisor)) when its result arrives."""
    COMPLETE = "complete"
    """The best are promoted when the rung is complete.  Chance plays no part, so all weights are 1."""


class Interval(NamedTuple):
    """An interval that contains the true value with probability `COVERAGE`."""

    low: float
    high: float


class Pair(NamedTuple):
    """How well the ranking at one rung predicts the ranking at a higher one.

    Attributes:
        lower: index of the lower rung.
        upper: index of the higher rung.
        length: total training length of the lower rung.
        upper_length: total training length of the higher rung.
        arrived: number of results at the lower rung, with failed trials.
        both: number of trials with results at both rungs.
        tied: share of the results at the lower rung that are equal to the best one that is not promoted.
        audits: number of these trials that were promoted from the lower rung as audits.
        seen: Kendall's tau-b of the trials with results at both rungs, without any correction.
        weighted: Kendall's tau-b with inverse probabilities of promotion as weights.
        weighted_interval: interval of ``weighted``.
        correlation: correlation of normal scores, corrected for selection.
        agreement: ``correlation`` as a Kendall's tau, 2 / pi * asin(correlation).
        interval: interval of ``agreement``.
    """

    lower: int
    upper: int
    length: int
    upper_length: int
    arrived: int
    both: int
    tied: float = 0.0
    audits: int = 0
    seen: float = 0.0
    weighted: float = 0.0
    weighted_interval: Interval = Interval(-1.0, 1.0)
    correlation: float = 0.0
    agreement: float = 0.0
    interval: Interval = Interval(-1.0, 1.0)

    @property
    def measured(self) -> bool:
        """Whether there are enough trials for estimates; otherwise those are 0."""
        return self.both >= _FEWEST


class Stopped(NamedTuple):
    """The price of early stopping at one rung, estimated from a `Pair`.

    Attributes:
        rung: index of the rung.
        stopped: number of trials that were compared at this rung and not promoted.
        chance: probability that the best of all trials compared at this rung, by the result at the higher rung of the
            pair, is one of those.
        regret: expected difference between the best result of the trials that were not promoted and the best result
            of the promoted ones, or 0 if that is not better; in units of the metric.
    """

    rung: int
    stopped: int
    chance: float
    regret: float


def order_of(loss: float) -> Order:
    """Return the sort key of a loss; unlike `ashwood.search.rung.ranking_key`, equal losses have equal keys."""
    return (1, 0.0) if isnan(loss) else (0, loss if isfinite(loss) else inf)


def _ranked(losses: Mapping[TrialId, float]) -> dict[TrialId, Order]:
    """Return the sort keys of losses, the best first."""
    orders = {trial: order_of(loss) for trial, loss in losses.items()}
    return dict(sorted(orders.items(), key=itemgetter(1)))


# -- probabilities of promotion --------------------------------------------------------------------


def inclusion_probabilities(
    rung: RungResults, divisor: Fraction, selection: Selection = Selection.PROMOTION
) -> dict[TrialId, float]:
    """Return the probability that each trial of a rung is promoted, if trials arrive in random order.

    Let the threshold of n results be the floor(n / divisor)-th best loss of the first n.  A trial is promoted if its
    loss is at most the threshold at its arrival or at a later time.  So it is promoted if it arrives no later than the
    last time at which the threshold was as large as its loss.  Given the order of the other trials, its own position
    is uniform, and the probability is that time divided by the number of results.  Every trial of the final quota has
    probability 1.  Audits give each trial that was not promoted otherwise the same additional probability.
    This takes O(n log n) time for n results.
    """
    count = len(rung.losses)
    if selection is Selection.COMPLETE or not count:
        return dict.fromkeys(rung.losses, 1.0)
    # Ranks are compared faster than orders.  Equal results have equal ranks.
    ranks, rank, former = dict[TrialId, int](), -1, None
    for trial, order in rung.orders.items():
        rank += order != former
        ranks[trial], former = rank, order
    arrived = (ranks[trial] for trial in rung.losses)
    thresholds = _thresholds(arrived, divisor, int(selection is Selection.ON_ARRIVAL))
    # Rising thresholds, each with the number of positions at which a trial as good as it would be promoted.
    steps = _steps_on_arrival(thresholds) if selection is Selection.ON_ARRIVAL else _steps(thresholds)
    included, at = dict[TrialId, float](), 0
    for trial, rank in ranks.items():
        while at < len(steps) and steps[at][0] < rank:
            at += 1
        included[trial] = steps[at][1] / count if at < len(steps) else 0.0
    waiting = count - rung.promoted + len(rung.audited)
    share = len(rung.audited) / waiting if waiting > 0 else 0.0
    if not share:
        return included
    return {trial: chance + (1 - chance) * share for trial, chance in included.items()}


def _thresholds(ranks: Iterable[int], divisor: Fraction, least: int) -> list[int | None]:
    """Return the max(least, floor(n / divisor))-th best of the first n ranks, for each n, or None if that is 0."""
    # Two heaps; the ranks in the first are negated, because a heap returns its smallest element.
    best: list[int] = []
    others: list[int] = []
    found: list[int | None] = []
    multiply, divide = divisor.denominator, divisor.numerator
    for n, rank in enumerate(ranks, start=1):
        heappush(others, -heappushpop(best, -rank) if best else rank)
        if len(best) < max(least, n * multiply // divide):
            heappush(best, -heappop(others))
        found.append(-best[0] if best else None)
    return found


def _steps(thresholds: Sequence[int | None]) -> list[tuple[int, int]]:
    """Return the thresholds that are larger than all later ones, rising, each with its time from 1."""
    found: list[tuple[int, int]] = []
    for n in range(len(thresholds), 0, -1):
        threshold = thresholds[n - 1]
        if threshold is not None and (not found or threshold > found[-1][0]):
            found.append((threshold, n))
    return found


def _steps_on_arrival(thresholds: Sequence[int | None]) -> list[tuple[int, int]]:
    """Return the rising thresholds, each with the number of thresholds that are at least as large."""
    ranked = sorted(threshold for threshold in thresholds if threshold is not None)
    return [(threshold, len(ranked) - below) for below, threshold in enumerate(ranked)]


# -- agreement -------------------------------------------------------------------------------------


def weighted_tau(lower: Sequence[Order], upper: Sequence[Order], weights: Sequence[int] = ()) -> float:
    """Return Kendall's tau-b of two rankings, in which each pair of trials counts with the product of their weights.

    Return 0 if one of the rankings has no two different results.
    """
    return _tau(_signs(lower, upper), _groups(lower), _groups(upper), weights or [1] * len(lower))


def kendall_tau(lower: Sequence[Order], upper: Sequence[Order]) -> float:
    """Return `weighted_tau` for equal weights, in O(n log n) comparisons for n trials.

    Source: Knight 1966, "A Computer Method for Calculating Kendall's Tau with Ungrouped Data", JASA 61(314).
    """
    reversals, before = 0, list[Order]()
    for nth, (_, order) in enumerate(sorted(zip(lower, upper, strict=True))):
        place = bisect_right(before, order)
        reversals += nth - place
        before.insert(place, order)
    everything = len(lower) * (len(lower) - 1) // 2
    tied_below, tied_above, tied_twice = (
        sum(count * (count - 1) // 2 for count in Counter(orders).values())
        for orders in (lower, upper, zip(lower, upper, strict=True))
    )
    untied = everything - tied_below, everything - tied_above
    agreeing = everything - tied_below - tied_above + tied_twice - 2 * reversals
    return agreeing / sqrt(untied[0] * untied[1]) if all(untied) else 0.0


def _signs(lower: Sequence[Order], upper: Sequence[Order]) -> list[list[int]]:
    """Return for each trial whether its order relative to each earlier one is the same (1), reversed (-1) or tied."""
    return [
        [
            ((lower[nth] > lower[other]) - (lower[nth] < lower[other]))
            * ((upper[nth] > upper[other]) - (upper[nth] < upper[other]))
            for other in range(nth)
        ]
        for nth in range(len(lower))
    ]


def _groups(orders: Sequence[Order]) -> list[list[int]]:
    """Return the indices of trials with equal results, for each result of at least two trials."""
    found: dict[Order, list[int]] = {}
    for nth, order in enumerate(orders):
        found.setdefault(order, []).append(nth)
    return [group for group in found.values() if len(group) > 1]


def _tau(
    signs: Sequence[Sequence[int]],
    lower: Iterable[Sequence[int]],
    upper: Iterable[Sequence[int]],
    weights: Sequence[int],
) -> float:
    # Weights are whole numbers, so all sums are exact.
    agreeing = sum(weight * sum(map(mul, row, weights)) for row, weight in zip(signs, weights, strict=True) if weight)
    everything = _weight_of_pairs(weights)
    untied = [
        everything - sum(_weight_of_pairs([weights[nth] for nth in group]) for group in groups)
        for groups in (lower, upper)
    ]
    return agreeing / sqrt(untied[0] * untied[1]) if all(untied) else 0.0


def _weight_of_pairs(weights: Sequence[int]) -> int:
    total = sum(weights)
    return (total * total - sum(weight * weight for weight in weights)) // 2


def normal_scores(orders: Mapping[TrialId, Order]) -> dict[TrialId, float]:
    """Return the normal score of each result, the normal quantile of (rank - 1/2) / n; equal ones have equal scores.

    Source: van der Waerden 1952.  Of many results, scores are those of `_EXACT_QUANTILES` groups.
    """
    ranked, scores, begin = sorted(orders.items(), key=itemgetter(1)), dict[TrialId, float](), 0
    for _, equal in groupby(ranked, key=itemgetter(1)):
        trials = [trial for trial, _ in equal]
        end = begin + len(trials)
        # The mean of the ranks begin + 1 to end, less 1/2, is (begin + end) / 2.
        score = _quantile_of(begin + end, 2 * len(ranked))
        for trial in trials:
            scores[trial] = score
        begin = end
    return scores


def _quantile_of(part: int, whole: int) -> float:
    if whole <= 2 * _EXACT_QUANTILES:
        return _quantile(part, whole)
    return _quantile(2 * (part * _EXACT_QUANTILES // whole) + 1, 2 * _EXACT_QUANTILES)


@lru_cache(maxsize=50_000)
def _quantile(part: int, whole: int) -> float:
    """Return the quantile of the standard normal distribution at ``part / whole``, rounded."""
    # The module `statistics` is slow to import, and most commands do not need it.
    from statistics import NormalDist

    return round(NormalDist().inv_cdf(part / whole), 12)


Matrix: TypeAlias = list[list[float]]


class _Moments:
    """Sums of products of columns, from which the covariances of a resample follow fast."""

    def __init__(self, columns: Sequence[Sequence[float]]) -> None:
        self.columns = columns
        self._products = [
            [list(map(mul, one, other)) for other in columns[: nth + 1]] for nth, one in enumerate(columns)
        ]

    def covariances(self, counts: Sequence[int]) -> Matrix:
        """Return the covariances of the columns, in which each trial counts as often as ``counts`` says."""
        total = sum(counts)
        means = [fsum(map(mul, column, counts)) / total for column in self.columns]
        found: Matrix = [[0.0] * len(means) for _ in means]
        for nth, row in enumerate(self._products):
            for other, products in enumerate(row):
                covariance = fsum(map(mul, products, counts)) / total - means[nth] * means[other]
                found[nth][other] = found[other][nth] = covariance
        return found


def restored_covariances(restored: Matrix, restricted: Matrix) -> Matrix:
    """Return unrestricted covariances with one more variable, a result at the next rung.

    Trials were selected by the results at the rungs below, so the regression on these is the same in the sample and
    among all trials (Lawley 1943).

    Args:
        restored: unrestricted covariances of the results at the rungs below.
        restricted: covariances of these results and the next one in the sample of selected trials.
    """
    inner = [list(row[:-1]) for row in restricted[:-1]]
    across, own = restricted[-1][:-1], restricted[-1][-1]
    if len(inner) > 1:
        for nth, row in enumerate(inner):
            row[nth] += _RIDGE
    slopes = _solved(inner, across)
    # The part of the result that the rungs below do not explain has the same variance in the sample and in all.
    fitted = [fsum(map(mul, slopes, row[:-1])) for row in restricted[:-1]]
    residual = max(0.0, own - 2 * fsum(map(mul, slopes, across)) + fsum(map(mul, slopes, fitted)))
    added = [fsum(map(mul, slopes, row)) for row in restored]
    whole = residual + fsum(map(mul, slopes, added))
    return [*([*row, value] for row, value in zip(restored, added, strict=True)), [*added, whole]]


def _solved(matrix: Matrix, right: Sequence[float]) -> list[float]:
    """Return the solution of linear equations by elimination; a column without any variance gets 0."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for nth, pivot in enumerate(rows):
        for row in rows[nth + 1 :]:
            if pivot[nth] > 0:
                factor = row[nth] / pivot[nth]
                row[nth:] = [value - factor * above for value, above in zip(row[nth:], pivot[nth:], strict=True)]
    found = [0.0] * len(rows)
    for nth in reversed(range(len(rows))):
        row = rows[nth]
        known = fsum(map(mul, row[nth + 1 : -1], found[nth + 1 :]))
        found[nth] = (row[-1] - known) / row[nth] if row[nth] > 1e-12 else 0.0
    return found


def _correlation(covariances: Matrix) -> float:
    """Return the correlation of the first and the last variable."""
    below = covariances[0][0] * covariances[-1][-1]
    return max(-1.0, min(1.0, covariances[0][-1] / sqrt(below))) if below > 0 else 0.0


def _tau_of(correlation: float) -> float:
    """Return Kendall's tau of a Gaussian copula (Greiner's relation)."""
    return round(2 / pi * asin(correlation), _DIGITS)


@lru_cache(maxsize=64)
def _resamples(count: int) -> list[list[int]]:
    """Return how often each of ``count`` trials is in each resample."""
    found = []
    for nth in range(RESAMPLES):
        drawn = Counter(int(count * draw) for draw in unit_draws(count, 0, "trust", nth))
        found.append([drawn[trial] for trial in range(count)])
    return found


def _interval(values: Sequence[float]) -> Interval:
    """Return the percentiles of the values of all resamples."""
    ranked = sorted(values)
    tail = int(len(ranked) * (1 - COVERAGE) / 2)
    return Interval(round(ranked[tail], _DIGITS), round(ranked[-1 - tail], _DIGITS))


def measure(rungs: Sequence[RungResults], divisor: Fraction, selection: Selection = Selection.PROMOTION) -> list[Pair]:
    """Return the agreement of each rung with the next one, and with the last one that has enough results for it.

    Args:
        rungs: the results of one bracket, the shortest length first.
        divisor: one of ``divisor`` trials is promoted.
        selection: how trials are selected for the next rung.
    """
    included = [inclusion_probabilities(rung, divisor, selection) for rung in rungs[:-1]]
    return [pair for lower in range(len(rungs) - 1) for pair in _pairs_from(lower, rungs, included, divisor)]


class _Sample(NamedTuple):
    """The trials with results at all rungs from the lowest to ``upper``.

    Attributes:
        upper: index of the highest rung.
        results: order of each trial at the highest rung.
        columns: normal scores at each of the rungs.
        covariances: unrestricted covariances of the scores at all rungs but the highest.
        weights: inverse probability of each trial to reach the highest rung.
    """

    upper: int
    results: Mapping[TrialId, Order]
    columns: Sequence[Sequence[float]]
    covariances: Matrix
    weights: Mapping[TrialId, float]


def _pairs_from(
    lower: int, rungs: Sequence[RungResults], included: Sequence[Mapping[TrialId, float]], divisor: Fraction
) -> Iterator[Pair]:
    here = rungs[lower]
    tied = _tied_share(here, divisor)
    samples = list(_samples(lower, rungs, included))
    enough = [sample for sample in samples[1:] if len(sample.results) >= ENOUGH]
    for sample in (*samples[:1], *enough[-1:]):
        trials = list(sample.results)
        audits = sum(trial in here.audited for trial in trials)
        there = rungs[sample.upper].length
        pair = Pair(lower, sample.upper, here.length, there, len(here.losses), len(trials), tied, audits)
        yield _measured(pair, sample, here.known_orders) if pair.measured else pair


def _samples(
    lower: int, rungs: Sequence[RungResults], included: Sequence[Mapping[TrialId, float]]
) -> Iterator[_Sample]:
    """Yield the sample of each higher rung, until there are too few trials to continue."""
    trials = [trial for trial in rungs[lower].known if trial not in rungs[lower].failed]
    weights = dict.fromkeys(trials, 1.0)
    scores = [rungs[lower].known_scores]
    covariances: Matrix = [[_variance(list(scores[0].values()))]]
    for upper in range(lower + 1, len(rungs)):
        there, chances = rungs[upper], included[upper - 1]
        known = there.known
        trials = [trial for trial in trials if trial in known and trial not in there.failed]
        weights = {trial: weights[trial] / max(chances.get(trial, 1.0), 1 / LARGEST_WEIGHT) for trial in trials}
        results = {trial: order_of(known[trial]) for trial in trials}
        scores.append(normal_scores(results))
        columns = [[column[trial] for trial in trials] for column in scores]
        yield _Sample(upper, results, columns, covariances, weights)
        if len(trials) < _FEWEST:
            return
        covariances = restored_covariances(covariances, _Moments(columns).covariances([1] * len(trials)))


def _tied_share(rung: RungResults, divisor: Fraction) -> float:
    """Return the share of results that are equal to the best one beyond the floor(n / divisor) best."""
    orders = [order for trial, order in rung.orders.items() if trial not in rung.failed]
    quota = len(orders) * divisor.denominator // divisor.numerator
    return orders.count(orders[quota]) / len(orders) if quota < len(orders) else 0.0


def _variance(values: Sequence[float]) -> float:
    mean = fsum(values) / len(values) if values else 0.0
    return fsum((value - mean) ** 2 for value in values) / len(values) if values else 0.0


def _measured(pair: Pair, sample: _Sample, orders: Mapping[TrialId, Order]) -> Pair:
    """Return a pair with its estimates and their intervals."""
    trials = list(sample.results)
    kept = _subsample(trials)
    lower, upper = [orders[trial] for trial in kept], [sample.results[trial] for trial in kept]
    signs, groups = _signs(lower, upper), (_groups(lower), _groups(upper))
    weights = [round(_WEIGHT_UNIT * min(sample.weights[trial], LARGEST_WEIGHT)) for trial in kept]
    places = {trial: place for place, trial in enumerate(trials)}
    moments = _Moments([[column[places[trial]] for trial in kept] for column in sample.columns])

    def correlation_of(moments: _Moments, counts: Sequence[int]) -> float:
        return _correlation(restored_covariances(sample.covariances, moments.covariances(counts)))

    correlation = correlation_of(_Moments(sample.columns), [1] * len(trials))
    resamples = _resamples(len(kept))
    taus = [_tau(signs, *groups, list(map(mul, counts, weights))) for counts in resamples]
    correlations = [correlation_of(moments, counts) for counts in resamples]
    return pair._replace(
        seen=round(_tau(signs, *groups, [1] * len(kept)), _DIGITS),
        weighted=round(_tau(signs, *groups, weights), _DIGITS),
        weighted_interval=_interval(taus),
        correlation=round(correlation, _DIGITS),
        agreement=_tau_of(correlation),
        interval=_interval([_tau_of(each) for each in correlations]),
    )


def _subsample(trials: Sequence[TrialId]) -> Sequence[TrialId]:
    """Return at most `MOST_TRIALS` of the trials: those with the smallest draws, so that the sample changes little."""
    if len(trials) <= MOST_TRIALS:
        return trials
    return sorted(trials, key=lambda trial: bits(0, "trust sample", trial))[:MOST_TRIALS]


# -- the price of stopping -------------------------------------------------------------------------


def price_of_stopping(pair: Pair, rung: RungResults, promoted: Collection[TrialId], upper: Iterable[float]) -> Stopped:
    """Return how probable it is that the best trial was stopped at the lower rung of a pair, and the expected regret.

    Under a Gaussian copula, the normal score of a trial at the higher rung, among all trials of the lower one, has a
    normal distribution with mean ``r * z`` and variance ``1 - r * r``, for its normal score z at the lower rung and
    the correlation r of the pair.  The distributions of the best of all promoted trials and of the best of all others
    follow from these, and are integrated on a grid.  The regret is converted to units of the metric with the slope
    between the best result at the higher rung and the median one.

    Args:
        pair: the pair of rungs.
        rung: the results at the lower rung.
        promoted: the trials that were promoted from the lower rung.
        upper: the losses at the higher rung.
    """
    known = [rung.scores[trial] for trial in promoted if trial in rung.scores]
    good, groups = Counter(known), (Counter[float](), Counter[float]())
    for score, count in Counter(rung.scores.values()).items():
        # A good trial has a low loss, so its negated score is high.
        place = -round(score * _BINS_PER_UNIT) / _BINS_PER_UNIT
        for group, part in zip(groups, (count - good[score], good[score]), strict=True):
            if part:
                group[place] += part
    stopped = groups[False].total()
    if not stopped or not groups[True]:
        return Stopped(pair.lower, stopped, 0.0, 0.0)
    r = pair.correlation
    spread = sqrt(max(1 - r * r, 1e-6))
    others, best = ([_best_below(y, group, r, spread) for y in _GRID] for group in groups)
    steps = list(zip(others, others[1:], best, best[1:], strict=False))
    chance = fsum((after - before) * (one + two) / 2 for before, after, one, two in steps)
    gain = fsum((one * (1 - before) + two * (1 - after)) / 2 * _STEP for before, after, one, two in steps)
    regret = gain * _slope(pair, known, upper)
    return Stopped(pair.lower, stopped, round(chance, _DIGITS), round(regret, _DIGITS) if chance < 1e-6 else regret)


_BINS_PER_UNIT = 16
_STEP = 1 / 16
_GRID = [step * _STEP for step in range(-6 * 16, 6 * 16 + 1)]


def _best_below(y: float, group: Mapping[float, int], r: float, spread: float) -> float:
    """Return the probability that the scores of all trials of a group are below y."""
    return prod((erfc((r * z - y) / spread / _ROOT) / 2) ** count for z, count in group.items())


_ROOT = sqrt(2)


def _slope(pair: Pair, scores: Sequence[float], upper: Iterable[float]) -> float:
    """Return the difference in the metric for one unit of the normal score at the higher rung, for good trials."""
    results = sorted(loss for loss in upper if isfinite(loss))
    if len(results) < _FEWEST:
        return 0.0
    r = pair.correlation
    spread = sqrt(r * r * _variance(scores) + 1 - r * r)
    middle = (results[(len(results) - 1) // 2] + results[len(results) // 2]) / 2
    return (middle - results[0]) / -_quantile_of(1, 2 * len(results)) / spread


# -- the verdict -----------------------------------------------------------------------------------

MISLEADS = 0.13
"""Rungs mislead if their agreement with higher ones, plus half its standard error, is below this.  It was chosen with
``benchmarks/trust``: after 30 % of a search, about 1 in 20 searches that lose nothing are said to be misled."""

PROVEN = 0.3
"""Agreement from which on rungs are trusted although a lower one misleads, or although most results are equal."""

TIED = 0.8
"""If this share of the results at a rung is equal, chance decides which trials are promoted."""

ENOUGH_TIES = 8
"""Number of results at a rung from which on ties are judged."""


class Level(StrEnum):
    """Whether the decisions of early stopping can be believed."""

    TRUSTWORTHY = "trustworthy"
    FROM_RUNG = "from_rung"
    """From a higher rung on."""
    NOT_TRUSTWORTHY = "not_trustworthy"
    TOO_EARLY = "too_early"
    """There are fewer results than are needed."""


class TrustVerdict(NamedTuple):
    """Whether early stopping can be believed.

    Attributes:
        level: the verdict.
        rung: index of the lowest rung that can be trusted, or None if there is none or it is too early.
    """

    level: Level
    rung: int | None = None


def verdict(pairs: Sequence[Pair]) -> TrustVerdict:
    """Return whether early stopping can be believed, from the agreement of the rungs of one bracket.

    A rung that ranks trials at random costs little more than its training, as long as the rungs above it are good.  So
    what counts is the mean agreement of all pairs, weighted by the inverse of their standard errors.  But a rung whose
    results are nearly all equal misleads, and so does one whose ranking is the reverse of a later one, by its
    `decisive` pair.  Then early stopping is trusted only from the next rung on, and only if those above agree well.

    Args:
        pairs: the pairs of the bracket, as `measure` returns them.
    """
    judged = decisive(pairs)
    nexts = {pair.lower: pair for pair in pairs if pair.upper == pair.lower + 1}
    misleading = [rung for rung, pair in judged.items() if _is_tied(nexts.get(rung, pair)) or _is_reversed(pair)]
    start = max(misleading, default=-1) + 1
    known = [pair for pair in pairs if pair.lower >= start and pair.both >= ENOUGH]
    if not known:
        return TrustVerdict(Level.NOT_TRUSTWORTHY if misleading else Level.TOO_EARLY)
    weights = [1 / _standard_error(pair) for pair in known]
    mean = fsum(weight * pair.agreement for weight, pair in zip(weights, known, strict=True)) / fsum(weights)
    error = sqrt(len(known)) / fsum(weights)
    if mean + error / 2 < MISLEADS or (misleading and mean < PROVEN):
        return TrustVerdict(Level.NOT_TRUSTWORTHY)
    return TrustVerdict(Level.FROM_RUNG if misleading else Level.TRUSTWORTHY, start)


def decisive(pairs: Sequence[Pair]) -> dict[int, Pair]:
    """Return the pair by which each rung is judged: that with the highest rung that has enough results for it."""
    found: dict[int, Pair] = {}
    for pair in sorted(pairs, key=lambda pair: pair.upper):
        if pair.lower not in found or pair.both >= ENOUGH:
            found[pair.lower] = pair
    return found


def is_trusted(pair: Pair) -> bool | None:
    """Return whether the lower rung of a pair predicts the higher one, or None if there are too few results."""
    if _is_tied(pair):
        return False
    if pair.both < ENOUGH:
        return None
    return not _is_reversed(pair) and pair.agreement + _standard_error(pair) / 2 >= MISLEADS


def _is_tied(pair: Pair) -> bool:
    """Return whether chance decides at the lower rung, and the trials that are not tied are not known to be good."""
    proven = pair.both >= ENOUGH and pair.agreement >= PROVEN
    return pair.tied >= TIED and pair.arrived >= ENOUGH_TIES and not proven


def _is_reversed(pair: Pair) -> bool:
    return pair.both >= ENOUGH and pair.interval.high < 0


def _standard_error(pair: Pair) -> float:
    """Return the standard error of the agreement, from its interval."""
    return max(_LEAST_ERROR, (pair.interval.high - pair.interval.low) / (2 * _COVERED))


_LEAST_ERROR = 0.05
"""Smaller standard errors count as this one, so that no single pair decides alone."""

_COVERED = 1.645
"""Half the width of an interval with probability `COVERAGE`, in standard errors."""
