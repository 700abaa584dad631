"""A sampler that learns: it draws new trials near the values of good ones.

A new trial gets the one of several random candidates whose values are frequent among the best
trials and rare among the others.  Each hyperparameter is considered by itself, in a few bins.
If a hyperparameter has a condition, only the trials that have it count.

The candidates have addresses, like all draws.  Which of them is chosen depends on the results
that are known when the trial is created, and is recorded with the trial.  Only additions,
multiplications and divisions are used, so a log replays to the same values on any machine.

Source: Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization", section 4 (the
tree-structured Parzen estimator), on the longest trained trials as in Falkner et al. 2018,
"BOHB" (arXiv:1807.01774), section 3.2; with histograms in place of kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

from ashwood.search.draw import unit_draws
from ashwood.search.given import position_of
from ashwood.search.space import ABSENT, NOTHING, Categorical, Const, Hyperparameter, Int, Space, Value
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import TrialId

CANDIDATES = 24
"""Number of candidates for each new trial."""

_MOST_DRAWS = 50
"""Largest number of draws for each candidate, of which those that break a constraint are skipped."""

RANDOM_EVERY = 4
"""Every n-th trial is drawn at random, so that the sampler never settles on one region for good."""

ENOUGH = 6
"""Number of results at a length that are needed to learn from them."""

GOOD_SHARE = 4
"""One of n trials at the longest length with enough results counts as good."""

MOST_GOOD = 24
"""Largest number of good trials."""

_BINS, _MOST_BINS = 16, 256
# A value counts in neighbouring bins too, within a fifth of the range and linearly less with the distance.  The weights
# are multiples of 1/16, so their sums are exact.  They must be: sum() rounds floats differently since Python 3.12.
_SMEAR = (1.0, 11 / 16, 6 / 16, 1 / 16)

Ratios: TypeAlias = list[list[float]]
"""One number for each bin of each hyperparameter."""

Cells: TypeAlias = bytes
"""The bin of each hyperparameter that is not constant, or `_NO_BIN`, in the order of the space."""

_NO_BIN = 255
"""Stands for the bin of a hyperparameter that a trial does not have.  Those with conditions have at most 255 bins."""


class DensitySampler:
    """Chooses the values of new trials near the values of good trials."""

    def __init__(self, space: Space, seed: int) -> None:
        """Draw from ``space`` for an experiment with ``seed``."""
        self._space = space
        self._seed = seed
        leaves = list(space.leaves())
        conditional = {path for path, _, _ in space.conditional()}
        self._free = [index for index, (_, leaf) in enumerate(leaves) if not isinstance(leaf, Const)]
        free = self._leaves = [leaf for _, leaf in leaves if not isinstance(leaf, Const)]
        self._names = [".".join(leaves[index][0]) for index in self._free]
        # Only a hyperparameter with conditions can be absent.  Any other one may use the last bin for its values.
        self._absent = [_NO_BIN if leaves[index][0] in conditional else -1 for index in self._free]
        self._sizes = [
            min(_bins(leaf), _NO_BIN if absent == _NO_BIN else _MOST_BINS)
            for leaf, absent in zip(free, self._absent, strict=True)
        ]
        self._smears = [
            _smears(size, ordered=not isinstance(leaf, Categorical) or leaf.ordered)
            for leaf, size in zip(free, self._sizes, strict=True)
        ]
        self._cells: dict[TrialId, Cells] = {}
        self._all = [[0.0] * size for size in self._sizes]
        self._having = [0] * len(free)
        self._known: set[TrialId] = set()
        self._good: Sequence[TrialId] = ()
        self._ratios: Ratios = []

    def good(self, search: Tournament) -> list[TrialId]:
        """Return the good trials from which the sampler learns, or an empty list if there are too few results."""
        return search.promising(ENOUGH, GOOD_SHARE, MOST_GOOD)

    def sample(
        self,
        trial: TrialId,
        bracket: int,
        index: int,
        good: Sequence[TrialId],
        given: Mapping[str, Value] = NOTHING,
    ) -> dict[str, Value]:
        """Return the values of a new trial, the ``index``-th of its bracket.

        A trial with a given value that has no position in the range of its hyperparameter is not learned from.

        Args:
            trial: id of the new trial.
            bracket: its bracket.
            index: its index in the bracket.
            good: result of `good`; `note` was called for each of these trials.
            given: values that are not drawn, by dotted name.
        """
        units: Sequence[float] = ()
        if good and index % RANDOM_EVERY and self._sizes:
            units = self._best_candidate(self._ratios_for(good), bracket, index, given)
        units = units or self._space.units(self._seed, bracket, index, given)
        if None not in self._positions(given):
            self._cells[trial] = self._cells_of(units, given)
        return self._space.values(units, given)

    def note(self, trial: TrialId) -> None:
        """Record that a trial has a result.  Only the first call for a trial has an effect."""
        if trial in self._known or trial not in self._cells:
            return
        self._known.add(trial)
        self._ratios = []
        for nth, (hist, smears, cell) in enumerate(zip(self._all, self._smears, self._cells[trial], strict=True)):
            if cell != self._absent[nth]:
                self._having[nth] += 1
                for at, weight in smears[cell]:
                    hist[at] += weight

    def _ratios_for(self, good: Sequence[TrialId]) -> Ratios:
        """Return for each bin of each hyperparameter its frequency in good trials divided by that in other trials."""
        if self._ratios and good == self._good:
            return self._ratios
        self._good, self._ratios = good, []
        cells = [self._cells[trial] for trial in good if trial in self._cells]
        for nth, (size, smears, everyone) in enumerate(zip(self._sizes, self._smears, self._all, strict=True)):
            frequent = [0.0] * size
            having = [cell[nth] for cell in cells if cell[nth] != self._absent[nth]]
            for cell in having:
                for at, weight in smears[cell]:
                    frequent[at] += weight
            others = max(0, self._having[nth] - len(having))
            # One more trial, spread evenly over all bins, is added to both groups, so that no frequency is 0.
            even = 1 / size
            self._ratios.append(
                [
                    ((count + even) / (len(having) + 1)) / ((max(0.0, total - count) + even) / (others + 1))
                    for count, total in zip(frequent, everyone, strict=True)
                ]
            )
        return self._ratios

    def _best_candidate(self, ratios: Ratios, bracket: int, index: int, given: Mapping[str, Value]) -> Sequence[float]:
        """Return the draws of the most promising candidate, or nothing if constraints leave no candidate.

        The draws of hyperparameters that are given do not matter.
        """
        if given:
            ratios = [
                [1.0] * len(bins) if name in given else bins for name, bins in zip(self._names, ratios, strict=True)
            ]
        best = -1.0
        place: Sequence[float] = ()
        for units in islice(self._candidates(bracket, index, given), CANDIDATES):
            promise = 1.0
            for of_bins, cell, absent in zip(ratios, self._cells_of(units, given), self._absent, strict=True):
                if cell != absent:
                    promise *= of_bins[cell]
            if promise > best:
                best, place = promise, units
        return place

    def _candidates(self, bracket: int, index: int, given: Mapping[str, Value]) -> Iterator[Sequence[float]]:
        for number in range(CANDIDATES * _MOST_DRAWS):
            units = unit_draws(len(self._sizes), self._seed, "candidate", bracket, index, number)
            if self._space.allows(units, given):
                yield units

    def _positions(self, given: Mapping[str, Value]) -> list[float | None]:
        """Return the position of each given value, or None for one without a position."""
        named = zip(self._names, self._leaves, strict=True)
        return [position_of(leaf, given[name]) for name, leaf in named if name in given]

    def _cells_of(self, units: Sequence[float], given: Mapping[str, Value]) -> Cells:
        if given:
            positions = iter(self._positions(given))
            units = [
                (next(positions) or 0.0) if name in given else unit
                for name, unit in zip(self._names, units, strict=True)
            ]
        # The position of a given value can be 1, but draws are below 1.
        cells = [min(size - 1, int(unit * size)) for unit, size in zip(units, self._sizes, strict=True)]
        if _NO_BIN in self._absent:
            values = self._space.resolve(units, given)
            cells = [
                _NO_BIN if values[index] is ABSENT else cell for index, cell in zip(self._free, cells, strict=True)
            ]
        return bytes(cells)


def _bins(leaf: Hyperparameter) -> int:
    if isinstance(leaf, Categorical) and not leaf.ordered:
        return min(leaf.size, _MOST_BINS)
    is_even = leaf.size is not None and not (isinstance(leaf, Int) and leaf.log)
    return min(leaf.size or _BINS, _BINS) if is_even else _BINS


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
