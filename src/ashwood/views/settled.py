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

from collections.abc import Iterable
from dataclasses import dataclass
from math import fsum, nan

_FEWEST = 4
"""Number of results in the last half of a training that are needed to estimate noise."""

_HUGE = 1e100
"""Squares of larger results could overflow."""


@dataclass(slots=True)
class LateResults:
    """The results of one trial in the last half of its training, as sums.

    Attributes:
        longest: total length of a full training.
        length: total length of the latest result, or 0.
        last: the latest result.
        count: number of results in the last half, which are all finite.
        mean: their mean.
        squares: sum of their squared distances to the mean.
        weights: sum of their weights.  The weight of a result grows linearly with its length, from 0 in the middle.
        weighted: sum of the results times their weights.
        bends: sum of their squared second differences.
        before: the result before the last one.
    """

    longest: int
    length: int = 0
    last: float = nan
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    weights: int = 0
    weighted: float = 0.0
    bends: float = 0.0
    before: float = nan

    def add(self, length: int, value: float) -> None:
        """Add a result.  A repeated one is ignored; one that is not finite, or is huge, starts anew."""
        if length <= self.length:
            return
        if not abs(value) < _HUGE:  # Also if it is NaN.
            self.count, self.mean, self.squares, self.weights, self.weighted, self.bends = 0, 0.0, 0.0, 0, 0.0, 0.0
        elif 2 * length > self.longest:
            if self.count >= 2:
                bend = value - 2 * self.last + self.before
                self.bends += bend * bend
            self.count += 1
            step = value - self.mean
            self.mean += step / self.count
            self.squares += step * (value - self.mean)  # Welford 1962
            weight = 2 * length - self.longest
            self.weights += weight
            self.weighted += weight * value
        self.length, self.before, self.last = length, self.last, value

    def settled(self, share: float) -> float:
        """Return the last result, moved towards the weighted mean of all of them.

        With a `noise_share` of one half or more, it is this mean.
        """
        if not self.count:
            return self.last
        return self.last + min(1.0, 2 * share) * (self.weighted / self.weights - self.last)


def noise_share(trials: Iterable[LateResults]) -> float:
    """Return the mean share of noise in the variance of the results of each trial, from 0 to 1.

    Second differences of independent noise have 6 times its variance.  Trials that have not trained to the end, and
    those with fewer than 4 results, are left out.  Return 0 if none is left.
    """
    shares = [
        min(1.0, (trial.bends / (trial.count - 2) / 6) / (trial.squares / (trial.count - 1)))
        for trial in trials
        if trial.length >= trial.longest and trial.count >= _FEWEST and trial.squares > 0
    ]
    return fsum(shares) / len(shares) if shares else 0.0
