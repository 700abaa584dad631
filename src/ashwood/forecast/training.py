"""Models of training code: the time and the resulting loss of a segment of training.

A model is a pure function of the trial and the segment.  So all searches have the same trials,
whatever the order of events, the number of workers and the search method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, pi, sin, sqrt
from typing import Any, NamedTuple, Protocol

from ashwood.forecast.costs import NORMAL, normal_draw
from ashwood.search.density import RANDOM_EVERY
from ashwood.search.draw import bits, unit_draw
from ashwood.search.vocabulary import TrialId


class Setting(NamedTuple):
    """A trial, as a model of training code sees it: its number, training seed and hyperparameters."""

    trial: TrialId
    seed: int
    hparams: Mapping[str, Any] = {}


class Trained(NamedTuple):
    """The result of a segment of training: the seconds that it took, and the loss at its end."""

    seconds: float
    loss: float


class Training(Protocol):
    """A model of training code."""

    def train(self, setting: Setting, begin: int, end: int) -> Trained:
        """Train a trial from a total length of ``begin`` to one of ``end``."""
        ...


def log_spread(spread: float) -> float:
    """Return the standard deviation of the logarithm of a quantity whose standard deviation is a factor ``spread``.

    Two thirds of a log-normal distribution lie between median / ``spread`` and median * ``spread``.

    Raises:
        ValueError: ``spread`` is less than 1.
    """
    if spread < 1:
        raise ValueError(f"a spread is a factor of at least 1, not {spread:g}")
    return log(spread)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchangeable:
    """A model with few assumptions: how well early losses predict later ones, and how the paces of trials differ.

    It has no learning curves: only the order of the losses at one length has a meaning.

    Attributes:
        unit_seconds: mean time of one unit of length over trials, in seconds.
        spread: two thirds of the trials have a pace between 1/spread and spread times the median pace.
        noise: square root of 1 minus the correlation between a trial's losses at two rungs, from 0 to 1.
        learning: how much the sampler improves the quality of later trials; 0 for random draws.
    """

    unit_seconds: float = 1.0
    spread: float = 1.0
    noise: float = 0.0
    learning: float = 0.0

    def train(self, setting: Setting, begin: int, end: int) -> Trained:
        """Train a trial from a total length of ``begin`` to one of ``end``."""
        seed = setting.seed
        seconds = (end - begin) * self.unit_seconds
        if self.spread != 1.0:
            seconds *= lognormal(mixed(seed, 0), self.spread)
        # The seed is a uniform draw itself, so it serves as the trial's quality without another draw.
        quality = seed * _SEED_SCALE
        if self.learning and setting.trial % RANDOM_EVERY and setting.trial > _LEARNS_FROM:
            quality **= 1 + self.learning
        noise = self.noise
        if noise:
            quality = sqrt(1 - noise * noise) * quality + noise * mixed(seed, end)
        return Trained(seconds, quality)


_SEED_SCALE = 2.0**-31
_LEARNS_FROM = 24
"""Approximate number of trials that are created before the sampler has enough results to learn from."""
_MASK = (1 << 64) - 1


def mixed(seed: int, number: int) -> float:
    """Return a uniform draw from [0, 1) for a training seed and a number from 0 to 2**33, faster than `unit_draw`.

    Source: Steele et al. 2014, "Fast Splittable Pseudorandom Number Generators", the mixing of SplitMix64.
    """
    z = ((seed << 33 ^ number) * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & _MASK
    return ((z ^ z >> 31) >> 11) * 2.0**-53


def lognormal(unit: float, spread: float) -> float:
    """Return the ``unit`` quantile of a log-normal distribution with mean 1 and the given spread."""
    sigma = log_spread(spread)
    return exp(sigma * (NORMAL.inv_cdf(unit or 2.0**-54) - sigma / 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLaw:
    """A model with learning curves that fall by a power law and cross, with a given rank correlation.

    A trial's standing among all others is a standard normal variable that drifts during
    training.  Its loss is a monotone function of standing and length.  So the rank correlation
    between losses at two lengths depends only on the standings, whatever the shape of the
    curves.  It is ``rank_correlation`` for lengths that differ by a factor of ``base``, and
    falls for larger factors as that of an autoregressive process.

    Attributes:
        max_length: total length at which the quality of each trial is drawn; shorter lengths follow from it.
        rank_correlation: Spearman's rank correlation between losses at lengths that differ by a factor of ``base``.
        base: factor between the two lengths of ``rank_correlation``.
        exponent: losses fall as length**-exponent.
        unit_seconds: mean time of one unit of length over trials, in seconds.
        spread: two thirds of the trials have a pace between 1/spread and spread times the median pace.
    """

    max_length: int
    rank_correlation: float = 0.8
    base: float = 4.0
    exponent: float = 0.5
    unit_seconds: float = 1.0
    spread: float = 1.0

    def train(self, setting: Setting, begin: int, end: int) -> Trained:
        """Train a trial from a total length of ``begin`` to one of ``end``."""
        seconds = (end - begin) * self.unit_seconds
        if self.spread != 1.0:
            seconds *= lognormal(unit_draw(setting.seed, "pace"), self.spread)
        floor = NORMAL.cdf(self.standing(setting.seed, end))
        return Trained(seconds, floor + end**-self.exponent)

    def standing(self, seed: int, length: int) -> float:
        """Return a trial's standing at a length: standard normal over trials, lower is better."""
        back = max(0.0, log(self.max_length / length) / log(self.base))
        knot = int(back)
        between = back - knot
        # Spearman's to Pearson's correlation of two normal variables (Kruskal 1958, section 5).
        pearson = 2 * sin(pi * self.rank_correlation / 6)
        later = normal_draw(seed, "standing", 0)
        for number in range(1, knot + 1):
            later = pearson * later + sqrt(1 - pearson**2) * normal_draw(seed, "standing", number)
        if between < 1e-9:
            return later
        earlier = pearson * later + sqrt(1 - pearson**2) * normal_draw(seed, "standing", knot + 1)
        mixed = (1 - between) * later + between * earlier
        return mixed / sqrt((1 - between) ** 2 + between**2 + 2 * pearson * between * (1 - between))


@dataclass(frozen=True, slots=True)
class Table:
    """A model that reads from a table: for each trial and each unit of length, the time so far and the loss.

    A trial that is not in the table repeats one of the others, drawn by its seed.

    Attributes:
        seconds: cumulative seconds, by trial and length - 1.
        losses: losses, by trial and length - 1.
    """

    seconds: Sequence[Sequence[float]]
    losses: Sequence[Sequence[float]]

    def train(self, setting: Setting, begin: int, end: int) -> Trained:
        """Train a trial from a total length of ``begin`` to one of ``end``.

        Raises:
            IndexError: the table ends before ``end``.
        """
        rows = len(self.losses)
        row = setting.trial if setting.trial < rows else bits(setting.seed, "row") % rows
        seconds = self.seconds[row]
        return Trained(seconds[end - 1] - (seconds[begin - 1] if begin else 0.0), self.losses[row][end - 1])
