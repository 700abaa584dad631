"""A sampler that learns: it draws new trials near the values of good ones.

A new trial gets the one of several random candidates whose values are frequent among the best
trials and rare among the others.  Each hyperparameter is considered by itself, in a few bins.
If a hyperparameter has a condition, only the trials that have it count.

The candidates have addresses, like all draws.  Which of them is chosen depends on the results
that are known when the trial is created, and is recorded with the trial.  Only additions,
multiplications, divisions and square roots are used, whose results are the same on any machine,
so a log replays to the same values.

Source: Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization", section 4 (the
tree-structured Parzen estimator), on the longest trained trials as in Falkner et al. 2018,
"BOHB" (arXiv:1807.01774), section 3.2; with histograms in place of kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

from ashwood.search.draw import LARGEST_DRAW, unit_draw, unit_draws
from ashwood.search.given import position_of
from ashwood.search.guides import Guide, PastTrials, Ratios, Scores, normalized, prior_weights, warped
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

GUIDED_EVERY = 2
"""Before rules 5, every n-th trial was drawn by a guide until there were enough results."""

ENOUGH_TO_JUDGE = 32
"""Number of results at a length that are needed to judge guides."""

MOST_JUDGES = 96
"""Largest number of good trials by which guides are judged."""

_BINS, _MOST_BINS = 16, 256
# A value counts in neighbouring bins too, within a fifth of the range and linearly less with the distance.  The weights
# are multiples of 1/16, so their sums are exact.  They must be: sum() rounds floats differently since Python 3.12.
_SMEAR = (1.0, 11 / 16, 6 / 16, 1 / 16)

Cells: TypeAlias = bytes
"""The bin of each hyperparameter that is not constant, or `_NO_BIN`, in the order of the space."""

_NO_BIN = 255
"""Stands for the bin of a hyperparameter that a trial does not have.  Those with conditions have at most 255 bins."""


class DensitySampler:
    """Chooses the values of new trials near the values of good trials, and near those that guides recommend."""

    def __init__(self, space: Space, seed: int, past: Sequence[PastTrials] = (), *, rules: int = 6) -> None:
        """Draw from ``space`` for an experiment with ``seed``; ``past`` are results of other searches.

        Before ``rules`` 5, guides change each draw, and also guides that agree only by chance.  Before rules 6, past
        searches are followed before there are results to judge them.
        """
        self._space = space
        self._seed = seed
        self._former = rules < 5
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
        self._ordered = [not isinstance(leaf, Categorical) or leaf.ordered for leaf in free]
        self._smears = [
            _smears(size, ordered=ordered) for size, ordered in zip(self._sizes, self._ordered, strict=True)
        ]
        self._cells: dict[TrialId, Cells] = {}
        self._all = [[0.0] * size for size in self._sizes]
        self._having = [0] * len(free)
        # Trials that followed guides, and their histograms.  They are ignored while no guide has any trust: drawn
        # around one setting, they say little about each hyperparameter by itself.
        self._followers: set[TrialId] = set()
        self._followed = [[0.0] * size for size in self._sizes]
        self._followers_having = [0] * len(free)
        self._ignores_followers = False
        self._known: set[TrialId] = set()
        self._good: Sequence[TrialId] = ()
        self._ratios: Ratios = []
        self._guides = [*self._prior_guide(), *(self._past_guide(each, must_be_tested=rules >= 6) for each in past)]
        # Trials that guides proposed: those that followed them, and those that were given a good setting of a past
        # search.
        settings = [setting for each in past for setting in each.good]
        self._recommended = [{name: each[name] for name in self._names if name in each} for each in settings]
        self._proposed: set[TrialId] = set()
        self._proposals = Scores()
        self._trusts = [1.0] * len(self._guides)

    def good(self, search: Tournament) -> list[TrialId]:
        """Return the good trials from which the sampler learns, or an empty list if there are too few results."""
        return search.promising(ENOUGH, GOOD_SHARE, MOST_GOOD)

    def judges(self, search: Tournament) -> list[TrialId]:
        """Return the good trials by which guides are judged, or an empty list if there are too few results.

        The longest rung with enough results to learn from has often only two good trials.  A lower rung shows sooner
        whether a guide misleads.
        """
        return search.promising(ENOUGH_TO_JUDGE, GOOD_SHARE, MOST_JUDGES) if self._guides else []

    def sample(
        self,
        trial: TrialId,
        bracket: int,
        index: int,
        good: Sequence[TrialId],
        judges: Sequence[TrialId] = (),
        given: Mapping[str, Value] = NOTHING,
    ) -> dict[str, Value]:
        """Return the values of a new trial, the ``index``-th of its bracket.

        A trial with a given value that has no position in the range of its hyperparameter is not learned from.

        Args:
            trial: id of the new trial.
            bracket: its bracket.
            index: its index in the bracket.
            good: result of `good`; `note` was called for each of these trials.
            judges: result of `judges`.
            given: values that are not drawn, by dotted name.
        """
        is_guided = self._choose_trusts(bracket, index, good, judges)
        units: Sequence[float] = ()
        if good and index % RANDOM_EVERY and self._sizes:
            units = self._best_candidate(self._ratios_for(good), bracket, index, given)
        elif not good and is_guided:
            units = next(self._candidates(bracket, index, 1, given), ())
        if is_guided and units and not self._former:
            self._followers.add(trial)
        if trial in self._followers or (given and dict(given) in self._recommended):
            self._proposed.add(trial)
        units = units or self._space.units(self._seed, bracket, index, given)
        if None not in self._given_positions(given):
            self._cells[trial] = self._cells_of(units, given)
        return self._space.values(units, given)

    def note(self, trial: TrialId) -> None:
        """Record that a trial has a result.  Only the first call for a trial has an effect."""
        if trial in self._known or trial not in self._cells:
            return
        self._known.add(trial)
        self._ratios = []
        cells = self._cells[trial]
        self._count(cells, self._all, self._having)
        if trial in self._followers:
            self._count(cells, self._followed, self._followers_having)
        if self._guides:
            self._proposals.note(trial, float(trial in self._proposed))
        for guide in self._guides:
            guide.note(trial, self._product(guide.weights, cells))

    def _count(self, cells: Sequence[int], histograms: Ratios, having: list[int]) -> None:
        """Add a trial to the histogram of each hyperparameter that it has, and to the number of such trials."""
        for nth, cell in enumerate(cells):
            if 0 <= cell != self._absent[nth]:
                having[nth] += 1
                for at, weight in self._smears[nth][cell]:
                    histograms[nth][at] += weight

    def _ratios_for(self, good: Sequence[TrialId]) -> Ratios:
        """Return for each bin of each hyperparameter its frequency in good trials divided by that in other trials."""
        if not self._ratios or good != self._good:
            self._good = good
            known = [trial for trial in good if trial in self._cells]
            everyone, having = self._all, self._having
            if self._ignores_followers:
                known = [trial for trial in known if trial not in self._followers]
                everyone = [
                    [count - followed for count, followed in zip(*of_bins, strict=True)]
                    for of_bins in zip(everyone, self._followed, strict=True)
                ]
                having = [count - followed for count, followed in zip(having, self._followers_having, strict=True)]
            self._ratios = self._compare([self._cells[trial] for trial in known], everyone, having)
        return self._ratios

    def _compare(self, good: Sequence[Sequence[int]], everyone: Ratios, having: Sequence[int]) -> Ratios:
        """Return for each bin of each hyperparameter its frequency in good trials divided by that in other trials.

        Args:
            good: bins of the good trials.
            everyone: histograms of all trials.
            having: number of all trials that have each hyperparameter.
        """
        frequent, good_having = [[0.0] * size for size in self._sizes], [0] * len(self._sizes)
        for cells in good:
            self._count(cells, frequent, good_having)
        ratios = []
        for nth, size in enumerate(self._sizes):
            others = max(0, having[nth] - good_having[nth])
            # One more trial, spread evenly over all bins, is added to both groups, so that no frequency is 0.
            even = 1 / size
            ratios.append(
                [
                    ((count + even) / (good_having[nth] + 1)) / ((max(0.0, total - count) + even) / (others + 1))
                    for count, total in zip(frequent[nth], everyone[nth], strict=True)
                ]
            )
        return ratios

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
        guided = round(max(self._trusts, default=0.0) * CANDIDATES / 2)
        for units in islice(self._candidates(bracket, index, guided, given), CANDIDATES):
            cells = self._cells_of(units, given)
            promise = self._product(ratios, cells)
            if guided:
                promise *= self._weight(cells)
            if promise > best:
                best, place = promise, units
        return place

    def _candidates(
        self, bracket: int, index: int, guided: int, given: Mapping[str, Value]
    ) -> Iterator[Sequence[float]]:
        """Yield draws that the constraints allow, of which guides make the first ``guided`` ones."""
        found = 0
        for number in range(CANDIDATES * _MOST_DRAWS):
            if found < guided:
                units = self._guided(bracket, index, number)
            else:
                units = unit_draws(len(self._sizes), self._seed, "candidate", bracket, index, number)
            if self._space.allows(units, given):
                found += 1
                yield units

    def _product(self, of_bins: Ratios, cells: Cells) -> float:
        product = 1.0
        for numbers, cell, absent in zip(of_bins, cells, self._absent, strict=True):
            if cell != absent:
                product *= numbers[cell]
        return product

    def _given_positions(self, given: Mapping[str, Value]) -> list[float | None]:
        """Return the position of each given value, or None for one without a position."""
        named = zip(self._names, self._leaves, strict=True)
        return [position_of(leaf, given[name]) for name, leaf in named if name in given]

    def _cells_of(self, units: Sequence[float], given: Mapping[str, Value]) -> Cells:
        if given:
            positions = iter(self._given_positions(given))
            units = [
                # The position of a given value can be 1, but draws are below 1.
                min(LARGEST_DRAW, next(positions) or 0.0) if name in given else unit
                for name, unit in zip(self._names, units, strict=True)
            ]
        cells = [int(unit * size) for unit, size in zip(units, self._sizes, strict=True)]
        if _NO_BIN in self._absent:
            values = self._space.resolve(units, given)
            cells = [
                _NO_BIN if values[index] is ABSENT else cell for index, cell in zip(self._free, cells, strict=True)
            ]
        return bytes(cells)

    # -- guides -------------------------------------------------------------------------------

    def _choose_trusts(self, bracket: int, index: int, good: Sequence[TrialId], judges: Sequence[TrialId]) -> bool:
        """Set the trust in each guide for a new trial, and return whether the trial follows guides.

        A share of the trials follows guides, which is the mean trust in them; all other trials are drawn as if there
        were none.  So guides that mislead cost little, also if one of many agrees with the results by chance.  A guide
        without a trust, because it must be tested before, does not count.
        """
        if self._former:
            self._trusts = [guide.former_trust(judges or good) for guide in self._guides]
            return bool(self._guides) and index % GUIDED_EVERY == 0
        if not self._guides:
            return False
        tested = self._proposals.agreement(judges) if self._proposals.total else None
        judged = [guide.trust(judges, tested) for guide in self._guides]
        trusts = [trust or 0.0 for trust in judged]
        total = most = 0.0
        for trust in trusts:  # sum() rounds floats differently since Python 3.12.
            total += trust
            most = max(most, trust)
        if self._ignores_followers != (total == 0):
            self._ignores_followers = not self._ignores_followers
            self._ratios = []
        is_guided = unit_draw(self._seed, "guides", bracket, index) < total / max(1, len(judged) - judged.count(None))
        self._trusts = [trust / most if is_guided else 0.0 for trust in trusts]
        return is_guided

    def _weight(self, cells: Cells) -> float:
        """Return the weight of a setting in a mixture of random draws and draws of the guides.

        Guides together have at most half of it, also if there are many, because all of them can mislead.
        """
        weight = total = 0.0
        for guide, trust in zip(self._guides, self._trusts, strict=True):
            weight += trust * self._product(guide.weights, cells)
            total += trust
        share = max(self._trusts) / 2
        return 1 - share + share * weight / total

    def _guided(self, bracket: int, index: int, number: int) -> Sequence[float]:
        """Return a draw of one of the guides, which is chosen by the trust in it."""
        choice, *units = unit_draws(1 + len(self._sizes), self._seed, "guided", bracket, index, number)
        total = 0.0
        for trust in self._trusts:
            total += trust
        choice *= total
        chosen = self._guides[-1]
        for guide, trust in zip(self._guides, self._trusts, strict=True):
            if choice < trust:
                chosen = guide
                break
            choice -= trust
        return [warped(unit, weights) for unit, weights in zip(units, chosen.weights, strict=True)]

    def _prior_guide(self) -> Sequence[Guide]:
        """Return the guide by the priors of the hyperparameters, or nothing if none has a prior."""
        if all(leaf.prior is None for leaf in self._leaves):
            return ()
        weights = []
        for leaf, size, ordered in zip(self._leaves, self._sizes, self._ordered, strict=True):
            unit = None if leaf.prior is None else leaf.unit_of(leaf.prior.value)
            if unit is None:
                weights.append([1.0] * size)
            else:
                weights.append(prior_weights(leaf.prior.confidence, unit, size, ordered=ordered))
        return (Guide(weights),)

    def _past_guide(self, past: PastTrials, *, must_be_tested: bool) -> Guide:
        """Return the guide by the results of another search."""
        everyone, having = [[0.0] * size for size in self._sizes], [0] * len(self._sizes)
        cells = [self._cells_in(setting) for setting in (*past.good, *past.others)]
        for each in cells:
            self._count(each, everyone, having)
        weights = [normalized(of_bins) for of_bins in self._compare(cells[: len(past.good)], everyone, having)]
        return Guide(weights, must_be_tested=must_be_tested)

    def _cells_in(self, setting: Mapping[str, Value]) -> Sequence[int]:
        """Return the bins of a setting of another search, or -1 for values that are outside the space."""
        units = [leaf.unit_of(setting.get(name)) for leaf, name in zip(self._leaves, self._names, strict=True)]
        sized = zip(units, self._sizes, strict=True)
        return [-1 if unit is None else min(size - 1, int(unit * size)) for unit, size in sized]


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
