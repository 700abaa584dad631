"""Training code as a model: what a stretch of training takes and comes to.

A model is a function of what a trial is, never of what was asked before, so a search meets
the same trials whatever the order of events, the number of workers and the method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, pi, sin, sqrt
from typing import Any, NamedTuple, Protocol

from ashwood.search.density import RANDOM_EVERY
from ashwood.search.draw import bits, unit_draw
from ashwood.search.vocabulary import TrialId
from ashwood.simulation.costs import NORMAL, normal_draw


class Setting(NamedTuple):
    """One trial: its number, its training seed and its hyperparameters."""

    trial: TrialId
    seed: int
    hparams: Mapping[str, Any] = {}


class Trained(NamedTuple):
    """What a stretch of training took, in seconds, and the loss at its end."""

    seconds: float
    loss: float


class Training(Protocol):
    """A model of training code."""

    def train(self, setting: Setting, begin: int, end: int) -> Trained:
        """Train a trial from a total length of ``begin`` to one of ``end``."""
        ...


def log_spread(spread: float) -> float:
    """Standard deviation of the logarithm of a quantity of which two thirds lie within a factor of ``spread``.

    Raises:
        ValueError: a factor below 1.
    """
    if spread < 1:
        raise ValueError(f"a spread is a factor of at least 1, not {spread:g}")
    return log(spread)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchangeable:
    """Trials of which nothing is known but how well an early loss foretells a later one, and how their paces differ.

    Attributes:
        unit_seconds: what one unit of length takes on average over trials.
        spread: two thirds of the trials take between 1/spread and spread times their median pace.
        noise: the correlation between a trial's losses at two rungs is 1 - noise**2.
        learning: how much better than at random later trials are drawn; see `ashwood.search.density`.
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
        # The seed was drawn at random itself.
        quality = seed * _SEED_SCALE
        if self.learning and setting.trial % RANDOM_EVERY and setting.trial > _LEARNS_FROM:
            quality **= 1 + self.learning
        noise = self.noise
        if noise:
            quality = sqrt(1 - noise * noise) * quality + noise * mixed(seed, end)
        return Trained(seconds, quality)


_SEED_SCALE = 2.0**-31
_LEARNS_FROM = 24
"""So many trials are created, about, before some are known at a length that is worth learning from."""
_MASK = (1 << 64) - 1


def mixed(seed: int, number: int) -> float:
    """A uniform draw from [0, 1) for a training seed and a number from 0 to 2**33: cheaper than a hash of text.

    Source: Steele et al. 2014, "Fast Splittable Pseudorandom Number Generators", the mixing of SplitMix64.
    """
    z = ((seed << 33 ^ number) * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & _MASK
    return ((z ^ z >> 31) >> 11) * 2.0**-53


def lognormal(unit: float, spread: float) -> float:
    """The ``unit`` quantile of a log-normal distribution with mean 1 and the given spread."""
    sigma = log_spread(spread)
    return exp(sigma * (NORMAL.inv_cdf(unit or 2.0**-54) - sigma / 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLaw:
    """Learning curves that fall by a power law and cross, with a stated rank correlation.

    A trial's standing among all others is a standard normal variable that drifts while it
    trains; its loss is a monotone function of standing and length.  So the rank correlation
    of losses at max_length / base**i and max_length / base**j is what it is said to be,
    whatever the shape of the curves: ``rank_correlation`` for neighbours, falling like that
    of an autoregressive process further apart.

    Attributes:
        max_length: where standings are anchored.
        rank_correlation: Spearman's, between losses at lengths that differ by a factor of ``base``.
        base: that factor.
        exponent: losses fall with length**-exponent.
        unit_seconds: what one unit of length takes on average over trials.
        spread: two thirds of the trials take between 1/spread and spread times their median pace.
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
        """The trial's standing after a length: standard normal, lower is better."""
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
    """Curves that are known: of each trial, after each unit of length, the seconds so far and the loss.

    Trials beyond the table take the place of others, drawn by their seed.

    Attributes:
        seconds: by trial and length - 1; cumulative.
        losses: by trial and length - 1.
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
