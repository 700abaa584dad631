"""A sampler that learns: it draws new trials near the values of good ones.

A new trial gets the one of several random candidates whose values are frequent among the best
trials and rare among the others.  Each hyperparameter is considered by itself, in a few bins.

The candidates have addresses, like all draws.  Which of them is chosen depends on the results
that are known when the trial is created, and is recorded with the trial.  Only additions,
multiplications and divisions are used, so a log replays to the same values on any machine.

Source: Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization", section 4 (the
tree-structured Parzen estimator), on the longest trained trials as in Falkner et al. 2018,
"BOHB" (arXiv:1807.01774), section 3.2; with histograms in place of kernels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from types import MappingProxyType
from typing import Any, TypeAlias

from ashwood.search.draw import unit_draws
from ashwood.search.guides import PastTrials, Prior, normalized, prior_weights, warped
from ashwood.search.space import Categorical, Const, Hyperparameter, Int, Path, Space
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import TrialId

CANDIDATES = 24
"""Number of candidates for each new trial."""

RANDOM_EVERY = 4
"""Every n-th trial is drawn at random, so that the sampler never settles on one region for good."""

ENOUGH = 6
"""Number of results at a length that are needed to learn from them."""

GOOD_SHARE = 4
"""One of n trials at the longest length with enough results counts as good."""

MOST_GOOD = 24
"""Largest number of good trials."""

GUIDED_EVERY = 2
"""Before there are enough results, every n-th trial is drawn by a guide."""

DOUBT = 1.0
JUDGED = 32
MOST_JUDGES = 96

_BINS = 16
# A value counts in neighbouring bins too, within a fifth of the range and linearly less with the distance.  The weights
# are multiples of 1/16, so their sums are exact.  They must be: sum() rounds floats differently since Python 3.12.
_SMEAR = (1.0, 11 / 16, 6 / 16, 1 / 16)

Ratios: TypeAlias = list[list[float]]
"""One number for each bin of each hyperparameter."""

Cells: TypeAlias = bytes
"""The bin of each hyperparameter that is not constant, in the order of the space."""


class _Guide:
    """A guide in the bins of a sampler, with the scores of the trials that have results.

    Attributes:
        weights: weight of each bin of each hyperparameter.
    """

    def __init__(self, weights: Ratios) -> None:
        self.weights = weights
        self._scores: dict[TrialId, float] = {}
        self._total = 0.0
        self._squares = 0.0

    def weight(self, cells: Cells) -> float:
        """Return how much more probable a setting is among good ones than among all settings."""
        weight = 1.0
        for of_bins, cell in zip(self.weights, cells, strict=True):
            weight *= of_bins[cell]
        return weight

    def note(self, trial: TrialId, cells: Cells) -> None:
        """Record that a trial has a result."""
        weight = self.weight(cells)
        self._scores[trial] = score = weight / (1 + weight)
        self._total += score
        self._squares += score * score

    def trust(self, good: Sequence[TrialId]) -> float:
        """Return the share of the guide in new draws relative to random ones, from 0 to 1.

        It is 1 as long as good trials have at least the mean score of all trials.
        """
        if not good:
            return 1.0
        count = len(self._scores)
        mean, total = self._total / count, 0.0
        deviation = sqrt(max(0.0, self._squares / count - mean * mean))
        for trial in good:
            total += self._scores[trial] - mean
        error = deviation * sqrt(len(good))
        return max(0.0, min(1.0, 1 + DOUBT * total / error)) if error > 0 else 1.0


class DensitySampler:
    """Chooses the values of new trials near the values of good trials."""

    def __init__(
        self, space: Space, seed: int, priors: Mapping[Path, Prior] = MappingProxyType({}), past: Sequence[PastTrials] = ()
    ) -> None:
        """Draw from ``space`` for an experiment with ``seed``.

        Args:
            space: the hyperparameters.
            seed: seed of the experiment.
            priors: values that are probably good, by the path of the hyperparameter.
            past: results of other searches.
        """
        self._space = space
        self._seed = seed
        self._free = [(path, leaf) for path, leaf in space.leaves() if not isinstance(leaf, Const)]
        self._sizes = [_bins(leaf) for _, leaf in self._free]
        self._smears = [
            _smears(size, ordered=not isinstance(leaf, Categorical))
            for (_, leaf), size in zip(self._free, self._sizes, strict=True)
        ]
        self._cells: dict[TrialId, Cells] = {}
        self._all = [[0.0] * size for size in self._sizes]
        self._known: set[TrialId] = set()
        self._good: Sequence[TrialId] = ()
        self._ratios: Ratios = []
        self._guides = [self._prior_guide(priors)] if priors else []
        self._guides += [self._past_guide(each) for each in past]
        self._trusts: list[float] = [1.0] * len(self._guides)

    def good(self, search: Tournament) -> list[TrialId]:
        """Return the good trials from which the sampler learns, or an empty list if there are too few results."""
        return search.promising(ENOUGH, GOOD_SHARE, MOST_GOOD)

    def judges(self, search: Tournament) -> list[TrialId]:
        """Return the good trials by which guides are judged, or an empty list if there are too few results.

        The longest rung with enough results to learn from has often only two good trials.  A lower rung tells sooner
        whether guides mislead.
        """
        return search.promising(JUDGED, GOOD_SHARE, MOST_JUDGES) if self._guides else []

    def sample(
        self, trial: TrialId, bracket: int, index: int, good: Sequence[TrialId], judges: Sequence[TrialId] = ()
    ) -> dict[str, Any]:
        """Return the values of a new trial, the ``index``-th of its bracket.

        Args:
            trial: id of the new trial.
            bracket: its bracket.
            index: its index in the bracket.
            good: result of `good`; `note` was called for each of these trials.
        """
        if self._guides:
            self._trusts = [guide.trust(judges or good) for guide in self._guides]
        if good and index % RANDOM_EVERY and self._sizes:
            units = self._best_candidate(self._ratios_for(good), bracket, index)
        elif not good and index % GUIDED_EVERY == 0 and self._guides and self._sizes:
            units = self._guided(bracket, index, 0)
        else:
            units = self._space.units(self._seed, bracket, index)
        self._cells[trial] = self._cells_of(units)
        return self._space.values(units)

    def note(self, trial: TrialId) -> None:
        """Record that a trial has a result.  Only the first call for a trial has an effect."""
        if trial in self._known:
            return
        self._known.add(trial)
        self._ratios = []
        for hist, smears, cell in zip(self._all, self._smears, self._cells[trial], strict=True):
            for at, weight in smears[cell]:
                hist[at] += weight
        for guide in self._guides:
            guide.note(trial, self._cells[trial])

    def _ratios_for(self, good: Sequence[TrialId]) -> Ratios:
        """Return for each bin of each hyperparameter its frequency in good trials divided by that in other trials."""
        if self._ratios and good == self._good:
            return self._ratios
        self._good = good
        self._ratios = self._compare([self._cells[trial] for trial in good], self._all, len(self._known))
        return self._ratios

    def _compare(self, good: Sequence[Cells], everyone: Ratios, trials: int) -> Ratios:
        """Return the frequency of each bin in good trials divided by that in all other trials.

        Args:
            good: bins of the good trials.
            everyone: frequency of each bin in all trials.
            trials: number of all trials.
        """
        others = max(0, trials - len(good))
        ratios = []
        for nth, (size, smears, totals) in enumerate(zip(self._sizes, self._smears, everyone, strict=True)):
            frequent = [0.0] * size
            for cell in good:
                for at, weight in smears[cell[nth]]:
                    frequent[at] += weight
            # One more trial, spread evenly over all bins, is added to both groups, so that no frequency is 0.
            even = 1 / size
            ratios.append(
                [
                    ((count + even) / (len(good) + 1)) / ((max(0.0, total - count) + even) / (others + 1))
                    for count, total in zip(frequent, totals, strict=True)
                ]
            )
        return ratios

    def _best_candidate(self, ratios: Ratios, bracket: int, index: int) -> Sequence[float]:
        best = -1.0
        place: Sequence[float] = ()
        trust = max(self._trusts, default=0.0)
        guided = round(trust * CANDIDATES / 2)
        for number in range(CANDIDATES):
            if number < guided:
                units = self._guided(bracket, index, number)
            else:
                units = unit_draws(len(self._sizes), self._seed, "candidate", bracket, index, number)
            promise = 1.0
            for of_bins, size, unit in zip(ratios, self._sizes, units, strict=True):
                promise *= of_bins[int(unit * size)]
            if trust:
                promise *= self._weight(self._cells_of(units))
            if promise > best:
                best, place = promise, units
        return place

    def _weight(self, cells: Cells) -> float:
        """Return the weight of a setting by all guides and by random draws, which have the weight 1."""
        weight, trusts = 1.0, 1.0
        for guide, trust in zip(self._guides, self._trusts, strict=True):
            weight += trust * guide.weight(cells)
            trusts += trust
        return weight / trusts

    def _guided(self, bracket: int, index: int, number: int) -> Sequence[float]:
        """Return a setting that is drawn by one of the guides, which is chosen by the trust in it."""
        which, *units = unit_draws(1 + len(self._sizes), self._seed, "guided", bracket, index, number)
        total = 0.0
        for trust in self._trusts:
            total += trust
        which *= total
        for guide, trust in zip(self._guides, self._trusts, strict=True):
            if which < trust:
                break
            which -= trust
        return [warped(unit, weights) for unit, weights in zip(units, guide.weights, strict=True)]

    def _cells_of(self, units: Sequence[float]) -> Cells:
        return bytes(min(size - 1, int(unit * size)) for unit, size in zip(units, self._sizes, strict=True))

    # -- guides -------------------------------------------------------------------------------

    def _prior_guide(self, priors: Mapping[Path, Prior]) -> _Guide:
        weights = []
        for (path, leaf), size in zip(self._free, self._sizes, strict=True):
            prior = priors.get(path)
            unit = None if prior is None else leaf.unit_of(prior.value)
            if prior is None or unit is None:
                weights.append([1.0] * size)
            else:
                weights.append(prior_weights(prior, unit, size, ordered=not isinstance(leaf, Categorical)))
        return _Guide(weights)

    def _past_guide(self, past: PastTrials) -> _Guide:
        everyone = [[0.0] * size for size in self._sizes]
        good, others = ([cells for each in settings if (cells := self._cells_in(each))] for settings in (past.good, past.others))
        for cells in (*good, *others):
            for totals, smears, cell in zip(everyone, self._smears, cells, strict=True):
                for at, weight in smears[cell]:
                    totals[at] += weight
        return _Guide([normalized(of_bins) for of_bins in self._compare(good, everyone, len(good) + len(others))])

    def _cells_in(self, setting: Mapping[str, Any]) -> Cells | None:
        units = [leaf.unit_of(setting.get(".".join(path))) for path, leaf in self._free]
        return None if None in units else self._cells_of(units)


def _bins(leaf: Hyperparameter) -> int:
    match leaf:
        case Categorical(vals):
            return min(len(vals), 256)
        case Int(minval, maxval):
            return min(maxval - minval + 1, _BINS)
    return _BINS


def _smears(size: int, *, ordered: bool) -> list[list[tuple[int, float]]]:
    """Return for each bin its neighbours and itself, each with the weight of a trial there; the weights add up to 1."""
    if not ordered or size < _BINS:
        return [[(at, 1.0)] for at in range(size)]
    smears = []
    for cell in range(size):
        weights: dict[int, float] = {}
        for distance, weight in enumerate(_SMEAR):
            for at in {cell - distance, cell + distance}:
                # Weights that lie outside the range are reflected back into it, because no value is outside.
                inside = -at - 1 if at < 0 else 2 * size - at - 1 if at >= size else at
                weights[inside] = weights.get(inside, 0.0) + weight
        total = sum(weights.values())
        smears.append([(at, weight / total) for at, weight in sorted(weights.items())])
    return smears
