"""Results at max_length without the noise of single validations.

The best of many noisy results is the luckiest one.  If validations of one training vary at random
around a level, their mean over the last half of the training says more about it than the last one
alone.  If they follow a smooth curve instead, a mean would favour trials that learn fast.  So the
curves themselves decide: `noise_share` estimates how much of the variance in their last halves is
noise between successive validations.

Source: von Neumann et al. 1941, "The Mean Square Successive Difference", Annals of Mathematical
Statistics 12(2); here with second differences, which a linear trend does not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum, isfinite
from typing import TypeAlias

Curve: TypeAlias = Sequence[tuple[int, float]]
"""Results of one trial: (total length, metric), by rising length."""

_FEWEST = 4
"""Number of results in the last half of a training that are needed to estimate noise."""


def noise_share(curves: Iterable[Curve], longest: int) -> float:
    """Return the mean share of noise in the variance of the last halves of the curves, from 0 to 1.

    Second differences of independent noise have 6 times its variance.  Curves that do not reach ``longest``, and those
    with fewer than 4 results in the last half or one that is not finite, are left out.  Return 0 if none is left.
    """
    shares = []
    for curve in curves:
        values = [value for _, value in _last_half(curve, longest)]
        if len(values) < _FEWEST or curve[-1][0] < longest:
            continue
        mean = fsum(values) / len(values)
        variance = fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
        if variance > 0:
            triples = zip(values, values[1:], values[2:], strict=False)
            noise = fsum((a - 2 * b + c) ** 2 for a, b, c in triples) / (len(values) - 2) / 6
            shares.append(min(1.0, noise / variance))
    return fsum(shares) / len(shares) if shares else 0.0


def settled(curve: Curve, longest: int, share: float) -> float:
    """Return the last result of a curve, moved towards the weighted mean of those in the last half of ``longest``.

    The weight of a result grows linearly with its length, from 0 in the middle.  With a `noise_share` of one half or
    more, the result is this mean.
    """
    half = _last_half(curve, longest)
    last = curve[-1][1]
    if not half or not isfinite(last):
        return last
    weights = [2 * length - longest for length, _ in half]
    mean = fsum(weight * value for weight, (_, value) in zip(weights, half, strict=True)) / sum(weights)
    return last + min(1.0, 2 * share) * (mean - last)


def _last_half(curve: Curve, longest: int) -> Curve:
    """Return the results after the middle of ``longest``, or none of them if one is not finite."""
    half = [point for point in curve if 2 * point[0] > longest]
    return half if all(isfinite(value) for _, value in half) else []
