"""Which hyperparameters decide whether a trial is among the best, and which values the best trials have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import ceil, erf, sqrt
from typing import Any, NamedTuple, TypeGuard

from ashwood.search.space import Categorical, Hyperparameter, Int
from ashwood.search.vocabulary import TrialId
from ashwood.views.hparams import Varied, varied
from ashwood.views.progress import Progress
from ashwood.views.results import Comparable, Result, comparable
from ashwood.views.wording import all_of, any_of, format_length, format_setting, format_value

ENOUGH = 50
"""Number of results at one length that is enough to compare hyperparameters at that length."""
FEWEST = 20
"""Least number of results at one length; the importance computed from fewer is noise."""

# More results hardly change the answer, and the time to compute it grows with their number.
_MOST = 1_500
# The best tenth is compared with all results.  With fewer than five in that tenth, take a larger share.
_QUANTILE, _FEWEST_BEST = 0.1, 5
# Numbers are counted on a grid with at most this many points.
_GRID = 50
# Least standard deviation of a kernel: 90% of it lie within one point of the grid.
_NARROWEST = 0.5 / 1.64
_TINY = 1e-12

# A sentence names a hyperparameter only if the values of the best trials fill at most this share of its range.
_TELLING = 0.5
_TRIMMED = 0.1
_NAMED = 3


class Importance(NamedTuple):
    """How much each hyperparameter decides whether a trial is among the best.

    Attributes:
        compared: all results at the length at which results are compared.
        sample: the results that were used.
        quantile: the share of the sample, from 0 to 1, that counts as the best.
        shares: the importance of each hyperparameter, the largest first, which add up to 1; empty if none matters.
    """

    compared: Comparable
    sample: Sequence[Result]
    quantile: float
    shares: Mapping[str, float]


class BestValues(NamedTuple):
    """The values of one hyperparameter in the best trials.

    Attributes:
        varied: the hyperparameter.
        low: smallest value of a number, without the lowest tenth; None for a categorical hyperparameter.
        high: largest value of a number, without the highest tenth; None for a categorical hyperparameter.
        choices: the values of most of the best trials, the most frequent first, if the hyperparameter is categorical.
    """

    varied: Varied
    low: float | None = None
    high: float | None = None
    choices: Sequence[object] = ()

    def __str__(self) -> str:
        name = self.varied.name
        if self.low is None or self.high is None:
            return f"{name} {any_of(map(format_setting, self.choices))}"
        if isinstance(self.varied.kind, Int):
            low, high = format_value(int(self.low)), format_value(int(self.high))
        else:
            low, high = f"{self.low:.2g}", f"{self.high:.2g}"
        return f"{name} {low}" if low == high else f"{name} {low} to {high}"


def importance(progress: Progress) -> Importance | None:
    """Return the importance of each hyperparameter, or None if too few results can be compared.

    Only results at one length are compared: the longest with at least `ENOUGH` results, or else the one with most.

    Source: Watanabe, Bansal and Hutter 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
    Arbitrary Subspaces" (arXiv:2304.10255), with the treatment of conditional hyperparameters of "Conditional
    PED-ANOVA" (arXiv:2601.20800).  Grid and kernels are those of Optuna 5, so that the numbers are the same.
    """
    return progress.once("importance", lambda: _importance(progress))


def _importance(progress: Progress) -> Importance | None:
    compared = comparable(progress.ladder, ENOUGH)
    if compared is None or len(compared.results) < FEWEST:
        return None
    sample = compared.results[:: ceil(len(compared.results) / _MOST)]
    quantile = max(_QUANTILE, _FEWEST_BEST / len(sample))
    shown, rows = varied(progress.spec.space), progress.trials.rows
    known = {trial: values for trial, *_ in sample if (values := _values(shown, rows[trial].hparams))}
    usable = [result for result in sample if result.trial in known]
    top = {result.trial for result in _best(usable, quantile, smaller=progress.spec.smaller_is_better)}
    divergences = {each.name: divergence for each in shown if (divergence := _divergence(each, known, top)) is not None}
    total = sum(divergences.values())
    order = sorted(divergences, key=lambda name: (-divergences[name], name))
    return Importance(
        compared, sample, quantile, {name: divergences[name] / total for name in order} if total > 0 else {}
    )


def by_importance(progress: Progress) -> list[Varied]:
    """Return the hyperparameters that a search varies, the most important first.

    Those of which no importance is known follow in the order of the experiment file.
    """
    found = importance(progress)
    shares = {} if found is None else found.shares
    return sorted(varied(progress.spec.space), key=lambda each: -shares.get(each.name, -1.0))


def best_values(progress: Progress, found: Importance) -> list[BestValues]:
    """Return the values of the best trials for each hyperparameter in which they differ from the others.

    The order is that of importance.  A hyperparameter is left out if the best trials fill most of its range.
    """
    spec, rows = progress.spec, progress.trials.rows
    best = _best(found.sample, found.quantile, smaller=spec.smaller_is_better)
    known = {each.name: each for each in varied(spec.space)}
    values = []
    for name in found.shares:
        each = known[name]
        there = [number for trial, *_ in best if (number := each.number(rows[trial].hparams)) is not None]
        if len(there) < _FEWEST_BEST:
            continue
        kind = each.kind
        seen = _choices(each, kind.vals, there) if isinstance(kind, Categorical) else _range(each, there)
        if seen is not None:
            values.append(seen)
    return values


def takeaway(progress: Progress) -> str | None:
    """Return the sentence of `describe_best`, or None if too few results can be compared."""
    found = importance(progress)
    return None if found is None else describe_best(progress, found)


def describe_best(progress: Progress, found: Importance) -> str | None:
    """Return a sentence about the values of the best trials, or None if no hyperparameter matters.

    For example: "The best 10% (6 of 61 trials at 16 epochs) have lr 0.02 to 0.6 and activation relu."
    """
    if not found.shares:
        return None
    best = _best(found.sample, found.quantile, smaller=progress.spec.smaller_is_better)
    at = format_length(found.compared.length, progress.spec.unit)
    group = f"The best {found.quantile:.0%} ({len(best):,} of {len(found.sample):,} trials at {at})"
    names = [str(each) for each in best_values(progress, found)[:_NAMED]]
    if not names:
        return f"{group} have values from most of the range of every hyperparameter."
    return f"{group} have {all_of(names)}."


def _range(each: Varied, numbers: Sequence[float]) -> BestValues | None:
    order = sorted(numbers)
    cut = int(_TRIMMED * len(order))
    low, high = order[cut], order[-1 - cut]
    return BestValues(each, low, high) if each.position(high) - each.position(low) <= _TELLING else None


def _choices(each: Varied, choices: Sequence[object], numbers: Sequence[float]) -> BestValues | None:
    """Return the most frequent choices of the best trials that together make up most of these trials."""
    chosen: list[object] = []
    covered = 0
    for number, count in sorted(Counter(numbers).items(), key=lambda item: (-item[1], item[0])):
        chosen.append(choices[int(number)])
        covered += count
        if covered >= (1 - 2 * _TRIMMED) * len(numbers):
            break
    return (
        BestValues(each, choices=chosen)
        if len(chosen) < len(choices) and len(chosen) <= max(1, _TELLING * len(choices))
        else None
    )


# -- PED-ANOVA -----------------------------------------------------------------------------------


def _best(results: Sequence[Result], quantile: float, *, smaller: bool) -> list[Result]:
    """Return the best share of results, and all that are equal to the last of them."""
    sign = 1.0 if smaller else -1.0
    losses = sorted(sign * result.metric for result in results)
    if not losses:
        return []
    last = losses[ceil(quantile * len(losses)) - 1]
    return [result for result in results if sign * result.metric <= last]


def _values(shown: Sequence[Varied], hparams: Mapping[str, Any]) -> dict[str, float] | None:
    """Return the values of a trial, without those that it lacks, or None if one is not in its range."""
    values = {}
    for each in shown:
        number = each.number(hparams)
        if number is not None:
            values[each.name] = number
        elif not each.is_conditional:
            return None
    return values


def _divergence(each: Varied, known: Mapping[TrialId, Mapping[str, float]], top: set[TrialId]) -> float | None:
    """Return the Pearson divergence of the best trials' values from those of all, or None if no trial has a value."""
    everywhere = {trial: values[each.name] for trial, values in known.items() if each.name in values}
    if not everywhere:
        return None
    there = {trial: value for trial, value in everywhere.items() if trial in top}
    if not there or len(everywhere) < 2:
        return 0.0
    of_all, of_top = (_density(each, list(values.values())) for values in (everywhere, there))
    divergence = sum(every * (some / every - 1.0) ** 2 for every, some in zip(of_all, of_top, strict=True))
    # Trials that have a conditional hyperparameter can be more frequent among the best.
    return (len(there) / len(top)) ** 2 / (len(everywhere) / len(known)) * divergence


def _density(each: Varied, numbers: Sequence[float]) -> list[float]:
    """Return the estimated density of values at each point of a grid."""
    kind = each.kind
    if isinstance(kind, Categorical) and not kind.ordered:
        return list(_frequencies([int(number) for number in numbers], len(kind.vals)))
    if _is_plain(kind):
        points = min(kind.maxval - kind.minval + 1, _GRID)
        low, high = kind.minval, kind.maxval
        shares = [(min(max(int(number), low), high) - low) / (high - low) for number in numbers]
    else:
        points, shares = _GRID, [each.position(number) for number in numbers]
    # A value in the middle of two points counts for the lower one.
    counts = Counter(min(max(ceil(share * (points - 1) - 0.5), 0), points - 1) for share in shares)
    return list(_kernels(counts, points))


def _is_plain(kind: Hyperparameter) -> TypeGuard[Int]:
    return isinstance(kind, Int) and kind.step is None and not kind.log


def _frequencies(numbers: Sequence[int], choices: int) -> Iterator[float]:
    """Yield the density of each choice: one kernel for each choice that occurs, and a uniform one."""
    counts = Counter(numbers)
    spread = 1.0 / (len(counts) + 1)
    total = len(numbers) + 1.0
    for choice in range(choices):
        own = sum(
            count * (spread + (seen == choice)) / (1.0 + choices * spread) for seen, count in sorted(counts.items())
        )
        yield (own + 1.0 / choices) / total + _TINY


def _kernels(counts: Counter[int], points: int) -> Iterator[float]:
    """Yield the density at each point of a grid: a normal kernel for each point with values, and a wide one.

    The kernels are truncated at the ends of the grid.  Their width follows Scott's rule.
    """
    seen = sorted(counts)
    total = sum(counts.values())
    own, wide = (_masses(width, points) for width in (max(_width(seen, counts, total), _NARROWEST), float(points)))
    # The wide kernel is in the middle of the grid, which is between two points if their number is even.
    kernels = [(2 * point, counts[point], own) for point in seen] + [(points - 1, 1, wide)]
    weights = [count / (total + 1.0) / _mass(below, middle, -1, 2 * points - 1) for middle, count, below in kernels]
    for point in range(0, 2 * points, 2):
        yield _TINY + sum(
            weight * _mass(below, middle, point - 1, point + 1)
            for weight, (middle, _, below) in zip(weights, kernels, strict=True)
        )


def _masses(width: float, points: int) -> list[float]:
    """Return the probability that a normal variable is below each half step within the grid's length of its mean."""
    return [0.5 * (1.0 + erf(0.5 * step / (width * sqrt(2.0)))) for step in range(-2 * points, 2 * points + 1)]


def _mass(below: Sequence[float], middle: int, begin: int, end: int) -> float:
    """Return the mass of a kernel between two places, all in half steps of the grid."""
    zero = len(below) // 2
    return below[zero + end - middle] - below[zero + begin - middle]


def _width(seen: Sequence[int], counts: Mapping[int, int], total: int) -> float:
    mean = sum(point * counts[point] for point in seen) / total
    deviation = sqrt(sum(counts[point] * (point - mean) ** 2 for point in seen) / max(1, total - 1))
    sums, running = [], 0
    for point in seen:
        running += counts[point]
        sums.append(running)
    first = next(place for place, below in enumerate(sums) if below >= total // 4)
    third = next((place for place, below in enumerate(sums) if below > total * 3 // 4), len(seen) - 1)
    return 1.059 * min((seen[third] - seen[first]) / 1.34, deviation) * float(total**-0.2)
