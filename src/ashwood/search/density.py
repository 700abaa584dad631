"""A sampler that learns: new trials are drawn where good ones have been.

Of a few random candidates a new trial takes the one whose values are frequent among the best
trials and rare among the others.  Each hyperparameter is looked at by itself, in a few bins.

The candidates have addresses, like all draws; which of them is taken depends on the results
that are known when the trial is created, and is recorded with it.  The arithmetic is plain
addition, multiplication and division, so that a log replays to the same values anywhere.

Source: Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization", section 4 (the
tree-structured Parzen estimator), on the longest trained trials as in Falkner et al. 2018,
"BOHB" (arXiv:1807.01774), section 3.2; with histograms in place of kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from ashwood.search.draw import unit_draws
from ashwood.search.space import Categorical, Const, Hyperparameter, Int, Space
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import TrialId

CANDIDATES = 24
"""From how many candidates a new trial is chosen."""

RANDOM_EVERY = 4
"""One trial in so many is drawn at random, whatever has been learned."""

ENOUGH = 6
"""So many trials have to be known at a length before it is learned from."""

GOOD_SHARE = 4
"""One in so many of the trials at the longest length known well counts as good."""

MOST_GOOD = 24
"""No more than the best so many count as good."""

_BINS = 16
# A value speaks for its neighbourhood too: within a fifth of the range, linearly less the further away.  Sums of these
# weights are exact because they are multiples of 1/16: sum() rounds floats in another way since Python 3.12.
_SMEAR = (1.0, 11 / 16, 6 / 16, 1 / 16)

Ratios: TypeAlias = list[list[float]]
"""Of each hyperparameter, of each bin."""

Cells: TypeAlias = bytes
"""The bin of each hyperparameter that isn't constant, in the order of the space."""


class DensitySampler:
    """Chooses the values of new trials by those of the trials that did well."""

    def __init__(self, space: Space, seed: int) -> None:
        """Draw from ``space`` for an experiment with ``seed``."""
        self._space = space
        self._seed = seed
        free = [leaf for _, leaf in space.leaves() if not isinstance(leaf, Const)]
        self._sizes = [_bins(leaf) for leaf in free]
        self._smears = [
            _smears(size, ordered=not isinstance(leaf, Categorical))
            for leaf, size in zip(free, self._sizes, strict=True)
        ]
        self._cells: dict[TrialId, Cells] = {}
        self._all = [[0.0] * size for size in self._sizes]
        self._known: set[TrialId] = set()
        self._good: Sequence[TrialId] = ()
        self._ratios: Ratios = []

    def good(self, search: Tournament) -> list[TrialId]:
        """The trials to learn from; none while too few are known."""
        return search.promising(ENOUGH, GOOD_SHARE, MOST_GOOD)

    def sample(self, trial: TrialId, bracket: int, index: int, good: Sequence[TrialId]) -> dict[str, Any]:
        """The values of a new trial, the ``index``-th of its bracket.

        Args:
            trial: its id, by which it is to be known from now on.
            bracket: the bracket it belongs to.
            index: which trial of the bracket it is.
            good: what `good` said; each was `note`d.
        """
        if good and index % RANDOM_EVERY and self._sizes:
            units = self._best_candidate(self._ratios_for(good), bracket, index)
        else:
            units = self._space.units(self._seed, bracket, index)
        self._cells[trial] = self._cells_of(units)
        return self._space.values(units)

    def note(self, trial: TrialId) -> None:
        """The trial has a result; only the first time counts."""
        if trial in self._known:
            return
        self._known.add(trial)
        self._ratios = []
        for hist, smears, cell in zip(self._all, self._smears, self._cells[trial], strict=True):
            for at, weight in smears[cell]:
                hist[at] += weight

    def _ratios_for(self, good: Sequence[TrialId]) -> Ratios:
        """Of each bin of each hyperparameter, how much more frequent it is among the good than among the others."""
        if self._ratios and good == self._good:
            return self._ratios
        self._good, self._ratios = good, []
        others = max(0, len(self._known) - len(good))
        cells = [self._cells[trial] for trial in good]
        for nth, (size, smears, everyone) in enumerate(zip(self._sizes, self._smears, self._all, strict=True)):
            frequent = [0.0] * size
            for cell in cells:
                for at, weight in smears[cell[nth]]:
                    frequent[at] += weight
            # As if one more trial, spread evenly, were among either.
            even = 1 / size
            self._ratios.append(
                [
                    ((count + even) / (len(good) + 1)) / ((max(0.0, total - count) + even) / (others + 1))
                    for count, total in zip(frequent, everyone, strict=True)
                ]
            )
        return self._ratios

    def _best_candidate(self, ratios: Ratios, bracket: int, index: int) -> Sequence[float]:
        best = -1.0
        place: Sequence[float] = ()
        for number in range(CANDIDATES):
            units = unit_draws(len(self._sizes), self._seed, "candidate", bracket, index, number)
            promise = 1.0
            for of_bins, size, unit in zip(ratios, self._sizes, units, strict=True):
                promise *= of_bins[int(unit * size)]
            if promise > best:
                best, place = promise, units
        return place

    def _cells_of(self, units: Sequence[float]) -> Cells:
        return bytes(int(unit * size) for unit, size in zip(units, self._sizes, strict=True))


def _bins(leaf: Hyperparameter) -> int:
    match leaf:
        case Categorical(vals):
            return min(len(vals), 256)
        case Int(minval, maxval):
            return min(maxval - minval + 1, _BINS)
    return _BINS


def _smears(size: int, *, ordered: bool) -> list[list[tuple[int, float]]]:
    """For each bin, the bins that a trial in it counts in, and how much in each: 1 in all."""
    if not ordered or size < _BINS:
        return [[(at, 1.0)] for at in range(size)]
    smears = []
    for cell in range(size):
        weights: dict[int, float] = {}
        for distance, weight in enumerate(_SMEAR):
            for at in {cell - distance, cell + distance}:
                # What would fall outside is reflected, as nothing lies there.
                inside = -at - 1 if at < 0 else 2 * size - at - 1 if at >= size else at
                weights[inside] = weights.get(inside, 0.0) + weight
        total = sum(weights.values())
        smears.append([(at, weight / total) for at, weight in sorted(weights.items())])
    return smears
