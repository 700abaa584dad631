"""Guides: what was known about good settings before a search started.

A guide assigns a weight to each setting: how much more probable it is among good settings than
among all settings of the space.  There are two kinds.  A `Prior` is a user's guess of a good value.
`PastTrials` are results of another search.  `ashwood.search.density.DensitySampler` draws
some new trials near the settings that guides recommend, as long as its own results agree.  A prior
is followed from the start.  A past search must be tested first: it is followed only after there are
results, and only if the settings that it proposed are good ones more often than by chance.

Source: Mallik et al. 2023, "PriorBand" (arXiv:2306.12370), section 5: new trials come from a
mixture of random draws and draws from the prior, and the prior loses its share when results
disagree.  Results of past searches as a second kind of guide are our own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from math import sqrt
from typing import Any, TypeAlias

from ashwood.search.decimals import EXACT
from ashwood.search.draw import LARGEST_DRAW
from ashwood.search.vocabulary import TrialId


class Confidence(StrEnum):
    """How close to a `Prior` good values are expected."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Prior:
    """A value of a hyperparameter that is probably good."""

    value: Any
    confidence: Confidence = Confidence.MEDIUM


@dataclass(frozen=True, slots=True)
class PastTrials:
    """Settings that another search tried, by dotted names of hyperparameters.

    Attributes:
        source: name of the experiment or of the file, for messages.
        good: the best settings, the best first.
        others: a sample of the other settings.
    """

    source: str
    good: Sequence[Mapping[str, Any]] = ()
    others: Sequence[Mapping[str, Any]] = ()


Weights: TypeAlias = list[float]
"""Weight of each bin of a hyperparameter, relative to a uniform draw; the mean is 1."""

Ratios: TypeAlias = list[list[float]]
"""One number for each bin of each hyperparameter."""

FADING = 512
"""Number of trials with results at which a guide has half of its first trust.  Then the search knows enough itself."""

_FORMER_FADING = 64

# Trust before there are results to judge a guide; and the numbers of standard errors by which the mean score of good
# trials is above that of all trials if there is no trust, and if there is full trust.
_FIRST_TRUST, _NO_TRUST, _FULL_TRUST = 0.5, 0.5, 2.0

# Standard deviation of a normal distribution around the value, as a share of the range; and the weight of the value of
# a categorical hyperparameter, relative to each other value.  NePS uses about the same numbers for PriorBand.
_SPREAD = {Confidence.LOW: "0.5", Confidence.MEDIUM: "0.25", Confidence.HIGH: "0.125"}
_ODDS = {Confidence.LOW: 2, Confidence.MEDIUM: 4, Confidence.HIGH: 8}


class Scores:
    """Scores of the trials that have results."""

    def __init__(self) -> None:
        self._scores: dict[TrialId, float] = {}
        self._total = 0.0
        self._squares = 0.0

    def __len__(self) -> int:
        return len(self._scores)

    @property
    def total(self) -> float:
        """Sum of all scores."""
        return self._total

    def note(self, trial: TrialId, score: float) -> None:
        """Record the score of a trial that has a result."""
        self._scores[trial] = score
        self._total += score
        self._squares += score * score

    def agreement(self, good: Sequence[TrialId]) -> float | None:
        """Return by how many standard errors the mean score of good trials is above that of all, or None if unknown."""
        scores = [self._scores[trial] for trial in good if trial in self._scores]
        if not scores:
            return None
        count = len(self._scores)
        mean, total = self._total / count, 0.0
        for score in scores:  # sum() rounds floats differently since Python 3.12.
            total += score - mean
        error = sqrt(max(0.0, self._squares / count - mean * mean) * len(scores))
        return total / error if error > 0 else 0.0


class Guide:
    """A guide in the bins of a sampler, with the scores of the trials that have results.

    Attributes:
        weights: weight of each bin of each hyperparameter.
    """

    def __init__(self, weights: Ratios, *, must_be_tested: bool = False) -> None:
        """Make a guide; one that must be tested is not followed before there are good trials."""
        self.weights = weights
        self._must_be_tested = must_be_tested
        self._scores = Scores()

    def note(self, trial: TrialId, weight: float) -> None:
        """Record that a trial has a result, whose setting has this weight."""
        self._scores.note(trial, weight / (1 + weight))

    def former_trust(self, good: Sequence[TrialId]) -> float:
        """Return the trust in the guide before rules 5, which also let guides without any relation to results count."""
        agreement = self._scores.agreement(good)
        if agreement is None:
            return 1.0
        # The order of the operations must stay, so that old logs replay to the same numbers.
        return max(0.0, min(1.0, (1 + agreement) / 2)) * _FORMER_FADING / (_FORMER_FADING + len(self._scores))

    def trust(self, good: Sequence[TrialId], tested: float | None = None) -> float | None:
        """Return the probability that a new draw may follow the guide, from 0 to 1.

        Before there are good trials, it is a half, or None for a guide that must be tested.  Then it is 0 if their mean
        score is at most half a standard error of such a mean above that of all trials, and 1 if it is two above it; and
        it falls with the number of results.

        Args:
            good: good trials.
            tested: by how many standard errors the trials that guides proposed are more frequent among good trials than
                among all, or None if there is none.  A guide that must be tested is trusted no more than this allows.
        """
        agreement = self._scores.agreement(good)
        if agreement is None:
            return None if self._must_be_tested else _FIRST_TRUST
        if self._must_be_tested and tested is not None:
            agreement = min(agreement, tested)
        trust = max(0.0, min(1.0, (agreement - _NO_TRUST) / (_FULL_TRUST - _NO_TRUST)))
        return trust * FADING / (FADING + len(self._scores))


def prior_weights(confidence: Confidence, unit: float, bins: int, *, ordered: bool) -> Weights:
    """Return the weight of each bin for a prior whose value is at ``unit`` of the range.

    Powers are computed with decimals, so that a log replays to the same draws on any machine.
    """
    if not ordered:
        at = min(bins - 1, int(unit * bins))
        return normalized([_ODDS[confidence] if number == at else 1 for number in range(bins)])
    spread = Decimal(_SPREAD[confidence])
    middles = [Decimal(2 * number + 1) / (2 * bins) for number in range(bins)]
    return normalized([float(EXACT.exp(-(((middle - Decimal(unit)) / spread) ** 2) / 2)) for middle in middles])


def normalized(weights: Sequence[float]) -> Weights:
    """Return weights with the mean 1 that have the same ratios."""
    total = 0.0
    for weight in weights:  # sum() rounds floats differently since Python 3.12.
        total += weight
    return [weight * len(weights) / total for weight in weights]


def warped(unit: float, weights: Weights) -> float:
    """Return the position of a uniform draw in the distribution that has these weights."""
    left = unit * len(weights)
    for number, weight in enumerate(weights):
        if left < weight:
            return min(LARGEST_DRAW, (number + left / weight) / len(weights))
        left -= weight
    return (len(weights) - 0.5) / len(weights)  # Rounding can leave a rest.
