"""Which setting to use: the one with the best expected result at max_length, over all seeds with which it was trained.

The lowest point of all curves is the luckiest one, so it is no measure of a setting.  Here the
settings that have trained to the end are compared by their results at that length.  If curves are
noisy, these are settled (`ashwood.views.settled`).  Trials of one setting differ only in their
seeds: the original and its replicates.

With replicates, the mean of the n_i results of setting i is shrunk towards the mean of all
settings by the factor B_i = tau^2 / (tau^2 + sigma^2 / n_i).  sigma^2 is the variance between
seeds, pooled within settings.  tau^2 is the variance between settings by the method of moments
(one-way analysis of variance with unequal group sizes), and at least 0.  So a single good result
counts less than several of about the same size.

Source: Efron and Morris 1975, "Data Analysis Using Stein's Estimator and its Generalizations",
JASA 70(350); Morris 1983, "Parametric Empirical Bayes Inference", JASA 78(381); Searle, Casella
and McCulloch 1992, "Variance Components", section 3.6, for the moments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import nsmallest
from math import fsum, isfinite, sqrt
from typing import Any, NamedTuple

from ashwood.search.vocabulary import TrialId
from ashwood.views.ladder import Ladder
from ashwood.views.settled import noise_share
from ashwood.views.wording import format_length, format_value

_LITTLE = 0.1
"""A `noise_share` below this is ignored, so results of smooth curves are the last ones exactly."""


class Recommendation(NamedTuple):
    """A setting that has trained to the end, with its results at that length.

    Attributes:
        trial: the original trial of the setting.
        length: total length at which the results were reported.
        results: the result of the original, and then those of its replicates; see ``noise``.
        mean: mean of the results, or None if one of them is not finite.
        spread: standard deviation of the results, or None if there are fewer than two or one is not finite.
        expected: the mean, shrunk towards that of all settings, or None if one of the results is not finite.
        noise: share of noise in the last halves of all curves, or 0 if it is small.  If it is not 0, each result is
            settled: the last one, moved towards the mean of the last half of the training.
    """

    trial: TrialId
    length: int
    results: tuple[float, ...]
    mean: float | None
    spread: float | None
    expected: float | None
    noise: float = 0.0

    @property
    def seeds(self) -> int:
        """Number of seeds with which the setting has trained to the end."""
        return len(self.results)


def recommend(ladder: Ladder, most: int, is_usable: Callable[[TrialId], bool]) -> list[Recommendation]:
    """Return at most ``most`` settings with a finite result at max_length, the one with the best expected result first.

    Without replicates, this is the order of the results, and takes O(n) time for n of them.  A setting of which a
    replicate has reported a value that is not finite comes after all others.  Settings whose trial is not usable count
    in the variances, but are not returned.
    """
    longest, sign = ladder.spec.search.max_length, 1 if ladder.spec.smaller_is_better else -1
    noise = noise_share(late for trial, late in ladder.late.items() if trial in ladder.finals)
    noise = noise if noise >= _LITTLE else 0.0

    def settled(trial: TrialId, last: float) -> float:
        late = ladder.late.get(trial)
        return late.settled(noise) if noise and late is not None and late.last == last else last

    results: dict[TrialId, list[float]] = {
        trial: [settled(trial, final.metric)]
        for trial, final in ladder.finals.items()
        if final.length == longest and trial not in ladder.originals and isfinite(final.metric)
    }
    if not ladder.originals:
        usable = (trial for trial in results if is_usable(trial))
        first = nsmallest(most, usable, key=lambda trial: (sign * results[trial][0], trial))
        return [
            Recommendation(trial, longest, (value,), value, None, value, noise)
            for trial, value in ((trial, results[trial][0]) for trial in first)
        ]
    for trial, original in sorted(ladder.originals.items()):
        final = ladder.finals.get(trial)
        if final is not None and final.length == longest and original in results:
            results[original].append(settled(trial, final.metric))
    sound = {trial: each for trial, each in results.items() if all(map(isfinite, each))}
    expected, pull = _shrink(sound)
    found = [
        Recommendation(
            trial,
            longest,
            tuple(each),
            _mean(each) if trial in sound else None,
            _deviation(each) if trial in sound else None,
            expected.get(trial),
            noise,
        )
        for trial, each in results.items()
        if is_usable(trial)
    ]

    def rank(one: Recommendation) -> tuple[bool, float, float, float, TrialId]:
        if one.expected is None:
            return (True, 0.0, 0.0, sign * one.results[0], one.trial)
        return (False, sign * one.expected, sign * pull[one.trial], sign * one.results[0], one.trial)

    return nsmallest(most, found, key=rank)


def describe_results(setting: Recommendation, unit: str) -> str:
    """Return the results of a setting, such as ``0.091 ± 0.004 at 64 epochs, the mean of 3 trainings``."""
    at = f"at {format_length(setting.length, unit)}"
    if setting.noise:
        at += ", without the noise of single validations"
    if setting.seeds == 1:
        return f"{format_value(setting.mean)} {at}"
    if setting.mean is None or setting.spread is None:
        return f"trained {setting.seeds} times, and not every result {at} is a finite number"
    return f"{format_value(setting.mean)} ± {setting.spread:.2g} {at}, the mean of {setting.seeds} trainings"


def recommendation_record(setting: Recommendation | None) -> dict[str, Any] | None:
    """Return a setting as JSON-able data, or None.  Results that are not finite are None."""
    if setting is None:
        return None
    results = [each if isfinite(each) else None for each in setting.results]
    return {**setting._asdict(), "seeds": setting.seeds, "results": results}


def _shrink(results: Mapping[TrialId, Sequence[float]]) -> tuple[dict[TrialId, float], dict[TrialId, float]]:
    """Return the shrunken mean of each setting, and a value that orders settings whose shrunken means are equal.

    If no difference between settings is left (tau^2 = 0), all shrunken means are equal.  The second value,
    n_i times the distance to the mean of all, gives the order for a very small tau^2.
    """
    groups, total = len(results), sum(map(len, results.values()))
    means = {trial: _mean(each) for trial, each in results.items()}
    centre = _mean(list(means.values())) if means else 0.0
    pull = {trial: len(results[trial]) * (mean - centre) for trial, mean in means.items()}
    if total == groups or groups < 2:  # Without replicates, the variance between seeds is unknown.
        return means, pull
    within = fsum((value - means[trial]) ** 2 for trial, each in results.items() for value in each) / (total - groups)
    grand = fsum(value for each in results.values() for value in each) / total
    between = fsum(len(results[trial]) * (mean - grand) ** 2 for trial, mean in means.items()) / (groups - 1)
    size = (total - fsum(len(each) ** 2 for each in results.values()) / total) / (groups - 1)
    tau = max(0.0, (between - within) / size)
    shrunk = {}
    for trial, mean in means.items():
        noise = within / len(results[trial])
        factor = tau / (tau + noise) if noise else 1.0
        shrunk[trial] = centre + factor * (mean - centre)
    return shrunk, pull


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values)


def _deviation(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    mean = _mean(values)
    return sqrt(fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
